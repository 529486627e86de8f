"""Measures: how well outlines lie on what was meant."""

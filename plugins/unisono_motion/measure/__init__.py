"""Measures of motion."""

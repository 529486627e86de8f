"""Measures of picture generators."""

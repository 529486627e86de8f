"""Measures of scores, and what models are evaluated by."""

"""Measures of motion: evaluation, and physics of single clips."""

"""Measures: what scores are measured by, and the evaluation of models."""

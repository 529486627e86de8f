"""Measures of pictures: evaluation, features, sheets."""

"""Measure: what ``unisono evaluate`` says of each model."""

"""Recipes of the control plugin."""

"""Recipes of the outline plugin."""

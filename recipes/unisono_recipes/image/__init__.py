"""Recipes of the image plugin."""

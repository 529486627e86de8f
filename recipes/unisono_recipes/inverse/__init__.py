"""Recipes of the inverse plugin."""

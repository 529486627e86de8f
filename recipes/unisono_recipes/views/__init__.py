"""Recipes of the views plugin."""

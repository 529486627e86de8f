"""Recipes of the text plugin."""

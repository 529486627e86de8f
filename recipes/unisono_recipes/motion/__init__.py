"""Recipes of the motion plugin."""

"""Recipes of the convert plugin."""

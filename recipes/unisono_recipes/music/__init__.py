"""Recipes of the music plugin."""

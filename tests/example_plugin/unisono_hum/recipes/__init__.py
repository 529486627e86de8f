"""Recipes of the hum plugin."""

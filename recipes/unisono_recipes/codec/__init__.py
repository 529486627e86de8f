"""Recipes of the codec plugin."""

"""Recipes of the branches plugin."""

"""Recipes of the restore plugin."""

"""Recipes of the asr plugin."""

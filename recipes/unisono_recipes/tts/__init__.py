"""Recipes of the tts plugin."""

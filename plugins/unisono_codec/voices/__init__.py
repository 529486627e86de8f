"""Voices: models that speak in tokens of a codec."""

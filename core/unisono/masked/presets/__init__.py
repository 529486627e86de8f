"""Presets: published samplers as strategies."""

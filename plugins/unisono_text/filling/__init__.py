"""Filling: from a request to a canvas, and from a canvas to a text."""

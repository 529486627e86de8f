"""Corpora of pictures: with classes and captions."""

"""Corpora of text: documents as rows of tokens."""

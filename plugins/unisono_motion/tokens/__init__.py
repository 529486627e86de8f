"""Tokens: motion tokenizers."""

"""Models: motion from text, by masked decoding of tokens."""

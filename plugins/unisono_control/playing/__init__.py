"""Playing: policies in environments; decoding of a chunk, the episode that comes out."""

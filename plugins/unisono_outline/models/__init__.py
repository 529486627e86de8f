"""Models of outlines."""

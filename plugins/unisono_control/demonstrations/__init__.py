"""Demonstrations: recorded of a scripted expert, kept on disk, replayed, and made into training items."""

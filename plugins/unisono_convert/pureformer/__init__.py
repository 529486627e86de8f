"""Pureformer-VC (arXiv:2409.01668, 2506.08348)."""

"""StarGANv2-VC (arXiv:2107.10394)."""

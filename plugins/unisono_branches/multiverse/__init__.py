"""Multiverse: branches by the text's own structure (Yang et al., arXiv:2506.09991)."""

"""ParScale: streams of one network with learnt prefixes (Chen et al., arXiv:2505.10475)."""

"""Hogwild: workers that write at once into one cache (Rodionov et al., arXiv:2504.06261)."""

"""Corpora of motion: clips with captions, as features."""

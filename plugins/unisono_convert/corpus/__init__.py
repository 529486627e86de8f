"""Corpora of several speakers: recordings, their items, what models must know of them."""

"""Unisono sound: what plugins for speech and sound share: signal, text, corpora, measures, voices.

A library beside ``unisono``, without an entry point; it imports ``unisono`` only.
"""

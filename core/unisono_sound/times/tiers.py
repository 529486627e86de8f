"""Tiers: the kinds of segments by the names that readers of speech give them."""

from unisono.media import Stretch, Times

NAMES = {"word": "words", "phoneme": "phones"}
"""Tiers that are always there, empty where nothing is known; other kinds follow by their own names."""


def tiers(times: Times) -> dict[str, list[Stretch]]:
    """Return each tier's stretches in samples, words first; raises ``RequestError`` for times that are wrong."""
    others = [kind for kind in times.kinds if kind not in NAMES]
    return {NAMES.get(kind, kind): times.stretches(kind) for kind in (*NAMES, *others)}

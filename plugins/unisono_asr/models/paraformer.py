"""Paraformer: all units of a transcript in one pass (Gao et al., arXiv:2206.08317; v2: arXiv:2409.17746)."""

from unisono_asr.models.ctc import CTC


class Paraformer(CTC):
    """CTC, and a decoder that reads all tokens at once."""

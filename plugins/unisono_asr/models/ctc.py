"""CTC: an encoder whose every step names a unit or the blank (Graves et al., ICML 2006)."""

from unisono_asr.hearing import Hearing


class CTC(Hearing):
    """An encoder and a linear layer."""

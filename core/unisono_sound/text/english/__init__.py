"""English: the rules by which written English is said in words; see ``normalise``."""

from unisono_sound.text.english.rules import English

__all__ = ["English"]

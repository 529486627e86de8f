"""Line: the words of a sentence as the rules of English see them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from unisono_sound.text.english.numbers import Numbers
from unisono_sound.text.split import Token

__all__ = ["Line", "Rule"]

Rule = Callable[["Line", int], list[str | None] | None]
"""Returns what the words from a place on are said as, None where it does not apply; a form of None leaves that word to
the front end.
"""


@dataclass
class Line:
    """A sentence's words.

    Attributes:
        words: what they are, NFC.
        tokens: with their pauses; ``dot`` where a full stop follows.
        american: the month stands before the day.
    """

    words: list[str]
    tokens: Sequence[Token]
    numbers: Numbers
    american: bool

    def word(self, index: int) -> str:
        """The word at a place; empty outside."""
        return self.words[index] if 0 <= index < len(self.words) else ""

    def dot(self, index: int) -> bool:
        """Whether a full stop follows a word."""
        return 0 <= index < len(self.words) and self.tokens[index].dot

    def joined(self, index: int) -> bool:
        """Whether a word and the next are said without a pause."""
        return index + 1 < len(self.words) and not self.tokens[index].pause

    def capital(self, index: int) -> bool:
        """Whether a word begins with a capital."""
        return self.word(index)[:1].isupper()

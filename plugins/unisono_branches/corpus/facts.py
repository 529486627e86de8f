"""Facts: what a model must know of its texts."""

from dataclasses import dataclass

from unisono.data import Facts
from unisono.errors import RequestError

from unisono_branches.grammar.tags import TAGS


@dataclass(frozen=True, kw_only=True)
class TaggedFacts(Facts):
    """Facts about tagged texts.

    Attributes:
        characters: those of the training part, in order; a token is a tag or one of these.
        context: tokens of a text at most.
        max_branches, max_nesting: of the training part.
        sample_texts: prompts of a few, for previews.
    """

    characters: str
    context: int
    max_branches: int
    max_nesting: int
    sample_texts: tuple[str, ...] = ()

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """What each token reads: tags, then characters."""
        return (*TAGS, *self.characters)

    def encode(self, pieces: "list[str] | tuple[str, ...]") -> list[int]:
        """Return the tokens of pieces; raises ``RequestError`` for a character that the training part has not."""
        numbers = {piece: number for number, piece in enumerate(self.vocabulary)}
        for piece in pieces:
            if piece not in numbers:
                raise RequestError(
                    f"text holds {piece!r}: use only {self.characters!r} and tags",
                    code="value",
                    path="text",
                    value=piece,
                )
        return [numbers[piece] for piece in pieces]


@dataclass(frozen=True, kw_only=True)
class SortingFacts(Facts):
    """Facts about lists to sort.

    Attributes:
        letters: what is sorted, in order.
        max_items: letters of a list at most.
        sample_texts: a few lists, for previews.
    """

    letters: str
    max_items: int
    sample_texts: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ByteFacts(Facts):
    """Facts about bytes.

    Attributes:
        context: bytes of a row.
        sample_texts: beginnings of a few held-out rows, for previews.
    """

    context: int
    sample_texts: tuple[str, ...] = ()

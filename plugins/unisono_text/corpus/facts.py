"""TextFacts: what a text model must know of its documents."""

from dataclasses import dataclass

from unisono.data import Facts


@dataclass(frozen=True, kw_only=True)
class TextFacts(Facts):
    """Facts about documents.

    Attributes:
        tokenizer: its kind, its table as JSON, and the table's digest; see ``Tokenizer``.
        vocabulary: how many ids it has.
        special: the ids of ``pad``, ``bos`` and ``eos``, None where it has none.
        context: most tokens of an item.
        characters_per_token: of the held-out documents, or of all.
        sample_texts: beginnings of a few, for previews.
        chat: what stands before a prompt, between it and its answer, and after that, in data of prompts.
    """

    tokenizer: dict[str, str]
    vocabulary: int
    special: dict[str, int | None]
    context: int
    characters_per_token: float | None = None
    sample_texts: tuple[str, ...] = ()
    chat: dict[str, str] | None = None

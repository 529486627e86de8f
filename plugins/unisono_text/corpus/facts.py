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
        tuned: what a model's weights were tuned by beside the likelihood of the data: ``noise``, ``masks``, ``units``.
            Such a model has a law of its own, which is not that of the model that it was tuned from.
    """

    tokenizer: dict[str, str]
    vocabulary: int
    special: dict[str, int | None]
    context: int
    characters_per_token: float | None = None
    sample_texts: tuple[str, ...] = ()
    chat: dict[str, str] | None = None
    tuned: tuple[str, ...] | None = None

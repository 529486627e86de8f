"""Data for text models: documents as rows of tokens; and synthetic ones, made on the spot, for tests.

A row is a piece of one document: its tokens, and the end token where the document ends; no begin token, which models
that need one put in front themselves. A document that is longer than the context is cut into rows. See ``packing``
for how rows are laid out, ``files`` for texts on disk and ``chat`` for prompts with answers.

Batches: ``tokens`` int64 [b, t], padded; ``lengths`` int64 [b]; ``prompt`` int64 [b], how many of the first tokens are
given (0 for plain text); ``row`` int64 [b], the item's index; with packing also ``documents`` int64 [b, t], which of
the row's documents each place is of, −1 for padding.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from unisono.data import Audit, DataModule, derive_seed
from unisono.errors import DataError, did_you_mean

from unisono_text.corpus.facts import TextFacts
from unisono_text.corpus.packing import RowSet, collate_rows
from unisono_text.corpus.tokenizer import Tokenizer

NUM_SAMPLES = 4
MADE = {
    "bytes": lambda texts, vocabulary: Tokenizer.bytes(),
    "characters": lambda texts, vocabulary: Tokenizer.characters(texts),
    "bpe": Tokenizer.train_bpe,
}
"""The tokenizers that can be made of a corpus: each takes its texts, and how many ids there may be."""
NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eve", "Finn")
THINGS = ("apple", "book", "coin", "drum", "egg", "fish")
COLOURS = ("red", "green", "blue", "grey")


class TextData(DataModule):
    """The base of data for text models.

    Attributes after ``prepare``:
        tokenizer: of the corpus.
    """

    def __init__(self, context: int, batch_size: int, num_workers: int):
        super().__init__(batch_size, num_workers)
        if not 2 <= context <= 2**20:
            raise DataError(
                f"context={context} must be from 2 to {2**20} tokens", code="range", path="data.context", value=context
            )
        self.context = context
        self.tokenizer: Tokenizer | None = None
        self._lent: Tokenizer | None = None

    def lend(self, tokenizer: Tokenizer) -> None:
        """Have the texts in the tokens of a model instead of what the settings say; before ``prepare``."""
        self._lent = tokenizer

    def settle(
        self,
        audit: Audit,
        tokenizer: Tokenizer,
        train_set: RowSet,
        val_set: RowSet | None,
        characters_per_token: float,
        samples: Sequence[str],
        **facts: Any,
    ) -> Audit:
        """Fill the sets and the facts, and return the audit."""
        if not len(train_set):
            raise DataError(
                "no document is left to train on: see the reasons above, and give more data",
                code="empty",
                path="data",
                value=audit.reasons,
            )
        self.tokenizer, self.train_set = tokenizer, train_set
        self.val_set = val_set if val_set is not None and len(val_set) else None
        self.facts = TextFacts(
            **tokenizer.to_facts(),
            context=self.context,
            characters_per_token=characters_per_token,
            sample_texts=tuple(text for text in samples if text)[:NUM_SAMPLES],
            **facts,
        )
        return self.finish(audit)

    def texts(self, held_out: bool = True, limit: int | None = None) -> list[str]:
        """Return the documents of the validation part (or of the other), prompts included, as they are."""
        part = self.val_set if held_out else self.train_set
        if self.tokenizer is None or part is None:
            return []
        stretches = [part.text_tokens(start, length) for start, length, _ in part.documents[:limit].tolist()]
        return [self.tokenizer.decode(stretch.tolist()) for stretch in stretches]

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        pad = self.tokenizer.special["pad"] if self.tokenizer else None
        return collate_rows(items, 0 if pad is None else pad)


def make_sentence(number: int, questions: bool = False) -> tuple[str, str]:
    """Return the sentence of a number, as a prompt (empty, unless ``questions``) and what follows.

    Plain: ``Ada has 3 red apples.``, with its verb, plural and repetition to be learnt; a question:
    ``3+4=`` and ``7``.
    """
    draws = np.random.default_rng(derive_seed("sentence", number)).integers(0, 2**31, 6).tolist()
    if questions:
        first, second = draws[0] % 10, draws[1] % 10
        return f"{first}+{second}=", str(first + second)
    name, other = NAMES[draws[0] % 6], NAMES[(draws[0] + 1 + draws[1] % 5) % 6]
    count, colour, thing = 1 + draws[2] % 9, COLOURS[draws[3] % 4], THINGS[draws[4] % 6]
    things = f"{count} {colour} {thing}{'' if count == 1 else 's' if thing != 'fish' else ''}"
    return "", f"{name} has {things}." + (f" {other} has {things} too." if draws[5] % 3 == 0 else "")


class ToyData(TextData):
    """Sentences and sums, made on the spot: for tests and tiny recipes. No file is read.

    Args:
        num_items: documents to train on.
        context: most tokens of a row.
        tokenizer: ``characters``, ``bytes`` or ``bpe``.
        vocabulary: ids of ``bpe``.
        questions: sums with their prompt given, instead of sentences.
        pack: put short documents together in rows, with ``documents``.
        batch_size, num_workers: as of every data set.
        val_size: documents to validate on.
    """

    def __init__(
        self,
        *,
        num_items: int = 64,
        context: int = 32,
        tokenizer: str = "characters",
        vocabulary: int = 300,
        questions: bool = False,
        pack: bool = False,
        batch_size: int = 8,
        val_size: int = 8,
        num_workers: int = 0,
    ):
        super().__init__(context, batch_size, num_workers)
        if num_items < 1 or val_size < 0:
            raise DataError(
                f"num_items={num_items} must be at least 1, val_size={val_size} at least 0",
                code="range",
                path="data.num_items" if num_items < 1 else "data.val_size",
                value=num_items if num_items < 1 else val_size,
            )
        if questions and pack:
            raise DataError(
                "questions and pack do not go together: a row has one prompt", code="conflict", path="data.questions"
            )
        self.num_items, self.val_size, self.questions, self.pack = num_items, val_size, questions, pack
        self.kind, self.vocabulary = tokenizer, vocabulary

    def prepare(self, progress: bool = True) -> Audit:
        audit = Audit("documents")
        pairs = [make_sentence(number, self.questions) for number in range(self.num_items + self.val_size)]
        # The alphabet is of many sentences, so that it does not depend on how few are made.
        known = ["".join(make_sentence(number, questions)) for questions in (False, True) for number in range(200)]
        tokenizer = self._lent or make_tokenizer(self.kind, known, self.vocabulary)
        sets = []
        for part in (pairs[: self.num_items], pairs[self.num_items :]):
            tokens, places = encoded(part, tokenizer)
            sets.append(RowSet(tokens, places, self.context, not sets, self.pack, dtype=tokens.dtype.name))
        for number, length in enumerate(sets[0].documents[:, 1].tolist()):
            audit.keep(f"sentence-{number}", length, "tokens")
        shown = pairs[self.num_items :] or pairs
        written = sum(len(text) for _, text in shown)
        spent = sum(len(tokenizer.encode(text)) + 1 for _, text in shown)
        samples = [prompt or text[: text.index(" ") + 1] for prompt, text in shown]
        return self.settle(audit, tokenizer, sets[0], sets[1], written / spent, list(dict.fromkeys(samples)))


def make_tokenizer(kind: str, texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Return the tokenizer of a kind for texts; raises ``DataError`` for an unknown one."""
    if kind not in MADE:
        raise DataError(
            f"tokenizer={kind!r} is none that can be made{did_you_mean(kind, MADE)}",
            code="unknown",
            path="tokenizer",
            value=kind,
        )
    return MADE[kind](texts, vocabulary)


def encoded(pairs: Sequence[tuple[str, str]], tokenizer: Tokenizer) -> tuple[np.ndarray, np.ndarray]:
    """Return the tokens of (prompt, text) pairs, each with the end token, and where each is and what is given of it."""
    end = tokenizer.special["eos"]
    tail = [] if end is None else [end]
    rows, places, start = [], [], 0
    for prompt, text in pairs:
        given = tokenizer.encode(prompt)
        row = [*given, *tokenizer.encode(text), *tail]
        places.append((start, len(row), len(given)))
        rows.append(np.array(row, np.uint32))
        start += len(row)
    tokens = np.concatenate(rows) if rows else np.zeros(0, np.uint32)
    return tokens, np.array(places, np.int64).reshape(-1, 3)

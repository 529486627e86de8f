"""Streamed texts: documents of shards or tables, turned into tokens when they are needed.

A row of a shard has ``.txt``, or ``.json`` with ``text``; a row of a table the column ``text`` (or ``content``). A row
of tokens is a document's, or a stretch of one that is longer than the context, another one in each epoch.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from unisono.data import Audit, Drop
from unisono.data.stream import Examined, Part, Row, StreamData, StreamOptions
from unisono.errors import DataError, RequestError, did_you_mean
from unisono.files import composed, is_folder, lone_surrogate

from unisono_text.corpus.data import NUM_SAMPLES, make_tokenizer
from unisono_text.corpus.facts import TextFacts
from unisono_text.corpus.files import facts_of
from unisono_text.corpus.packing import collate_rows
from unisono_text.corpus.store import beginning
from unisono_text.corpus.tokenizer import Tokenizer

TEXT = Part("text", (".txt",), ("text", "content"), needed=False)
FACTS = Part("facts", (".json",), (), needed=False)
STREAMED = ("bpe", "bytes")
"""The tokenizers that know every text, whatever they were made of."""
MOST_CHARACTERS = 8
"""Characters a token, at most, that documents are sorted by."""


class TextStream(StreamData):
    """Documents of a stream.

    Args:
        root, stream, val_size, batch_size, num_workers: as of every ``StreamData``.
        context: most tokens of a row.
        tokenizer: ``bpe``, made of ``stream.measured`` documents, or ``bytes``; or the folder of an export, whose
            tokenizer is taken. One of ``characters`` would have to see every document first.
        vocabulary: ids of ``bpe``.

    Attributes after ``prepare``:
        tokenizer: of the corpus.
    """

    parts: ClassVar[tuple[Part, ...]] = (TEXT, FACTS)
    items = "documents"
    unit = "characters"

    def __init__(
        self,
        root: str,
        *,
        context: int = 256,
        tokenizer: str = "bpe",
        vocabulary: int = 4096,
        stream: StreamOptions = StreamOptions(),  # noqa: B008
        val_size: int = 256,
        batch_size: int = 32,
        num_workers: int = 0,
    ):
        super().__init__(root, stream=stream, val_size=val_size, batch_size=batch_size, num_workers=num_workers)
        if not 2 <= context <= 2**20:
            raise DataError(
                f"data.context={context} must be from 2 to {2**20} tokens",
                code="range",
                path="data.context",
                value=context,
            )
        if tokenizer not in STREAMED and not is_folder(Path(tokenizer).expanduser()):
            raise DataError(
                f"data.tokenizer={tokenizer!r} is none that a stream can make{did_you_mean(tokenizer, STREAMED)}, "
                "and no folder of an export",
                code="unknown",
                path="data.tokenizer",
                value=tokenizer,
            )
        self.context, self.kind, self.vocabulary = context, tokenizer, vocabulary
        self.tokenizer = None if tokenizer in STREAMED else Tokenizer.from_facts(facts_of(tokenizer))

    def version(self) -> str:
        return f"1 {self.context} {'' if self.kind in STREAMED else self.tokenizer and self.tokenizer.digest}"

    def examine(self, row: Row) -> Examined:
        text = document_of(row)
        if self.kind not in STREAMED and self.tokenizer is not None:
            try:
                self.tokenizer.encode(text)
            except RequestError as error:
                raise Drop("unknown characters", str(error)) from None
        return Examined(min(len(text), MOST_CHARACTERS * self.context), len(text), same=text)

    def maker(self, random: bool) -> "Encode":
        assert self.tokenizer is not None
        return Encode(self.tokenizer, self.context, random)

    def settle(self, audit: Audit) -> None:
        if self.tokenizer is None:
            measured = (document_of(row) for row in self.sample())
            self.tokenizer = make_tokenizer(self.kind, measured, self.vocabulary)
        texts = [document_of(row) for row in self.sample()]
        spent = [len(self.tokenizer.encode(text)) + 1 for text in texts]
        if len(texts) < len(self.train_set) and self.kind == "bpe":
            audit.note(f"the tokenizer is made of {len(texts)} of {len(self.train_set)} documents")
        shown = [document_of(self.val_set.row(i)) for i in range(min(NUM_SAMPLES, len(self.val_set or ())))] or texts
        self.facts = TextFacts(
            **self.tokenizer.to_facts(),
            context=self.context,
            characters_per_token=sum(map(len, texts)) / max(sum(spent), 1),
            sample_texts=tuple(dict.fromkeys(beginning(text) for text in shown[:NUM_SAMPLES])),
        )

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        pad = self.tokenizer.special["pad"] if self.tokenizer else None
        return collate_rows(items, 0 if pad is None else pad)


@dataclass(frozen=True)
class Encode:
    """Makes an item of a row: its tokens and the end token, or a stretch of them of the context's length."""

    tokenizer: Tokenizer
    context: int
    random: bool

    def __call__(self, row: Row, generator: torch.Generator) -> dict[str, Any]:
        tokens = self.tokenizer.encode(document_of(row))
        end = self.tokenizer.special["eos"]
        tokens += [] if end is None else [end]
        over = len(tokens) - self.context
        start = int(torch.randint(0, over + 1, (), generator=generator)) if over > 0 and self.random else 0
        return {"tokens": torch.tensor(tokens[start : start + self.context]), "prompt": 0}


def document_of(row: Row) -> str:
    """Return a row's text, in Unicode's composed form; raises ``Drop`` where there is none."""
    text = row.text("text") if "text" in row.parts else ""
    if not text and "facts" in row.parts:
        facts = row.json("facts")
        found = facts.get("text") if isinstance(facts, dict) else None
        text = found.strip() if isinstance(found, str) else ""
    if not text:
        raise Drop("empty text")
    if half := lone_surrogate(text):
        raise Drop("half a character", f"{half} alone is half of a character")
    return composed(text)

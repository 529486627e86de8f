"""Data from texts on disk: files, JSON lines and parquet tables, of any size, divided into documents."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from unisono import export
from unisono.data import Audit, Dropped
from unisono.errors import DataError, did_you_mean
from unisono.files import is_folder

from unisono_text.corpus.data import MADE, TextData, make_tokenizer
from unisono_text.corpus.documents import SUFFIXES, WAYS, Document, Roots, Source, Way, find_sources, read_texts
from unisono_text.corpus.packing import RowSet
from unisono_text.corpus.store import Documents, Split, Store, digest_of, open_store
from unisono_text.corpus.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class CorpusOptions:
    """The tokenizer of a corpus of texts, and what of it is held out.

    tokenizer: ``bpe``, ``characters`` or ``bytes``, made of the corpus; or the folder of an export, whose tokenizer is
        taken.
    vocabulary: ids of ``bpe``; other tokenizers have as many as they have.
    val: share of the characters to hold out, in [0, 1); or files to hold out, as ``root`` names them.
    """

    tokenizer: str = "bpe"
    vocabulary: int = 4096
    val: float | str | list[str] = 0.1


FLAT = {field.name: f"corpus.{field.name}" for field in fields(CorpusOptions)}
"""Where recipe format 1's arguments of a corpus of texts are."""


class StoredData(TextData):
    """The base of data that is read from files: tokens in a store, made once and found again by their content.

    Args:
        root: a file, a folder, a pattern such as ``books/*.txt``, a list of those, or ``{name: path}``.
        corpus: its tokenizer, and what of it is held out.
        context: most tokens of a row.
    """

    def __init__(self, root: Roots, *, corpus: CorpusOptions, context: int, batch_size: int, num_workers: int):
        super().__init__(context, batch_size, num_workers)
        tokenizer, val = corpus.tokenizer, corpus.val
        if isinstance(val, int | float) and not 0 <= val < 1:
            raise DataError(
                f"data.corpus.val={val:g} must be in [0, 1), a share of the characters; or name files",
                code="range",
                path="data.corpus.val",
                value=val,
            )
        if tokenizer not in MADE and not is_folder(Path(tokenizer).expanduser()):
            raise DataError(
                f"data.corpus.tokenizer={tokenizer!r} is none that can be made{did_you_mean(tokenizer, MADE)}, "
                "and no folder of an export",
                code="unknown",
                path="data.corpus.tokenizer",
                value=tokenizer,
            )
        self.root, self.kind, self.vocabulary, self.val = root, tokenizer, corpus.vocabulary, val

    def stored(
        self,
        suffixes: Sequence[str],
        read: Callable[[Source], Iterator[Document | Dropped]],
        split: Split,
        most: int | None = None,
        **options: Any,
    ) -> Store:
        """Return the store of the corpus; ``options`` is what its documents depend on beside the files."""
        self.notes: list[str] = []
        training = find_sources(self.root, suffixes, self.notes)
        if isinstance(self.val, int | float):
            share, held = self.val, []
        else:
            share, held = 0.0, find_sources(self.val, suffixes, self.notes)
        both = {os.path.realpath(source.path) for source in training} & {os.path.realpath(s.path) for s in held}
        if both:
            raise DataError(
                f"{min(both)} is both in data.root and in data.corpus.val: name it once",
                code="conflict",
                path="data.corpus.val",
                value=min(both),
            )
        given = self._lent or (Tokenizer.from_facts(facts_of(self.kind)) if self.kind not in MADE else None)

        def documents() -> Iterator[Document | Dropped]:
            for number, source in enumerate([*training, *held]):
                for document in read(source):
                    if isinstance(document, Document) and held:
                        document = replace(document, held_out=number >= len(training))
                    yield document

        digest = digest_of(
            [*training, *held], held=len(held), val=share, split=split, kind=given.digest if given else self.kind,
            vocabulary=self.vocabulary, most=most, **options,
        )  # fmt: skip
        return open_store(digest, documents, self._maker(given, documents), share, split, most, self.notes.append)

    def _maker(self, given: Tokenizer | None, documents: Documents) -> Callable[[Callable[[], Iterator[str]]], Any]:
        def make(texts: Callable[[], Iterator[str]]) -> Tokenizer:
            if given is not None:
                return given
            if self.kind == "characters":
                # Of all documents, held-out ones as well: a rare letter must not make half of a corpus unreadable.
                found = (d.prompt + d.text for d in documents() if isinstance(d, Document))
                return make_tokenizer("characters", found, self.vocabulary)
            return make_tokenizer(self.kind, texts(), self.vocabulary)

        return make

    def filled(self, store: Store, pack: bool = False, fill: str | None = None, **facts: Any) -> Audit:
        """Fill the sets from a store, and return the audit."""
        audit = Audit("documents", notes=list(self.notes))
        for record in store.facts["dropped"]:
            audit.drop(record["id"], record["reason"], record["detail"])
        groups = store.facts["groups"]
        for number, (_, length, _, held, group) in enumerate(store.places.tolist()):
            audit.keep(f"{'held out' if held else 'document'} {number}", length, "tokens", groups[group])
        if not len(store.places):
            reasons = "; ".join(f"{count} × {reason}" for reason, count in audit.reasons.items())
            first = audit.dropped[0]
            raise DataError(
                f"{self.root!s:.200}: no document can be used ({reasons}): the first, {first.id}: "
                f"{first.detail or first.reason}",
                code="empty",
                path="data.root",
                value=audit.reasons,
            )
        tokenizer = store.tokenizer
        end = tokenizer.special["eos"]
        if fill and end is None:
            raise DataError(
                f"{tokenizer!r} has no end token, which answers must be followed by: choose another",
                code="unsupported",
                path="data.corpus.tokenizer",
                value=tokenizer.kind,
            )
        padding = None if not fill or end is None else (fill, end)
        sets = [
            RowSet(
                store.path, store.documents(held), self.context, not held, pack, padding, store.facts["dtype"]
            )
            for held in (False, True)
        ]  # fmt: skip
        for held, part in enumerate(sets):
            part.corpora = groups, store.places[store.places[:, 3] == held][:, 4]
        ratio = store.facts["characters_per_token"]
        for name, part in zip(("trained on", "held out"), sets, strict=True):
            count = int(part.documents[:, 1].sum())
            audit.note(f"{name}: {len(part.documents)} documents, {count} tokens, {len(part)} rows")
        return self.settle(audit, tokenizer, sets[0], sets[1], ratio, store.facts["samples"], **facts)


class FilesData(StoredData):
    """Plain texts.

    Args:
        root, corpus: as of every corpus of texts on disk: see ``StoredData``.
        documents: what a document of a text file is: the whole ``file``, a ``paragraph`` (up to a blank line), a
            ``line``, or an ``article`` of WikiText.
        field: what JSON lines and tables call the text.
        context: most tokens of a row.
        pack: put short documents together in rows, with ``documents``.
        split: hold out whole ``documents``, chosen by their texts alone; or the ``tail`` of each.
        batch_size, num_workers: as of every data set.
    """

    flat: ClassVar[dict[str, str]] = FLAT

    def __init__(
        self,
        root: Roots,
        *,
        documents: Way = "paragraph",
        field: str = "text",
        corpus: CorpusOptions = CorpusOptions(),
        context: int = 256,
        pack: bool = False,
        split: Literal["documents", "tail"] = "documents",
        batch_size: int = 32,
        num_workers: int = 0,
    ):
        super().__init__(root, corpus=corpus, context=context, batch_size=batch_size, num_workers=num_workers)
        if documents not in WAYS:
            raise DataError(
                f"documents={documents!r} is no way to divide a text{did_you_mean(documents, WAYS)}",
                code="unknown",
                path="data.documents",
                value=documents,
            )
        if split == "tail" and not isinstance(corpus.val, int | float):
            raise DataError(
                "split: tail takes a share as val, not files: leave one of them out",
                code="conflict",
                path="data.split",
                value=split,
            )
        self.documents: Way = documents
        self.split: Split = split
        self.field, self.pack = field, pack

    def prepare(self, progress: bool = True) -> Audit:
        def read(source: Source) -> Iterator[Document | Dropped]:
            return read_texts(source, self.documents, self.field)

        store = self.stored(SUFFIXES, read, self.split, documents=self.documents, field=self.field)
        return self.filled(store, self.pack)


def facts_of(folder: str) -> dict[str, Any]:
    """Return the facts of an export; raises ``CheckpointError`` where the folder is none."""
    return export.read_info(export.find(Path(folder).expanduser()))["facts"]

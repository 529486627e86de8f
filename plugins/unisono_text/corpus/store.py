"""Tokens on disk: a corpus as numbers in one file, made once, mapped into memory afterwards.

A store is three files in the folder ``texts`` of the caches (``UNISONO_CACHE``): ``<digest>.bin``, the tokens of all
documents one after another (uint16, or uint32 for large vocabularies); ``<digest>.npy``, int64 [n, 5], for each
document where it begins, its tokens, how many of them are given, whether it is held out, and the number of its corpus;
``<digest>.json``, the tokenizer, what was dropped and why, what else is known, and checksums of the other two. The
digest is of the *contents* of the files and of whatever the tokens depend on. Documents are streamed: at no time is
there more than one in memory. A damaged store is made anew; where the cache cannot be written, the store is made in a
temporary folder. Nothing is ever removed: delete the folder to have the space back.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int
from unisono.data import Dropped, cache_root, hold_out, written_aside
from unisono.data.cache import log
from unisono.data.folder import CacheError, spare_root
from unisono.data.known import content_hash, content_hashes
from unisono.errors import DataError, RequestError, UnisonoError
from unisono.files import composed, read_json

from unisono_text.corpus.documents import Document, Source
from unisono_text.corpus.tokenizer import Tokenizer

VERSION = "texts-3"
NUM_SAMPLES = 4
SAMPLE_CHARACTERS = 24

Documents = Callable[[], Iterator[Document | Dropped]]
"""Reads a corpus from its beginning, each time it is called."""
Split = Literal["documents", "tail"]


@dataclass(frozen=True)
class Store:
    """What a corpus came to: the file of its tokens, its documents, and what is known of it."""

    path: Path
    places: Int[np.ndarray, "n 5"]
    facts: dict[str, Any]

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that the tokens are of."""
        return Tokenizer.from_facts(self.facts)

    def documents(self, held_out: bool) -> Int[np.ndarray, "m 3"]:
        """Return where the documents of one part begin, their tokens, and how many are given."""
        return self.places[self.places[:, 3] == held_out][:, :3]


def digest_of(sources: Sequence[Source], **options: Any) -> str:
    """Return the name of a corpus's store: of the contents of its files, their names, and the options."""
    digest = hashlib.blake2b(f"{VERSION} {json.dumps(options, sort_keys=True)}".encode(), digest_size=20)
    whole = [source for source in sources if source.fault is None]
    name = str(whole[0].path.parent) if whole else ""
    hashes = dict(zip(map(id, whole), content_hashes([source.path for source in whole], name), strict=True))
    for source in sources:
        digest.update(f"\n{source.group!r} {source.name!r} ".encode())
        content = hashes[id(source)] if source.fault is None else source.fault.error()
        if isinstance(content, UnisonoError):  # a file that cannot be read is one dropped document
            content = f"not read: {content.fault and content.fault.reason}".encode()
        digest.update(content)
    return digest.hexdigest()


def open_store(
    digest: str,
    documents: Documents,
    make_tokenizer: Callable[[Callable[[], Iterator[str]]], Tokenizer],
    val: float,
    split: Split,
    context: int | None = None,
    note: Callable[[str], None] = log.warning,
) -> Store:
    """Return a corpus's store, made now where there is none.

    Args:
        make_tokenizer: makes it of the texts to train on, which it may read as often as it likes.
        val: share of the characters that is held out, where documents do not say themselves what is.
        split: whole documents, chosen by their texts alone; or the last part of each.
        context: with prompts, most tokens of a document: longer ones are dropped, prompts and answers by their own
            reasons.
        note: told where the cache cannot be written.
    """

    def make(root: Path) -> Store:
        path = root / "texts" / f"{digest}.bin"
        places, listed = path.with_suffix(".npy"), path.with_suffix(".json")
        if (store := _whole(path)) is not None:
            return store
        with written_aside(path) as aside:
            facts, found = _fill(aside, documents, make_tokenizer, val, split, context)
        with written_aside(places) as aside, aside.open("wb") as file:
            np.save(file, found)
        facts["checksums"] = {file.suffix: content_hash(file).hex() for file in (path, places)}
        with written_aside(listed) as aside:  # the list last: without it there is no store
            aside.write_text(json.dumps(facts), encoding="utf-8")
        return Store(path, found, facts)

    try:
        return make(cache_root())
    except CacheError as error:
        note(f"the tokens are made anew in each run: {error}")
        return make(spare_root())


def _whole(path: Path) -> Store | None:
    """Return a store that is as it was written: every byte of it is checked; else None."""
    places, listed = path.with_suffix(".npy"), path.with_suffix(".json")
    try:
        facts = read_json(listed)
        if any(content_hash(file).hex() != facts["checksums"][file.suffix] for file in (path, places)):
            return None
        store = Store(path, np.load(places, allow_pickle=False), facts)
        return store if store.tokenizer and facts["dtype"] and isinstance(facts["dropped"], list) else None
    except (DataError, RequestError, OSError, EOFError, KeyError, TypeError, ValueError, AttributeError):
        return None


def _fill(
    aside: Path,
    documents: Documents,
    make_tokenizer: Callable[[Callable[[], Iterator[str]]], Tokenizer],
    val: float,
    split: Split,
    context: int | None,
) -> tuple[dict[str, Any], Int[np.ndarray, "n 5"]]:
    """Write the tokens of a corpus; return what is known of it, and its documents' places."""
    keys, lengths, said = [], [], []
    for document in documents():
        if isinstance(document, Document):
            key = composed(document.key or document.text)  # two ways to write an accent are one text
            keys.append(hashlib.blake2b(key.encode("utf-8", "surrogatepass")).digest()[:8])
            lengths.append(len(document.text))
            said.append(document.held_out)
    held = {} if split == "tail" else _held_out(keys, lengths, said, val)

    def divided() -> Iterator[Document | Dropped]:
        number = -1
        for document in documents():
            if isinstance(document, Dropped):
                yield document
                continue
            number += 1
            if document.held_out is not None or split == "documents":
                decided = keys[number] in held if document.held_out is None else document.held_out
                yield replace(document, held_out=decided)
            else:
                yield from _divided(document, val)

    def texts() -> Iterator[str]:
        for document in divided():
            if isinstance(document, Document) and not document.held_out:
                yield document.prompt + document.text

    tokenizer = make_tokenizer(texts)
    end = tokenizer.special["eos"]
    tail = [] if end is None else [end]
    dtype = np.dtype("uint16" if tokenizer.vocabulary <= 2**16 else "uint32")
    dropped: list[dict[str, str]] = []
    places: list[tuple[int, int, int, bool, int]] = []
    groups: dict[str, int] = {}
    count = {True: [0, 0], False: [0, 0]}  # characters and tokens that are learnt, of both parts
    samples: dict[bool, list[str]] = {True: [], False: []}
    start = 0
    with aside.open("wb") as file:
        for document in divided():
            if isinstance(document, Dropped):
                dropped.append({"id": document.id, "reason": document.reason, "detail": document.detail})
                continue
            try:
                # Part by part, as a request's prompt is put together: where merges could cross, both do alike.
                given = [i for text, form in document.given for i in tokenizer.encode(text, special=form)]
                rest = tokenizer.encode(document.text)
            except RequestError as error:
                dropped.append({"id": document.id, "reason": "unknown characters", "detail": str(error)})
                continue
            row = [*given, *rest, *tail]
            if context is not None and len(row) > context:
                over = "prompt" if len(given) >= context else "prompt with its answer"
                reason = "prompt too long" if over == "prompt" else "too long"
                size = len(given) if over == "prompt" else len(row)
                detail = f"the {over} has {size} tokens, and the context {context}"
                dropped.append({"id": document.id, "reason": reason, "detail": detail})
                continue
            file.write(np.array(row, dtype).tobytes())
            part = bool(document.held_out)
            places.append((start, len(row), len(given), part, groups.setdefault(document.group, len(groups))))
            start += len(row)
            count[part][0] += len(document.text)
            count[part][1] += len(row) - len(given)
            if len(samples[part]) < NUM_SAMPLES:
                samples[part].append(document.prompt or beginning(document.text))
    shown = bool(count[True][1])
    facts = {
        **tokenizer.to_facts(),
        "dtype": dtype.name,
        "groups": list(groups),
        "dropped": dropped,
        "characters_per_token": count[shown][0] / max(count[shown][1], 1),
        "samples": list(dict.fromkeys(samples[shown])),
    }
    return facts, np.array(places, np.int64).reshape(-1, 5)


def beginning(text: str) -> str:
    """Return the first words of a text."""
    text = text.strip()
    if len(text) <= SAMPLE_CHARACTERS:
        return text
    short = text[:SAMPLE_CHARACTERS].rpartition(" ")[0]
    return f"{short} " if short.strip() else text[:SAMPLE_CHARACTERS]


def _held_out(keys: Sequence[bytes], lengths: Sequence[int], said: Sequence[bool | None], val: float) -> set[bytes]:
    """Choose texts to hold out by their own hashes, until they have a share of all characters."""
    sizes: dict[bytes, int] = {}
    for key, length, known in zip(keys, lengths, said, strict=True):
        if known is None:
            sizes[key] = sizes.get(key, 0) + length
    held = hold_out(sizes, val * sum(sizes.values()), rank=bytes, may_take_all=True)
    if held and len(held) == len(sizes):
        raise DataError(
            f"val={val:g} leaves nothing to train on (different documents: {len(sizes)}): lower it, divide the texts "
            "further (data.documents), or hold out the last part of each (data.split: tail)",
            code="range",
            path="data.corpus.val",
            value=val,
        )
    return held


def _divided(document: Document, val: float) -> Iterator[Document]:
    """Yield the first part of a document and its last, cut at the end of a line where there is one."""
    text = document.text
    place = text.find("\n", max(int(len(text) * (1 - val)) - 1, 0)) + 1 or int(len(text) * (1 - val))
    if not val or not text[:place].strip() or not text[place:].strip():
        yield replace(document, held_out=False)
        return
    yield replace(document, text=text[:place], held_out=False)
    yield replace(document, id=f"{document.id} (tail)", text=text[place:], held_out=True)

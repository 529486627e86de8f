"""Tokenizers: texts to ids and back, exactly, and as plain facts that travel in every export.

Four kinds, of the library ``tokenizers`` where they merge anything:

- ``bytes``: the 256 bytes of UTF-8
- ``characters``: the characters that a corpus has, and no others
- ``bpe``: byte-level byte-pair encoding (Sennrich et al. 2016; on bytes, Radford et al. 2019), trained on a corpus
- ``json``: any tokenizer in the library's own JSON format, such as those of published models, with its own ids

The first three begin with three ids that no text has: padding 0, begin 1 and end 2. They belong to the model and not
to the language: nothing that a text says, ``<eos>`` and ``[MASK]`` included, becomes one of them. The mask is no
token at all: models give it the input row after the last id.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from unisono.errors import CheckpointError, DataError, MissingExtra, RequestError, did_you_mean

KINDS = ("bytes", "characters", "bpe", "json")
SPECIAL = {"pad": 0, "bos": 1, "eos": 2}
MOST_NAMED = 8


class Tokenizer:
    """Texts to ids and back; ``Tokenizer.bytes()``, ``.characters(…)``, ``.train_bpe(…)`` or ``.from_json(…)``.

    Attributes:
        kind: one of ``KINDS``.
        vocabulary: how many ids there are, from 0, the special ones among them.
        special: the ids of ``pad``, ``bos`` and ``eos``, None where there is none.
        digest: equal for tokenizers that give equal ids.
    """

    def __init__(self, kind: str, table: str, special: dict[str, int | None]):
        self.kind, self.table, self.special = kind, table, special
        self.shift = 0 if kind == "json" else len(SPECIAL)
        self._codec: _Codec = {"bytes": _Bytes, "characters": _Characters, "bpe": _Merges, "json": _Merges}[kind](table)
        self.vocabulary = self._codec.size + self.shift
        parts = json.dumps([kind, table, special], sort_keys=True)
        self.digest = hashlib.blake2b(parts.encode(), digest_size=16).hexdigest()
        self._special_ids = {number for number in special.values() if number is not None}

    # ---- made ----------------------------------------------------------------------------------

    @classmethod
    def bytes(cls) -> "Tokenizer":
        """Return the tokenizer of UTF-8's bytes: 259 ids, any text."""
        return cls("bytes", "", dict(SPECIAL))

    @classmethod
    def characters(cls, texts: Iterable[str]) -> "Tokenizer":
        """Return the tokenizer of the characters that occur in some texts; raises ``DataError`` where there are none.

        ``texts`` may be one string with all of them.
        """
        found: set[str] = set()
        for text in texts:
            found.update(text)
        if not found:
            raise DataError(
                "there is no character to make a tokenizer of: give texts that are not empty",
                code="empty",
                path="texts",
            )
        return cls("characters", "".join(sorted(found)), dict(SPECIAL))

    @classmethod
    def train_bpe(cls, texts: Iterable[str], size: int) -> "Tokenizer":
        """Train byte-level byte-pair encoding on texts; the same texts give the same tokenizer.

        ``size`` counts all ids: 3 special ones, 256 bytes, and merges; fewer come out where the texts have no more
        pairs to merge. Raises ``DataError`` for a size below 260.
        """
        least = len(SPECIAL) + 256 + 1
        if size < least:
            raise DataError(
                f"a vocabulary of {size} has no room for merges: 3 special ids and 256 bytes, so {least}",
                code="range",
                path="vocabulary",
                value=size,
            )
        library = _library()
        bare = library.Tokenizer(library.models.BPE())
        bare.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
        bare.decoder = library.decoders.ByteLevel()
        trainer = library.trainers.BpeTrainer(
            vocab_size=size - len(SPECIAL),
            initial_alphabet=sorted(library.pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        bare.train_from_iterator(texts, trainer)
        return cls("bpe", bare.to_str(), dict(SPECIAL))

    @classmethod
    def from_json(
        cls, table: str, *, pad: str | None = None, bos: str | None = None, eos: str | None = None
    ) -> "Tokenizer":
        """Take a tokenizer in the format of the library ``tokenizers`` as it is, its special tokens by name.

        Raises ``DataError`` where the JSON is none, or has no token of such a name.
        """
        bare = _read_table(table)
        special: dict[str, int | None] = {}
        for role, name in (("pad", pad), ("bos", bos), ("eos", eos)):
            special[role] = None if name is None else bare.token_to_id(name)
            if name is not None and special[role] is None:
                raise DataError(
                    f"the tokenizer has no token {name!r} to be its {role}", code="missing", path=role, value=name
                )
        return cls("json", table, special)

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> "Tokenizer":
        """Return the tokenizer that ``to_facts`` described; raises ``CheckpointError`` where it is not the same."""
        try:
            said, special = facts["tokenizer"], dict(facts["special"])
            kind, table, digest = said["kind"], said["json"], said["digest"]
        except (KeyError, TypeError):
            raise CheckpointError(
                "the facts describe no tokenizer: these are not a text model's", code="format", path="facts.tokenizer"
            ) from None
        if kind not in KINDS:
            raise CheckpointError(
                f"the facts name a tokenizer of kind {kind!r}{did_you_mean(kind, KINDS)}",
                code="unknown",
                path="facts.tokenizer",
                value=kind,
            )
        try:
            made = cls(kind, table, special)
        except DataError as error:
            raise CheckpointError(
                f"the tokenizer in the facts is damaged: {error}", code="damaged", path="facts.tokenizer"
            ) from None
        if made.digest != digest or made.vocabulary != facts.get("vocabulary", made.vocabulary):
            raise CheckpointError(
                f"the tokenizer in the facts has {made.vocabulary} ids and the digest {made.digest}, not "
                f"{facts.get('vocabulary')} and {digest}: they were changed by hand",
                code="damaged",
                path="facts.tokenizer",
                value=digest,
            )
        return made

    def to_facts(self) -> dict[str, Any]:
        """Return the facts ``tokenizer``, ``vocabulary`` and ``special``, as plain JSON."""
        return {
            "tokenizer": {"kind": self.kind, "json": self.table, "digest": self.digest},
            "vocabulary": self.vocabulary,
            "special": dict(self.special),
        }

    # ---- used ----------------------------------------------------------------------------------

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Return a text's ids, no special one among them.

        With ``special``, for a tokenizer of kind ``json``, what reads like one of its special tokens becomes it, as
        chat templates need. Raises ``RequestError`` for characters that the tokenizer does not have.
        """
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise RequestError(
                f"character {error.start} of the text, {text[error.start]!r}, is half of a character: "
                "it has no UTF-8; leave it out",
                code="value",
                path="text",
                value=text[error.start],
            ) from None
        return [number + self.shift for number in self._codec.encode(text, special and self.kind == "json")]

    def decode(self, ids: Sequence[int]) -> str:
        """Return what ids read; special ones read as nothing, bytes that are no UTF-8 as ``�``.

        Raises ``ValueError`` for an id outside of the vocabulary, such as a model's mask.
        """
        outside = [number for number in ids if not 0 <= number < self.vocabulary]
        if outside:
            raise ValueError(f"id {outside[0]} is outside of the {self.vocabulary} of the tokenizer")
        return self._codec.decode([number - self.shift for number in ids if number not in self._special_ids])

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return what each id reads by itself; a special one reads as its role, such as ``<eos>``."""
        names = {number: f"<{role}>" for role, number in self.special.items() if number is not None}
        return [names.get(number) or self.decode([number]) for number in ids]

    def __repr__(self) -> str:
        return f"Tokenizer({self.kind}, {self.vocabulary} ids)"


class _Codec(Protocol):
    """What a kind does, its ids from 0."""

    size: int

    def __init__(self, table: str): ...

    def encode(self, text: str, special: bool) -> Iterable[int]: ...

    def decode(self, ids: list[int]) -> str: ...


class _Bytes:
    size = 256

    def __init__(self, table: str):
        if table:
            raise DataError("a tokenizer of bytes has no table", code="conflict", path="table")

    def encode(self, text: str, special: bool) -> Iterable[int]:
        return text.encode("utf-8")

    def decode(self, ids: list[int]) -> str:
        return bytes(ids).decode("utf-8", "replace")


class _Characters:
    def __init__(self, table: str):
        self.table = table
        self.numbers = {character: number for number, character in enumerate(table)}
        self.size = len(table)
        if not table or len(self.numbers) != len(table):
            raise DataError("a tokenizer of characters lists some, each once", code="value", path="table")

    def encode(self, text: str, special: bool) -> Iterable[int]:
        unknown = sorted(set(text) - self.numbers.keys())
        if unknown:
            shown = ", ".join(repr(character) for character in unknown[:MOST_NAMED])
            more = f" and {len(unknown) - MOST_NAMED} more" if len(unknown) > MOST_NAMED else ""
            raise RequestError(
                f"this tokenizer knows {self.size} characters, and {shown}{more} are not among them: "
                "leave them out, or use a model of bytes or of BPE",
                code="unsupported",
                path="text",
                value=unknown,
            )
        return [self.numbers[character] for character in text]

    def decode(self, ids: list[int]) -> str:
        return "".join(self.table[number] for number in ids)


class _Merges:
    def __init__(self, table: str):
        self.bare = _read_table(table)
        # What a text says is never a special token, however it reads.
        self.plain = _read_table(table)
        self.plain.encode_special_tokens = True
        self.size = self.bare.get_vocab_size(with_added_tokens=True)

    def encode(self, text: str, special: bool) -> Iterable[int]:
        return (self.bare if special else self.plain).encode(text, add_special_tokens=False).ids

    def decode(self, ids: list[int]) -> str:
        return self.bare.decode(ids, skip_special_tokens=True)


def _library() -> Any:
    try:
        import tokenizers
    except ImportError:
        raise MissingExtra("tokenizers", "text") from None
    return tokenizers


def _read_table(table: str) -> Any:
    try:
        return _library().Tokenizer.from_str(table)
    except MissingExtra:
        raise
    except Exception as error:  # the library raises bare Exception for whatever it cannot read
        raise DataError(
            f"this is no tokenizer in the format of the library tokenizers ({error})", code="format", path="table"
        ) from None

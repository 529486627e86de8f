"""Units: what a recogniser names: phones, characters, or pieces of words.

All three begin with the words of a front end's reading (``spelled``): phones without their stress from ``espeak``,
small letters from ``characters``; pauses are not recognised. A space is a unit of its own between words of phones and
of characters; pieces carry theirs as ``▁``, as those of SentencePiece do.

    kind         tokens after the blank                      made of
    phones       the space, then phones                      the phones of a corpus, in the front end's order
    characters   the space, then letters                     its letters, likewise
    bpe          pieces                                      merges, by the library ``tokenizers``

Id 0 is CTC's blank and never stands in a transcript.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from unisono.errors import DataError, MissingExtra, RequestError, did_you_mean
from unisono_sound.text import Symbols

BLANK, SPACE, EDGE = "<blank>", " ", "▁"
STRESS = "ˈˌ"
KINDS = ("phones", "characters", "bpe")
Kind = Literal["phones", "characters", "bpe"]
Words = Sequence[Sequence[str]]
"""The symbols of each word of a reading."""


@dataclass(frozen=True)
class Units:
    """The tokens of a recogniser; strict JSON by ``to_dict``.

    Attributes:
        kind: one of ``KINDS``.
        tokens: what each id reads; the first is the blank.
        table: for ``bpe``, the tokenizer in the format of the library ``tokenizers``.
    """

    kind: Kind
    tokens: tuple[str, ...]
    table: str = field(default="", repr=False)

    def __post_init__(self):
        if self.kind not in KINDS:
            message = f"units of kind {self.kind!r}{did_you_mean(str(self.kind), KINDS)}"
            raise DataError(message, code="unknown", path="units.kind", value=self.kind)
        tokens = tuple(self.tokens)
        object.__setattr__(self, "tokens", tokens)
        if len(tokens) < 2 or tokens[0] != BLANK:
            message = f"units begin with {BLANK!r} and have at least one token more, not {tokens[:2]!r}"
            raise DataError(message, code="format", path="units.tokens", value=list(tokens[:2]))
        if len(set(tokens)) < len(tokens):
            twice = next(token for index, token in enumerate(tokens) if token in tokens[:index])
            message = f"the unit {twice!r} stands twice: list each once"
            raise DataError(message, code="exists", path="units.tokens", value=twice)
        if (self.kind == "bpe") != bool(self.table):
            message = "units of kind bpe have a table, others none"
            raise DataError(message, code="conflict", path="units.table", value=self.kind)

    def __len__(self) -> int:
        return len(self.tokens)

    # ---- made ----------------------------------------------------------------------------------

    @classmethod
    def of_corpus(cls, kind: Kind, readings: Iterable[Words], order: Sequence[str] = (), size: int = 256) -> "Units":
        """Return the units of a corpus' readings (``spelled``).

        ``order`` is how phones and characters are numbered, the front end's table; ``size`` counts all ids of
        ``bpe``: fewer come out where there are no more pairs to merge. Raises ``DataError`` for a ``size`` without
        room for the letters, ``MissingExtra`` where ``tokenizers`` is not installed.
        """
        if kind == "bpe":
            return cls._merged([_text(words) for words in readings], size)
        found = {symbol for words in readings for word in words for symbol in word}
        places = {symbol: place for place, symbol in enumerate(dict.fromkeys(s.lstrip(STRESS) or s for s in order))}
        ranked = sorted(found - {SPACE}, key=lambda symbol: (places.get(symbol, len(places)), symbol))
        return cls(kind, (BLANK, SPACE, *ranked))

    @classmethod
    def _merged(cls, texts: Sequence[str], size: int) -> "Units":
        library = _library()
        letters = sorted({letter for text in texts for letter in text if letter != SPACE} | {EDGE})
        if size < len(letters) + 1:
            message = f"units.size={size} has no room for {len(letters)} letters and the blank: raise it"
            raise DataError(message, code="range", path="data.units.size", value=size)
        bare = library.Tokenizer(library.models.BPE())
        bare.pre_tokenizer = library.pre_tokenizers.Metaspace(replacement=EDGE, prepend_scheme="always")
        trainer = library.trainers.BpeTrainer(vocab_size=size - 1, initial_alphabet=letters, show_progress=False)
        bare.train_from_iterator(texts, trainer)
        vocabulary = bare.get_vocab()
        return cls("bpe", (BLANK, *sorted(vocabulary, key=vocabulary.__getitem__)), bare.to_str())

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain JSON."""
        return {"kind": self.kind, "tokens": list(self.tokens), "table": self.table}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Units":
        """Return what ``to_dict`` described; raises ``DataError`` where it is something else."""
        names = ("kind", "tokens", "table")
        if unknown := [name for name in values if name not in names]:
            message = f"units have no field {unknown[0]!r}{did_you_mean(unknown[0], names)}"
            raise DataError(message, code="unknown", path=f"units.{unknown[0]}", value=unknown[0])
        tokens = values.get("tokens")
        if not isinstance(tokens, list) or not all(type(token) is str for token in tokens):
            raise DataError("units.tokens is no list of texts", code="type", path="units.tokens")
        kind, table = values.get("kind"), values.get("table", "")
        if type(kind) is not str or type(table) is not str:
            raise DataError("units.kind and units.table are texts", code="type", path="units.kind")
        return cls(kind, tuple(tokens), table)  # type: ignore[arg-type]  # checked by the constructor

    # ---- used ----------------------------------------------------------------------------------

    def encode(self, words: Words) -> list[int]:
        """Return the ids of a reading's words.

        Raises ``RequestError`` for a symbol that the units lack: no training text had it.
        """
        if self.kind == "bpe":
            self._refuse(letter for letter in _text(words) if letter != SPACE)
            return [self.ids[piece] for piece in self._tokenizer.encode(_text(words)).tokens]
        spaced = [symbol for word in words for symbol in (SPACE, *word)][1:]
        self._refuse(spaced)
        return [self.ids[symbol] for symbol in spaced]

    def words(self, ids: Sequence[int]) -> list[list[int]]:
        """Return, for each word that ids spell, the places of its ids; spaces belong to none."""
        found: list[list[int]] = [[]]
        for place, token in enumerate(self.tokens[number] for number in ids):
            if token == SPACE or (self.kind == "bpe" and token.startswith(EDGE)):
                found.append([])
            if token != SPACE:
                found[-1].append(place)
        return [word for word in found if word]

    def text(self, ids: Sequence[int]) -> str:
        """Return what ids read: written words for ``characters`` and ``bpe``, phones for ``phones``."""
        read = "".join(self.tokens[number] for number in ids if number)
        return SPACE.join((read.replace(EDGE, SPACE) if self.kind == "bpe" else read).split())

    def symbols(self, ids: Sequence[int]) -> list[str]:
        """Return the tokens that ids read, without blank and space."""
        return [token for number in ids if number and (token := self.tokens[number]) != SPACE]

    @cached_property
    def ids(self) -> dict[str, int]:
        """The id of each token."""
        return {token: number for number, token in enumerate(self.tokens)}

    @cached_property
    def _letters(self) -> set[str]:
        return {letter for token in self.tokens[1:] for letter in token} if self.kind == "bpe" else set(self.tokens[1:])

    def _refuse(self, symbols: Iterable[str]) -> None:
        unknown = list(dict.fromkeys(symbol for symbol in symbols if symbol not in self._letters))
        if unknown:
            shown = ", ".join(map(repr, unknown[:5])) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
            message = f"this recogniser has no unit for {shown}: it knows {len(self) - 1} units of its training texts"
            raise RequestError(message, code="unknown", path="text", value=unknown)

    @cached_property
    def _tokenizer(self) -> Any:
        try:
            return _library().Tokenizer.from_str(self.table)
        except MissingExtra:
            raise
        except Exception as error:  # the library raises plain exceptions
            message = f"units.table is no tokenizer in the format of the library tokenizers ({error})"
            raise DataError(message, code="format", path="units.table") from None


def spelled(read: Symbols) -> list[list[str]]:
    """Return the words of a reading, each the list of its symbols without stress; pauses are left out."""
    words: list[list[str]] = []
    last = -1
    for symbol, word in zip(read.symbols, read.word_of, strict=True):
        if word < 0:
            continue
        if word != last:
            words.append([])
            last = word
        if plain := symbol.lstrip(STRESS):
            words[-1].append(plain)
    return [word for word in words if word]


def _text(words: Words) -> str:
    return SPACE.join("".join(word) for word in words)


def _library() -> Any:
    try:
        import tokenizers
    except ImportError:
        raise MissingExtra("tokenizers", "asr") from None
    return tokenizers

"""Reading: a piece of a text as symbols, with the pace, pitch, volume and pauses that its markup asks for.

A pause that is asked for is a number of frames, exactly, from the last phoneme before it to the first one behind it.
Some of them the voice says itself, so that a word dies away and the next begins as it would; the others are silence.

Shapes: s symbols.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from unisono_sound.text.direction import Director
from unisono_sound.text.markup import NEUTRAL, Prosody, Script
from unisono_sound.text.reader import Said, Symbols, Word
from unisono_sound.text.split import Piece, Token, split_text
from unisono_sound.text.symbols import PAUSES

__all__ = [
    "KEPT_FRAMES",
    "Directed",
    "Held",
    "Reading",
    "directed",
    "hold",
    "prosodies",
    "shown_words",
    "with_written_words",
]

KEPT_FRAMES = 8
"""Frames of a pause that the voice says on either side of it: 93 ms of 256 samples at 22,050 Hz."""


@dataclass(frozen=True)
class Held:
    """How long a symbol lasts: ``frames`` that the voice says, and in their middle so many of silence."""

    frames: int
    silence: int = 0


@dataclass
class Reading:
    """One piece of a text, as symbols with their controls.

    The places of ``symbols.words`` are those in the request's text, markup included. ``pace`` is per symbol, and so are
    ``pitch`` (semitones) and ``volume`` (decibels), None where the markup asks for none; ``held`` are symbols whose
    length is asked for. ``pause`` in seconds; ``characters`` is the piece's share of the text.
    ``text`` is the piece as it is shown to a reader, without markup, and ``spans`` are the places in it of
    ``symbols.words``.
    ``goes_on_before`` and ``goes_on_after`` hold where the piece was cut off another within a phrase.
    """

    request: Any
    symbols: Symbols
    ids: list[int]
    speaker: int
    pace: list[float]
    pause: float
    characters: int
    goes_on_before: bool = False
    goes_on_after: bool = False
    pitch: list[float] | None = None
    volume: list[float] | None = None
    held: dict[int, Held] = field(default_factory=dict)
    text: str = ""
    spans: Sequence[tuple[int, int]] = ()


@dataclass
class Directed:
    """A piece of a script with how its words are said.

    Attributes:
        said: by a word's place (start, end) in the piece.
        pauses: seconds of silence before words, by their start in the piece.
        before, behind: seconds of silence that are asked for before and behind it; None where none is.
    """

    piece: Piece
    said: dict[tuple[int, int], Said] = field(default_factory=dict)
    pauses: dict[int, float] = field(default_factory=dict)
    before: float | None = None
    behind: float | None = None


def directed(script: Script, director: Director, limit: int, first_limit: int | None) -> Iterator[Directed]:
    """Yield the pieces of a script, as ``split_text`` cuts them."""
    words = _words(script, director)
    ahead = next(words, None)
    whole = [(atom.start, atom.end) for atom in script.atoms]
    before = ahead[2] if ahead else None
    for piece in split_text(script.text, limit, first_limit, whole):
        one = Directed(piece, before=before)
        previous: tuple[tuple[int, int], Token, Said | None] | None = None
        while ahead is not None and ahead[0].start < piece.end:
            token, said, pause = ahead
            place = token.start - piece.start, token.end - piece.start
            if previous is not None and pause is not None:
                one.pauses[place[0]] = pause
                if pause and not previous[1].pause:
                    one.said[previous[0]] = replace(previous[2] or Said(), pause=",")
            if said is not None:
                one.said[place] = said
            previous = place, token, said
            ahead = next(words, None)
        end = piece.start if previous is None else previous[1].end
        before = one.behind = ahead[2] if ahead else _total(script, len(script.text), end)
        yield one


def _words(script: Script, director: Director) -> Iterator[tuple[Token, Said | None, float | None]]:
    """Yield words with how they are said and the seconds of silence before each."""
    since = 0
    for sentence in director.sentences(script):
        for token, said in sentence:
            yield token, said, _total(script, token.start, since)
            since = token.end


def _total(script: Script, place: int, since: int) -> float | None:
    """Return the seconds of the pauses between two places, None where there is none."""
    if not script.breaks:
        return None
    places = script.break_places
    found = places[bisect_left(places, since) : bisect_right(places, place)]
    return sum(script.breaks[at] for at in found) if found else None


def hold(symbols: Symbols, one: Directed, seconds_per_frame: float, first: bool, last: bool) -> dict[int, Held]:
    """Return the symbols of a piece that have a length: those of the pauses that are asked for.

    A pause at the border of two pieces is shared by the symbols at the end of one and the start of the other.
    """
    if not one.pauses and one.before is None and one.behind is None:
        return {}

    def frames(seconds: float) -> int:
        return round(seconds / seconds_per_frame)

    held: dict[int, Held] = {}
    if one.before is not None:
        count = frames(one.before)
        kept = min(count, KEPT_FRAMES) if first else _opening(count)
        held[0] = Held(kept, count - kept if first else 0)
    for index, word in enumerate(symbols.words):
        if word.start not in one.pauses:
            continue
        begin = symbols.word_of.index(index)
        count = frames(one.pauses[word.start])
        if symbols.symbols[begin - 1] in PAUSES:  # else no silence was asked for, and there is no mark to take it from
            held[begin - 1] = Held(kept := min(count, 2 * KEPT_FRAMES), count - kept)
    if one.behind is not None:
        count = frames(one.behind)
        count -= 0 if last else _opening(count)
        tail = max(i for i, owner in enumerate(symbols.word_of) if owner >= 0) + 1
        kept = min(count, KEPT_FRAMES)
        held |= {place: Held(0) for place in range(tail, len(symbols))}
        held[tail] = Held(kept, count - kept)
    return held


def _opening(count: int) -> int:
    """How many frames of a pause the piece behind it has."""
    return min(count // 2, KEPT_FRAMES)


def prosodies(symbols: Symbols, script: Script, start: int) -> list[Prosody]:
    """Return the prosody of each symbol of a piece that begins at a place of the script.

    What lies between two words is in the elements that both are in.
    """
    paths = [script.path(start + word.start) for word in symbols.words]
    known = {path: script.prosody(path) for path in paths}
    found = [NEUTRAL] * len(symbols)
    before = -1
    for place, word in enumerate(symbols.word_of):
        if word >= 0:
            found[place], before = known[paths[word]], word
        elif 0 <= before < len(paths) - 1:
            shared = [one for one, other in zip(paths[before], paths[before + 1], strict=False) if one == other]
            found[place] = script.prosody(shared)
    return found


def with_written_words(symbols: Symbols, script: Script, start: int) -> Symbols:
    """Return the symbols of a piece with the words as they are written, at their places in the text as given."""
    words: list[Word] = []
    number: list[int] = []
    last = None
    for word in symbols.words:
        begin = start + word.start
        atom = script.atom(begin)
        if atom is None:
            words.append(Word(word.text, *script.written(begin, start + word.end)))
        elif atom != last:
            written = script.atoms[atom]
            words.append(Word(written.label, written.at, written.stop))
        last = atom
        number.append(len(words) - 1)
    owners = tuple(number[word] if word >= 0 else -1 for word in symbols.word_of)
    return replace(symbols, words=tuple(words), word_of=owners)


def shown_words(symbols: Symbols, script: Script, piece: Piece) -> tuple[str, list[tuple[int, int]]]:
    """Return a piece as it is shown to a reader, without markup, and the places in it of its written words.

    ``symbols`` are those of the piece as it is read; what is read as several words for one written is that one.
    """
    text, spans, at = "", [], 0
    last = None
    for word in symbols.words:
        atom = script.atom(piece.start + word.start)
        if atom is not None and atom == last:
            continue
        begin, end, label = word.start, word.end, piece.text[word.start : word.end]
        if atom is not None:
            written = script.atoms[atom]
            begin, end, label = written.start - piece.start, written.end - piece.start, written.label
        text += piece.text[at:begin]
        spans.append((len(text), len(text) + len(label)))
        text, at, last = text + label, end, atom
    return text + piece.text[at:], spans

"""Script: a text without its markup, what the markup says of stretches of it, and where each character was written.

``text`` is what is read. Offsets are into it; ``places`` lead back into the text as given, ``source``.
"""

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from unisono.errors import RequestError

__all__ = ["LONGEST_PAUSE", "MOST_LEVELS", "NEUTRAL", "Atom", "Composer", "Prosody", "SayAs", "Script", "check_pause"]

LONGEST_PAUSE = 60.0
"""The longest pause that can be asked for, in seconds."""
MOST_SILENCE = 3600.0
"""All pauses of a text together, in seconds."""
_ENDS = ".!?…"
MOST_LEVELS = 32
"""How deep elements may be nested."""


@dataclass(frozen=True)
class Prosody:
    """How a stretch is said: ``rate`` times as fast, ``pitch`` semitones higher, ``volume`` decibels louder."""

    rate: float = 1.0
    pitch: float = 0.0
    volume: float = 0.0

    def within(self, outer: "Prosody") -> "Prosody":
        """Return it as it is inside of another."""
        return Prosody(self.rate * outer.rate, self.pitch + outer.pitch, self.volume + outer.volume)


NEUTRAL = Prosody()


@dataclass(frozen=True)
class Atom:
    """A stretch of ``text`` that is one written word, ``label``, which stands from ``at`` to ``stop`` in the source.

    ``phonemes`` are what it is said as, if given.
    """

    start: int
    end: int
    label: str
    at: int
    stop: int
    phonemes: str | None = None


@dataclass(frozen=True)
class SayAs:
    """A stretch of ``text`` that is said as a kind of thing (``interpret-as`` and ``format`` of SSML)."""

    start: int
    end: int
    kind: str
    format: str = ""


@dataclass(frozen=True)
class Run:
    """From ``start`` on, elements of these numbers are open."""

    start: int
    path: tuple[int, ...]


@dataclass
class Script:
    """A text and what its markup says of it.

    Attributes:
        text: what is read.
        source: the text as given.
        places: for each character of ``text``, and for its end, its place in ``source``; None where they are the same.
        atoms, says: in order, apart.
        languages: (start, language), in order: from where on which is spoken; empty is the voice's own.
        breaks: seconds of silence by the place in ``text`` where they are.
        prosodies: of each element that has one.
        runs: which elements are open, from where on.
    """

    text: str
    source: str
    places: Sequence[int] | None = None
    atoms: list[Atom] = field(default_factory=list)
    says: list[SayAs] = field(default_factory=list)
    languages: list[tuple[int, str]] = field(default_factory=list)
    breaks: dict[int, float] = field(default_factory=dict)
    prosodies: list[Prosody] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)

    @classmethod
    def plain(cls, text: str) -> "Script":
        """Return a text without markup."""
        return cls(text, text)

    def written(self, start: int, end: int) -> tuple[int, int]:
        """Return where a stretch was written in ``source``."""
        if self.places is None:
            return start, end
        return self.places[start], self.places[end - 1] + 1 if end > start else self.places[start]

    def path(self, place: int) -> tuple[int, ...]:
        """Return the elements with a prosody around a place."""
        found = bisect_right(self.runs, place, key=lambda run: run.start) - 1
        return self.runs[found].path if found >= 0 else ()

    def language(self, place: int) -> str:
        """Return the language at a place; empty is the voice's own."""
        found = bisect_right(self.languages, place, key=lambda run: run[0]) - 1
        return self.languages[found][1] if found >= 0 else ""

    def atom(self, place: int) -> int | None:
        """Return the number of the atom at a place."""
        found = bisect_right(self.atoms, place, key=lambda atom: atom.start) - 1
        return found if found >= 0 and place < self.atoms[found].end else None

    @cached_property
    def break_places(self) -> list[int]:
        """The places of the pauses, in order."""
        return sorted(self.breaks)

    @property
    def directs(self) -> bool:
        """Whether the markup says more than what the words are."""
        return bool(self.atoms or self.says or self.languages or self.breaks or self.runs)

    @cached_property
    def edges(self) -> list[int]:
        """The places where something begins or ends that a word must not go across, in order."""
        found = {run.start for run in self.runs} | {start for start, _ in self.languages}
        for item in (*self.atoms, *self.says):
            found |= {item.start, item.end}
        return sorted(found)

    def prosody(self, path: Sequence[int]) -> Prosody:
        """Return what elements, one inside the other, make of a stretch."""
        result = NEUTRAL
        for number in path:
            result = self.prosodies[number].within(result)
        return result


class Composer:
    """Puts a script together: characters with their places, pauses, and elements with a prosody."""

    def __init__(self, source: str):
        self.script = Script("", source, array("L"))
        self._parts: list[str] = []
        self.length = 0
        self.visible = ""
        """The last character that is no space; empty at the beginning."""
        self._open: list[int] = []
        self._silence = 0.0
        self._languages: list[str] = []

    def add(self, text: str, place: int, moves: bool = True) -> None:
        """Add characters that were written from a place on, or that stand for what is there (``moves`` false)."""
        places = self.script.places
        assert isinstance(places, array)
        places.extend(range(place, place + len(text)) if moves else [place] * len(text))
        self._parts.append(text)
        self.length += len(text)
        self.visible = text.rstrip()[-1:] or self.visible

    def apart(self, place: int, mark: str = " ") -> None:
        """Part what comes from what was: a word does not go on."""
        if self.last not in " \n" or mark.startswith("\n"):
            self.add(mark, place, moves=False)

    @property
    def last(self) -> str:
        """The last character, a space at the beginning."""
        return next((part[-1] for part in reversed(self._parts) if part), " ")

    def end(self, place: int, paragraph: bool) -> None:
        """End a sentence, where there is one, and with it a paragraph."""
        if self.visible and self.visible not in _ENDS:
            self.add(".", place, moves=False)
        if self.visible:
            self.apart(place, "\n\n" if paragraph and self.last != "\n" else " ")

    def pause(self, seconds: float, place: int) -> None:
        """Add a silence; those at one place add up."""
        self.apart(place)
        breaks = self.script.breaks
        breaks[self.length] = check_pause(breaks.get(self.length, 0.0) + seconds, seconds)
        self._silence += seconds
        if self._silence > MOST_SILENCE:
            message = f"pauses of more than {MOST_SILENCE:g} s in all: take some out, or cut the text"
            raise RequestError(message, code="limit", path="text", value=self._silence)

    def open(self, prosody: Prosody) -> None:
        """Begin a stretch with a prosody; ``close`` ends it."""
        self.script.prosodies.append(prosody)
        self._open.append(len(self.script.prosodies) - 1)
        self._run()

    def close(self) -> None:
        """End the innermost stretch with a prosody."""
        self._open.pop()
        self._run()

    def speak(self, language: str) -> None:
        """Change to a language; ``speak_on`` goes back to the one before."""
        self._languages.append(language)
        self.script.languages.append((self.length, language))

    def speak_on(self) -> None:
        """Change back to the language before."""
        self._languages.pop()
        self.script.languages.append((self.length, self._languages[-1] if self._languages else ""))

    def _run(self) -> None:
        runs = self.script.runs
        if runs and runs[-1].start == self.length:
            runs.pop()
        runs.append(Run(self.length, tuple(self._open)))

    def finish(self) -> Script:
        """Return the script."""
        script = self.script
        script.text = "".join(self._parts)
        assert isinstance(script.places, array)
        script.places.append(len(script.source))
        return script


def check_pause(total: float, seconds: float, path: str = "text") -> float:
    """Return a pause; ``RequestError`` where it, or what adds up to it, is negative or too long."""
    if not seconds >= 0 or not total <= LONGEST_PAUSE:
        message = f"a pause of {total:g} s: it must be in [0, {LONGEST_PAUSE:g}] s; leave it out, or cut the text there"
        raise RequestError(message, code="range", path=path, value=total)
    return total

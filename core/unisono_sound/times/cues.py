"""Cues: words grouped into subtitles of few lines and seconds, in milliseconds that never overlap.

A cue ends with a sentence, unless that would make it shorter than a second; else where no more words fit, and then
rather behind a clause, or so that no few words are left over. Lines of a cue are about as long as one another.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydantic import Field
from unisono.errors import RequestError
from unisono.media import Times, TimesOptions

from unisono_sound.times.written import CLAUSE, PARAGRAPH, SENTENCE, Written, signs, written_words

SHORTEST_SECONDS = 1.0
"""A sentence that lasts less shares a cue with the next one."""


class CueOptions(TimesOptions):
    """How words are grouped."""

    line_length: int = Field(default=42, ge=1, le=1000, description="signs of a line, at most")
    lines: int = Field(default=2, ge=1, le=100, description="lines of a cue, at most")
    max_seconds: float = Field(default=7.0, ge=0.1, le=3600, description="how long a cue lasts, at most")


@dataclass(frozen=True)
class Cue:
    """A subtitle: ``lines``, shown from ``start`` to ``end`` in milliseconds."""

    start: int
    end: int
    lines: tuple[str, ...]


def cues(times: Times, options: CueOptions) -> list[Cue]:
    """Return the cues of a sound in order, each of a millisecond at least, none over another or over the end.

    A word that is longer than a line goes on in the next one; one that lasts longer than a cue is shown as long as a
    cue lasts. Raises ``RequestError`` where there are no words, or fewer milliseconds than cues.
    """
    words = [part for word in written_words(times) for part in _parts(word, options.line_length)]
    longest = int(options.max_seconds * times.rate)
    grouped = list(_groups(words, options, longest, times.rate))
    total = times.length * 1000 // times.rate
    starts = [_milliseconds(group[0].first, times.rate) for group in grouped]
    most = int(options.max_seconds * 1000)
    ends = [_milliseconds(group[-1].last, times.rate) for group in grouped]
    ends = [min(end, start + most) for start, end in zip(starts, ends, strict=True)]
    _part(starts, ends, total)
    lines = [_balanced(group, options.line_length) for group in grouped]
    return [Cue(*cue) for cue in zip(starts, ends, lines, strict=True)]


def _milliseconds(sample: int, rate: int) -> int:
    """The nearest millisecond: the same for the same sample, and never an earlier one for a later sample."""
    return (2000 * sample + rate) // (2 * rate)


def _part(starts: list[int], ends: list[int], total: int) -> None:
    """Make each cue last a millisecond at least, within [0, total], none over another."""
    if len(starts) > total:
        raise RequestError(
            f"{len(starts)} subtitles do not fit a sound of {total} ms: take .json or .TextGrid, which count samples",
            code="limit",
            path="times",
            value=total,
        )
    before = 0
    for index in range(len(starts)):
        starts[index] = max(starts[index], before)
        before = ends[index] = max(ends[index], starts[index] + 1)
    after = total
    for index in reversed(range(len(starts))):
        ends[index] = min(ends[index], after)
        after = starts[index] = min(starts[index], ends[index] - 1)


def _groups(words: Sequence[Written], options: CueOptions, longest: int, rate: int):
    at = 0
    while at < len(words):
        stop = at + 1
        while stop < len(words) and not _closes(words[at:stop], rate) and _fits(words[at : stop + 1], options, longest):
            stop += 1
        if stop < len(words) and words[stop - 1].ends < CLAUSE:
            stop = _better(words, at, stop)
        yield words[at:stop]
        at = stop


def _closes(words: Sequence[Written], rate: int) -> bool:
    last = words[-1]
    lasts = last.last - words[0].first >= SHORTEST_SECONDS * rate
    return last.ends == PARAGRAPH or (last.ends == SENTENCE and lasts)


def _fits(words: Sequence[Written], options: CueOptions, longest: int) -> bool:
    if words[-1].last - words[0].first > longest:
        return False
    return len(_wrapped(words, options.line_length)) <= options.lines


def _better(words: Sequence[Written], at: int, stop: int) -> int:
    """Where to cut rather than at ``stop``, within a phrase."""
    sizes = [signs(word.text) + word.space for word in words[at:stop]]
    have, so_far = sum(sizes), 0
    clause = None
    for place, size in enumerate(sizes, at + 1):
        so_far += size
        if place < stop and words[place - 1].ends >= CLAUSE and so_far >= have / 2:
            clause = place
    if clause is not None:
        return clause
    end = next((place for place in range(stop, len(words)) if words[place].ends >= SENTENCE), len(words) - 1) + 1
    rest = sum(signs(word.text) + word.space for word in words[stop:end])
    if rest >= have / 3:
        return stop
    so_far = 0
    for place, size in enumerate(sizes, at + 1):
        so_far += size
        if so_far >= (have + rest) / 2:
            return place
    return stop


def _parts(word: Written, most: int) -> list[Written]:
    """A word, or where it is longer than a line its parts, which share its time by their signs."""
    if signs(word.text) <= most:
        return [word]
    texts, opens = [], []  # the parts, and whether white space stands before each
    for run in word.text.split(" "):
        texts.append("")
        opens.append(len(texts) > 1 or word.space)
        for character in run:
            if signs(texts[-1] + character) > most:
                texts.append("")
                opens.append(False)
            texts[-1] += character
    total = sum(map(signs, texts))
    parts, done = [], 0
    for text, space in zip(texts, opens, strict=True):
        first = word.first + (word.last - word.first) * done // total
        done += signs(text)
        last = word.first + (word.last - word.first) * done // total
        parts.append(replace(word, text=text, first=first, last=last, space=space, ends=0))
    parts[-1] = replace(parts[-1], ends=word.ends)
    return parts


def _wrapped(words: Sequence[Written], most: int) -> list[str]:
    """Lines of ``most`` signs, as few words in the last as it takes; a longer word has a line of its own."""
    lines: list[str] = []
    for word in words:
        text = word.text
        longer = f"{lines[-1]}{' ' * word.space}{text}" if lines else ""
        if lines and signs(longer) <= most:
            lines[-1] = longer
        else:
            lines.append(text)
    return lines


def _balanced(words: Sequence[Written], most: int) -> tuple[str, ...]:
    lines = _wrapped(words, most)
    for narrower in range(most - 1, 0, -1):
        tried = _wrapped(words, narrower)
        if len(tried) > len(lines) or any(signs(line) > narrower for line in tried):
            break
        lines = tried
    return tuple(line.strip() for line in lines)

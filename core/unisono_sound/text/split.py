"""Splitting: text into words and pauses, and long text into pieces that a model reads one at a time.

``tokenize`` finds the written words and the pause after each; ``split_text`` cuts at paragraphs,
sentences, then clauses, then words, then letters, each only where the one before leaves a piece
above the limit. Both are generators over a text of any length and keep character offsets into it.

A line end ends a phrase, as a full stop before a capital, a digit or a list mark, else as a comma, unless the
line is soft-wrapped: it has at least ``WRAPPED_LINE`` characters, and the next line goes on in small letters or its
first word would not have fitted within the longest of the lines around.

A text is read as Unicode composes it (NFC); offsets are those of the text as given.
"""

import re
import unicodedata
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from unisono.errors import RequestError

from unisono_sound.text.phrases import looseness
from unisono_sound.text.signs import is_picture, is_sign

PAUSE_SECONDS = {
    ",": 0.12, ";": 0.2, ":": 0.2, "—": 0.15, "…": 0.35, ".": 0.3, "!": 0.3, "?": 0.3,
    "paragraph": 0.6, "": 0.0,
}  # fmt: skip
"""The silence after a piece, by the punctuation that ends it; the model's own closing silence comes
before it.
"""

WRAPPED_LINE = 40
"""A line of fewer characters is never taken as soft-wrapped."""

DIGIT_COST = 6
"""What a digit counts for against a limit on characters: "7" is read as "seven" and more."""


@dataclass(frozen=True)
class Token:
    """A written word: ``text == whole[start:end]`` without the punctuation around it.

    ``after`` is where its trailing punctuation and white space end, so tokens tile the text from
    the first token on. ``pause`` is one of ``PAUSES`` or empty. ``level`` says what ends after it:
    0 nothing, 1 a clause, 2 a sentence, 3 a paragraph. ``dot`` holds for an abbreviation's full
    stop.
    """

    text: str
    start: int
    end: int
    after: int
    pause: str
    level: int
    dot: bool = False


@dataclass(frozen=True)
class Piece:
    """A stretch of a long text: ``text == whole[start:end]``; pieces tile the whole.

    ``pause`` in seconds. ``cut`` holds where the phrase goes on in the next piece.
    """

    text: str
    start: int
    end: int
    pause: float
    cut: bool = False


def tokenize(text: str) -> Iterator[Token]:
    """Yield the written words of a text with the pause after each; signs that are said are words."""
    if unicodedata.is_normalized("NFC", text):
        yield from _tokens(text)
        return
    composed, places = _compose(text)
    for token in _tokens(composed):
        start, end, after = places[token.start], places[token.end], places[token.after]
        yield replace(token, text=text[start:end], start=start, end=end, after=after)


def _tokens(text: str) -> Iterator[Token]:
    held: Token | None = None
    for token in _scan(text):
        if held is not None:
            yield _close(text, held, token)
        held = token
    if held is not None:
        yield _close(text, held, None)


def _compose(text: str) -> tuple[str, array]:
    """Return a text composed (NFC), and for each place in it, its end included, the place in the text as given."""
    composed: list[str] = []
    places = array("L")
    begin = 0
    cluster = ""

    def close(stop: int) -> None:
        composed.append(cluster)
        kept = len(cluster)
        places.extend(begin if not k else stop - kept + k for k in range(kept))

    for index, character in enumerate(text):
        grown = unicodedata.normalize("NFC", text[begin : index + 1])
        if index > begin and not unicodedata.combining(character):
            alone = unicodedata.normalize("NFC", character)
            if grown == cluster + alone:
                close(index)
                begin, grown = index, alone
        cluster = grown
    close(len(text))
    places.append(len(text))
    return "".join(composed), places


def split_text(
    text: str, limit: int = 220, first_limit: int | None = None, whole: Sequence[tuple[int, int]] = ()
) -> Iterator[Piece]:
    """Yield the pieces of a long text, none above the limit; joined, they are the text.

    Where a sentence is longer than a piece may be, it is cut at a clause, else before a word that joins
    phrases ("and", "with"), else after a word that is not bound to the next ("the"). ``limit`` counts
    characters from a piece's first word to its last, a digit as ``DIGIT_COST``; ``first_limit`` (for
    streaming) holds for the first piece, so that first audio comes early. The last piece has no pause.
    Nothing is cut within the stretches ``whole``, (start, end) in order.
    Raises ``RequestError``, at the first piece, for a text with nothing to speak.
    """
    for name, value in (("limit", limit), ("first_limit", first_limit or limit)):
        if value < 2 * DIGIT_COST:
            raise RequestError(
                f"{name}={value} must be at least {2 * DIGIT_COST} characters", code="range", path=name, value=value
            )
    held: Piece | None = None
    for piece in _pieces(text, limit, first_limit or limit, whole):
        if held is not None:
            yield held
        held = piece
    if held is None:
        raise nothing_to_speak(text)
    yield replace(held, pause=0.0, cut=False)


def nothing_to_speak(text: str) -> RequestError:
    """Return the error for a text without a word."""
    shown = text if len(text) <= 40 else text[:40] + "…"
    punctuation = all(unicodedata.category(character)[0] in "PZC" for character in text)
    kind = "punctuation only" if punctuation else "neither letters nor digits"
    what = f"holds {kind}" if text.strip() else "is empty"
    return RequestError(
        f"the text {shown!r} {what}: give at least one word to speak", code="empty", path="text", value=text
    )


_CANONICAL = {
    ",": ",", "、": ",", "，": ",", "،": ",", "՝": ",", "፣": ",",
    ";": ";", "；": ";", "؛": ";", "·": ";", "፤": ";",
    ":": ":", "：": ":", "፥": ":",
    ".": ".", "。": ".", "．": ".", "।": ".", "॥": ".", "۔": ".", "։": ".", "።": ".", "။": ".",
    "!": "!", "！": "!", "¡": "", "‼": "!",
    "?": "?", "？": "?", "¿": "", "؟": "?", "፧": "?", "‽": "?", "⁇": "?",
    "…": "…", "—": "—", "–": "—", "―": "—",
}  # fmt: skip
_STRENGTH = "?!….;:,—"
_ENDS = frozenset(".!?…")
_OPENING = "\"'“‘«‹([{「『（【¿¡"
_CLOSING = "\"'”’»›)]}」』）】"
# a full stop after one of these never ends a sentence
_TITLES = frozenset(
    str.split(
        "mr mrs ms mx dr prof st ste sr jr rev hon fr gov sen rep gen col capt cpt lt sgt maj "
        "cmdr adm pres supt messrs mme mlle vs viz cf e.g i.e mt ft approx dept univ bros"
    )
)
# nor after these before a number
_NUMBERED = frozenset(str.split("no nos vol vols p pp pg fig figs ch sec art ed"))
# may end a sentence: it does where the next word begins one
_MAYBE = frozenset(
    str.split(
        "etc al inc ltd co corp llc plc ave blvd rd sq a.m p.m am pm b.c a.d bc ad jan feb mar "
        "apr jun jul aug sep sept oct nov dec mon tue tues wed weds thu thur thurs fri sat sun oz lb lbs ft in yd mi "
        "kg km cm mm min hr hrs esq ph.d m.d b.a m.a d.c u.s u.k u.n"
    )
)
_STARTERS = frozenset(
    str.split(
        "a an the he she it they we you i this that these those there here his her its their our "
        "my your in on at but and so if when while after before as then now not no yes what who "
        "why how where for with to"
    )
)
# contractions that keep a leading apostrophe
_ELIDED = frozenset(str.split("tis twas til em cause bout n round twere twill"))
_LINE_ENDS = "\n\r\v\f\x85\u2028"
_LIST_MARK = re.compile(r"[ \t]*(?:[-*+•–—]|\d{1,3}[.)]|[A-Za-z][.)])[ \t]")
_ITEM = re.compile(r"[\n\r][ \t]*[-*+•–—](?=[ \t])")
_WORD = re.compile(r"\S+")
_TAG = re.compile(r"</?[^\W\d]\w*/?>")
# an address of the web or of mail, which no punctuation within parts
_ADDRESS = re.compile(
    r"(?:[A-Za-z][A-Za-z0-9+.-]{0,30}://|www\.|[\w.+%-]{1,64}@[\w-]{1,64}\.)(?:(?!\.\.|--)[^\s\u2014\u2015\u2026\u3002\uff0c\u3001<>\"\u201d])+"
)
# inside a run without spaces: dashes and ellipses always part words, commas and the like before a
# letter
_INNER = re.compile(r"(?:--+|\.{2,}|[—―…。，、！？；：।॥،؛؟]|(?<!\d)–|–(?![\d$€£¥])|(?<=[^\W\d])[,;:!?]+(?=[^\W\d]))+")


def _scan(text: str) -> Iterator[Token]:
    """Yield words with their raw trailing text in ``text[end:after]``; pauses and levels are set by
    ``_close``.
    """
    held: tuple[int, int] | None = None
    for run in _WORD.finditer(text):
        start = run.start()
        if _is_operator(text, start, run.end()):
            if held is not None:
                yield Token(text[held[0] : held[1]], *held, _boundary(text, held[1], start), "", 0)
            held = start, run.end()
            continue
        address = _ADDRESS.search(run[0]) if "://" in run[0] or "@" in run[0] or "www." in run[0] else None
        inside = address.span() if address else (0, 0)
        bounds = [
            *((m.start(), m.end()) for m in _INNER.finditer(run[0]) if not inside[0] <= m.start() < inside[1]),
            (len(run[0]), len(run[0])),
        ]
        begin = 0
        for stop, resume in bounds:
            core = _core(text, start + begin, start + stop)
            if core is not None:
                if held is not None:
                    yield Token(text[held[0] : held[1]], *held, _boundary(text, held[1], core[0]), "", 0)
                held = core
            begin = resume
    if held is not None:
        yield Token(text[held[0] : held[1]], *held, len(text), "", 0)


def _is_operator(text: str, start: int, end: int) -> bool:
    """Whether a run is a sign that would be punctuation beside a word: "5 - 3", "5 – 3", "a * b"."""
    if text[start:end] in ("*", "_"):
        while start and text[start - 1].isspace() and text[start - 1] not in _LINE_ENDS:
            start -= 1
        return bool(start) and text[start - 1] not in _LINE_ENDS  # else the mark of a list
    if text[start:end] not in ("-", "–"):
        return False
    before, after = start, end
    while before and text[before - 1] in " \t\u00a0":
        before -= 1
    while after < len(text) and text[after] in " \t\u00a0":
        after += 1
    number = text[after : after + 1]
    if number in (".", "-", "−", "√") or (number and unicodedata.category(number) == "Sc"):
        number = text[after + 1 : after + 2]
    return bool(before) and _numeric(text[before - 1]) and number.isdigit()


def _numeric(character: str) -> bool:
    return character.isnumeric() or character in "%‰°" or unicodedata.category(character) == "Sc"


def _core(text: str, start: int, end: int) -> tuple[int, int] | None:
    """Strip punctuation off both ends of a run; None where nothing is left to speak."""
    first, last = start, end
    tags = [mark.span() for mark in _TAG.finditer(text, start, end)] if "<" in text[start:end] else []

    def spoken(index: int) -> bool:
        character = text[index]
        if character in "*_":
            return False  # beside a word they are marks of emphasis
        if character in "</>" and any(begin <= index < stop for begin, stop in tags):
            return False  # brackets around a word
        return (
            character.isalnum()
            or (unicodedata.category(character)[0] in "MN" and not is_picture(character))
            or is_sign(character)
        )

    while start < end and (not spoken(start) or unicodedata.category(text[start])[0] == "M"):
        start += 1
    while end > start and not spoken(end - 1):
        end -= 1
    if start == end:
        return None
    if start and text[start - 1] in "'’" and text[start:end].lower() in _ELIDED:
        return start - 1, end
    if start > first and text[start - 1] == "." and text[start].isalnum():
        opens = start - 1 == first or not (text[start - 2].isalnum() or text[start - 2] in ".…!?,;:")
        if opens and (text[start].isdigit() or _opens(text, start - 1)):
            start -= 1  # ".5", ".NET"
    if (
        start
        and text[start - 1] in "-–"
        and (text[start].isdigit() or text[start] == "." or unicodedata.category(text[start]) == "Sc")
        and _opens(text, start - 1)
    ):
        start -= 1  # a minus sign
    if end < last and text[end] in "-–" and text[end - 1].isdigit() and re.match(r"[-–][ \t]+\d", text[end : end + 9]):
        end += 1  # "5- 3"
    return start, end


def _opens(text: str, index: int) -> bool:
    """Whether a word may begin here: after white space or an opening mark."""
    return not index or text[index - 1].isspace() or text[index - 1] in _OPENING


def _boundary(text: str, end: int, following: int) -> int:
    """Where the punctuation after a word ends and what opens the next word begins."""
    opening = following
    while opening > end and not text[opening - 1].isspace():
        opening -= 1
    if opening > end:
        return opening
    # no white space between: all but opening marks belongs to the word before
    while following > end and text[following - 1] in _OPENING:
        following -= 1
    return following


def _close(text: str, token: Token, following: Token | None) -> Token:
    """Decide the pause and the level after a token, from its trailing punctuation and the next
    word.
    """
    tail = text[token.end : token.after]
    tail = _ITEM.sub("\n", tail)
    marks = re.sub(r"\.{2,}", "…", re.sub(r"--+|(?<=\s)-(?=\s|$)", "—", tail))
    found = {_CANONICAL.get(mark, "") for mark in marks} - {""}
    pause = next((mark for mark in _STRENGTH if mark in found), "")
    paragraph = len(re.findall(r"\n[ \t\r]*", tail)) >= 2 or "\u2029" in tail
    phrase_ends = following is not None and not paragraph and _ends_line(text, token.end, following.start)
    dot = False
    if pause == "." and following is not None:
        dot = tail[0] == "." and _is_abbreviation(token.text, following.text)
        if dot:
            rest = {_CANONICAL.get(mark, "") for mark in marks[1:]} - {""}
            pause = next((mark for mark in _STRENGTH if mark in rest), "")
    if not pause and following is not None and set("()[]{}") & set(text[token.end : following.start]):
        pause = ","  # espeak-ng makes a short pause at brackets, and so do readers
    lower = following is not None and following.text[0].islower()
    if following is not None and phrase_ends and not pause and not dot:
        pause = "," if lower and not _LIST_MARK.match(text, _line_start(text, following.start)) else "."
    if paragraph:
        pause, level = pause or ".", 3
    elif pause in _ENDS:
        # '"What?" he said', 'and ... then': the sentence goes on
        goes_on = lower and (pause == "…" or (pause in "!?" and any(c in _CLOSING for c in tail)))
        level = 1 if goes_on else 2
    else:
        level = 1 if pause else 0
    return Token(token.text, token.start, token.end, token.after, pause, level, dot or tail.startswith("."))


def _line_start(text: str, index: int) -> int:
    while index and text[index - 1] not in _LINE_ENDS:
        index -= 1
    return index


def _line_stop(text: str, index: int) -> int:
    while index < len(text) and text[index] not in _LINE_ENDS:
        index += 1
    return index


def _ends_line(text: str, end: int, following: int) -> bool:
    """Whether a line ends between two words and is not soft-wrapped; see the module."""
    if not any(mark in _LINE_ENDS for mark in text[end:following]):
        return False
    stop = _line_stop(text, end)
    line = text[_line_start(text, end) : stop].strip()
    if line.endswith("-") and line[-2:-1].isalpha():
        return False
    begin = _line_start(text, following)
    if len(line) < WRAPPED_LINE or _LIST_MARK.match(text, begin):
        return True
    if text[following].islower():
        return False
    longest, place = len(line), begin
    for _ in range(4):  # the lines around, as many as a paragraph needs to show its width
        rest = _line_stop(text, place)
        longest = max(longest, len(text[place:rest].strip()))
        place = min(rest + 1, len(text))
    place = _line_start(text, end)
    for _ in range(4):
        before = _line_start(text, max(place - 1, 0))
        longest = max(longest, len(text[before : max(place - 1, 0)].strip()))
        place = before
    word = _WORD.match(text, following)
    return len(line) + 1 + len(word[0] if word else "") <= longest


def _is_abbreviation(word: str, following: str) -> bool:
    """Whether the full stop between two words belongs to the first and ends no sentence."""
    name = word.lower()
    if name in _TITLES:
        return True
    if name in _NUMBERED:
        return following[0].isdigit()
    starter = following[0].isupper() and following.lower() in _STARTERS
    if len(word) == 1 and word.isupper() and word != "I":
        return following[0].isupper() and not starter  # an initial
    if re.fullmatch(r"(\w\.)+\w", word):
        return not starter  # an acronym: "the U.S. Army", but "the U.S. He left"
    return name in _MAYBE and not following[0].isupper()


def _pieces(text: str, limit: int, bound: int, whole: Sequence[tuple[int, int]]) -> Iterator[Piece]:
    begin, waiting = 0, []
    for token, held in _held_together(text, whole):
        waiting.extend([token] if held else _chop(text, token, min(bound, limit)))
        # a whole sentence, or more of one than a piece may hold, is ready to be cut
        while waiting and (
            waiting[-1].level >= 2
            or _exceeds(text, waiting[0].start, waiting[-1].end, bound)
            or token.after == len(text)
        ):
            count = _take(text, waiting, bound)
            last = waiting[count - 1]
            ending = "paragraph" if last.level == 3 else last.pause if last.level else ""
            yield Piece(text[begin : last.after], begin, last.after, PAUSE_SECONDS[ending], cut=not last.level)
            begin, waiting, bound = last.after, waiting[count:], limit


def _held_together(text: str, whole: Sequence[tuple[int, int]]) -> Iterator[tuple[Token, bool]]:
    """Yield the words of a text, those of a stretch that is not cut as one, and whether it is such a one."""
    stretches = iter(whole)
    stretch = next(stretches, None)
    held: Token | None = None
    for token in tokenize(text):
        while stretch is not None and stretch[1] <= token.start:
            if held is not None:
                yield held, True
                held = None
            stretch = next(stretches, None)
        if stretch is None or token.start < stretch[0]:
            yield token, False
        else:
            held = token if held is None else replace(token, start=held.start, text=text[held.start : token.end])
    if held is not None:
        yield held, True


def _exceeds(text: str, start: int, end: int, limit: int) -> bool:
    return end - start > limit or _cost(text, start, end) > limit


def _cost(text: str, start: int, end: int) -> int:
    stretch = text[start:end]
    return len(stretch) + (DIGIT_COST - 1) * sum(c.isdigit() for c in stretch)


def _chop(text: str, token: Token, limit: int) -> list[Token]:
    """Cut one token that is above the limit at letters, never between a letter and its marks."""
    if not _exceeds(text, token.start, token.end, limit):
        return [token]
    parts, begin, spent = [], token.start, 0
    for index in range(token.start, token.end):
        price = DIGIT_COST if text[index].isdigit() else 1
        if spent + price > limit and not unicodedata.combining(text[index]):
            parts.append(Token(text[begin:index], begin, index, index, "", 0))
            begin, spent = index, 0
        spent += price
    return [
        *parts,
        Token(
            text[begin : token.end],
            begin,
            token.end,
            token.after,
            token.pause,
            token.level,
            token.dot,
        ),
    ]


def _take(text: str, tokens: list[Token], limit: int) -> int:
    """How many tokens the next piece takes: a whole sentence, else as many clauses as fit, else words as far as
    the best place to cut in the second half of what fits.
    """
    clause = word = 0
    best = -1
    for count, token in enumerate(tokens, 1):
        if _exceeds(text, tokens[0].start, token.end, limit):
            return clause or word or 1
        if token.level:
            clause = count
        if token.level >= 2:
            return count
        follows = count < len(tokens) and tokens[count].start > token.end
        bond = looseness(token.text, tokens[count].text) if follows else 0
        if bond >= best or 2 * _cost(text, tokens[0].start, token.end) < limit:
            word, best = count, bond
    return len(tokens)

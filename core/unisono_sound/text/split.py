"""Text into words and pauses, and long text into pieces that a model reads one at a time.

``tokenize`` finds the written words and the pause after each; ``split_text`` cuts at paragraphs,
sentences, then clauses, then words, then letters, each only where the one before leaves a piece
above the limit. Both are generators over a text of any length and keep character offsets into it.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace

from unisono.errors import RequestError

PAUSE_SECONDS = {
    ",": 0.12, ";": 0.2, ":": 0.2, "—": 0.15, "…": 0.35, ".": 0.3, "!": 0.3, "?": 0.3,
    "paragraph": 0.6, "": 0.0,
}  # fmt: skip
"""The silence after a piece, by the punctuation that ends it; the model's own closing silence comes
before it.
"""

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
    """A stretch of a long text: ``text == whole[start:end]``; pieces tile the whole. ``pause`` in
    seconds.
    """

    text: str
    start: int
    end: int
    pause: float


def tokenize(text: str) -> Iterator[Token]:
    """Yield the written words of a text with the pause after each."""
    held: Token | None = None
    for token in _scan(text):
        if held is not None:
            yield _close(text, held, token)
        held = token
    if held is not None:
        yield _close(text, held, None)


def split_text(text: str, limit: int = 220, first_limit: int | None = None) -> Iterator[Piece]:
    """Yield the pieces of a long text, none above the limit; joined, they are the text.

    ``limit`` counts characters from a piece's first word to its last, a digit as ``DIGIT_COST``;
    ``first_limit`` (for streaming) holds for the first piece, so that first audio comes early. The
    last piece has no pause. Raises ``RequestError``, at the first piece, for a text with nothing to
    speak.
    """
    for name, value in (("limit", limit), ("first_limit", first_limit or limit)):
        if value < 2 * DIGIT_COST:
            raise RequestError(f"{name}={value} must be at least {2 * DIGIT_COST} characters")
    held: Piece | None = None
    for piece in _pieces(text, limit, first_limit or limit):
        if held is not None:
            yield held
        held = piece
    if held is None:
        raise nothing_to_speak(text)
    yield replace(held, pause=0.0)


def nothing_to_speak(text: str) -> RequestError:
    """Return the error for a text without a word."""
    shown = text if len(text) <= 40 else text[:40] + "…"
    punctuation = all(unicodedata.category(character)[0] in "PZC" for character in text)
    kind = "punctuation only" if punctuation else "neither letters nor digits"
    what = f"holds {kind}" if text.strip() else "is empty"
    return RequestError(f"the text {shown!r} {what}: give at least one word to speak")


def spoken_sign(character: str) -> bool:
    """Whether a sign that is neither letter nor digit is read out ("%", "$", "½")."""
    return character in _SIGNS or unicodedata.category(character) == "Sc"


_SIGNS = frozenset("%&@#+=<>±×÷°©®™§µ~")
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
        "apr jun jul aug sep sept oct nov dec mon tue wed thu fri sat sun oz lb lbs ft in yd mi "
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
_WORD = re.compile(r"\S+")
# inside a run without spaces: dashes and ellipses always part words, commas and the like before a
# letter
_INNER = re.compile(r"(?:--+|\.{2,}|[—―…。，、！？；：।॥،؛؟]|(?<!\d)–|–(?!\d)|(?<=[^\W\d])[,;:!?]+(?=[^\W\d]))+")


def _scan(text: str) -> Iterator[Token]:
    """Yield words with their raw trailing text in ``text[end:after]``; pauses and levels are set by
    ``_close``.
    """
    held: tuple[int, int] | None = None
    for run in _WORD.finditer(text):
        start = run.start()
        bounds = [
            *((m.start(), m.end()) for m in _INNER.finditer(run[0])),
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


def _core(text: str, start: int, end: int) -> tuple[int, int] | None:
    """Strip punctuation off both ends of a run; None where nothing is left to speak."""

    def spoken(index: int) -> bool:
        character = text[index]
        return character.isalnum() or unicodedata.category(character)[0] in "MN" or spoken_sign(character)

    while start < end and not spoken(start):
        start += 1
    while end > start and not spoken(end - 1):
        end -= 1
    if start == end:
        return None
    if start and text[start - 1] in "'’" and text[start:end].lower() in _ELIDED:
        start -= 1
    elif start and text[start - 1] in "-−" and text[start].isdigit() and (start < 2 or text[start - 2].isspace()):
        start -= 1  # a minus sign
    return start, end


def _boundary(text: str, end: int, following: int) -> int:
    """Where the punctuation after a word ends and what opens the next word begins."""
    opening = following
    while opening > end and not text[opening - 1].isspace():
        opening -= 1
    if opening > end:
        return opening
    # no white space between: all but opening marks belongs to the word before
    while following > end and text[following - 1] in "\"'“‘«‹([{「『（【¿¡":
        following -= 1
    return following


def _close(text: str, token: Token, following: Token | None) -> Token:
    """Decide the pause and the level after a token, from its trailing punctuation and the next
    word.
    """
    tail = text[token.end : token.after]
    marks = re.sub(r"\.{2,}", "…", re.sub(r"--+|(?<=\s)-(?=\s|$)", "—", tail))
    found = {_CANONICAL.get(mark, "") for mark in marks} - {""}
    pause = next((mark for mark in _STRENGTH if mark in found), "")
    paragraph = len(re.findall(r"\n[ \t\r]*", tail)) >= 2 or "\u2029" in tail
    dot = False
    if pause == "." and following is not None:
        dot = tail[0] == "." and _is_abbreviation(token.text, following.text)
        if dot:
            rest = {_CANONICAL.get(mark, "") for mark in marks[1:]} - {""}
            pause = next((mark for mark in _STRENGTH if mark in rest), "")
    if not pause and following is not None and set("()[]{}") & set(text[token.end : following.start]):
        pause = ","  # espeak-ng makes a short pause at brackets, and so do readers
    lower = following is not None and following.text[0].islower()
    if paragraph:
        pause, level = pause or ".", 3
    elif pause in _ENDS:
        # '"What?" he said', 'and ... then': the sentence goes on
        goes_on = lower and (pause == "…" or (pause in "!?" and any(c in _CLOSING for c in tail)))
        level = 1 if goes_on else 2
    else:
        level = 1 if pause else 0
    return Token(token.text, token.start, token.end, token.after, pause, level, dot or tail.startswith("."))


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


def _pieces(text: str, limit: int, bound: int) -> Iterator[Piece]:
    begin, waiting = 0, []
    for token in tokenize(text):
        waiting.extend(_chop(text, token, bound))
        # a whole sentence, or more of one than a piece may hold, is ready to be cut
        while waiting and (
            waiting[-1].level >= 2
            or _exceeds(text, waiting[0].start, waiting[-1].end, bound)
            or token.after == len(text)
        ):
            count = _take(text, waiting, bound)
            last = waiting[count - 1]
            ending = "paragraph" if last.level == 3 else last.pause if last.level else ""
            yield Piece(text[begin : last.after], begin, last.after, PAUSE_SECONDS[ending])
            begin, waiting, bound = last.after, waiting[count:], limit


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
    """How many tokens the next piece takes: a whole sentence, else as many clauses as fit, else as
    many words.
    """
    clause = word = 0
    for count, token in enumerate(tokens, 1):
        if _exceeds(text, tokens[0].start, token.end, limit):
            return clause or word or 1
        word = count
        if token.level:
            clause = count
        if token.level >= 2:
            break
    return word

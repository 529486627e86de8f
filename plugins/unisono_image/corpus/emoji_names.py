"""Emoji names: what an emoji shows, from its code points; Unicode's own names, and what sequences of them mean.

A sequence is a base character, then perhaps a skin tone, a variation selector (U+FE0F, ignored), and further parts
after zero-width joiners (U+200D): a gender, an object that stands for a profession, a direction, or more people.
Names are those of Python's ``unicodedata``, so a newer Python knows more of them; the meanings of sequences follow
Unicode Technical Standard 51, in words of this file. Flags of countries are named by their two letters.
"""

import unicodedata
from collections.abc import Sequence

JOINER, SELECTORS = 0x200D, (0xFE0E, 0xFE0F)
KEYCAP, BLACK_FLAG, CANCEL_TAG = 0x20E3, 0x1F3F4, 0xE007F
FEMALE, MALE, RIGHTWARDS, HEART, KISS, HANDSHAKE = 0x2640, 0x2642, 0x27A1, 0x2764, 0x1F48B, 0x1F91D
TONES = dict(zip(range(0x1F3FB, 0x1F400), ("light", "medium light", "medium", "medium dark", "dark"), strict=True))
PEOPLE = {
    0x1F468: "man", 0x1F469: "woman", 0x1F9D1: "person", 0x1F466: "boy", 0x1F467: "girl", 0x1F9D2: "child",
}  # fmt: skip
PLURALS = {"man": "men", "woman": "women", "person": "people"}
ROLES = {
    0x2695: "{} health worker", 0x2696: "{} judge", 0x2708: "{} pilot", 0x1F33E: "{} farmer", 0x1F373: "{} cook",
    0x1F37C: "{} feeding a baby", 0x1F393: "{} student", 0x1F3A4: "{} singer", 0x1F3A8: "{} artist",
    0x1F3EB: "{} teacher", 0x1F3ED: "{} factory worker", 0x1F4BB: "{} technologist", 0x1F4BC: "{} office worker",
    0x1F527: "{} mechanic", 0x1F52C: "{} scientist", 0x1F680: "{} astronaut", 0x1F692: "{} firefighter",
    0x1F9AF: "{} with white cane", 0x1F9BC: "{} in motorized wheelchair", 0x1F9BD: "{} in manual wheelchair",
    0x1F384: "mx claus", 0x1F9B0: "{} with red hair", 0x1F9B1: "{} with curly hair", 0x1F9B2: "bald {}",
    0x1F9B3: "{} with white hair",
}  # fmt: skip
WHOLE: dict[tuple[int, ...], str] = {
    (0x1F408, 0x2B1B): "black cat", (0x1F415, 0x1F9BA): "service dog", (0x1F43B, 0x2744): "polar bear",
    (0x1F426, 0x2B1B): "black bird", (0x1F426, 0x1F525): "phoenix", (0x1F34B, 0x1F7E9): "lime",
    (0x1F344, 0x1F7EB): "brown mushroom", (0x26D3, 0x1F4A5): "broken chain", (HEART, 0x1F525): "heart on fire",
    (HEART, 0x1FA79): "mending heart", (0x1F441, 0x1F5E8): "eye in speech bubble", (0x1F636, 0x1F32B): "face in clouds",
    (0x1F62E, 0x1F4A8): "face exhaling", (0x1F635, 0x1F4AB): "face with spiral eyes",
    (0x1F642, 0x2194): "head shaking horizontally", (0x1F642, 0x2195): "head shaking vertically",
    (0x1F3F3, 0x1F308): "rainbow flag", (0x1F3F3, 0x26A7): "transgender flag", (BLACK_FLAG, 0x2620): "pirate flag",
    (0x1FAF1, 0x1FAF2): "handshake",
}  # fmt: skip
_WRITTEN = frozenset(
    {"arrow", "backhand", "clock", "digit", "flag", "ideograph", "ideographic", "index", "input", "keycap", "katakana"}
    | {"keyboard", "left", "letter", "letters", "mark", "new", "note", "notes", "numbers", "right", "sign", "squared"}
    | {"symbol"}
)
"""Words of what shows writing or a direction, whose mirror image is something else."""


def code_points(stem: str) -> tuple[int, ...]:
    """Return the code points in a file's name such as ``emoji_u1f3c4_1f3fd_200d_2640``; raises ``ValueError``."""
    points = stem.lower().removeprefix("emoji_u").removeprefix("emoji").strip("_-")
    found = tuple(int(part.removeprefix("u"), 16) for part in points.replace("-", "_").split("_"))
    for point in found:
        chr(point)
    return found


def phrases(points: Sequence[int]) -> tuple[str, ...]:
    """Return what a sequence shows, in one phrasing or more, the fullest first, in small letters.

    Raises ``LookupError`` for a character that this Python's Unicode has no name for, or for nothing at all.
    """
    points = [point for point in points if point not in SELECTORS]
    if not points:
        raise LookupError("there is no character but selectors")
    if points[-1] == KEYCAP and len(points) == 2:
        name = chr(points[0]) if chr(points[0]).isdigit() else _name(points[0])
        return _distinct(f"keycap {name}", f"{name} on a key")
    if all(0x1F1E6 <= point <= 0x1F1FF for point in points):
        letters = [chr(point - 0x1F1E6 + ord("a")) for point in points]
        if len(letters) == 1:
            return (f"regional indicator letter {letters[0]}", f"letter {letters[0]}")
        return (f"flag {''.join(letters)}",)
    if points[0] == BLACK_FLAG and points[-1] == CANCEL_TAG:
        return (f"flag {''.join(chr(point - 0xE0000) for point in points[1:-1])}",)
    parts = _parts(points)
    tones = [TONES[tone] for _, tone in parts if tone]
    what = _what([base for base, _ in parts])
    if not tones:
        return _distinct(*what)
    if len(set(tones)) == 1:
        said = f"with {tones[0]} skin tone"
    else:
        said = f"with {' and '.join(tones)} skin tones"
    return _distinct(*(f"{phrase} {said}" for phrase in what))


def plain(points: Sequence[int], genders: bool = True) -> tuple[int, ...]:
    """Return a sequence without skin tones and selectors; without ``genders``, every person is a person too."""
    kept = [point for point in points if point not in SELECTORS and point not in TONES]
    if not genders:
        people = {0x1F468: 0x1F9D1, 0x1F469: 0x1F9D1, 0x1F466: 0x1F9D2, 0x1F467: 0x1F9D2}
        kept = [people.get(point, point) for point in kept if point not in (FEMALE, MALE)]
        kept = [p for i, p in enumerate(kept) if p != JOINER or (i + 1 < len(kept) and kept[i + 1] != JOINER)]
    return tuple(kept)


def may_mirror(points: Sequence[int]) -> bool:
    """Say whether the mirror image shows the same: not of writing, flags and directions."""
    if any(point in (KEYCAP, RIGHTWARDS, BLACK_FLAG) or 0x1F1E6 <= point <= 0x1F1FF for point in points):
        return False
    return not any(word in _WRITTEN for phrase in phrases(points) for word in phrase.replace("-", " ").split())


def _parts(points: Sequence[int]) -> list[tuple[int, int]]:
    """Return base and skin tone (0: none) between joiners; further characters of a part are parts of their own."""
    parts: list[tuple[int, int]] = []
    for place, point in enumerate(points):
        if point in TONES and parts and place and points[place - 1] != JOINER:
            parts[-1] = parts[-1][0], point
        elif point != JOINER:
            parts.append((point, 0))
    return parts


def _what(bases: list[int]) -> tuple[str, ...]:
    """Return the phrasings of a sequence without its tones."""
    if RIGHTWARDS in bases[1:]:
        return tuple(f"{phrase} facing right" for phrase in _what([base for base in bases if base != RIGHTWARDS]))
    if len(bases) == 1:
        return _simpler(_name(bases[0]))
    if tuple(bases) in WHOLE:
        return (WHOLE[tuple(bases)],)
    people = [PEOPLE[base] for base in bases if base in PEOPLE]
    if len(people) == len(bases):
        return (f"family of {', '.join(people[:-1])} and {people[-1]}", "family")
    if len(people) == 2 and set(bases) - set(PEOPLE) <= {HEART, KISS, HANDSHAKE}:
        pair = f"two {PLURALS[people[0]]}" if people[0] == people[1] else " and ".join(people)
        if KISS in bases:
            return (f"{pair} kissing", "kiss")
        return (f"{pair} with heart", "couple with heart") if HEART in bases else (f"{pair} holding hands",)
    if len(bases) == 2 and bases[0] in PEOPLE and bases[1] in ROLES:
        return (ROLES[bases[1]].format(PEOPLE[bases[0]]),)
    if len(bases) == 2 and bases[1] in (FEMALE, MALE):
        return tuple(_of_gender(phrase, "woman" if bases[1] == FEMALE else "man") for phrase in _what(bases[:1]))
    return (" with ".join(_name(base) for base in bases),)


def _of_gender(phrase: str, gender: str) -> str:
    words = phrase.split()
    for place, word in enumerate(words):
        if word in ("person", "man", "woman"):
            return " ".join([*words[:place], gender, *words[place + 1 :]])
    return f"{gender} {phrase}"


def _simpler(name: str) -> tuple[str, ...]:
    """Return a name, and the same as people would say it: hearts for heart-shaped, no signs and symbols."""
    shaped = name.replace("-shaped", "")
    words = [word for word in shaped.split() if word not in ("symbol", "sign")]
    short = " ".join(words) or shaped
    found = [name, shaped, short]
    if words[-1:] == ["face"] and len(words) > 1:
        found.append(" ".join(words[:-1]))
    if " cat face " in f"{short} ":
        found.append(short.replace(" cat face", " cat"))
    return _distinct(*found)


def _name(point: int) -> str:
    name = unicodedata.name(chr(point), "").lower()
    if not name:
        raise LookupError(f"Unicode {unicodedata.unidata_version} has no name for U+{point:04X}")
    return name.replace("oclock", "o'clock").replace("womans ", "woman's ").replace("mans ", "man's ")


def _distinct(*found: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(found))

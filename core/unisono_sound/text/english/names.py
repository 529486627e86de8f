"""Names: abbreviations, titles, Roman numerals and letters in English words.

"St." is saint before a capital, street behind one; "Dr." likewise doctor and drive. A Roman numeral is an ordinal
behind a ruler's name, a cardinal behind a word such as "Chapter".
"""

import re

from unisono_sound.text.english.line import Line
from unisono_sound.text.english.numbers import roman

__all__ = ["abbreviation", "letters", "numeral"]

_ALWAYS = {
    "vs": "versus", "w/o": "without", "w/": "with", "b/c": "because", "approx": "approximately", "e.g": "for example",
    "i.e": "that is", "viz": "namely", "cf": "compare", "ms": "mizz", 
    "mt": "mount", "dept": "department", "govt": "government", "blvd": "boulevard", "hwy": "highway", 
    "ca": "circa",
}  # fmt: skip
_BARE = frozenset(str.split("vs w/o w/ b/c ms approx e.g i.e blvd dept govt hwy"))
"""Those that need no full stop."""
_DOTTED = {
    "ave": "avenue", "rd": "road", "ln": "lane", "sq": "square", "apt": "apartment", "jr": "junior", "sr": "senior",
    "inc": "incorporated", "ltd": "limited", "corp": "corporation", "co": "company", "bros": "brothers",
    "univ": "university", "assn": "association", "est": "established", "ext": "extension", "tel": "telephone",
    "dist": "district", "intl": "international", "natl": "national", "no": "number",
}  # fmt: skip
_TITLES = {
    "gov": "governor", "gen": "general", "col": "colonel", "capt": "captain", "cpt": "captain", "cmdr": "commander",
    "lt": "lieutenant", "sgt": "sergeant", "maj": "major", "cpl": "corporal", "adm": "admiral", "sen": "senator",
    "rep": "representative", "pres": "president", "prof": "professor", "rev": "reverend", "hon": "honorable",
    "supt": "superintendent", "ft": "fort", "fr": "father", "mt": "mount", "dr": "doctor", "st": "saint",
    "ste": "sainte", "atty": "attorney", "pvt": "private", "msgr": "monsignor",
}  # fmt: skip
_NUMBERED = {
    "no": "number", "nos": "numbers", "vol": "volume", "vols": "volumes", "p": "page", "pp": "pages", "fig": "figure",
    "figs": "figures", "ch": "chapter", "sec": "section", "art": "article", "pt": "part", "ed": "edition",
    "n°": "number", "№": "number",
    "§": "section", "eq": "equation", "ex": "example", "tbl": "table", "op": "opus", "rte": "route",
}  # fmt: skip
_COUNTED = frozenset(
    str.split("chapter part act scene volume vol book section war phase level type class grade stage version episode "
              "season article title appendix figure table step division category tier mark rocky bowl schedule")
)  # fmt: skip
_RULERS = frozenset(
    str.split(
        "henry louis charles george edward james richard william john paul pius benedict gregory elizabeth mary "
        "catherine alexander nicholas peter philip ferdinand frederick leopold napoleon francis clement innocent leo "
        "urban robert david stephen victor umberto christian gustav oscar carl karl wilhelm otto harald olaf "
        "ramses ramesses thutmose darius xerxes ptolemy cleopatra constantine theodosius justinian alfonso afonso "
        "pedro ivan albert baudouin juan margrethe beatrix rainier abdullah hussein mohammed murad mehmed selim "
        "suleiman boniface celestine sixtus julius adrian hadrian nero franz joseph maximilian rudolf sigismund edgar "
        "harold"
    )
)


_BEHIND_RULER = frozenset(str.split("of was is and or in had has did died ruled reigned became who the at on from"))
_ROMAN = frozenset(str.split("vol vols ch sec art pt fig op"))
"""Abbreviations that a Roman numeral may follow."""


def abbreviation(line: Line, at: int) -> list[str | None] | None:
    """Abbreviations: "Dr. Smith", "Mulholland Dr.", "St. John", "Main St.", "No. 5", "pp. 5-7", "vs.", "w/o"."""
    word = line.word(at)
    small, dot = word.lower(), line.dot(at)
    following = line.word(at + 1)
    numbered = bool(re.match(r"[#№]?\d", following)) or (small in _ROMAN and (roman(following) or 0) > 1)
    if small in _NUMBERED and numbered and (dot or not small.isalpha()):
        return [_NUMBERED[small]]
    if word == "№" or (len(word) > 1 and word[0] in "№§" and word[1:].isdigit()):
        return [f"{_NUMBERED[word[0]]} {line.numbers.number(word[1:])}".strip()] if word[1:] else [_NUMBERED[word]]
    street = {"st": "street", "dr": "drive"}.get(small)
    if street and word[0].isupper():
        named = line.word(at - 1)[:1].isdigit() or (
            line.capital(at - 1) and not line.word(at - 1).isupper()
        )  # "5th St."
        behind = named and line.joined(at - 1) and not line.dot(at - 1)
        if (
            behind
            and (at > 1 or not line.capital(at + 1))
            and not (line.capital(at + 1) and line.joined(at) and small == "dr")
        ):
            return [street]
        return [_TITLES[small]] if line.capital(at + 1) else None
    if small in _TITLES and dot and word[0].isupper() and line.capital(at + 1) and not line.tokens[at].pause:
        return [_TITLES[small]]
    if small in _ALWAYS and (dot or small in _BARE) and not (small == "mt" and not line.capital(at + 1)):
        return [_ALWAYS[small]]
    if small in _DOTTED and dot and small != "no" and word[0].isupper() and line.capital(at - 1):
        return [_DOTTED[small]]
    return None


def numeral(line: Line, at: int) -> list[str | None] | None:
    """Roman numerals: "Henry VIII", "Chapter IV", "World War II", "Pope John XXIII".

    A single letter behind a ruler is one only at the end of a phrase or before a word such as "of" and "was".
    """
    word = line.word(at)
    value = roman(word) if word.isupper() else None
    before = line.word(at - 1)
    if value is None or not before[:1].isupper() or not line.joined(at - 1):
        return None
    if word in ("L", "C", "D", "M") or (line.dot(at) and not line.tokens[at].pause):
        return None  # a letter, an initial
    if before.lower() in _COUNTED:
        return [line.numbers.cardinal(value)]
    if before.lower() not in _RULERS or value >= 50:
        return None
    if len(word) == 1 and line.joined(at) and line.word(at + 1) not in _BEHIND_RULER:
        return None
    return [f"the {line.numbers.ordinal(value)}"]


def letters(line: Line, at: int) -> list[str | None] | None:
    """Letters that are said one by one, and what espeak-ng makes something else of: "AT&T", "Ph.D.", "x²"."""
    word = line.word(at)
    if re.fullmatch(r"[A-Z]{1,3}(&[A-Z]{1,3})+", word):
        return [" and ".join(" ".join(part) for part in word.split("&"))]
    if re.fullmatch(r"[BCDFGHJKLMNPQRSTVWXZ]{2,4}s", word):
        return [" ".join(word[:-1]) + "'s"]
    if word in ("Ph.D", "Ph.D's"):
        return ["P H D" + word[4:]]
    if found := re.fullmatch(r"([A-Za-z]|\d+)([²³])", word):
        base = line.numbers.number(found[1]) if found[1].isdigit() else found[1].upper()
        return [f"{base} {'squared' if found[2] == '²' else 'cubed'}"]
    if found := re.fullmatch(r"(\d{1,4})((?:-[a-z]{2,})+)", word):
        return [line.numbers.number(found[1]) + found[2].replace("-", " ")]
    return None

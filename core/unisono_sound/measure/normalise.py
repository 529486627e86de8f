"""Normalisation: English text as it is spoken, so that reference and hypothesis compare word by word.

What is done, in this order: typographic quotes, dashes and ligatures become plain; case is
dropped; abbreviations, titles, currency, percent, times, ordinals and numbers are written as words;
everything but letters and the apostrophe inside a word becomes a space. A number of four digits
from 1100 to 1999 is read as a year, one with leading zeros or of more than 15 digits one by one;
"St." is always a saint. Contractions, spelling (colour, color) and compounds (today, to day) are
left as they are: a recogniser is marked down for them.
"""

import re
import unicodedata

ABBREVIATIONS = {
    "mr": "mister",
    "mrs": "missus",
    "ms": "miz",
    "dr": "doctor",
    "prof": "professor",
    "rev": "reverend",
    "hon": "honorable",
    "gen": "general",
    "col": "colonel",
    "capt": "captain",
    "lt": "lieutenant",
    "sgt": "sergeant",
    "maj": "major",
    "gov": "governor",
    "sen": "senator",
    "messrs": "messieurs",
    "jr": "junior",
    "sr": "senior",
    "co": "company",
    "ltd": "limited",
    "inc": "incorporated",
    "dept": "department",
    "etc": "et cetera",
    "vs": "versus",
    "ft": "fort",
    "mt": "mount",
    "st": "saint",
}
"""Read as the word when a full stop follows. Those in ``BARE`` are read so without one, too."""

BARE = {"mr", "mrs", "ms", "dr", "messrs", "jr", "sr", "sgt", "etc", "vs", "ltd"}

ONES = (  # noqa: SIM905
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
).split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()  # noqa: SIM905
SCALES = ((10**12, "trillion"), (10**9, "billion"), (10**6, "million"), (1000, "thousand"))
ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
CURRENCIES = {"$": ("dollar", "cent"), "£": ("pound", "penny"), "€": ("euro", "cent")}
PLURALS = {"penny": "pence"}
SYMBOLS = {
    "&": " and ",
    "%": " percent ",
    "+": " plus ",
    "=": " equals ",
    "@": " at ",
    "°": " degrees ",
}

_NUMBER = r"\d{1,3}(?:,\d{3})+|\d+"


def normalise_english(text: str) -> str:
    """Return lower-case words of a–z and apostrophes, one space between them.

    ``normalise_english("Dr. O’Neil paid $2.50 in 1845.")`` is
    ``"doctor o'neil paid two dollars and fifty cents in eighteen forty five"``.
    """
    text = text.translate(str.maketrans("‘’‛`´", "'''''")).lower()
    text = re.sub(r"([£$€])\s*((?:" + _NUMBER + r")(?:\.\d+)?)", _currency, text)
    text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    text = re.sub(r"\bno\.\s*(?=\d)", " number ", text)
    text = re.sub(r"\b([a-z]+)\.", lambda m: f" {ABBREVIATIONS.get(m[1], m[1])} ", text)
    text = re.sub(r"\b[a-z]+\b(?!')", lambda m: ABBREVIATIONS[m[0]] if m[0] in BARE else m[0], text)
    text = re.sub(r"\b([01]?\d|2[0-3]):([0-5]\d)\b", _time, text)
    text = re.sub(rf"\b({_NUMBER})(st|nd|rd|th)\b", lambda m: f" {ordinal(_integer(m[1]))} ", text)
    text = re.sub(r"\b(1[1-9]|20)(\d)0s\b", lambda m: f" {_decade(m[1], m[2])} ", text)
    text = re.sub(rf"({_NUMBER})\.(\d+)", lambda m: f" {_words(m[1])} point {_digits(m[2])} ", text)
    text = re.sub(_NUMBER, lambda m: f" {_words(m[0])} ", text)
    text = re.sub("[" + re.escape("".join(SYMBOLS)) + "]", lambda m: SYMBOLS[m[0]], text)
    text = re.sub(r"[^a-z']", " ", text)
    words = (word.strip("'") for word in text.split())
    return " ".join(word for word in words if word)


def cardinal(number: int) -> str:
    """Read a number from 0 to 10^15 − 1: 1203 → "one thousand two hundred three"."""
    if number < 20:
        return ONES[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return TENS[tens - 2] + (f" {ONES[ones]}" if ones else "")
    if number < 1000:
        hundreds, rest = divmod(number, 100)
        return f"{ONES[hundreds]} hundred" + (f" {cardinal(rest)}" if rest else "")
    scale, name = next(entry for entry in SCALES if number >= entry[0])
    high, rest = divmod(number, scale)
    return f"{cardinal(high)} {name}" + (f" {cardinal(rest)}" if rest else "")


def ordinal(number: int) -> str:
    """Read a number as a rank: 21 → "twenty first"."""
    head, _, last = cardinal(number).rpartition(" ")
    if last in ORDINALS:
        last = ORDINALS[last]
    else:
        last = last[:-1] + "ieth" if last.endswith("y") else last + "th"
    return f"{head} {last}".strip()


def year(number: int) -> str:
    """Read a year: 1845 → "eighteen forty five", 1907 → "nineteen oh seven", 1900 → "nineteen
    hundred".
    """
    century, rest = divmod(number, 100)
    if rest == 0:
        return f"{cardinal(century)} hundred"
    return f"{cardinal(century)} {'oh ' if rest < 10 else ''}{cardinal(rest)}"


def _words(digits: str) -> str:
    plain = digits.replace(",", "")
    if len(plain) > 15 or (len(plain) > 1 and plain[0] == "0"):
        return _digits(plain)
    number = int(plain)
    return year(number) if "," not in digits and 1100 <= number <= 1999 else cardinal(number)


def _integer(digits: str) -> int:
    return min(int(digits.replace(",", "")), 10**15 - 1)


def _digits(digits: str) -> str:
    return " ".join(ONES[int(d)] for d in digits)


def _decade(century: str, tens: str) -> str:
    if tens == "0":
        return "two thousands" if century == "20" else f"{cardinal(int(century))} hundreds"
    name = "tens" if tens == "1" else TENS[int(tens) - 2][:-1] + "ies"
    return f"{cardinal(int(century))} {name}"


def _time(match: re.Match) -> str:
    hour, minute = int(match[1]), int(match[2])
    if minute == 0:
        return f" {cardinal(hour)} o'clock "
    return f" {cardinal(hour)} {'oh ' if minute < 10 else ''}{cardinal(minute)} "


def _currency(match: re.Match) -> str:
    unit, fraction = CURRENCIES[match[1]]
    whole, _, part = match[2].partition(".")
    amount = _integer(whole)
    spoken = [f"{cardinal(amount)} {unit}{'' if amount == 1 else 's'}"]
    small = int((part + "0")[:2]) if part else 0
    if small:
        plural = PLURALS.get(fraction, fraction + "s")
        spoken.append(f"{cardinal(small)} {fraction if small == 1 else plural}")
        if amount == 0:
            spoken.pop(0)
    return f" {' and '.join(spoken)} "

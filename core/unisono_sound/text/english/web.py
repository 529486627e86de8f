"""Web: addresses, mail, handles, hashtags, telephone numbers and the like, said part by part.

A name of an address is said as a word, what cannot be one letter by letter; its signs are said, the scheme too: nothing
of an address is left out. The dashes of a telephone number are not said.
"""

import re

from unisono_sound.text.english.line import Line
from unisono_sound.text.english.numbers import Numbers

__all__ = ["SIGNS", "address", "code", "telephone"]

SIGNS = {
    ".": "dot", "/": "slash", ":": "colon", "@": "at", "-": "dash", "_": "underscore", "?": "question mark",
    "=": "equals", "&": "and", "#": "hash", "%": "percent", "+": "plus", "~": "tilde", ",": "comma", ";": "semicolon",
    "!": "exclamation mark", "$": "dollar", "*": "star", "'": "apostrophe", "(": "open parenthesis",
    ")": "close parenthesis", "[": "open bracket", "]": "close bracket", "|": "bar", "\\": "backslash", "^": "caret",
}  # fmt: skip
_URL = re.compile(r"(?:[a-z][a-z0-9+.-]*://|www\.)\S+", re.IGNORECASE)
_MAIL = re.compile(r"(?:mailto:)?[\w.+%-]+@[\w-]+(?:\.[\w-]+)+")
_DOMAIN = re.compile(
    r"(?:[a-z0-9-]+\.)+(?:com|org|net|edu|gov|io|ai|co|uk|de|fr|eu|us|info|dev|app|me|tv|ly|gl|xyz|html?|php|pdf|txt|"
    r"csv|json|zip|exe|jpe?g|png|mp[34]|wav|docx?|xlsx?|py|js|css)(?:/\S*)?",
    re.IGNORECASE,
)
_SPELLED = frozenset(
    str.split("http https ftp ssh www html htm php css pdf txt csv xml uk de eu us io ai tv js py png jpg jpeg mp mpeg "
              "docx xls xlsx exe url api id ip")
)  # fmt: skip
_GROUPS = re.compile(r"(?:\+?\d{1,3}[-.])?(?:\(?\d{3}\)?[-.])\d{3}[-.]\d{4}|1-\d{3}-[A-Z]{4,8}")
_LOCAL = re.compile(r"(\d{3})-(\d{4})")


def spelled(text: str, numbers: Numbers) -> str:
    """Return the parts of an address in words: names, letters, numbers and signs."""
    said = []
    for part in re.findall(r"[^\W\d_]+|\d+|.", text):
        if part.isdigit():
            said.append(numbers.number(part) if len(part) < 4 and part[0] != "0" else numbers.digits(part))
        elif part.isalpha():
            small = part.lower()
            letters = small in _SPELLED or len(part) == 1 or not re.search("[aeiouy]", small)
            said.append(" ".join(part.upper()) if letters and part.isascii() else small)
        else:
            said.append(SIGNS.get(part, part))
    return " ".join(said)


def address(line: Line, at: int) -> list[str | None] | None:
    """Addresses: "https://example.com/a-b", "www.x.org", "example.com", "joe@example.com", "@joe", "#tag", "b.txt"."""
    word, numbers = line.word(at), line.numbers
    if _URL.fullmatch(word) or _MAIL.fullmatch(word) or _DOMAIN.fullmatch(word):
        return [spelled(word, numbers)]
    if found := re.fullmatch(r"([@#])([^\W\d]\w*)", word):
        parts = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", found[2]).replace("_", " underscore ")
        return [f"{'at' if found[1] == '@' else 'hashtag'} {' '.join(parts.split())}"]
    return None


def telephone(line: Line, at: int) -> list[str | None] | None:
    """Telephone numbers: "555-123-4567", "(555) 123-4567", "+44 20 7946 0958", "555-0199", "1-800-FLOWERS".

    Three digits, a hyphen and four are one unless both are multiples of ten.
    """
    word, numbers = line.word(at), line.numbers
    if word.startswith("+") and re.fullmatch(r"\+\d[\d.-]*\d|\+\d", word):
        said: list[str | None] = ["plus " + numbers.digits(word)]
        place = at
        while re.fullmatch(r"\(?\d{1,5}\)?(?:[-.]\d{2,5})*", line.word(place + 1)) and line.tokens[place].pause in (
            "",
            ",",
        ):
            place += 1
            said.append(numbers.digits(line.word(place)))
        return said if len(said) > 1 or sum(c.isdigit() for c in word) >= 7 else None
    if _GROUPS.fullmatch(word):
        head, _, name = word.rpartition("-")
        if name.isalpha():
            return [f"{numbers.digits(head)} {name.lower()}"]
        return [numbers.digits(word)]
    local = _LOCAL.fullmatch(line.word(at + 1))
    if re.fullmatch(r"\d{3}", word) and local and line.tokens[at].pause in ("", ",") and _in_brackets(line, at):
        return [numbers.digits(word), numbers.digits(line.word(at + 1))]
    if local := _LOCAL.fullmatch(word):
        return [numbers.digits(word)] if int(local[1]) % 10 or int(local[2]) % 10 else None
    return None


def _in_brackets(line: Line, at: int) -> bool:
    token, following = line.tokens[at], line.tokens[at + 1]
    return following.start - token.end <= 2 and token.pause == ","


def code(line: Line, at: int) -> list[str | None] | None:
    """Numbers in groups, digit by digit ("978-3-16-148410-0", "123-45-6789"), and versions ("v2.1.3", "10.0.0.1")."""
    word, numbers = line.word(at), line.numbers
    if re.fullmatch(r"\d+(?:-\d+){2,}(?:-?[\dX])?", word):
        return [numbers.digits(word)]
    if found := re.fullmatch(r"([vV])?(\d+(?:\.\d+){2,}|(?<=[vV])\d+(?:\.\d+)*)", word):
        parts = " point ".join(numbers.cardinal(int(part)) for part in found[2].split("."))
        return [f"version {parts}" if found[1] else parts]
    return None

"""Money: amounts with a currency's sign or code in English words.

Two decimals are the smaller coin ("$5.50"), others a decimal number ("$1.2 million"). Behind a sign or an amount, K, M,
B and T are thousand, million, billion and trillion.
"""

import re

from unisono_sound.text.english.line import Line
from unisono_sound.text.english.numbers import NUMBER, Numbers, plain

__all__ = ["money"]

_CURRENCIES = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "€": ("euro", "euros", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "¥": ("yen", "yen", "sen", "sen"),
    "₹": ("rupee", "rupees", "paisa", "paise"),
    "₽": ("ruble", "rubles", "kopeck", "kopecks"),
    "₩": ("won", "won", "jeon", "jeon"),
    "₿": ("bitcoin", "bitcoins", "", ""),
    "CHF": ("Swiss franc", "Swiss francs", "centime", "centimes"),
}
_NATIONS = {
    "US": "U S ", "USD": "U S ", "A": "Australian ", "AU": "Australian ", "AUD": "Australian ", "C": "Canadian ",
    "CA": "Canadian ", "CAD": "Canadian ", "HK": "Hong Kong ", "NZ": "New Zealand ",
}  # fmt: skip
_CODES = {"USD": "$", "AUD": "$", "CAD": "$", "EUR": "€", "GBP": "£", "JPY": "¥", "INR": "₹", "CHF": "CHF"}
_SCALES = {"k": "thousand", "m": "million", "mn": "million", "b": "billion", "bn": "billion", "t": "trillion",
           "tn": "trillion"}  # fmt: skip
_WORDS = frozenset(str.split("hundred thousand million billion trillion"))
_AMOUNT = re.compile(
    rf"(?P<minus>[-−])?(?P<nation>US|AU|CA|HK|NZ|A|C)?(?P<sign>[$€£¥₹₽₩₿])(?P<inner>[-−])?"
    rf"(?P<number>{NUMBER})(?P<scale>[kKmMbBtT]|[mbt]n)?(?P<each>/[A-Za-z]+)?"
)
_BEHIND = re.compile(
    rf"(?P<minus>[-−])?(?P<number>{NUMBER})(?P<scale>[kKmMbB]|[mb]n)?(?P<sign>[$€£¥₹₽₩₿¢])(?P<each>/[A-Za-z]+)?"
)
_SPAN = re.compile(rf"([$€£¥₹])({NUMBER})[-–]\1?({NUMBER})([kKmMbB]|[mb]n)?")


def money(line: Line, at: int) -> list[str | None] | None:
    """Amounts: "$5.50", "£1.2m", "US$5", "5 USD", "EUR 5", "$5 million", "$5-10", "50¢", "-$5", "$10/month"."""
    word, numbers = line.word(at), line.numbers
    scale = line.word(at + 1).lower() if line.joined(at) else ""
    if span := _SPAN.fullmatch(word):
        sign, first, last, letter = span.groups()
        size = f" {_SCALES[letter.lower()]}" if letter else ""
        said = f"{numbers.number(first)} to {numbers.number(last)}{size}"
        if scale in _WORDS:
            return [said, f"{scale} {_CURRENCIES[sign][1]}"]
        return [f"{said} {_CURRENCIES[sign][1]}"]
    if found := _AMOUNT.fullmatch(word):
        nation = _NATIONS.get(found["nation"] or "", "")
        minus = "minus " if found["minus"] or found["inner"] else ""
        if scale in _WORDS and not (found["scale"] or found["each"]):
            return [minus + numbers.number(found["number"]), f"{scale} {nation}{_CURRENCIES[found['sign']][1]}"]
        if scale in _SCALES and scale != "t" and not (found["scale"] or found["each"]) and len(scale) > 1:
            said = f"{_SCALES[scale]} {nation}{_CURRENCIES[found['sign']][1]}"
            return [minus + numbers.number(found["number"]), said]
        return [minus + _said(numbers, found["number"], found["sign"], nation, found["scale"], found["each"])]
    if found := _BEHIND.fullmatch(word):
        minus = "minus " if found["minus"] else ""
        return [minus + _said(numbers, found["number"], found["sign"], "", found["scale"], found["each"])]
    if word in _CODES and line.joined(at) and re.fullmatch(NUMBER, line.word(at + 1)):
        # the written order is kept, so that each word has its own sound
        one, many = _CURRENCIES[_CODES[word]][:2]
        return [_NATIONS.get(word, "") + (one if line.word(at + 1) == "1" else many), numbers.number(line.word(at + 1))]
    if re.fullmatch(NUMBER, word) and line.joined(at) and line.word(at + 1) in _CODES:
        code = line.word(at + 1)
        one = plain(word) == "1"
        return [numbers.number(word), _NATIONS.get(code, "") + _CURRENCIES[_CODES[code]][0 if one else 1]]
    return None


def _said(numbers: Numbers, number: str, sign: str, nation: str, scale: str | None, each: str | None) -> str:
    behind = f" per {each[1:].lower()}" if each else ""
    if sign == "¢":
        return f"{numbers.number(number)} cent{'s' * (plain(number) != '1')}{behind}"
    one, many, coin, coins = _CURRENCIES[sign]
    if scale:
        return f"{numbers.number(number)} {_SCALES[scale.lower()]} {nation}{many}{behind}"
    whole, _, decimals = plain(number).partition(".")
    if len(decimals) == 2 and coin:
        parts = []
        if int(whole or 0) or not int(decimals):
            parts.append(f"{numbers.cardinal(int(whole or 0))} {nation}{one if whole == '1' else many}")
        if int(decimals):
            parts.append(f"{numbers.cardinal(int(decimals))} {coin if decimals == '01' else coins}")
        return " and ".join(parts) + behind
    return f"{numbers.number(number)} {nation}{one if plain(number) == '1' else many}{behind}"

"""Classes: what a picture's label says, a number or a name."""

import re

from unisono.data import Drop

MAX_CLASSES = 100_000


def class_of(text: str) -> str | int:
    """Return the class that a text names: a number where it is one; raises ``Drop``."""
    text = text.strip()
    if not re.fullmatch(r"[+-]?[0-9]+", text):
        if re.fullmatch(r"[+-]?([0-9]*\.[0-9]+|[0-9]+\.)([eE][+-]?[0-9]+)?|[+-]?(nan|inf)", text, re.IGNORECASE):
            raise Drop("no class", f"class {text:.40} is neither a whole number nor a name")
        return text
    if len(text) > len(str(MAX_CLASSES)) + 20:
        raise Drop("no class", f"class {text[:20]}… has {len(text)} digits, at most {MAX_CLASSES} classes are known")
    return numbered(int(text))


def numbered(number: int) -> int:
    """Return the number of a class; raises ``Drop`` where it can be none."""
    if number < 0:
        raise Drop("no class", f"class {number} is below 0")
    if number >= MAX_CLASSES:
        raise Drop("no class", f"class {str(number)[:20]} is not below {MAX_CLASSES}")
    return number

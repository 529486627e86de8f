"""Classes: what is said of a picture: its captions, and its class, a number or a name."""

import re
from collections.abc import Sequence
from typing import Any

from unisono.data import Drop
from unisono.files import lone_surrogate

MAX_CLASSES = 100_000


def said_by(texts: Sequence[str], label: str, facts: Any) -> tuple[list[str], str | int | None]:
    """Return a picture's captions, each once, and its class, None where it has none; raises ``Drop``.

    Args:
        texts: captions that stand by themselves.
        label: the class that stands by itself; empty for none.
        facts: JSON beside the picture: ``caption`` or ``text``, one or a list; ``label`` or ``class``.
    """
    captions = [text.strip() for text in texts]
    found: str | int | None = class_of(label) if label.strip() else None
    if isinstance(facts, dict):
        said = facts.get("caption", facts.get("text"))
        captions += [text.strip() for text in (said if isinstance(said, list) else [said]) if isinstance(text, str)]
        given = facts.get("label", facts.get("class"))
        if found is None and given is not None:
            if isinstance(given, bool) or not isinstance(given, str | int):
                raise Drop("no class", f"its label {str(given)[:40]!r} is neither a number nor a name")
            found = numbered(given) if isinstance(given, int) else class_of(given)
    for text in [*captions, found]:
        if isinstance(text, str) and (half := lone_surrogate(text)):
            raise Drop("half a character", f"{half} alone is half of a character")
    return [text for text in dict.fromkeys(captions) if text], found


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

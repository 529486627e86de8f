"""Markup: what a text says of how it is to be said, apart from its words; see ``parse``."""

from collections.abc import Callable

from unisono_sound.text.markup.hyper import hyper_script
from unisono_sound.text.markup.inline import inline_script
from unisono_sound.text.markup.light import light_script
from unisono_sound.text.markup.script import NEUTRAL, Atom, Prosody, SayAs, Script
from unisono_sound.text.markup.ssml import ssml_script

__all__ = ["MARKUPS", "NEUTRAL", "Atom", "Prosody", "SayAs", "Script", "parse"]

MARKUPS: dict[str, Callable[[str], Script]] = {
    "none": Script.plain,
    "inline": inline_script,
    "ssml": ssml_script,
    "html": hyper_script,
    "markdown": light_script,
}
"""Kinds of markup: none, pauses and phonemes in square brackets, SSML, HTML, Markdown."""


def parse(text: str, markup: str) -> Script:
    """Return what a text says; raises ``RequestError`` where it is not of the markup."""
    return MARKUPS[markup](text)

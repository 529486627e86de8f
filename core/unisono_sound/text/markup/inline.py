"""Inline: pauses and phonemes within plain text, ``[0.5s]`` ``[500ms]`` ``[word](/wˈɜːd/)``; all else is as written."""

import re

from unisono_sound.text.markup.script import Atom, Composer, Script

__all__ = ["inline_script"]

_MARK = re.compile(
    r"\[\s*(?P<pause>[-−+]?(?:\d+(?:\.\d*)?|\.\d+))\s?(?P<unit>ms|s)\s*\]"
    r"|\[(?P<word>[^\[\]\n]{1,200})\]\(/(?P<phonemes>[^/()\n]{1,400})/\)"
)
STAND_IN = "la"
"""What stands in the text that is read for a word whose phonemes are given."""


def inline_script(text: str) -> Script:
    """Return a text's words, pauses and phonemes; the markup is none where there is none."""
    if "[" not in text or not _MARK.search(text):
        return Script.plain(text)
    composer, done = Composer(text), 0
    for mark in _MARK.finditer(text):
        composer.add(text[done : mark.start()], done)
        done = mark.end()
        if mark["pause"] is not None:
            seconds = float(mark["pause"].replace("−", "-")) / (1000 if mark["unit"] == "ms" else 1)
            composer.pause(seconds, mark.start())
            following = text[done : done + 1]
            if following and not following.isspace():
                composer.apart(done)
        else:
            add_phonemes(composer, mark["word"].strip(), mark["phonemes"], mark.start("word"), mark.end("word"))
    composer.add(text[done:], done)
    return composer.finish()


def add_phonemes(composer: Composer, label: str, phonemes: str, start: int, end: int) -> None:
    """Add a word, written from ``start`` to ``end``, that is said by phonemes."""
    begin = composer.length
    composer.add(STAND_IN, start, moves=False)
    composer.script.atoms.append(Atom(begin, composer.length, label, start, end, phonemes))

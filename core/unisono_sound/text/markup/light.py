"""Markdown: the words of a text without the marks of its headings, lists, quotes, tables, links and code.

A heading ends a sentence; a link is its words, a picture its description; addresses behind them, link definitions,
rules and HTML tags are not read. Code is read as it is written.
"""

import re

from unisono_sound.text.markup.script import Composer, Script

__all__ = ["light_script"]

_LINE = re.compile(
    r"(?P<drop>[ ]{0,3}(?:(?:[-*_][ \t]*){3,}|=+|-{2,}|\|?[ \t]*:?-{2,}:?[ \t]*(?:\|[ \t]*:?-*:?[ \t]*)*"
    r"|`{3,}.*|~{3,}.*|\[[^\]\n]+\]:[ \t]*\S.*))$"
    r"|(?P<quote>[ ]{0,3}(?:>[ \t]?)+)?(?P<heading>[ ]{0,3}\#{1,6}[ \t]+)?"
)
_MARK = re.compile(
    r"\\(?P<escaped>[!-/:-@\[-`{-~])"
    r"|(?P<code>(?<!`)`+(?!`))(?P<coded>[^\n]+?)(?<!`)(?P=code)(?!`)"
    r"|!?\[(?P<words>(?:[^\[\]\n]|\[[^\[\]\n]*\])*)\](?:\((?:[^()\s]|\([^()\s]*\))*(?:\s+[\"'(][^\n)]*[\"')])?\)|\[[^\]\n]*\])"
    r"|<(?P<address>(?:https?://|mailto:)[^\s<>]+|[^\s<>@]+@[^\s<>@]+)>"
    r"|(?P<dropped><!--[^\n]{0,2000}?-->|</?[A-Za-z][A-Za-z0-9]*(?:\s[^<>\n]*)?/?>|\[\^[^\]\s]+\])"
    r"|(?P<stress>\*{1,3}|_{1,3}|~~)",
    re.DOTALL,
)


def light_script(text: str) -> Script:
    """Return the words of Markdown."""
    composer = Composer(text)
    place = 0
    for line in text.splitlines(keepends=True):
        body = line.rstrip("\r\n")
        found = _LINE.match(body)
        if found is not None and found["drop"] is not None and not _is_words(found["drop"]):
            composer.add(line[len(body) :], place + len(body))
        else:
            skip = found.end() if found else 0
            heading = found["heading"] if found else None
            if heading:
                composer.end(place, paragraph=True)
            shown = body[skip:].rstrip("#").rstrip() if heading else body[skip:]
            if re.match(r"\s*\|.*\|\s*$", shown):
                _row(composer, shown, place + skip)
            else:
                _words(composer, shown, place + skip)
            if heading:
                composer.end(place + len(body), paragraph=True)
            composer.add(line[len(body) :], place + len(body))
        place += len(line)
    return composer.finish()


def _is_words(text: str) -> bool:
    """Whether a line without marks is one of words: a fence's language and a definition are none."""
    return any(c.isalnum() for c in text) and not re.match(r"\s*(`{3}|~{3}|\[)", text)


def _row(composer: Composer, text: str, place: int) -> None:
    for index, cell in enumerate(re.finditer(r"[^|\s][^|]*", text)):
        if index and composer.visible not in ",.!?…":
            composer.add(", ", place + cell.start(), moves=False)
        _words(composer, cell[0].rstrip(), place + cell.start())
    composer.end(place + len(text), paragraph=False)


def _words(composer: Composer, text: str, place: int) -> None:
    done = 0
    for mark in _MARK.finditer(text):
        composer.add(text[done : mark.start()], place + done)
        done = mark.end()
        if mark["escaped"]:
            composer.add(mark["escaped"], place + mark.start("escaped"))
        elif mark["code"]:
            composer.add(mark["coded"], place + mark.start("coded"))
        elif mark["words"] is not None:
            _words(composer, mark["words"], place + mark.start("words"))
        elif mark["address"]:
            composer.add(mark["address"], place + mark.start("address"))
        elif mark["stress"] and not _stresses(text, mark.start(), mark.end()):
            composer.add(mark[0], place + mark.start())
    composer.add(text[done:], place + done)


def _stresses(text: str, start: int, end: int) -> bool:
    """Whether a mark stands at the edge of a word, as marks of emphasis do: not in "a * b", "2*3", "snake_case"."""
    before, after = text[start - 1 : start].strip(), text[end : end + 1].strip()
    return bool(before or after) and not (before.isalnum() and after.isalnum())

"""HTML: the words of a page without its tags, by the standard library's parser.

Blocks (``p``, ``div``, ``li``, ``h1`` …) end a sentence and ``br`` a line; the words of ``alt`` are read for a picture.
Scripts, styles, comments and the head are not read. What looks like a tag and is none ("a <b") is read as written.
"""

from html import unescape
from html.parser import HTMLParser
from itertools import accumulate

from unisono.errors import RequestError

from unisono_sound.text.markup.script import Composer, Script

__all__ = ["hyper_script"]

_BLOCKS = frozenset(
    str.split(
        "address article aside blockquote dd div dl dt fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6 header "
        "hr li main nav ol p pre section table tr ul body option summary details caption"
    )
)
MOST_OPEN = 500
"""How many tags may be left open, as in "a < b"."""
_CELLS = frozenset(("td", "th"))
_SILENT = frozenset(("script", "style", "head", "template", "noscript", "svg", "math", "object", "iframe"))


def hyper_script(text: str) -> Script:
    """Return the words of HTML; ``RequestError`` where hundreds of tags are open, which the parser takes long for."""
    if text.count("<") - text.count(">") > MOST_OPEN:
        message = (
            f"the text has more than {MOST_OPEN} times < without >: it is no HTML; write < as &lt;, or markup=none"
        )
        raise RequestError(message, code="format", path="text", value=text[:40])
    reader = _Reader(text)
    reader.feed(text)
    reader.close()
    return reader.composer.finish()


class _Reader(HTMLParser):
    def __init__(self, text: str):
        super().__init__(convert_charrefs=False)
        self.text, self.composer = text, Composer(text)
        self.lines = [0, *accumulate(len(line) + 1 for line in text.split("\n"))]
        self.silent: list[str] = []

    @property
    def place(self) -> int:
        line, column = self.getpos()
        return self.lines[line - 1] + column

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _SILENT:
            self.silent.append(tag)
        if self.silent:
            return
        if tag in _BLOCKS:
            self.composer.end(self.place, paragraph=True)
        elif tag == "br":
            self.composer.add("\n", self.place)
        elif tag in _CELLS:
            self.composer.add(", " if self.composer.visible not in ",.!?…" else " ", self.place, moves=False)
        elif tag == "img" and (shown := (dict(attrs).get("alt") or "").strip()):
            self.composer.apart(self.place)
            self.composer.add(shown, self.place, moves=False)
            self.composer.apart(self.place)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.silent:
            while self.silent.pop() != tag:
                pass
        elif not self.silent and tag in _BLOCKS:
            self.composer.end(self.place, paragraph=True)

    def handle_data(self, data: str) -> None:
        if self.silent:
            return
        for index, character in enumerate(data):
            if character not in " \t\r\n":
                self.composer.add(character, self.place + index)
            elif self.composer.last not in " \n":
                self.composer.add(" ", self.place + index)

    def handle_entityref(self, name: str) -> None:
        self._add_entity(f"&{name}")

    def handle_charref(self, name: str) -> None:
        self._add_entity(f"&#{name}")

    def _add_entity(self, written: str) -> None:
        closed = self.text.startswith(";", self.place + len(written))
        if not self.silent:
            self.composer.add(unescape(written + ";" * closed), self.place, moves=False)

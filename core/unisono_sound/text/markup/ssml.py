"""SSML: the elements of the W3C's Speech Synthesis Markup Language 1.1 that a voice can follow.

=========  ===========================================================================================================
speak      may be left out; ``p`` ends a paragraph, ``s`` a sentence
break      ``time``, ``strength``: a silence of this length, whatever punctuation is there
prosody    ``rate``, ``pitch``, ``volume``; one in another multiplies and adds
emphasis   ``level``: a prosody
phoneme    ``ph``: how its content is said, in IPA
sub        ``alias``: what is said for its content
say-as     ``interpret-as``, ``format``: what kind of thing its content is
lang       ``xml:lang``: in which language its content is read
=========  ===========================================================================================================

Other elements and attributes are refused. White space, line ends included, is one space. The parser is the standard
library's expat; document types, and with them entities of one's own, are refused, and elements may be nested 32 deep.
"""

import re
from dataclasses import dataclass
from typing import Any
from xml.parsers import expat

from unisono.errors import RequestError, did_you_mean

from unisono_sound.text.markup.inline import add_phonemes
from unisono_sound.text.markup.prosody import EMPHASIS, LIMITS, check, prosody_of, seconds_of, strength_of
from unisono_sound.text.markup.script import MOST_LEVELS, Atom, Composer, SayAs, Script

__all__ = ["SAY_AS", "ssml_script"]

ELEMENTS = {
    "speak": ("version", "xml:lang", "xmlns", "xmlns:xsi", "xsi:schemaLocation"),
    "p": (), "s": (), "break": ("time", "strength"), "prosody": ("rate", "pitch", "volume"), "emphasis": ("level",),
    "phoneme": ("ph", "alphabet"), "sub": ("alias",), "say-as": ("interpret-as", "format", "detail"),
    "lang": ("xml:lang",),
}  # fmt: skip
"""Elements with their attributes."""

SAY_AS = (
    "characters", "spell-out", "digits", "cardinal", "number", "ordinal", "fraction", "date", "time", "telephone",
    "currency", "unit", "address", "year", "roman", "verbatim",
)  # fmt: skip
"""Kinds of ``say-as``."""


@dataclass
class _Open:
    """An element under way: where its content begins in the text that is read, and in the text as given."""

    name: str
    attributes: dict[str, str]
    begin: int
    place: int
    content: list[tuple[str, int]] | None = None


def ssml_script(text: str) -> Script:
    """Return what SSML says. Raises ``RequestError`` with the line and column where it is wrong."""
    return _Reader(text).read()


class _Reader:
    def __init__(self, text: str):
        self.text, self.composer = text, Composer(text)
        self.open: list[_Open] = []
        bare = not re.match(r"\s*(<\?xml|<!DOCTYPE|<!--.*?-->\s*<speak|<speak\b)", text, re.DOTALL)
        self.before = "<speak>" if bare else ""
        self.after = "</speak>" if bare else ""

    def read(self) -> Script:
        try:
            document = (self.before + self.text + self.after).encode()
        except UnicodeEncodeError as error:
            message = (
                f"the SSML holds half a character (U+{ord(self.text[error.start - len(self.before)]):04X}): mend it"
            )
            raise RequestError(message, code="format", path="text", value=self.text[:40]) from None
        self.places = _Places(self.before + self.text + self.after, len(self.before), len(self.text))
        parser = expat.ParserCreate("utf-8")
        parser.buffer_text = False
        parser.StartElementHandler = self._begin
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = self._refuse_doctype
        parser.EntityDeclHandler = self._refuse_doctype
        parser.ProcessingInstructionHandler = self._refuse_instruction
        self.parser = parser
        try:
            parser.Parse(document, True)
        except expat.ExpatError as error:
            raise self._malformed(error) from None
        return self.composer.finish()

    @property
    def place(self) -> int:
        return self.places.at(self.parser.CurrentByteIndex)

    def _where(self, name: str) -> str:
        line, column = self._line_column(self.place)
        return f"<{name}> in line {line}, column {column}:"

    def _line_column(self, place: int) -> tuple[int, int]:
        line = self.text.count("\n", 0, place) + 1
        return line, place - (self.text.rfind("\n", 0, place) + 1) + 1

    def _malformed(self, error: expat.ExpatError) -> RequestError:
        at = self.places.at(self.parser.ErrorByteIndex)
        line, column = self._line_column(at)
        opened = [element.name for element in self.open if element.name != "speak" or not self.before]
        reason = expat.errors.messages[error.code]
        fix = "write & as &amp; and < as &lt;"
        if opened and error.code != expat.errors.codes[expat.errors.XML_ERROR_INVALID_TOKEN]:
            fix = f"close <{opened[-1]}>"
        message = f"the SSML is not well-formed in line {line}, column {column} ({reason}): {fix}"
        return RequestError(message, code="format", path="text", value=self.text[at : at + 40])

    def _refuse_doctype(self, *args: Any) -> None:
        message = "SSML with a document type or entities of its own is not read: leave <!DOCTYPE …> out"
        raise RequestError(message, code="unsafe", path="text", value=str(args[0])[:40])

    def _refuse_instruction(self, target: str, data: str) -> None:
        message = f"SSML with a processing instruction is not read: leave <?{target} …?> out"
        raise RequestError(message, code="unsupported", path="text", value=target)

    def _begin(self, name: str, attributes: dict[str, str]) -> None:
        if name not in ELEMENTS:
            message = f"{self._where(name)} no element of SSML that is followed here{did_you_mean(name, ELEMENTS)}"
            raise RequestError(message, code="unknown", path="text", value=name)
        for attribute in attributes:
            if attribute not in ELEMENTS[name]:
                nearest = did_you_mean(attribute, ELEMENTS[name])
                message = f"{self._where(name)} attribute {attribute!r} is not followed here{nearest}"
                raise RequestError(message, code="unknown", path="text", value=attribute)
        if len(self.open) >= MOST_LEVELS:
            message = f"{self._where(name)} more than {MOST_LEVELS} elements are one in another: take some out"
            raise RequestError(message, code="limit", path="text", value=len(self.open) + 1)
        if name == "speak" and self.open:
            raise RequestError(f"{self._where(name)} it cannot stand in another element", code="value", path="text",
                               value=name)  # fmt: skip
        holder = next((element for element in self.open if element.content is not None), None)
        if holder is not None or (self.open and self.open[-1].name == "break"):
            outer = (holder or self.open[-1]).name
            message = f"{self._where(name)} <{outer}> holds text only: take the element out"
            raise RequestError(message, code="value", path="text", value=name)
        element = _Open(name, attributes, self.composer.length, self.place)
        self.open.append(element)
        _STARTS.get(name, lambda *_: None)(self, element)

    def _end(self, name: str) -> None:
        element = self.open.pop()
        _STOPS.get(name, lambda *_: None)(self, element)

    def _characters(self, data: str) -> None:
        if not self.open:
            return
        place = self.place
        written = data == self.text[place : place + len(data)]
        element = self.open[-1]
        if element.name == "break" and data.strip():
            message = f"{self._where('break')} it holds no text: write <break/>"
            raise RequestError(message, code="value", path="text", value=data.strip()[:40])
        if element.content is not None:
            element.content.append((data, place))
            return
        for part in re.finditer(r"[ \t\r\n]+|[^ \t\r\n]+", data):
            at = place + part.start() if written else place
            if part[0][0] in " \t\r\n":
                if self.composer.last not in " \n":
                    self.composer.add(" ", at, moves=False)
            else:
                self.composer.add(part[0], at, moves=written)

    # ---- elements ------------------------------------------------------------------------------

    def _part(self, element: _Open) -> None:
        self.composer.end(self.place, paragraph=element.name == "p")

    def _break(self, element: _Open) -> None:
        where = self._where("break")
        asked = element.attributes
        if "time" in asked:
            seconds = seconds_of(asked["time"], f"{where} time={asked['time']!r}")
        else:
            seconds = strength_of(asked.get("strength", "medium"), f"{where} strength")
        self.composer.pause(seconds, element.place)

    def _speak_otherwise(self, element: _Open) -> None:
        where = self._where(element.name)
        if element.name == "emphasis":
            level = element.attributes.get("level", "moderate")
            if level not in EMPHASIS:
                message = f"{where} level {level!r} is none{did_you_mean(level, EMPHASIS)}"
                raise RequestError(message, code="unknown", path="text", value=level)
            prosody = EMPHASIS[level]
        else:
            prosody = prosody_of(element.attributes, where)
        self.composer.open(prosody)
        whole = self.composer.script.prosody(self.composer.script.runs[-1].path)
        for name in LIMITS:
            check(name, getattr(whole, name), where)

    def _as_before(self, element: _Open) -> None:
        self.composer.close()

    def _hold(self, element: _Open) -> None:
        needed = {"sub": "alias", "phoneme": "ph", "say-as": "interpret-as"}[element.name]
        value = element.attributes.get(needed, "").strip()
        if not value:
            message = f'{self._where(element.name)} it needs {needed}="…"'
            raise RequestError(message, code="missing", path="text", value=element.name)
        if element.name == "say-as" and value not in SAY_AS:
            message = f"{self._where('say-as')} interpret-as {value!r} is none{did_you_mean(value, SAY_AS)}"
            raise RequestError(message, code="unknown", path="text", value=value)
        alphabet = element.attributes.get("alphabet", "ipa")
        if alphabet != "ipa":
            message = f"{self._where('phoneme')} alphabet {alphabet!r} is not read: write ipa"
            raise RequestError(message, code="unsupported", path="text", value=alphabet)
        element.content = []

    def _held(self, element: _Open) -> None:
        composer = self.composer
        content = element.content or []
        label = " ".join("".join(data for data, _ in content).split())
        if not label:
            message = f"{self._where(element.name)} it is empty: put the written word in it"
            raise RequestError(message, code="empty", path="text", value=element.name)
        places = [at + i for data, at in content for i, c in enumerate(data) if not c.isspace()]
        start, end = places[0], places[-1] + 1
        begin = composer.length
        if element.name == "phoneme":
            add_phonemes(composer, label, element.attributes["ph"], start, end)
        elif element.name == "sub":
            alias = " ".join(element.attributes["alias"].split())
            composer.add(alias, start, moves=False)
            composer.script.atoms.append(Atom(begin, composer.length, label, start, end))
        else:
            for data, at in content:
                composer.add(re.sub(r"\s", " ", data), at, moves=data == self.text[at : at + len(data)])
            kind = element.attributes["interpret-as"].strip()
            composer.script.says.append(SayAs(begin, composer.length, kind, element.attributes.get("format", "")))

    def _language(self, element: _Open) -> None:
        language = element.attributes.get("xml:lang", "").strip().lower()
        if not language and element.name == "lang":
            raise RequestError(
                f'{self._where("lang")} it needs xml:lang="…"', code="missing", path="text", value="lang"
            )
        if language:
            self.composer.speak(language)

    def _language_over(self, element: _Open) -> None:
        if element.attributes.get("xml:lang", "").strip():
            self.composer.speak_on()


_STARTS = {
    "p": _Reader._part, "s": _Reader._part, "break": _Reader._break, "prosody": _Reader._speak_otherwise,
    "emphasis": _Reader._speak_otherwise, "sub": _Reader._hold, "phoneme": _Reader._hold, "say-as": _Reader._hold,
    "lang": _Reader._language, "speak": _Reader._language,
}  # fmt: skip
_STOPS = {
    "p": _Reader._part, "s": _Reader._part, "prosody": _Reader._as_before,
    "emphasis": _Reader._as_before, "sub": _Reader._held, "phoneme": _Reader._held, "say-as": _Reader._held,
    "lang": _Reader._language_over, "speak": _Reader._language_over,
}  # fmt: skip


class _Places:
    """Leads from a byte of the document that is parsed to the character of the text as given."""

    def __init__(self, document: str, before: int, length: int):
        self.document, self.before, self.length = document, before, length
        self.ascii = document.isascii()
        self.byte = self.character = 0

    def at(self, byte: int) -> int:
        """Return the place; bytes are asked for in ascending order, mostly."""
        if self.ascii:
            return min(max(byte - self.before, 0), self.length)
        if byte < self.byte:
            self.byte = self.character = 0
        while self.byte < byte and self.character < len(self.document):
            self.byte += len(self.document[self.character].encode())
            self.character += 1
        return min(max(self.character - self.before, 0), self.length)

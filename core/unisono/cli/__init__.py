"""The command line: one file per verb; nothing heavy is imported before a verb needs it.

A verb is a module with ``add_arguments(parser)`` and ``run(args, rest)``; its line of help is in
``unisono.verbs``, or in the manifest of the plugin that offers it. Errors by a user's hand end in one sentence
and exit code 2; anything else shows its traceback, because it is our bug.
"""

import argparse
import codecs
import io
import os
import re
import sys
from importlib import import_module
from typing import Any, NoReturn

from unisono.errors import UnisonoError
from unisono.verbs import FREE_FORM, VERBS

BROKEN_PIPE = 141
"""Exit code where the reader of the output went away, as a shell reports it of other programs."""
READABLE = "unisono.readable"
"""How a stream writes what its encoding has not: see ``_readable``."""
MOST_ECHOED = 160
"""Characters of what a user gave that a refusal repeats."""


def main(argv: list[str] | None = None) -> int:
    """Run ``unisono``; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and (stream.errors == "strict" or not _writes_all(stream)):
            stream.reconfigure(errors=READABLE)
    try:
        code = _main(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # such as  unisono recipes | head
        # What is still held back would fail once more at the end of the process.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE


def _main(argv: list[str]) -> int:
    parser = _Parser(
        prog="unisono",
        description="Train and use non-autoregressive generators of speech, sound, images, motion and text.",
        epilog="unisono VERB --help explains a verb.",
    )
    parser.add_argument("--version", action="version", version=_version())
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    try:
        for verb, text in {**VERBS, **({} if argv[:1] and argv[0] in VERBS else plugin_verbs())}.items():
            about = text[0].upper() + text[1:] + "."
            child = verbs.add_parser(verb, help=text, description=about, conflict_handler="resolve")
            if argv[:1] == [verb]:
                _module(verb).add_arguments(child)
        args, rest = parser.parse_known_args(argv)
        if rest and args.verb not in FREE_FORM:
            parser.error(f"unknown argument {rest[0]!r}; see unisono {args.verb} --help")
        return _module(args.verb).run(args, rest) or 0
    except BrokenPipeError:
        raise
    except UnisonoError as error:
        print(f"unisono: {shortened(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("unisono: interrupted", file=sys.stderr)
        return 130


def _writes_all(stream: io.TextIOWrapper) -> bool:
    """Whether a stream's encoding has every character; that of the C locale has not."""
    return stream.encoding.lower().startswith("utf")


def _readable(error: UnicodeError) -> tuple[bytes, int]:
    """Encode what an encoding has not: a file name's bytes as they are where they are UTF-8, the rest escaped.

    Python holds a byte that its locale cannot read as a surrogate, so that ``é`` of an argument in the C locale is two.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    written = b""
    for part in re.findall("[\udc80-\udcff]+|[^\udc80-\udcff]+", error.object[error.start : error.end]):
        if "\udc80" <= part[0] <= "\udcff":
            written += part.encode("ascii", "surrogateescape").decode("utf-8", "backslashreplace").encode("utf-8")
        else:
            written += part.encode("ascii", "backslashreplace")
    return written, error.end


codecs.register_error(READABLE, _readable)


class _Parser(argparse.ArgumentParser):
    """Complains as argparse does, without repeating long arguments."""

    def error(self, message: str) -> NoReturn:
        super().error(shortened(message))


def shortened(sentence: str) -> str:
    """Return a refusal in which no quoted part, and no word, is longer than ``MOST_ECHOED`` characters or so."""

    def cut(found: re.Match[str]) -> str:
        text = found[0]
        return f"{text[: MOST_ECHOED - 40]}…{text[-30:]}"

    long = MOST_ECHOED + 40
    sentence = re.sub(rf"'[^'\n]{{{long},}}'|\"[^\"\n]{{{long},}}\"", cut, sentence)
    return re.sub(rf"[^\s,;]{{{long},}}", cut, sentence)


def plugin_verbs() -> dict[str, str]:
    """Return the verbs that plugins offer, each with its line of help. A plugin that is broken offers none."""
    from unisono import plugin

    return {
        name: next(iter(by.values())).help if len(by) == 1 else f"claimed by the plugins {' and '.join(by)}"
        for name, by in plugin.verbs().items()
    }


def _module(verb: str) -> Any:
    """The module of a verb, of the core or of a plugin."""
    if verb in VERBS:
        return import_module(f"unisono.cli.{verb.replace('-', '_')}")
    from unisono import plugin

    return plugin.verb_module(verb)


def _version() -> str:
    """What `--version` prints."""
    import unisono

    return f"unisono {unisono.__version__}"

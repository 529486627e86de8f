"""Destination: where the output of one request goes, with its times and its figure; checked before it is made."""

import argparse
import mimetypes
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

from unisono.cli.fields import times_options
from unisono.cli.output import cannot_draw, check_writable
from unisono.errors import RequestError, did_you_mean
from unisono.media import Times, TimesWriter

STDOUT = "-"
"""Stands for the standard output behind ``-o``."""


class Destination:
    """Where one output goes: a file, or the standard output ``out``; raises ``RequestError`` for what cannot be."""

    def __init__(self, args: argparse.Namespace, media: Any, out: TextIO):
        self.path, self.plot, self.out, self.media = args.output, args.plot, out, media
        self.streams: bool = args.stream
        self.to_stdout = args.output == STDOUT
        self.suffix = self._format(args.format) if self.to_stdout else media.check_path(args.output).suffix
        if not self.to_stdout:
            for flag, given in (("--format", args.format is not None), ("--stream", args.stream)):
                if given:
                    raise RequestError(
                        f"{flag} goes with -o -: of -o FILE the suffix says the format, and the file is written whole",
                        code="conflict",
                        path=flag,
                        value=args.output,
                    )
        elif out.isatty() and not _is_text(self.suffix):
            raise RequestError(
                f"-o - would write {self.suffix[1:]} to the terminal: pipe it into a program, or give -o FILE",
                code="unsupported",
                path="-o",
                value=self.suffix,
            )
        if args.stream:
            media.check_streamed(self.suffix)
            for flag, given in (("--live", args.live), ("--plot", args.plot)):
                if given:
                    raise RequestError(
                        f"{flag} does not go with --stream, which keeps nothing of the output: leave one of them out",
                        code="conflict",
                        path=flag,
                        value=given,
                    )
        if args.plot and (reason := cannot_draw(args.plot)):
            raise RequestError(
                f"--plot {args.plot!r:.200} cannot be written: {reason}",
                code="unsupported",
                path="--plot",
                value=args.plot,
            )
        self.times = self._times(args)
        written = None if self.to_stdout else args.output
        self._check_apart({"-o": written, "--times": args.times, "--plot": args.plot})
        if args.times:
            check_writable(args.times)

    def write(self, made: Any) -> None:
        """Write an output, its times and its figure, and print where; the output is kept where the others fail."""
        if self.to_stdout:
            self._put([made.encoded(self.suffix)])
            print(made, file=sys.stderr)
        else:
            print(made.save(self.path))
        if self.times is not None:
            self._write_times(made.encoded_times(self.times[1]))
        if self.plot:
            self._draw(made)

    def write_pieces(self, pieces: Iterable[Any]) -> None:
        """Write an output to the standard output while it is made, and its times at the end."""
        known: list[Times | None] = []

        def noted() -> Iterable[Any]:
            for piece in pieces:
                if not known:
                    print(piece, file=sys.stderr)  # what a player of raw sound must know: rate and channels
                known.append(piece.times())
                yield piece

        self._put(self.media.encode_pieces(noted(), self.suffix))
        if self.times is not None:
            self._write_times(self.media.encoded_times_of(known, self.times[1]))

    def _format(self, format: str | None) -> str:
        """The suffix of what goes to the standard output."""
        suffixes = self.media.suffixes
        if format is None:
            return suffixes[0]
        suffix = f".{format.lower().removeprefix('.')}"
        if suffix not in suffixes:
            known = [own[1:] for own in suffixes]
            raise RequestError(
                f"--format {format!r:.80} is none of {self.media.__name__}'s{did_you_mean(suffix[1:80], known)}",
                code="unsupported",
                path="--format",
                value=format,
            )
        return suffix

    def _times(self, args: argparse.Namespace) -> tuple[Path, TimesWriter] | None:
        options = times_options(args.times_option)
        if args.times is None:
            TimesWriter.asked(self.media, None, options)
            return None
        path = Path(args.times)
        writer = TimesWriter.asked(self.media, path.suffix, options, args.times)
        assert writer is not None
        return path, writer

    @staticmethod
    def _check_apart(places: dict[str, str | None]) -> None:
        """Raise where two files would be written to one place."""
        taken: dict[str, str] = {}
        for flag, place in places.items():
            if not place:
                continue
            real = os.path.realpath(place)
            if real in taken:
                what = {"--plot": "the figure", "--times": "the times"}[flag]
                raise RequestError(
                    f"{taken[real]} and {flag} are both {place!r:.200}: give {what} another name",
                    code="conflict",
                    path=flag,
                    value=place,
                )
            taken[real] = flag

    def _put(self, parts: Iterable[bytes]) -> None:
        for part in parts:
            self.out.buffer.write(part)
            self.out.flush()

    def _write_times(self, content: bytes) -> None:
        from unisono.files import written_aside

        assert self.times is not None
        path, _ = self.times
        with written_aside(path, RequestError) as aside:
            aside.write_bytes(content)
        print(path)

    def _draw(self, made: Any) -> None:
        from unisono.cli.output import draw

        try:
            figure = made.plot()
        except ValueError as error:  # such as a text whose order is not known
            raise RequestError(
                f"--plot {self.plot!r:.200} cannot be written: {error}",
                code="unsupported",
                path="--plot",
                value=self.plot,
            ) from None
        draw(figure, self.plot)
        print(self.plot)


def _is_text(suffix: str) -> bool:
    kind = mimetypes.guess_type(f"x{suffix}")[0] or ""
    return kind.startswith("text/") or kind == "application/json"

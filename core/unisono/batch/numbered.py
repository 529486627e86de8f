"""Numbered: one request per line of a file, each output a file with the number of its line.

What each output was made from is noted beside the folder (``.NAME.requests.jsonl``): a fingerprint of its request and
of the model. An output is kept where its fingerprint is the same, made anew where it is another, and refused by name
where it is not known, since it may be somebody else's file. The same holds of its times, where they are asked for.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from unisono.batch.making import outputs_of
from unisono.batch.requests import Requests, model_fingerprint, request_fingerprint
from unisono.batch.rows import STDIN, Row, row_of
from unisono.errors import RequestError, UnisonoError
from unisono.files import Fault, decoded, is_file, lines_of, read_lines, writing_to, written_aside
from unisono.media import TimesWriter


def generate_numbered(
    synthesizer: Any,
    source: str,
    folder: Path,
    suffix: str,
    fields: dict[str, Any],
    batch_size: int,
    times: TimesWriter | None = None,
) -> int:
    """Synthesize a request for each line of ``source`` into numbered files; return 1 if any failed, else 0."""
    from rich.console import Console
    from rich.progress import track

    lines = _lines(source)
    width = max(4, len(str(len(lines))))
    notes = _Notes(folder)
    model = model_fingerprint(synthesizer)
    requests = Requests(synthesizer.model.Request, synthesizer.model.text_field, fields)
    failed: list[tuple[int, str]] = []
    waiting: list[tuple[int, Any, dict[Path, str]]] = []
    kept = anew = 0
    for number, line in enumerate(lines, 1):
        line = line.removeprefix("\ufeff")  # of a file that was put behind another
        if not line.strip():
            continue
        path = folder / f"{number:0{width}d}{suffix}"
        try:
            request = requests.request(Row(source, number, row_of(line)))
        except UnisonoError as error:
            failed.append((number, str(error)))
            continue
        made_from = request_fingerprint(request, model)
        asked = {path: made_from}
        if times is not None:
            asked[folder / f"{number:0{width}d}{times.beside}"] = f"{made_from} {times.suffix} {times.options}"
        there = [place for place in asked if is_file(place) and place.stat().st_size]
        if len(there) == len(asked) and all(notes.of(place.name) == asked[place] for place in asked):
            kept += 1
            continue
        if strange := [place.name for place in there if notes.of(place.name) is None]:
            told = f"{strange[0]} is there, and it is not known from what it was made"
            failed.append((number, f"{told}: remove it, or choose another folder"))
            continue
        anew += path in there and notes.of(path.name) != made_from
        waiting.append((number, request, asked))
    waiting.sort(key=lambda item: len(str(getattr(item[1], requests.text_field, ""))))
    batches = [waiting[i : i + batch_size] for i in range(0, len(waiting), batch_size)]
    written = 0
    for batch in track(batches, "generating", console=Console(stderr=True), disable=not sys.stderr.isatty()):
        outputs = outputs_of(synthesizer, [request for _, request, _ in batch])
        for (number, _, asked), made in zip(batch, outputs, strict=True):
            try:
                if isinstance(made, UnisonoError):
                    raise made
                told = b"" if times is None else made.encoded_times(times)
            except UnisonoError as error:
                if not written and error.path == "times":  # no output of this model has any
                    raise
                failed.append((number, str(error)))
                continue
            path, *besides = asked
            notes.forget_times(path.stem)
            for place, made_from in asked.items():
                notes.add(place, made_from)
            for place in besides:
                with written_aside(place, RequestError) as aside:
                    aside.write_bytes(told)
            made.save(path)
            written += 1
    print(f"{written} written, {kept} kept from before, {len(failed)} failed: {folder}")
    if anew:
        print(f"{anew} were there and are made anew, because their line or the model is another now")
    for number, reason in sorted(failed):
        print(f"line {number}: {reason}", file=sys.stderr)
    return 1 if failed else 0


def _lines(source: str) -> list[str]:
    """The lines of a UTF-8 file, or of the standard input where ``source`` is ``-``; LF and CR LF end a line."""
    try:
        if source in STDIN:
            text = decoded(sys.stdin.buffer.read())
            if isinstance(text, Fault):
                raise text.error(RequestError)
            return lines_of(text)
        return read_lines(source, RequestError)
    except RequestError as error:
        raise RequestError(
            f"--input {source!r:.200} cannot be read as UTF-8 text: {error}",
            code=error.code,
            path="--input",
            value=source,
        ) from None


class _Notes:
    """From what the files of a folder were made: a line of JSON for each, the last one counts.

    A note is added just before its file is written, and the file of another note goes first: whenever a run is killed,
    each file that is there is whole and made from what its note says.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        whole = folder.absolute()
        parent, name = whole.parent, whole.name
        beside = name and (os.access(parent, os.W_OK) or not parent.exists())
        self.path = parent / f".{name}.requests.jsonl" if beside else whole / ".requests.jsonl"
        self._known: dict[str, str] = {}
        if is_file(self.path):
            for line in lines_of(self.path.read_text(encoding="utf-8", errors="replace")):
                try:
                    note = json.loads(line)
                    self._known[str(note["file"])] = str(note["made_from"])
                except (ValueError, RecursionError, KeyError, TypeError):  # cut by a kill
                    continue

    def of(self, name: str) -> str | None:
        """Return the fingerprint of a file; None where none was noted."""
        return self._known.get(name)

    def forget_times(self, stem: str) -> None:
        """Remove the times of an output that is made anew, in whatever format."""
        for name, made_from in self._known.items():
            if name.partition(".")[0] == stem and " " in made_from:  # a fingerprint and the format's options
                (self.folder / name).unlink(missing_ok=True)

    def add(self, path: Path, made_from: str) -> None:
        """Note what a file is about to be made from."""
        with writing_to(path, RequestError):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.with_name(f".part-{path.name}").unlink(missing_ok=True)  # of a run of version 0.1.0 that was killed
        with writing_to(self.path, RequestError), self.path.open("a", encoding="utf-8") as file:
            # A line of its own, even behind one that a kill has cut.
            file.write("\n" + json.dumps({"file": path.name, "made_from": made_from}) + "\n")
        self._known[path.name] = made_from

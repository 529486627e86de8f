"""Many: one request per line of a file, made in batches, each line alone responsible for itself.

What each output was made from is noted beside the folder (``.NAME.requests.jsonl``): a fingerprint of its request and
of the model. An output is kept where its fingerprint is the same, made anew where it is another, and refused by name
where it is not known, since it may be somebody else's file.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from unisono.errors import DataError, RequestError, UnisonoError
from unisono.files import Fault, decoded, is_file, lines_of, lone_surrogate, parse_json, read_lines, writing_to


def generate_many(
    synthesizer: Any, source: str, folder: Path, suffix: str, fields: dict[str, Any], batch_size: int
) -> int:
    """Synthesize a request for each line of ``source`` into numbered files; return 1 if any failed, else 0."""
    from rich.console import Console
    from rich.progress import track

    lines = _lines(source)
    width = max(4, len(str(len(lines))))
    notes = _Notes(folder)
    model = model_fingerprint(synthesizer)
    text_field = synthesizer.model.text_field
    failed: list[tuple[int, str]] = []
    waiting: list[tuple[int, Any, Path, str]] = []
    kept = anew = 0
    for number, line in enumerate(lines, 1):
        line = line.removeprefix("\ufeff")  # of a file that was put behind another
        if not line.strip():
            continue
        path = folder / f"{number:0{width}d}{suffix}"
        try:
            own = _fields(line) if line.lstrip().startswith("{") else {text_field: line}
            request = synthesizer.request({**fields, **own})
        except UnisonoError as error:
            failed.append((number, str(error)))
            continue
        made_from = request_fingerprint(request, model)
        if is_file(path) and path.stat().st_size:
            known = notes.of(path.name)
            if known == made_from:
                kept += 1
                continue
            if known is None:
                told = f"{path.name} is there, and it is not known from what it was made"
                failed.append((number, f"{told}: remove it, or choose another folder"))
                continue
            anew += 1
        waiting.append((number, request, path, made_from))
    waiting.sort(key=lambda item: len(str(getattr(item[1], text_field, ""))))
    batches = [waiting[i : i + batch_size] for i in range(0, len(waiting), batch_size)]
    written = 0
    for batch in track(batches, "generating", console=Console(stderr=True), disable=not sys.stderr.isatty()):
        for made, path, made_from in _batch(synthesizer, batch, failed):
            notes.add(path, made_from)
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
        if source in ("-", "/dev/stdin"):
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


def _fields(line: str) -> dict[str, Any]:
    """The fields of a line of JSON; raises ``RequestError`` for whatever is wrong with it."""
    try:
        own = parse_json(line)
    except DataError as error:
        why = error.fault.detail if error.fault else f"not JSON ({error})"
        why = why.replace("not JSON", "not a JSON object", 1)
        message = f"{why}; a text must not begin with a brace, a request has plain fields"
        raise RequestError(message, code=error.code, value=error.value) from None
    if half := lone_surrogate(json.dumps(own, ensure_ascii=False)):
        raise RequestError(f"the line holds half of a surrogate pair ({half}): remove it", code="damaged", value=half)
    return own


def _batch(
    synthesizer: Any, batch: list[tuple[int, Any, Path, str]], failed: list[tuple[int, str]]
) -> Iterable[tuple[Any, Path, str]]:
    """Synthesize a batch; if one request in it is bad, each is tried alone so that only it fails."""
    try:
        made = synthesizer([request for _, request, _, _ in batch])
        return [(item, path, made_from) for (_, _, path, made_from), item in zip(batch, made, strict=True)]
    except UnisonoError:
        rows = []
        for number, request, path, made_from in batch:
            try:
                rows.append((synthesizer(request), path, made_from))
            except UnisonoError as error:
                failed.append((number, str(error)))
        return rows


class _Notes:
    """From what the files of a folder were made: a line of JSON for each, the last one counts.

    A note is added just before its file is written, and the file of another note goes first: whenever a run is killed,
    each file that is there is whole and made from what its note says.
    """

    def __init__(self, folder: Path):
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


def request_fingerprint(request: Any, model: str) -> str:
    """Return a fingerprint of a request to a model; of fields that name a file, its size and age count too."""
    values = request.model_dump(mode="json")
    files = {}
    for name, value in values.items():
        if isinstance(value, str) and len(value) < 4096 and is_file(Path(value)):
            state = Path(value).stat()
            files[name] = [state.st_size, state.st_mtime_ns]
    told = json.dumps([model, values, files], sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(told.encode()).hexdigest()


def model_fingerprint(synthesizer: Any) -> str:
    """Return a fingerprint of a model and its components: what they are, and their weights, of large ones a part."""
    digest = hashlib.sha256()
    parts = {"": synthesizer.model, **synthesizer.model.components}
    for role, part in sorted(parts.items()):
        recipe = getattr(part, "recipe", None) or {}
        digest.update(json.dumps([role, type(part).__qualname__, recipe.get("model")], default=str).encode())
        state = part.state_dict() if hasattr(part, "state_dict") else {}
        size = sum(weight.numel() for weight in state.values())
        for name, weight in state.items():
            step = max(1, size // 2**24)
            taken = weight.detach().flatten()[::step].cpu()
            taken = taken.float() if taken.is_floating_point() else taken
            digest.update(f"{name} {tuple(weight.shape)}".encode())
            digest.update(taken.contiguous().numpy().tobytes())
    return digest.hexdigest()

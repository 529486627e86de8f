"""JSON of users: whatever is wrong with it is one sentence, and of JSON lines each bad line alone fails."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unisono.errors import DataError
from unisono.files.fault import Fault, Kind
from unisono.files.regular import MOST_BYTES
from unisono.files.text import decoded, read_text, stream_lines


def parse_json(text: str, path: Path | None = None, line: int | None = None, kind: Kind = DataError) -> Any:
    """Return the value of a JSON text; raises ``kind`` with one sentence.

    Keys that an object has twice, numbers of more digits than Python converts and values that are nested too deeply
    are refused too.
    """
    try:
        return json.loads(text, object_pairs_hook=_object)
    except _Twice as error:
        what = f"the key {error.key!r:.80} stands twice in one object"
    except json.JSONDecodeError as error:
        place = f"column {error.colno}" if line is not None or error.lineno == 1 else f"line {error.lineno}"
        what = f"{error.msg} at {place}"
    except RecursionError:
        what = "it is nested too deeply"
    except ValueError:  # the interpreter's bound on the digits of a whole number
        what = f"a number of more than {sys.get_int_max_str_digits()} digits"
    raise Fault("not JSON", f"not JSON ({what})", "mend it", path, line).error(kind)


class _Twice(Exception):
    def __init__(self, key: str):
        super().__init__(key)
        self.key = key


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Twice(next(name for name in names if names.count(name) > 1))
    return made


def read_json(
    path: str | os.PathLike, kind: Kind = DataError, most: int = MOST_BYTES, fix: str = "check the path"
) -> Any:
    """Read a JSON file; raises ``kind`` where it cannot be read."""
    return parse_json(read_text(path, kind, most, fix), Path(path), kind=kind)


def read_json_lines(
    path: str | os.PathLike, kind: Kind = DataError, fix: str = "check the path"
) -> Iterator[tuple[int, dict[str, Any] | Fault]]:
    """Yield (line number, object) of each line that is not blank, or (line number, what is wrong with that line).

    Raises ``kind`` where the file as a whole cannot be read.
    """
    path = Path(path)
    for number, raw in stream_lines(path, kind, fix):
        if not raw.strip():
            continue
        text = decoded(raw, path, number)
        if isinstance(text, Fault):
            yield number, text
            continue
        try:
            row = parse_json(text, path, number)
        except DataError as error:
            if error.fault is None:
                raise
            yield number, error.fault
            continue
        if isinstance(row, dict):
            yield number, row
        else:
            yield number, Fault("not JSON", "is not an object", 'expected {"key": value, …}', path, number)

"""Making: the outputs of a block of requests, in batches that the block alone decides.

Short requests stand together, so that padding is small. Which requests share a batch depends on the block and on
``batch_size`` only, never on who makes it or on what was made before: the same block gives the same bytes.
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from unisono.batch.requests import Asked, model_fingerprint
from unisono.batch.shards import ASIDE, WRITERS, Entry, aside_of, remove
from unisono.errors import DataError, UnisonoError
from unisono.files import writing_to
from unisono.media import TimesWriter

REMEDY = "free some space or choose another folder, and start again: finished shards are kept"
Told = Callable[[list[int], int], None]
"""Called as ``told(places, made)``: which rows of the block are made next, and how many are done."""


@dataclass(frozen=True)
class Block:
    """Rows that become one shard.

    ``number`` is the shard's. ``alone`` are places of rows that are made by themselves, ``skipped`` of rows that are
    not made, with the reason: both of rows in whose making a process died.
    """

    number: int
    rows: tuple[Asked, ...]
    alone: frozenset[int] = frozenset()
    skipped: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """A row that could not be made, by its key."""

    key: str
    reason: str
    code: str | None = None


@dataclass(frozen=True)
class Done:
    """A block that was made: its shard, written aside, None where no row of it could be made."""

    number: int
    aside: Path | None
    entries: tuple[Entry, ...]
    failures: tuple[Failure, ...]


@dataclass(frozen=True)
class Plan:
    """What a process needs to make blocks.

    Attributes:
        open_model: returns the ``Synthesizer``; picklable where other processes call it.
        revision: the fingerprint that the model must have; empty where the caller has opened it.
        folder: where shards are written aside.
        threads: of torch, in each process.
        times: what writes the times of each output; None where none are asked for.
    """

    open_model: Callable[[], Any]
    revision: str
    folder: Path
    shards: str
    suffix: str
    batch_size: int
    threads: int
    times: TimesWriter | None = None


class Maker:
    """Makes blocks with one loaded model."""

    def __init__(self, plan: Plan, synthesizer: Any = None):
        self.plan = plan
        self.written = False
        self.synthesizer = plan.open_model() if synthesizer is None else synthesizer
        if synthesizer is None and plan.revision != (found := model_fingerprint(self.synthesizer)):
            raise DataError(
                f"the model is another than this batch began with (revision {found[:12]}, not {plan.revision[:12]}): "
                "start again with one model",
                code="conflict",
                path="model",
                value=found,
            )

    def __call__(self, block: Block, told: Told | None = None) -> Done:
        """Make a block and write its shard aside; raises ``DataError`` where that cannot be written."""
        plan = self.plan
        entries: list[Entry] = []
        failures = [Failure(block.rows[place].key, why, "failed") for place, why in sorted(block.skipped.items())]
        aside = aside_of(plan.folder, block.number, WRITERS[plan.shards].suffix)
        try:
            with writing_to(aside, DataError, REMEDY):
                writer = WRITERS[plan.shards](aside, plan.times is not None)
                with contextlib.closing(writer):
                    self._write(writer, block, entries, failures, told)
                if entries:
                    writer.sync()
        except BaseException:
            remove(aside)
            raise
        if not entries:
            remove(aside)
        return Done(block.number, aside if entries else None, tuple(entries), tuple(failures))

    def _write(
        self, writer: Any, block: Block, entries: list[Entry], failures: list[Failure], told: Told | None
    ) -> None:
        made = 0
        for places in batches_of(block, self.plan.batch_size, self.synthesizer.model.text_field):
            if told is not None:
                told(places, made)
            rows = [block.rows[place] for place in places]
            with _folder(rows, self.plan.folder) as folder:
                outputs = self._outputs(rows, folder)
            for asked, output in zip(rows, outputs, strict=True):
                entry = output if isinstance(output, Failure) else self._add(writer, asked, output)
                if isinstance(entry, Failure):
                    failures.append(entry)
                else:
                    entries.append(entry)
            made += len(places)

    def _outputs(self, rows: Sequence[Asked], folder: Path) -> list[Any]:
        """The outputs of a batch; of a row that fails, why. ``folder`` is for copies of what lies in shards."""
        found: list[Any] = []
        requests: dict[int, Any] = {}
        for place, asked in enumerate(rows):
            found.append(None)
            try:
                requests[place] = self.synthesizer.request(self._fields(asked, folder, place))
            except UnisonoError as error:  # such as a file that was there when the input was read
                found[place] = Failure(asked.key, str(error), error.code)
        for place, output in zip(
            requests, outputs_of(self.synthesizer, list(requests.values()), Exception), strict=True
        ):
            failed = isinstance(output, Exception)
            found[place] = _failure(rows[place].key, output) if failed else output
        for place, output in enumerate(found):
            stored = rows[place].stored
            if isinstance(output, Failure) and stored and stored.member:  # not by the name of a copy that is gone
                named = output.reason.replace(str(folder / f"{place}{stored.suffix}"), stored.name)
                found[place] = replace(output, reason=named)
        return found

    def _fields(self, asked: Asked, folder: Path, place: int) -> dict[str, Any]:
        if asked.stored is None:
            return asked.fields
        return {**asked.fields, self.synthesizer.model.text_field: str(asked.stored.placed(folder, place))}

    def _add(self, writer: Any, asked: Asked, output: Any) -> Entry | Failure:
        times = self.plan.times
        try:
            data = output.encoded(self.plan.suffix)
            beside = None if times is None else (times.beside, output.encoded_times(times))
        except UnisonoError as error:
            if error.code == "write" or (error.path == "times" and not self.written):
                raise  # no output of this model has any times
            return _failure(asked.key, error)
        self.written = True
        amount, unit = output.amount or (None, None)
        entry = Entry(asked.key, asked.seed, amount, unit, len(data))
        writer.add(entry, self.plan.suffix, data, asked.fields, beside)
        return entry


def batches_of(block: Block, batch_size: int, text_field: str) -> Iterator[list[int]]:
    """Yield the places of each batch's rows; short ones first where there are several in a batch."""
    left = [place for place in range(len(block.rows)) if place not in block.skipped]
    if batch_size > 1:
        left.sort(key=lambda place: _extent(block.rows[place], text_field))
    for first in range(0, len(left), batch_size):
        places = left[first : first + batch_size]
        if block.alone.intersection(places):
            yield from ([place] for place in places)
        else:
            yield places


def _extent(asked: Asked, text_field: str) -> int:
    return asked.stored.size if asked.stored else len(str(asked.fields.get(text_field, "")))


@contextlib.contextmanager
def _folder(rows: Sequence[Asked], beside: Path) -> Iterator[Path]:
    """A folder for copies of what lies in shards, for as long as they are needed; none where nothing does.

    It lies in the batch's own folder, whose next start removes what a killed process has left.
    """
    if not any(asked.stored and asked.stored.member for asked in rows):
        yield Path()
        return
    with tempfile.TemporaryDirectory(prefix=ASIDE, dir=beside) as folder:
        yield Path(folder)


def outputs_of(synthesizer: Any, requests: Sequence[Any], caught: type[Exception] = UnisonoError) -> list[Any]:
    """Return the output of each request, or the error of one that fails; a batch that fails is tried one by one."""
    if not requests:
        return []
    try:
        return list(synthesizer(list(requests)))
    except caught as error:
        if len(requests) == 1:
            return [error]
    return [output for request in requests for output in outputs_of(synthesizer, [request], caught)]


def _failure(key: str, error: Exception) -> Failure:
    if isinstance(error, UnisonoError):
        return Failure(key, str(error), error.code)
    return Failure(key, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", "failed")

"""Run: rows of the input become blocks, blocks become shards, and the manifest says what became of each row.

::

    rows ─ requests, keys ─ blocks of shard_size rows ─ engine ─ shards aside ─ commit ─ manifest

Blocks are cut by the input alone. What is finished is left out of them, so that a batch that was killed goes on with
what is missing, and no row is made twice.
"""

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unisono.batch.folder import Destination
from unisono.batch.index import Found, Index
from unisono.batch.local import OnMade, make_here, make_in_processes
from unisono.batch.making import Block, Done, Plan
from unisono.batch.requests import Asked, Requests, model_fingerprint
from unisono.batch.rows import Row, read_rows
from unisono.batch.shards import WRITERS
from unisono.errors import RequestError, UnisonoError, did_you_mean
from unisono.media import TimesWriter

ENGINES = ("local", "ray")
INDEX = ".part-index"
MOST_LISTED = 20
"""Failures that are listed; the manifest has all."""


@dataclass
class Outcome:
    """What a batch came to, counted in rows of the input.

    Attributes:
        made, kept: rows that were made now, and before.
        failed: rows that could not be made; ``failures`` are the first of them, the manifest has all.
        repeated: rows that ask for what another row asks for, which is made once.
        left_over: rows of shards that the input does not ask for (any more).
        told: what was found wrong with shards at the start, and what of the input is no row.
    """

    made: int = 0
    kept: int = 0
    failed: int = 0
    repeated: int = 0
    left_over: int = 0
    failures: list[Found] = field(default_factory=list)
    told: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Options:
    """How a batch is made and written.

    Attributes:
        shards: ``tar``, ``parquet`` or ``files``.
        suffix: the format of each output; the kind's first one where it is None.
        times: the format of each output's times, such as ``.srt``, written beside it; None for no times.
        times_options: of that format.
        shard_size: rows of a shard.
        batch_size: requests that are made together; with 1 an output depends on its request alone.
        workers: processes, with a model each; one works in this process.
        threads: of torch, in each of them.
        engine: ``local`` or ``ray``.
        columns: of a table, ``NAME,NAME=FIELD,…``.
        device: what ``open_model`` loads the model on.
        verify: read every finished shard at the start.
    """

    shards: str = "tar"
    suffix: str | None = None
    times: str | None = None
    times_options: Mapping[str, Any] = field(default_factory=dict)
    shard_size: int = 256
    batch_size: int = 1
    workers: int = 1
    threads: int = 1
    engine: str = "local"
    columns: str | None = None
    device: str = "cpu"
    verify: bool = False

    def check(self, media: Any) -> str:
        """Return the suffix; raises ``RequestError`` for an option out of its range."""
        for name in ("shard_size", "batch_size", "workers", "threads"):
            if (value := getattr(self, name)) < 1:
                flag = f"--{name.replace('_', '-')}"
                raise RequestError(f"{flag} {value} must be at least 1", code="range", path=flag, value=value)
        for name, known in (("shards", tuple(WRITERS)), ("engine", ENGINES)):
            if (value := getattr(self, name)) not in known:
                raise RequestError(
                    f"--{name} {value!r:.80} is unknown{did_you_mean(value, known)}",
                    code="unknown",
                    path=f"--{name}",
                    value=value,
                )
        return check_suffix(self.suffix, media).lower()


def run_batch(
    open_model: Callable[[], Any],
    source: str,
    dest: str | Path,
    options: Options | None = None,
    *,
    fields: Mapping[str, Any] | Callable[[Any], Mapping[str, Any]] | None = None,
    on_made: OnMade | None = None,
) -> Outcome:
    """Make what the rows of ``source`` ask for, in shards below ``dest``; what is there already is kept.

    Args:
        open_model: returns the ``Synthesizer``; picklable where there are several workers.
        source: a file, a pattern of files, a folder of files that are rows, or ``-`` for the standard input.
        fields: apply to every row that does not give them; or what returns them for the kind of request.

    Raises ``UnisonoError`` where the input or the folder cannot be used, or nothing more can be written.
    """
    options = options or Options()
    synthesizer = open_model()
    model = synthesizer.model
    suffix, ending = options.check(model.Media), options.times and f".{options.times.removeprefix('.')}"
    times = TimesWriter.asked(model.Media, ending, options.times_options)
    given = fields(model.Request) if callable(fields) else fields or {}
    requests = Requests(model.Request, model.text_field, given)
    columns = requests.columns(options.columns)
    rows = read_rows(source, columns)
    revision = model_fingerprint(synthesizer)
    settings = {
        "model": synthesizer.info.get("model") or type(model).__qualname__,
        "revision": revision,
        "shards": options.shards,
        "suffix": suffix,
        "times": None if times is None else times.suffix,
        "times_options": None if times is None else times.options.model_dump(mode="json"),
        "shard_size": options.shard_size,
        "batch_size": options.batch_size,
        "threads": options.threads,
        "device": options.device.partition(":")[0],
    }
    destination = Destination(Path(dest), settings)
    try:
        index = Index(destination.path / INDEX)
        try:
            plan = Plan(
                open_model,
                revision,
                destination.path,
                options.shards,
                suffix,
                options.batch_size,
                options.threads,
                times,
            )
            outcome = Outcome()
            for number, entries in destination.finished(options.verify):
                index.made(number, entries)
            outcome.told = destination.told
            destination.begin()
            blocks = _Blocks(rows, requests, index, destination, options.shard_size)
            here = options.engine == "local" and options.workers == 1
            if not here:
                del synthesizer, model  # the workers have their own
                made = _engine(options)(iter(blocks), plan, options.workers, on_made or _nothing)
            else:
                made = make_here(iter(blocks), plan, synthesizer, on_made or _nothing)
            with closing(made):  # workers end before the folder is let go
                for done in made:
                    destination.commit(done)
                    index.made(done.number, done.entries)
                    index.failed(done.failures)
                    outcome.made += len(done.entries)
            destination.write_manifest(index.found())
            outcome.told += columns.notes
            outcome.repeated, outcome.failed = index.counts()
            outcome.kept = blocks.kept
            outcome.left_over = index.left_over()
            for found, _ in zip(index.found(failures_only=True), range(MOST_LISTED), strict=False):
                outcome.failures.append(found)
            return outcome
        finally:
            index.close()
            destination.tidy()
    finally:
        destination.close()


class _Blocks:
    """Cuts the rows that are asked for into blocks, without those that are finished."""

    def __init__(
        self, rows: Iterator[Row], requests: Requests, index: Index, destination: Destination, shard_size: int
    ):
        self.rows, self.requests, self.index = rows, requests, index
        self.destination, self.shard_size = destination, shard_size
        self.kept = 0

    def __iter__(self) -> Iterator[Block]:
        block: list[tuple[Asked, bool]] = []
        for number, row in enumerate(self.rows, 1):
            try:
                asked = self.requests.asked(row)
            except UnisonoError as error:
                self.index.bad_row(number, row, error)
                continue
            if not self.index.row(number, row, asked.key):
                continue
            finished = self.index.has(asked.key)
            self.kept += finished
            block.append((asked, finished))
            if len(block) == self.shard_size:
                yield from self._missing(block)
                block = []
        yield from self._missing(block)

    def _missing(self, block: list[tuple[Asked, bool]]) -> Iterator[Block]:
        missing = tuple(asked for asked, finished in block if not finished)
        if missing:
            yield Block(self.destination.next_number(), missing)


def _engine(options: Options) -> Callable[[Iterator[Block], Plan, int, OnMade], Generator[Done]]:
    if options.engine == "ray":
        from unisono.batch.on_ray import make_on_ray

        return make_on_ray
    return make_in_processes


def check_suffix(suffix: str | None, media: Any) -> str:
    """Return the suffix of outputs, the kind's first where none is given; raises ``RequestError`` for an unfit one."""
    suffix = str(suffix or media.suffixes[0])
    media.check_path(f"0001{suffix}")
    if suffix.lower() not in media.suffixes:  # such as ../x.wav
        raise RequestError(
            f"--suffix {suffix!r:.80} is more than a suffix: use one of {', '.join(media.suffixes)}",
            code="format",
            path="--suffix",
            value=suffix,
        )
    return suffix


def _nothing(made: int) -> None:
    """Nobody is told."""

"""Estimate: what a corpus of any size takes, carried from a factor that was measured, or given by hand.

With H hours of sound in recordings of c seconds, n of them to a shard, and N devices, of which one needs f seconds for
a second of sound, keeps a share s of its rate beside others, fails every M hours and starts again in r hours::

    shards      3600 H / (c n)
    of a shard  z = c n f / (3600 s)              hours of a device
    lost        l = z / 2 + r                     hours of a device by each failure
    work        W = (H f / s) / (1 − l / M)       hours of a device, what is done twice among them
    failures    W / M
    days        (W / min(N, shards) + z) / 24     the last shard is waited for

Reading and writing is spread evenly.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from unisono.errors import DataError, RequestError, UnisonoError
from unisono.request import sentence_of
from unisono_sound.corpus import find_audio

__all__ = ["Assumed", "Carried", "Measured", "carried", "measure", "table"]

CODECS = (".wav", ".flac", ".ogg", ".opus", ".mp3")
ROW_BYTES = 2500
"""What a batch writes of a recording beside its sound, about: a line in two manifests, a JSON, headers of a shard."""
MEASURED_SECONDS = 60.0
"""Sound that is measured at least, where there is as much."""


class Assumed(BaseModel):
    """What is assumed of a corpus and of devices, unless it is measured; codecs are those of read speech at 16 kHz."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    hours: float = Field(default=1e6, gt=0, description="hours of sound")
    factor: float | None = Field(default=None, gt=0, description="seconds of one device for a second of sound")
    devices: tuple[int, ...] = Field(default=(1, 10, 100, 1000), min_length=1, description="how many there are")
    scaling: float = Field(default=0.8, gt=0, le=1, description="share of its rate that a device keeps beside others")
    recording_seconds: float | None = Field(default=None, gt=0, description="of a recording; by hand 10")
    shard_size: int = Field(default=256, ge=1, description="recordings of a shard, which a failure loses")
    failing: float = Field(default=1e-6, ge=0, le=1, description="share of recordings that cannot be restored")
    hours_between_failures: float = Field(default=2000.0, gt=0, description="of one device")
    restart_minutes: float = Field(default=5.0, ge=0, description="until a device that failed works again")
    source_rate: int | None = Field(default=None, ge=1000, le=768_000, description="in hertz; the model's by hand")
    rate: int | None = Field(default=None, ge=1000, le=768_000, description="of what is written; the model's")
    flac: float = Field(default=0.51, gt=0, le=1, description="FLAC's share of the bytes of 16 bits a sample")
    ogg_kbps: float = Field(default=50.0, gt=0, description="of one channel of Vorbis")
    opus_kbps: float = Field(default=32.0, gt=0, description="of one channel of Opus")
    mp3_kbps: float = Field(default=42.0, gt=0, description="of one channel of MP3")

    @classmethod
    def parse(cls, **fields: Any) -> "Assumed":
        """Build it, or raise ``RequestError`` with one sentence that names value, limit and fix."""
        try:
            found = cls(**fields)
        except ValidationError as error:
            raise sentence_of(cls, error) from None
        if wrong := [count for count in found.devices if count < 1]:
            raise RequestError(f"devices={wrong[0]} must be at least 1", code="range", path="devices", value=wrong[0])
        return found

    def kbps(self, rate: int) -> dict[str, float]:
        """Return the kilobits a second of each codec, of one channel."""
        whole = rate * 16 / 1000
        lossy = {".ogg": self.ogg_kbps, ".opus": self.opus_kbps, ".mp3": self.mp3_kbps}
        return {".wav": whole, ".flac": self.flac * whole, **lossy}


@dataclass(frozen=True)
class Measured:
    """What a run on recordings told.

    Attributes:
        factor: processor seconds of one thread for a second of sound on a processor, else seconds.
        wall: seconds of the clock for a second of sound.
        recordings, failed, seconds: how many were restored, how many could not be, and how long the former are.
        source_kbps: kilobits a second of the recordings as they lie there.
        kbps: kilobits a second of what was made, by codec.
    """

    factor: float
    wall: float
    recordings: int
    failed: int
    seconds: float
    source_kbps: float
    kbps: dict[str, float]


@dataclass(frozen=True)
class Carried:
    """What a corpus takes of so many devices; ``repeated`` is the share of the work that failures make twice."""

    devices: int
    days: float
    device_hours: float
    failures: float
    repeated: float


def carried(assumed: Assumed, factor: float, recording_seconds: float, devices: int) -> Carried:
    """Carry a factor to the whole corpus.

    Raises ``RequestError`` where a failure loses more than is done between two.
    """
    shards = 3600 * assumed.hours / (recording_seconds * assumed.shard_size)
    shard = recording_seconds * assumed.shard_size * factor / assumed.scaling / 3600
    lost = shard / 2 + assumed.restart_minutes / 60
    if lost >= assumed.hours_between_failures:
        raise RequestError(
            f"a failure loses {lost:.3g} hours, and there is one every {assumed.hours_between_failures:g}: assume a "
            f"shard_size below {assumed.shard_size}",
            code="conflict",
            path="shard_size",
            value=assumed.shard_size,
        )
    straight = assumed.hours * factor / assumed.scaling
    work = straight / (1 - lost / assumed.hours_between_failures)
    busy = max(1.0, min(devices, shards))
    return Carried(
        devices, (work / busy + shard) / 24, work, work / assumed.hours_between_failures, 1 - straight / work
    )


def measure(synthesizer: Any, source: str | Path, *, seconds: float = MEASURED_SECONDS, **fields: Any) -> Measured:
    """Restore recordings of a folder, or one, as a batch does: decoded, restored and written as FLAC, one at a time.

    The first is done once before, unmeasured. On a processor one thread works. Raises ``DataError`` where none can be
    restored.
    """
    root = Path(source).expanduser()
    paths = [root] if root.is_file() else [utterance.audio for utterance in find_audio(root)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _measured(synthesizer, paths, seconds, fields)
    finally:
        torch.set_num_threads(threads)


def _measured(synthesizer: Any, paths: Sequence[Path], seconds: float, fields: Mapping[str, Any]) -> Measured:
    used = wall = heard = 0.0
    done = failed = read = 0
    written = dict.fromkeys(CODECS, 0)
    reason = "the folder holds none"
    first = True
    for path in paths:
        if heard >= seconds:
            break
        try:
            if first:
                synthesizer(audio=str(path), **fields)
                first = False
            begun, processor = time.perf_counter(), time.process_time()
            made = synthesizer(audio=str(path), **fields)
            size = len(made.encoded(".flac"))
            used, wall = used + time.process_time() - processor, wall + time.perf_counter() - begun
        except UnisonoError as error:
            failed, reason = failed + 1, str(error)
            continue
        done, read, heard = done + 1, read + path.stat().st_size, heard + made.seconds
        for codec in CODECS:
            written[codec] += size if codec == ".flac" else len(made.encoded(codec))
    if not heard:
        raise DataError(f"no recording could be measured: {reason}", code="empty", path="source", value=len(paths))
    taken = used if synthesizer.model.device.type == "cpu" else wall
    kbps = {codec: size * 8 / 1000 / heard for codec, size in written.items()}
    return Measured(taken / heard, wall / heard, done, failed, heard, read * 8 / 1000 / heard, kbps)


def table(assumed: Assumed, measured: Measured | None, rate: int, device: str = "cpu") -> str:
    """Return what was measured, what is assumed, and what the corpus takes: devices and days, storage, failures.

    ``rate`` is the model's, in hertz. Raises ``RequestError`` where no factor is measured or assumed.
    """
    factor = assumed.factor if assumed.factor is not None or measured is None else measured.factor
    if factor is None:
        raise RequestError(
            "no factor is known: name recordings to measure it on, or --assume factor=0.05",
            code="missing",
            path="factor",
        )
    heard = assumed.recording_seconds or (measured.seconds / measured.recordings if measured else 10.0)
    rate = assumed.rate or rate
    what = "core with one thread" if device == "cpu" else device
    lines = []
    if measured is not None:
        lines += [
            f"measured: {measured.recordings} recordings of {measured.seconds:.0f} s, {measured.failed} more failed; "
            f"{measured.factor:.4f} s of one {what} for a second of sound ({1 / measured.factor:.1f} × real time), "
            f"{measured.wall:.4f} s by the clock",
            "",
        ]
    failing = assumed.failing
    if measured is not None and measured.failed and "failing" not in assumed.model_fields_set:
        failing = measured.failed / (measured.failed + measured.recordings)
    total = assumed.hours * 3600 / heard
    ends = "measured" if measured is not None and factor == measured.factor else "given"
    lines += [
        "| what | value |",
        "|---|---|",
        f"| sound | {assumed.hours:,.10g} hours in {total:,.0f} recordings of {heard:.3g} s |",
        f"| one {what} | {factor:.4g} s for a second of sound, {ends} |",
        f"| beside others | {assumed.scaling:.0%} of that rate |",
        f"| a failure | every {assumed.hours_between_failures:,.10g} hours of a device; loses half a shard of "
        f"{assumed.shard_size} recordings and {assumed.restart_minutes:g} minutes |",
        f"| not restored | {failing:.2g} of the recordings: {failing * total:,.0f}, each named in the manifest |",
        f"| beside the sound | {total * ROW_BYTES / 1e9:,.0f} GB in {total / assumed.shard_size:,.0f} shards |",
        "",
        "| devices | days | hours of a device | failures | done twice | reads as WAV, MB/s | writes as WAV, MB/s |",
        "|---|---|---|---|---|---|---|",
    ]
    here, there = assumed.kbps(assumed.source_rate or rate), assumed.kbps(rate)
    if measured is not None:
        there = measured.kbps
    for count in assumed.devices:
        found = carried(assumed, factor, heard, count)
        speed = assumed.hours / (found.days * 24) / 8000  # × real time, as megabytes of kilobits
        lines.append(
            f"| {count:,} | {found.days:,.2f} | {found.device_hours:,.0f} | {found.failures:,.1f} | "
            f"{found.repeated:.3%} | {speed * here['.wav']:,.2f} | {speed * there['.wav']:,.2f} |"
        )
    lines += ["", "| stored as | in, kbit/s | in, TB | out, kbit/s | out, TB |", "|---|---|---|---|---|"]
    if measured is not None:
        lines.append(
            f"| as it lies there | {measured.source_kbps:.0f} | {_terabytes(measured.source_kbps, assumed)} | | |"
        )
    for codec in CODECS:
        lines.append(
            f"| {codec} | {here[codec]:.0f} | {_terabytes(here[codec], assumed)} | {there[codec]:.0f} | "
            f"{_terabytes(there[codec], assumed)} |"
        )
    return "\n".join(lines)


def _terabytes(kbps: float, assumed: Assumed) -> str:
    return f"{kbps * 125 * 3600 * assumed.hours / 1e12:,.1f}"

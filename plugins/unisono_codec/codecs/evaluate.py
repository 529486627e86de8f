"""Evaluation of a codec: what it makes of held-out recordings at several bit rates, beside Opus at the nearest ones.

::

    recording → tokens of n levels → recording      n levels       for a few n
              → Opus → recording                    opus N         at the nearest bit rates that Opus has
              → log mel → Griffin-Lim, 32 iterations    griffin-lim    the floor: no bits are counted

Bit rates are of the codes alone for both, without header or container; what whole files take stands beside it. Below
some 6 kbit/s there is no Opus: its lowest rate stands for all of those.

Shapes: n samples, t frames, q codebooks.
"""

import math
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from rich.console import Console
from rich.progress import track
from torch import Tensor
from unisono import evaluation
from unisono.data import map_processes
from unisono.errors import DataError, UnisonoError
from unisono.evaluation import Probe, Report, Row, Section
from unisono.extras import optional
from unisono_sound.corpus import Manifest, Utterance, same_sentence
from unisono_sound.signal import GriffinLim, LogMel, read_audio, write_audio

from unisono_codec.codecs.codec import Codec
from unisono_codec.files.opus import LOWEST_RATE, opus_copy
from unisono_codec.files.recordings import encode_file
from unisono_codec.vocoders import scoring
from unisono_codec.vocoders.compare import clips, one_thread
from unisono_codec.vocoders.data import read_recordings
from unisono_codec.vocoders.scoring import Pair

GRIFFIN_LIM = "griffin-lim"
MAX_DEPTHS = 5
MEMORY_SECONDS = 60.0


def evaluate(
    synthesizer: Any,
    data: Manifest | str | Path | dict[str, str] | Sequence[str],
    *,
    limit: int = 40,
    checkpoint: str | Path | None = None,
    levels: Sequence[int] | None = None,
    jobs: int = 1,
    progress: bool = True,
) -> Report:
    """Measure a codec on held-out recordings and return one report.

    ``data`` is what ``AudioData`` reads as its root, ``"name=PATH,name=PATH"`` too, or a manifest. ``levels`` are
    measured (by default all, and powers of two below). ``checkpoint`` is the export's folder: with it,
    memory is measured in a fresh process. A clip that cannot be read is listed in ``failures``.

    Raises ``MissingExtra`` without the extra ``evaluate``, ``RequestError`` for levels that the codec lacks,
    ``DataError`` where nothing could be measured.
    """
    optional("pystoi")
    codec: Codec = synthesizer.model
    depths = [codec.check_levels(count) for count in levels] if levels else depths_of(codec.num_levels)
    manifest = data if isinstance(data, Manifest) else read_recordings(_roots(data))
    chosen, seen = held_out(manifest, codec, limit)
    spec = codec.facts.mel_spec
    rates = opus_rates([codec.bit_rate(depth) for depth in depths])
    systems = [*(_name(depth) for depth in depths), *(_opus_name(rate) for rate in rates), GRIFFIN_LIM]

    failures = manifest.failures()
    pairs: list[Pair] = []
    costs: dict[str, dict[str, list[float]]] = {}
    tokens: list[Int[np.ndarray, "t q"]] = []
    vocoder, bar = GriffinLim(spec), {"console": Console(stderr=True), "disable": not progress}

    def note(measure: str, system: str, value: float) -> None:
        costs.setdefault(measure, {}).setdefault(system, []).append(value)

    for number, utterance in enumerate(track(chosen, "coding", **bar)):
        try:
            wave, _ = read_audio(utterance.audio, codec.sample_rate)
        except UnisonoError as error:
            failures.append({"id": utterance.id, "system": "recording", "reason": str(error)})
            continue
        reference, seconds = wave.numpy(), len(wave) / codec.sample_rate

        def add(system: str, made: np.ndarray, utterance=utterance, reference=reference) -> None:
            pairs.append(Pair(utterance.id, system, reference, made[: len(reference)], spec))

        with one_thread(), torch.inference_mode():
            for depth in depths:
                name = _name(depth)
                if number == 0:  # to warm up
                    _coded(codec, wave, depth)
                codes, heard, encoding, decoding = _coded(codec, wave, depth)
                note("encode", name, encoding / seconds)
                note("decode", name, decoding / seconds)
                add(name, heard)
                if depth == codec.num_levels:
                    tokens.append(codes)
        with tempfile.TemporaryDirectory() as folder:
            sound = Path(folder) / "in.flac"
            write_audio(sound, wave, codec.sample_rate)
            for depth in depths:
                made = encode_file(codec, sound, Path(folder) / "x.uc", levels=depth)
                note("payload", _name(depth), made.payload_bit_rate / 1000)
                note("file", _name(depth), made.bit_rate / 1000)
        for rate in rates:
            copy = opus_copy(reference, codec.sample_rate, rate)
            note("payload", _opus_name(rate), copy.bit_rate / 1000)
            note("file", _opus_name(rate), copy.file_bit_rate / 1000)
            add(_opus_name(rate), copy.waveform)
        with torch.inference_mode():
            whole = wave[: len(wave) // spec.hop_length * spec.hop_length]
            add(GRIFFIN_LIM, vocoder.decode(LogMel(spec)(whole[None]))[0].numpy())
    if not pairs:
        message = f"none of {len(chosen)} clips could be read: {failures[0]['reason'] if failures else 'none'}"
        raise DataError(message, code="empty", path="data", value=len(chosen))
    scores = map_processes(scoring.score, pairs, num_processes=jobs, progress=progress, description="scoring")

    nominal = {_name(depth): codec.bit_rate(depth) / 1000 for depth in depths}
    rate_rows = [
        Row("nominal", {**nominal}, unit="kbit/s"),
        Row("codes, entropy-coded", _pooled(costs["payload"]), unit="kbit/s", better="lower"),
        Row("whole files", _pooled(costs["file"]), unit="kbit/s", better="lower"),
    ]
    speed_rows = [
        Row(f"real-time factor, {what}", _pooled(costs[what], median), digits=4, better="lower")
        for what in ("encode", "decode")
    ]
    if checkpoint is not None:
        try:
            peaks = memory_peaks(checkpoint, pairs[0].reference, codec.sample_rate)
            system = _name(depths[0])
            speed_rows += [Row(f"peak memory, {what}", {system: mib}, "MiB", 0) for what, mib in peaks.items()]
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            failures.append({"id": "peak memory", "system": "codec", "reason": str(error)})
    sections = [
        Section("how it sounds", scoring.rows(pairs, scores)),
        Section("bit rate", rate_rows),
        Section("how fast it is, on one core" if codec.device.type == "cpu" else "how fast it is", speed_rows),
    ]
    items = [scoring.record(pair, result) for pair, result in zip(pairs, scores, strict=True)]
    if tokens:
        used, books = codebook_use(codec, np.concatenate(tokens), _name(codec.num_levels))
        sections.append(used)
        items += books
    num_clips = len({pair.id for pair in pairs})
    return Report(
        title=f"{checkpoint or synthesizer.info.get('model', 'codec')} on {num_clips} clips",
        systems=systems,
        sections=sections,
        facts={
            "clips": num_clips,
            "seconds": round(sum(len(p.reference) for p in pairs if p.system == GRIFFIN_LIM) / codec.sample_rate, 1),
            "held out": seen,
            "frames a second": round(codec.frame_rate, 2),
            "PESQ": scoring.PESQ_FACT,
            "Opus": "bytes of its packets, without Ogg; below its lowest rate that one stands",
            "device": str(codec.device),
        },
        items=items,
        failures=failures + scoring.failures(pairs, scores),
    )


def probe(synthesizer: Any, data: str | Path, *, limit: int = 32) -> Probe:
    """Say what ``unisono sweep CHECKPOINT DATA --levels=1,2,4`` measures of a codec."""
    optional("pystoi")
    codec: Codec = synthesizer.model
    chosen, seen = held_out(data, codec, limit)
    spec = codec.facts.mel_spec
    references = [read_audio(utterance.audio, codec.sample_rate)[0].numpy() for utterance in chosen]
    better: dict[str, Any] = {"STOI": "higher", "SI-SDR": "higher", "mel distance": "lower"}
    if scoring.HAS_PESQ:
        better = {"PESQ": "higher", **better}

    def measure(made: list[Any]) -> dict[str, float]:
        pairs = [
            Pair(utterance.id, "codec", reference, audio.waveform[0], spec)
            for utterance, reference, audio in zip(chosen, references, made, strict=True)
        ]
        found: dict[str, Any] = {
            row.measure: row.values["codec"] for row in scoring.rows(pairs, [scoring.score(p) for p in pairs])
        }
        missing = [name for name in better if found[name] is None]
        if missing:
            message = f"{', '.join(missing)} could not be measured of any clip: give clips of speech"
            raise DataError(message, code="failed", path="data", value=missing)
        return {name: float(found[name]) for name in better}

    return Probe(
        [{"audio": str(utterance.audio)} for utterance in chosen],
        measure,
        better,
        {"held out": seen, "PESQ": scoring.PESQ_FACT},
        price=("kbit/s", lambda setting: codec.bit_rate(setting.get("levels")) / 1000),
    )


def held_out(data: Any, codec: Codec, limit: int) -> tuple[list[Utterance], str]:
    """Return one take of each of ``limit`` sentences that are new to the codec, and how that is known.

    A codec that lists what it was kept from is measured on that, but not on recordings that their corpus gives to
    training; a corpus with none of it is taken as new.
    """
    manifest = data if isinstance(data, Manifest) else read_recordings(_roots(data))
    known = {same_sentence(text) or text for text in codec.facts.held_out or ()}
    own = [u for u in manifest if (same_sentence(u.text) or u.id) in known and u.held_out is not False]
    if own:
        return clips(Manifest(tuple(own)), limit), "listed by the codec"
    why = "the codec lists none of this corpus" if known else "first of the split; not listed"
    return clips(manifest, limit), why


def _coded(
    codec: Codec, wave: Float[Tensor, "n"], depth: int
) -> tuple[Int[np.ndarray, "t q"], Float[np.ndarray, "n"], float, float]:
    """Return a recording's tokens and what is heard of them, and the seconds of encoding and decoding."""
    start = time.perf_counter()
    codes = codec.encode(wave[None].to(codec.device), levels=depth)
    between = time.perf_counter()
    heard = codec.decode(codes)[0].float().cpu().numpy()
    end = time.perf_counter()
    return codes[0].cpu().numpy(), heard, between - start, end - between


def depths_of(num_levels: int) -> list[int]:
    """Return all levels, then the powers of two below, down to one."""
    depths = [num_levels]
    while depths[-1] > 1:
        power = 2 ** int(math.log2(max(depths[-1] * 2 / 3, 1)))  # 14, 8, 4, …: no two of nearly one bit rate
        depths.append(power if len(depths) < MAX_DEPTHS - 1 else 1)
    return depths


def opus_rates(bit_rates: Sequence[float]) -> list[float]:
    """Return the rates to ask Opus for, high ones first: none below its lowest, and no two within a tenth."""
    rates: list[float] = []
    for rate in sorted((max(rate, LOWEST_RATE) for rate in bit_rates), reverse=True):
        if not rates or rate < 0.9 * rates[-1]:
            rates.append(rate)
    return rates


def codebook_use(codec: Codec, codes: Int[np.ndarray, "t q"], system: str) -> tuple[Section, list[dict[str, Any]]]:
    """Return, of each codebook, the share of codes that were used and the perplexity; and the same as records."""
    rows, records = [], []
    for (group, level), column in zip(codec.streams, codes.T, strict=True):
        share = np.bincount(column, minlength=codec.codebook_size) / len(column)
        seen = share[share > 0]
        bits = float(-(seen * np.log2(seen)).sum())
        of_group = f", group {group + 1}" if codec.num_groups > 1 else ""
        name = f"level {level + 1}{of_group}"
        text = f"{100 * len(seen) / codec.codebook_size:.0f} %, {2**bits:.0f}"
        rows.append(Row(name, {system: text}, unit="used, perplexity"))
        used = len(seen) / codec.codebook_size
        records.append({"id": name, "system": system, "used": used, "perplexity": 2**bits, "entropy_bits": bits})
    frames, most = len(codes), math.log2(codec.codebook_size)
    return Section(f"codebooks of {codec.codebook_size} ({most:.3g} bits), over {frames} frames", rows), records


def memory_peaks(checkpoint: str | Path, wave: np.ndarray, sample_rate: int) -> dict[str, float]:
    """Return the peak memory in MiB of a fresh process: once the codec is loaded, and after coding a minute."""
    with tempfile.TemporaryDirectory() as folder:
        minute = np.resize(wave, int(MEMORY_SECONDS * sample_rate))
        write_audio(Path(folder) / "in.flac", torch.from_numpy(minute), sample_rate)
        asked = {"checkpoint": str(checkpoint), "folder": folder}
        return evaluation.in_fresh_process(_FRESH, asked, timeout=600)


_FRESH = """
import unisono
from unisono_codec.files.recordings import decode_file, encode_file
codec = unisono.load(asked["checkpoint"]).model
sound, coded, back = (asked["folder"] + name for name in ("/in.flac", "/x.uc", "/out.flac"))
result["loaded"] = peak_memory()
encode_file(codec, sound, coded)
result["a minute encoded"] = peak_memory()
decode_file(codec, coded, back)
result["and decoded"] = peak_memory()
"""


def _pooled(found: dict[str, list[float]], pool: Any = fmean) -> dict[str, float | str | None]:
    return {system: pool(values) for system, values in found.items()}


def _name(levels: int) -> str:
    return f"{levels} level{'s' * (levels > 1)}"


def _opus_name(rate: float) -> str:
    return f"opus {rate / 1000:.1f}"


def _roots(data: Any) -> Any:
    if isinstance(data, str) and "=" in data and not Path(data).exists():
        return dict(part.strip().split("=", 1) for part in data.split(",") if "=" in part)
    return str(data) if isinstance(data, Path) else data

"""Evaluation of a voice: what is heard, how it sounds, how it obeys, how fast it is.

Several systems read the same held-out sentences::

    recording    what the speaker said                                       the ceiling
    copies       recording → what a voice is made of → sound                 the loss of its last stage
    synthesis    text → the whole checkpoint                                 what a listener gets

Which copies there are is the voice's business: a vocoder's of the recording's mel, or a codec's of its tokens.

Which sentences are held out goes by their text, because a prompt may have been recorded several
times: a model that heard another take has seen the sentence. One take of each text is measured.

Shapes: n samples, t frames, m mel bins.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from rich.console import Console
from rich.progress import track
from torch import Tensor
from unisono import evaluation
from unisono.data import derive_seed, map_processes
from unisono.errors import DataError
from unisono.evaluation import Report, Row, Section
from unisono.extras import optional

from unisono_sound import measure
from unisono_sound.corpus.manifest import Manifest, Utterance, read_manifests, same_sentence
from unisono_sound.corpus.recording import level
from unisono_sound.measure.judged import judged_rows
from unisono_sound.measure.judges import Judge, check_judges, judge
from unisono_sound.measure.recognise import Recogniser
from unisono_sound.measure.scoring import HAS_PESQ, Clip, Score, score
from unisono_sound.measure.wer import ErrorRate
from unisono_sound.signal.io import read_audio
from unisono_sound.signal.mel import MelSpec

RECORDING, SYNTHESIS = "recording", "synthesis"

Copy = Callable[[Float[Tensor, "n"]], Float[Tensor, "n"]]
"""Takes a recording apart and puts it together again."""

PITCH_SHIFTS = (-4.0, 4.0)
ENERGIES = (-6.0, 6.0)
PACES = (0.8, 1.25)
NUM_CONTROL_SENTENCES = 8
LOUDNESS_DBFS = -23.0
"""Recordings are brought to the level that voices are trained at; DNSMOS minds it."""
STREAM_CHARACTERS = 200
LONG_CHARACTERS = 20_000


def evaluate_voice(
    synthesizer,
    data: Manifest | str | Path | dict[str, str] | Sequence[str],
    copies: dict[str, Copy],
    mel_spec: MelSpec,
    *,
    facts: dict[str, Any] | None = None,
    limit: int = 40,
    texts: Sequence[str] | None = None,
    jobs: int = 1,
    device: str | None = None,
    checkpoint: str | Path | None = None,
    recogniser: str | Recogniser = "pocketsphinx",
    judges: Sequence[str | Judge] = (),
    progress: bool = True,
) -> Report:
    """Measure a voice on held-out sentences of a corpus and return one report.

    ``copies`` of each recording are measured beside it, all at the rate of ``mel_spec``; ``facts`` are added to the
    report's. ``data`` is a manifest or what ``read_manifests`` reads; a string ``"name=PATH,name=PATH"``
    names speakers. Of it, ``limit`` texts are taken (see ``held_out``), or ``texts``, which need
    not be in it. Speakers that the voice does not know are spoken by its first one, and the report
    says so. ``jobs`` processes score. ``checkpoint`` is the export's folder: with it, start-up and
    memory are measured in a fresh process. An utterance that fails, and a line of the corpus
    that cannot be used, is listed in ``failures``.

    Raises ``MissingExtra`` without the extra ``evaluate``, ``DataError`` where nothing is left to
    measure, and what ``judge`` and ``check_judges`` do.
    """
    for package in ("jiwer", "librosa", "pystoi", "onnxruntime", "speechmos"):
        optional(package)
    hear = measure.recogniser(recogniser) if isinstance(recogniser, str) else recogniser
    if device is not None:
        synthesizer.to(device)
    manifest = data if isinstance(data, Manifest) else read_corpora(data)
    voice_facts = synthesizer.model.facts
    chosen, seen = held_out(manifest, limit, texts, voice_facts)
    if not chosen:
        message = "no sentence is left to measure: give a limit above 0, and texts that are not empty"
        raise DataError(message, code="empty", path="data", value=limit)
    bench = [judge(one) if isinstance(one, str) else one for one in judges]
    check_judges(bench, [utterance.text for utterance in chosen], voice_facts.get("language", ""))
    speakers = voice_facts.get("speakers", [])
    strangers = {u.speaker for u in chosen if u.speaker and u.speaker not in speakers}

    failures = manifest.failures(RECORDING)
    clips: list[Clip] = []
    factors: list[float] = []
    bar = {"console": Console(stderr=True), "disable": not progress}
    attempt(failures, "warm-up", SYNTHESIS, synthesizer, chosen[0].text)
    for utterance in track(chosen, "speaking", **bar):
        speaker = utterance.speaker if utterance.speaker in speakers else None
        made, factor = _clips(synthesizer, utterance, speaker, copies, mel_spec, recogniser, failures)
        clips += made
        factors += factor
    scores = map_processes(score, clips, num_processes=jobs, progress=progress, description="scoring")
    for clip, result in zip(clips, scores, strict=True):
        failures += [{"id": clip.id, "system": clip.system, "reason": r} for r in result.failures]

    quality, words = _sections(clips, scores)
    marks, marked = judged_rows(bench, clips, failures, progress, RECORDING)
    words.rows.extend(marks)
    sentences = [u for u in chosen if len(u.text) >= 20][:NUM_CONTROL_SENTENCES] or chosen[:1]
    sections = [
        words,
        quality,
        _controls(synthesizer, sentences, speakers, failures, bar),
        _speed(synthesizer, chosen, factors, checkpoint, failures),
    ]
    num_recorded = sum(clip.system == RECORDING for clip in clips)
    known = {
        "sentences": len(chosen),
        "with a recording": num_recorded,
        "held out": seen,
        "speakers that the voice does not know": ", ".join(sorted(strangers)) or "none",
        "recogniser": hear.name,
        **marked,
        "PESQ": "measured" if HAS_PESQ else 'not measured: pip install "unisono[pesq]" (needs a compiler)',
        **(facts or {}),
        "threads": torch.get_num_threads(),
        "device": str(synthesizer.model.device),
    }
    present = {clip.system for clip in clips} | {SYNTHESIS}
    systems = [RECORDING, *copies, SYNTHESIS]
    name = (synthesizer.info or {}).get("model", type(synthesizer.model).__name__)
    return Report(
        title=f"{checkpoint or name} on {len(chosen)} sentences",
        systems=[system for system in systems if system in present],
        sections=[section for section in sections if section.rows],
        facts=known,
        items=[_record(clip, result) for clip, result in zip(clips, scores, strict=True)],
        failures=failures,
    )


def held_out(
    manifest: Manifest,
    limit: int,
    texts: Sequence[str] | None = None,
    facts: dict[str, Any] | None = None,
) -> tuple[list[Utterance], str]:
    """Return one utterance of each sentence to measure, and why it should be new to the voice.

    A voice that lists the texts it was kept from (``facts["held_out"]``) is measured on those; a
    corpus with none of them is taken as new to it. Without a list, the sentences are those that
    training on this corpus alone holds out first. Of several takes the first is measured. ``texts``
    overrides all of this.
    """
    first: dict[str, Utterance] = {}
    for utterance in manifest:
        if utterance.text:
            first.setdefault(same_sentence(utterance.text), utterance)
    if texts is not None:
        given = {same_sentence(text): text for text in reversed(texts) if text.strip()}
        wanted = list(reversed(given.items()))[:limit]
        new = (Utterance(f"text {i}", Path(), t) for i, (_, t) in enumerate(wanted))
        return [first.get(key) or made for (key, _), made in zip(wanted, new, strict=True)], "given"
    known = {same_sentence(text) for text in (facts or {}).get("held_out", ())}
    order = sorted(first, key=lambda key: (derive_seed("split", key), key))
    kept = [key for key in order if key in known]
    if kept:
        why = "listed by the voice"
    else:
        why = "the voice lists none of this corpus" if known else "first of the split; not listed"
    return [first[key] for key in (kept or order)[:limit]], why


def _clips(
    synthesizer,
    utterance: Utterance,
    speaker: str | None,
    copies: dict[str, Copy],
    spec: MelSpec,
    recogniser: str | Recogniser,
    failures: list,
) -> tuple[list[Clip], list[float]]:
    """Make the systems' waveforms of one sentence, and the synthesis' real-time factor."""
    clips: list[Clip] = []
    factors: list[float] = []
    reference = None

    def add(system: str, waveform: np.ndarray, rate: int, copy: bool = False) -> None:
        common = (utterance.id, system, utterance.text, speaker)
        against = None if system == RECORDING else reference
        clips.append(Clip(*common, waveform, rate, against, copy, spec, recogniser))

    if utterance.audio != Path():
        read = attempt(failures, utterance.id, RECORDING, read_audio, utterance.audio, spec.sample_rate)
        if read is not None:
            wave = level(read[0], read[1], LOUDNESS_DBFS)
            reference = wave.numpy()
            add(RECORDING, reference, spec.sample_rate)
            for system, tool in copies.items():
                with torch.inference_mode():
                    copy = attempt(failures, utterance.id, system, tool, wave)
                if copy is not None:
                    add(system, copy.float().cpu().numpy(), spec.sample_rate, copy=True)

    def speak() -> tuple[Any, float]:
        start = time.perf_counter()
        audio = synthesizer(utterance.text, **_named(speaker))
        return audio, (time.perf_counter() - start) / audio.seconds

    spoken = attempt(failures, utterance.id, SYNTHESIS, speak)
    if spoken is not None:
        audio, factor = spoken
        add(SYNTHESIS, audio.waveform.mean(axis=0), audio.sample_rate)
        factors.append(factor)
    return clips, factors


def _sections(clips: list[Clip], scores: list[Score]) -> tuple[Section, Section]:
    by_system: dict[str, list[Score]] = {}
    for clip, result in zip(clips, scores, strict=True):
        by_system.setdefault(clip.system, []).append(result)

    def row(measure: str, pick: Callable[[Score], float | None], pool=fmean, **how) -> Row:
        values: dict[str, float | str | None] = {}
        for system, results in by_system.items():
            found = [v for r in results if (v := pick(r)) is not None and np.isfinite(v)]
            values[system] = pool(found) if found else None
        return Row(measure, values, **how)

    def rate(measure: str, name: str) -> Row:
        values: dict[str, float | str | None] = {}
        for system, results in by_system.items():
            pooled = sum((e for r in results if (e := getattr(r, name)) is not None), ErrorRate())
            values[system] = 100 * pooled.rate if pooled.total else None
        return Row(measure, values, unit="%", digits=1, better="lower")

    def mos(name: str) -> Callable[[Score], float | None]:
        return lambda result: getattr(result.mos, name, None)

    quality = [
        row("DNSMOS overall", mos("overall"), better="higher"),
        row("DNSMOS signal", mos("signal"), better="higher"),
        row("DNSMOS background", mos("background"), better="higher"),
        row("DNSMOS P.808", mos("p808"), better="higher"),
        row("PESQ", lambda r: r.pesq, better="higher"),
        row("STOI", lambda r: r.stoi, digits=3, better="higher"),
        row("mel-cepstral distortion", lambda r: r.mcd, unit="dB", better="lower"),
        row(
            "pitch error",
            lambda r: getattr(r.pitch, "rmse_cents", None),
            unit="cents",
            digits=0,
            better="lower",
        ),
        row(
            "voicing error",
            _percent(lambda r: getattr(r.pitch, "voicing_error", None)),
            unit="%",
            digits=1,
            better="lower",
        ),
        row("length ratio", lambda r: r.length_ratio, digits=3, better="1"),
        row(
            "duration error",
            _percent(lambda r: None if r.length_ratio is None else abs(r.length_ratio - 1)),
            unit="%",
            digits=1,
            better="lower",
        ),
        row("level", lambda r: r.level_db, unit="dB", digits=1),
    ]
    words = [rate("word error rate", "words"), rate("character error rate", "characters")]
    return Section("how it sounds", quality), Section("what is heard", words)


def _controls(synthesizer, sentences: list[Utterance], speakers: list[str], failures: list, bar: dict) -> Section:
    """Ask for higher, louder, faster; compare what comes out with the sentence as it is."""
    request = getattr(synthesizer.model, "Request", None)
    known = getattr(request, "model_fields", {})
    asked = [("pitch_shift", value) for value in PITCH_SHIFTS]
    asked += [("energy", value) for value in ENERGIES]
    asked += [("pace", value) for value in PACES]
    asked = [(name, value) for name, value in asked if name in known]
    measured: dict[tuple[str, float], list[float]] = {pair: [] for pair in asked}

    def speak(text: str, speaker: str | None, name: str = "", value: float = 0.0) -> _Voice:
        fields = _named(speaker) | ({name: value} if name else {})
        return _Voice(synthesizer(text, **fields))

    for utterance in track(sentences if asked else [], "controlling", **bar):
        said = utterance.text, utterance.speaker if utterance.speaker in speakers else None
        plain = attempt(failures, utterance.id, SYNTHESIS, speak, *said)
        for name, value in asked if plain is not None else []:
            item = f"{utterance.id} at {name}={value:g}"
            changed = attempt(failures, item, SYNTHESIS, speak, *said, name, value)
            if changed is not None:
                measured[name, value].append(getattr(changed, f"{name}_from")(plain))

    units = {"pitch_shift": "semitones", "energy": "dB", "pace": "×"}
    rows = []
    for (name, value), found in measured.items():
        finite = [x for x in found if np.isfinite(x)]
        rows.append(
            Row(
                f"{name} {value:+g}" if name != "pace" else f"pace {value:g}",
                {SYNTHESIS: median(finite) if finite else None},
                unit=units[name],
                better=f"{value:g}",
            )
        )
    return Section("how it obeys", rows)


class _Voice:
    """A synthesis and what its controls change; the pitch is tracked when it is asked for."""

    def __init__(self, audio):
        self.waveform, self.sample_rate = audio.waveform.mean(axis=0), audio.sample_rate
        self.start, self.end = measure.speech_span(self.waveform, self.sample_rate)
        self._hz: np.ndarray | None = None

    @property
    def hz(self) -> np.ndarray:
        if self._hz is None:
            self._hz = measure.track_pitch(self.waveform, self.sample_rate, self.sample_rate // 100)
        return self._hz

    @property
    def power(self) -> float:
        rate = self.sample_rate
        spoken = self.waveform[int(self.start * rate) : int(self.end * rate)]
        return float(np.mean(np.square(spoken, dtype=np.float64))) if len(spoken) else float("nan")

    def pitch_shift_from(self, plain: "_Voice") -> float:
        return measure.median_shift_semitones(plain.hz, self.hz)

    def energy_from(self, plain: "_Voice") -> float:
        return 10 * float(np.log10(self.power / plain.power))

    def pace_from(self, plain: "_Voice") -> float:
        return (plain.end - plain.start) / (self.end - self.start) if self.end > self.start else float("nan")


def _speed(
    synthesizer,
    chosen: list[Utterance],
    factors: list[float],
    checkpoint: str | Path | None,
    failures: list,
) -> Section:
    """Real-time factor, latency of a stream, and, in a fresh process, start-up and memory."""
    text = long_text([u.text for u in chosen], STREAM_CHARACTERS)

    def latency() -> float:
        found = []
        for _ in range(5):
            start = time.perf_counter()
            next(iter(synthesizer.stream(text)))
            found.append(time.perf_counter() - start)
        return median(found)

    first = attempt(failures, f"stream of {STREAM_CHARACTERS} characters", SYNTHESIS, latency)
    factor = median(factors) if factors else None
    values: list[tuple[str, float | None, str, int, str]] = [
        ("real-time factor, median", factor, "", 4, "lower"),
        ("times real time, median", 1 / factor if factor else None, "×", 0, "higher"),
        ("first audio of a stream", None if first is None else 1000 * first, "ms", 0, "lower"),
    ]
    if checkpoint is not None:
        long = long_text([u.text for u in chosen], LONG_CHARACTERS)
        fresh = attempt(failures, "fresh process", SYNTHESIS, cold_start, checkpoint, text, long) or {}
        values += [
            ("process start to first audio", fresh.get("first_audio_seconds"), "s", 2, "lower"),
            ("peak memory, short text", fresh.get("short_peak_mib"), "MiB", 0, "lower"),
            ("peak memory, long text", fresh.get("long_peak_mib"), "MiB", 0, "lower"),
            (
                "times real time, long text",
                fresh.get("long_times_real_time"),
                "×",
                0,
                "higher",
            ),
        ]
    return Section("how fast it is", [Row(m, {SYNTHESIS: v}, u, d, b) for m, v, u, d, b in values])


def cold_start(checkpoint: str | Path, text: str, long: str) -> dict[str, float]:
    """Stream a text, then a long one, in a fresh process; return times and memory peaks."""
    asked = {"checkpoint": str(checkpoint), "text": text, "long": long, "started": time.time()}
    return evaluation.in_fresh_process(_FRESH, asked)


_FRESH = """
import time
import unisono
synthesizer = unisono.load(asked["checkpoint"])
stream = synthesizer.stream(asked["text"])
next(stream)
result["first_audio_seconds"] = time.time() - asked["started"]
for _ in stream:
    pass
result["short_peak_mib"] = peak_memory()
start = time.perf_counter()
seconds = sum(piece.seconds for piece in synthesizer.stream(asked["long"]))
result["long_times_real_time"] = seconds / (time.perf_counter() - start)
result["long_peak_mib"] = peak_memory()
"""


def long_text(texts: Sequence[str], num_characters: int) -> str:
    """Return the sentences one after the other, over and over, cut at a word to fit."""
    whole = " ".join(text.strip() for text in texts)
    whole = " ".join([whole] * (num_characters // len(whole) + 1))
    if len(whole) <= num_characters:
        return whole
    return whole[: num_characters + 1].rpartition(" ")[0].strip()


def _record(clip: Clip, result: Score) -> dict[str, Any]:
    record: dict[str, Any] = {name: getattr(clip, name) for name in ("id", "system", "speaker", "text")}
    for part in fields(result):
        value = getattr(result, part.name)
        if part.name != "failures":
            record[part.name] = asdict(value) if hasattr(value, "__dataclass_fields__") else value
    return record


def attempt(failures: list[dict[str, str]], item: str, system: str, function: Callable[..., Any], *args: Any) -> Any:
    """Return what the function returns, or note in ``failures`` why not and return None."""
    try:
        return function(*args)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        failures.append({"id": item, "system": system, "reason": reason})
        return None


def _named(speaker: str | None) -> dict[str, str]:
    return {} if speaker is None else {"speaker": speaker}


def _percent(pick: Callable[[Score], float | None]) -> Callable[[Score], float | None]:
    return lambda result: None if (value := pick(result)) is None else 100 * value


def read_corpora(data: str | Path | dict[str, str] | Sequence[str]) -> Manifest:
    """Read what ``read_manifests`` reads, and ``"name=PATH,name=PATH"`` as a mapping from speakers to corpora."""
    if isinstance(data, str) and "=" in data and not Path(data).exists():
        return read_manifests(dict(part.strip().split("=", 1) for part in data.split(",") if "=" in part))
    return read_manifests(data)

"""Evaluation of a prompted voice: are the words heard, and whose voice is it.

Held-out recordings are said again, each in the voice of *other* held-out recordings of its speaker::

    recording       as it is                                             the ceiling, and the listener's own errors
    codec           recording → tokens → recording                       the codec's loss
    groups, n steps text and prompt → the whole checkpoint               what one gets; for several n
    levels, n steps the same by a model given with ``--against``         SoundStorm's order on the same tokens

The component ``listener`` hears which word it is and whose voice: it knows the speakers of its training data (and
their microphones), so its numbers compare systems on these voices and nothing else. ``recording`` says how good it is.

Shapes: n recordings, e dimensions of the listener's space.
"""

import atexit
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor
from unisono import Audio, evaluation
from unisono.data import derive_seed
from unisono.errors import DataError, RequestError
from unisono.evaluation import Probe, Report, Row, Section
from unisono_sound.corpus import Manifest, Utterance, level, read_manifests, trim
from unisono_sound.signal import read_audio, write_audio

from unisono_codec.vocoders.compare import one_thread
from unisono_codec.voices.autoregressive import one_by_one
from unisono_codec.voices.gmlm import GroupMaskedLM
from unisono_codec.voices.listener import Heard, Listener, equal_error_rate
from unisono_codec.voices.prompting import parts_of, prompt_of

RECORDING, CODEC = "recording", "codec"
GROUP_STEPS, LEVEL_STEPS = (2, 6, 12), (18,)
PROMPTS = 3
"""Recordings that a prompt is made of, as far as the model looks."""
SEQUENCE = 3
"""Words of the sequences that are cut again and heard one by one."""
AROUND_SECONDS = 0.06
"""How much around a word of a sequence is heard with it; and the silence that a prompt may get at each end."""
SPEED_REPEATS = 5
AT_ONCE = 16


def evaluate(
    synthesizer: Any,
    data: Manifest | str | Path | dict[str, str] | Sequence[str],
    *,
    limit: int = 60,
    num_steps: Sequence[int] = (),
    device: str | None = None,
    checkpoint: str | Path | None = None,
    against: Sequence[str] | None = None,
    progress: bool = True,
) -> Report:
    """Measure a model of single words on held-out recordings of a corpus and return one report.

    ``data`` is what ``read_manifests`` reads, or a manifest. Of what the corpus says is held out (of all, where it says
    nothing, and the report tells), at most ``limit`` recordings are measured. ``num_steps`` are the steps that are
    compared: 2, 6 and 12 for groups, 18 for levels, unless given. ``against`` are other exports, on the same items.
    ``checkpoint`` is the export's folder: with it, memory is measured in a fresh process.

    Raises ``DataError`` where nothing is left to measure, ``RequestError`` for a model of any text.
    """
    from unisono import load

    if device is not None:
        synthesizer.to(device)
    main: GroupMaskedLM = synthesizer.model
    listener: Listener = main.component("listener")
    loaded = {str(path): load(path, device=device or "cpu") for path in against or ()}
    rivals: list[tuple[Any, GroupMaskedLM]] = []
    for path, rival in {"": synthesizer, **loaded}.items():
        model = rival.model
        if not isinstance(model, GroupMaskedLM) or model.facts.codec != main.facts.codec:
            message = f"{path}: is no codec/gmlm over the same codec's tokens, so it cannot be compared"
            raise DataError(message, code="type", path=path, value=type(model).__name__)
        rivals.append((rival, model))
    bar = {"console": Console(stderr=True), "disable": not progress}
    with tempfile.TemporaryDirectory() as folder:
        held = HeldOut.read(main, data, limit, Path(folder))
        heard: dict[str, list[Heard]] = {}
        originals = [held.wave(u) for u in held.chosen]
        heard[RECORDING] = [listener.hear([wave], main.codec.sample_rate)[0] for wave in originals]
        heard[CODEC] = [listener.hear([through(main.codec, w)], main.codec.sample_rate)[0] for w in originals]
        speed: dict[str, dict[str, float]] = {}
        sequences: dict[str, float] = {}
        for rival, model in rivals:
            for steps in num_steps or (GROUP_STEPS if model.order == "groups" else LEVEL_STEPS):
                system = f"{model.order}, {steps} steps"
                if system in heard:
                    message = f"two models make {system!r}: compare models of different orders"
                    raise DataError(message, code="conflict", path="against", value=system)
                asked = [{**request, "num_steps": steps} for request in held.requests]
                made: list[Audio] = []
                for first in track(range(0, len(asked), AT_ONCE), system, **bar):
                    made += rival(asked[first : first + AT_ONCE])
                heard[system] = [listener.hear([torch.from_numpy(a.waveform[0])], a.sample_rate)[0] for a in made]
                sequences[system] = in_sequences(rival, listener, held, steps)
                speed[system] = timed(rival, held, steps)
        slow = against_one_by_one(main, held)
    systems = list(heard)
    speed_rows = [
        Row(name, {system: found[name] for system, found in speed.items()}, unit, digits, better)
        for name, unit, digits, better in (
            ("evaluations", "", 0, "lower"),
            ("prompts read", "", 0, "lower"),
            ("seconds", "s", 3, "lower"),
            ("real-time factor", "", 3, "lower"),
        )
    ]
    first = next(iter(speed))
    speed_rows += [
        Row("evaluations, one token at a time", {first: slow["evaluations"]}, "", 0),
        Row("seconds, one token at a time", {first: slow["seconds"]}, "s", 3),
        Row(
            "times fewer evaluations than one token at a time",
            {system: slow["evaluations"] / found["evaluations"] for system, found in speed.items()},
            "",
            1,
            "higher",
        ),
    ]
    failures = held.failures
    if checkpoint is not None:
        try:
            peaks = memory_peaks(checkpoint, held.requests[0]["text"])
            speed_rows += [Row(f"peak memory, {what}", {first: mib}, "MiB", 0) for what, mib in peaks.items()]
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            failures.append({"id": "peak memory", "system": first, "reason": str(error)})
    return Report(
        title=f"{checkpoint or synthesizer.info.get('model', 'codec/gmlm')} on {len(held.chosen)} recordings",
        systems=systems,
        sections=[
            Section(
                "words",
                [
                    Row("heard as what was asked", {s: right_words(held, heard[s]) for s in systems}, "%", 1, "higher"),
                    Row(f"in sequences of {SEQUENCE}, cut again", dict(sequences), "%", 1, "higher"),
                ],
            ),
            Section("voice, by a listener trained on these speakers", held.voices(heard)),
            Section(f"speed, {SEQUENCE} words by themselves, one thread", speed_rows),
        ],
        facts={
            "recordings": len(held.chosen),
            "held out": held.why,
            "speakers": len(held.centres),
            "listener's equal error rate on recordings": f"{held.error_rate:.1%}",
            "one token at a time": "this network read causally with a cache, untrained for it: cost only",
            "threads": torch.get_num_threads(),
            "device": str(main.device),
        },
        items=[
            {
                "id": utterance.id,
                "system": system,
                "word": utterance.text,
                "heard": found.word,
                "speaker": utterance.speaker,
                "voice": found.speaker,
                "similarity": float(found.vector @ held.centre(utterance)),
            }
            for system in systems
            for utterance, found in zip(held.chosen, heard[system], strict=True)
        ],
        failures=failures,
    )


def probe(synthesizer: Any, data: str | Path, *, limit: int = 32) -> Probe:
    """Say what ``unisono sweep CHECKPOINT DATA --num_steps=2,6,12`` asks of a model of words, and what it measures."""
    model: GroupMaskedLM = synthesizer.model
    listener: Listener = model.component("listener")
    folder = Path(tempfile.mkdtemp(prefix="unisono-prompts-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)  # the sweep reads the prompts after this has returned
    held = HeldOut.read(model, data, limit, folder)

    def measure(made: list[Audio]) -> dict[str, float]:
        heard = [listener.hear([torch.from_numpy(a.waveform[0])], a.sample_rate)[0] for a in made]
        return {
            "words": right_words(held, heard),
            "similarity": fmean(float(h.vector @ held.centre(u)) for u, h in zip(held.chosen, heard, strict=True)),
            "Fréchet distance": held.distance(heard),
        }

    better: dict[str, Any] = {"words": "higher", "similarity": "higher", "Fréchet distance": "lower"}
    return Probe(held.requests, measure, better, {"held out": held.why})


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Recordings to say again, the requests that do so, and where voices lie in the listener's space.

    ``known`` are all held-out recordings as heard, ``centres`` the mean of each speaker's.
    """

    chosen: list[Utterance]
    why: str
    requests: list[dict[str, Any]]
    known: dict[str, Heard]
    owner: dict[str, str]
    centres: dict[str, np.ndarray]
    error_rate: float
    rate: int
    failures: list[dict[str, str]]

    @classmethod
    def read(cls, model: GroupMaskedLM, data: Any, limit: int, folder: Path) -> "HeldOut":
        """Choose recordings, and write a prompt for each into a folder; raises as ``evaluate`` does."""
        words, rate = model.facts.words, model.codec.sample_rate
        if not words:
            message = "this model says any text, and single words are measured here: give one of words"
            raise RequestError(message, code="unsupported", path="words")
        manifest = data if isinstance(data, Manifest) else read_manifests(_roots(data))
        usable = [u for u in manifest if u.text in words]
        own = [u for u in usable if u.held_out]
        pool, why = (own, "as the corpus says") if own else (usable, "no: the corpus does not say what is held out")
        of_speaker: dict[str, list[Utterance]] = {}
        for utterance in pool:
            of_speaker.setdefault(utterance.speaker, []).append(utterance)
        pool = [u for u in pool if len(of_speaker[u.speaker]) > 1]
        if len(pool) < 2 or len({u.speaker for u in pool}) < 2:
            message = f"{data}: at least two speakers with two recordings of {', '.join(words)} are needed"
            raise DataError(message, code="empty", path="data", value=len(pool))
        chosen = sorted(pool, key=lambda u: derive_seed("evaluate", u.id))[:limit]
        chosen = chosen if len(chosen) > 1 else pool[:2]
        listener: Listener = model.component("listener")
        known = {u.id: listener.hear([read_audio(u.audio, rate)[0]], rate)[0] for u in pool}
        centres = {
            name: np.mean([known[u.id].vector for u in members], 0)
            for name, members in of_speaker.items()
            if len(members) > 1
        }
        pairs = [(a, b, float(known[a.id].vector @ known[b.id].vector)) for a, b in combinations(pool, 2)]
        same = [value for a, b, value in pairs if a.speaker == b.speaker]
        different = [value for a, b, value in pairs if a.speaker != b.speaker]
        requests = []
        for number, utterance in enumerate(chosen):
            others = [u for u in of_speaker[utterance.speaker] if u.id != utterance.id and u.text != utterance.text]
            others = others or [u for u in of_speaker[utterance.speaker] if u.id != utterance.id]
            others = sorted(others, key=lambda u: derive_seed("prompt", utterance.id, u.id))
            path = folder / f"{number}.wav"
            write_audio(path, _prompt(others, rate, model), rate)
            requests.append({"text": utterance.text, "prompt": str(path), "seed": derive_seed("say", utterance.id)})
        owner = {u.id: u.speaker for u in pool}
        error_rate = equal_error_rate(same, different)
        return cls(chosen, why, requests, known, owner, centres, error_rate, rate, manifest.failures())

    def wave(self, utterance: Utterance) -> Tensor:
        """A recording at the codec's rate."""
        return read_audio(utterance.audio, self.rate)[0]

    def centre(self, utterance: Utterance) -> np.ndarray:
        """The mean voice of a recording's speaker, without the recording itself."""
        members = [self.known[i].vector for i, name in self.owner.items() if name == utterance.speaker]
        count = len(members)
        return (self.centres[utterance.speaker] * count - self.known[utterance.id].vector) / (count - 1)

    def distance(self, heard: Sequence[Heard]) -> float:
        """Fréchet distance to the same recordings, in the listener's space."""
        real = np.stack([self.known[u.id].vector for u in self.chosen])
        return evaluation.frechet_distance(real, np.stack([h.vector for h in heard]))

    def voices(self, heard: dict[str, list[Heard]]) -> list[Row]:
        """Whose voice each system has."""

        def each(function: Any) -> dict[str, float | str | None]:
            return {
                system: fmean(function(u, h) for u, h in zip(self.chosen, found, strict=True))
                for system, found in heard.items()
            }

        def other(utterance: Utterance, found: Heard) -> float:
            strangers = [centre for name, centre in self.centres.items() if name != utterance.speaker]
            return fmean(float(found.vector @ centre) for centre in strangers)

        return [
            Row("taken for the speaker", each(lambda u, h: 100.0 * (h.speaker == u.speaker)), "%", 1, "higher"),
            Row("similarity to that speaker", each(lambda u, h: float(h.vector @ self.centre(u))), "", 3, "higher"),
            Row("similarity to the others", each(other), "", 3, "lower"),
            Row("equal error rate", {s: 100 * self._error_rate(found) for s, found in heard.items()}, "%", 1, "lower"),
            Row("Fréchet distance", {s: self.distance(h) for s, h in heard.items() if s != RECORDING}, "", 3, "lower"),
        ]

    def _error_rate(self, found: Sequence[Heard]) -> float:
        """Of what a system made against all other recordings, of the same speaker and of others."""
        same, different = [], []
        for utterance, heard in zip(self.chosen, found, strict=True):
            for identity, known in self.known.items():
                if identity != utterance.id:
                    right = self.owner[identity] == utterance.speaker
                    (same if right else different).append(float(heard.vector @ known.vector))
        return equal_error_rate(same, different)


def right_words(held: HeldOut, heard: Sequence[Heard]) -> float:
    """Return the share of words that were heard as asked, in percent."""
    return 100 * fmean(h.word == u.text for u, h in zip(held.chosen, heard, strict=True))


def through(codec: Any, wave: Tensor) -> Tensor:
    """Return a recording as the codec gives it back, prepared as for training."""
    wave = level(trim(wave, codec.sample_rate, 45.0, 0.06)[0], codec.sample_rate, -23.0)
    return codec.decode(codec.encode(wave[None].to(codec.device)))[0].float().cpu()


def in_sequences(synthesizer: Any, listener: Listener, held: HeldOut, steps: int) -> float:
    """Say the words of neighbouring items as one text, cut them apart again, and return how many are heard right."""
    right = []
    for first in range(0, len(held.chosen) - SEQUENCE + 1, SEQUENCE):
        texts = [u.text for u in held.chosen[first : first + SEQUENCE]]
        asked = {**held.requests[first], "text": " ".join(texts), "num_steps": steps}
        audio = synthesizer(asked)
        spoken = [part for part in audio.segments if part.kind == "word"]
        for text, part in zip(texts, spoken, strict=True):
            rate = audio.sample_rate
            start = max(0, round((part.start - AROUND_SECONDS) * rate))
            piece = torch.from_numpy(audio.waveform[0, start : round((part.end + AROUND_SECONDS) * rate)])
            right.append(listener.hear([piece], rate)[0].word == text)
    return 100 * fmean(right) if right else float("nan")


def timed(synthesizer: Any, held: HeldOut, steps: int) -> dict[str, float]:
    """Time one sequence by itself, on one thread."""
    model = synthesizer.model
    asked = {**held.requests[0], "text": sequence_of(model), "num_steps": steps}
    with one_thread():
        synthesizer(asked)
        spent, spoken, before = [], [], (model.evaluations, model.prompts_read)
        for seed in range(SPEED_REPEATS):
            start = time.perf_counter()
            spoken.append(synthesizer({**asked, "seed": seed}))
            spent.append(time.perf_counter() - start)
    return {
        "evaluations": (model.evaluations - before[0]) / SPEED_REPEATS,
        "prompts read": (model.prompts_read - before[1]) / SPEED_REPEATS,
        "seconds": median(spent),
        "real-time factor": median(spent) / spoken[-1].seconds,
    }


def against_one_by_one(model: GroupMaskedLM, held: HeldOut) -> dict[str, float]:
    """The same sequence, one token at a time: evaluations, and seconds of the network alone."""
    request = model.Request(**{**held.requests[0], "text": sequence_of(model)})
    with torch.inference_mode():
        memory = model.remember([prompt_of(model, request)])
        (part,) = parts_of(model, request, 0, memory)
        condition = model.net.condition(part.semantic[None].to(model.device))
        with one_thread():
            net = model.net
            made = one_by_one(net.blocks, net.embedding, net.heads, condition, memory=memory)
    return {"evaluations": float(made.evaluations), "seconds": made.seconds}


def sequence_of(model: GroupMaskedLM) -> str:
    """Words to time: as many as fit into one part, at most ``SEQUENCE``."""
    words, most = model.facts.words, model.facts.max_join
    assert words is not None and most is not None  # a model of single words
    return " ".join(list(words)[: min(SEQUENCE, most)])


def memory_peaks(checkpoint: str | Path, text: str) -> dict[str, float]:
    """Return the peak memory in MiB of a fresh process, once loaded and after speaking a text."""
    return evaluation.in_fresh_process(_FRESH, {"checkpoint": str(checkpoint), "text": text}, timeout=600)


_FRESH = """
import unisono
voice = unisono.load(asked["checkpoint"])
result["loaded"] = peak_memory()
voice(asked["text"])
result["after speaking"] = peak_memory()
"""


def _prompt(others: Sequence[Utterance], rate: int, model: GroupMaskedLM) -> Tensor:
    """Join recordings, as many of the first ones as the model looks at."""
    parts: list[Tensor] = []
    room = model.facts.max_prompt_frames * model.codec.hop_length - round(2 * AROUND_SECONDS * rate)
    for utterance in others[:PROMPTS]:
        wave = level(trim(read_audio(utterance.audio, rate)[0], rate, 45.0, 0.06)[0], rate, -23.0)
        if parts and sum(map(len, parts)) + len(wave) > room:
            break
        parts.append(wave[:room])
    return torch.cat(parts)[:room]


def _roots(data: Any) -> Any:
    if isinstance(data, str) and "=" in data and not Path(data).exists():
        return dict(part.strip().split("=", 1) for part in data.split(",") if "=" in part)
    return str(data) if isinstance(data, Path) else data

"""Speaking: a text read piece by piece, pieces spoken in batches, and joined.

Every acoustic model of this plugin speaks through here. A text of any length is cut into pieces, so that
memory does not grow with it; `unisono_tts.streaming` is the same path with a batch of one.

Shapes: b batch, s symbols, t frames, m mel bins, n samples.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from unisono import Audio
from unisono.batching import Progress, chunks
from unisono.media import Curve, Segment
from unisono.model import OnStep
from unisono_sound.corpus import SpeechFacts
from unisono_sound.precision import check_precision
from unisono_sound.signal import GriffinLim
from unisono_sound.text import Symbols
from unisono_sound.text.symbols import PAUSES, SPECIALS
from unisono_sound.voice import Reading, SpeechRequest, seams, segments

PIECES_AT_ONCE = 32
"""Pieces in memory at a time; they are sorted by length and spoken in batches of a quarter of it."""

RAMP_SECONDS = 0.004
"""How long a change of volume takes, and how long sound fades where silence is put in."""


def speak(model: Any, requests: Sequence[SpeechRequest], on_step: OnStep | None = None) -> list[Audio]:
    """Speak requests of any length; pieces of all of them share batches.

    ``on_step`` counts characters: how many pieces a text has is not known before all of it is read.
    """

    def pieces() -> Iterator[tuple[int, Reading]]:
        for owner, request in enumerate(requests):
            for reading in model.voice.read(request, model.max_piece_characters):
                yield owner, reading

    spoken: list[list[Audio]] = [[] for _ in requests]
    source = pieces()
    progress = Progress(on_step, sum(len(request.text) for request in requests))
    while window := list(islice(source, PIECES_AT_ONCE)):
        made: dict[int, Audio] = {}
        for chosen in chunks(sorted(range(len(window)), key=lambda i: len(window[i][1].ids)), PIECES_AT_ONCE // 4):
            made |= dict(zip(chosen, speak_batch(model, [window[i][1] for i in chosen]), strict=True))
            progress.advance(sum(window[i][1].characters for i in chosen))
        for index, (owner, _) in enumerate(window):
            spoken[owner].append(made[index])
    progress.finish()
    return [Audio.join(parts) for parts in spoken]


@dataclass(frozen=True, eq=False)
class Said:
    """What an acoustic model made of readings: log mels [b, t, m] of ``frames`` [b], the symbols' borders in seconds
    [b, s + 1], and tracks [b, s] by name.
    """

    mel: Float[Tensor, "b t m"]
    frames: Int[Tensor, " b"]
    borders: Float[np.ndarray, "b s1"]
    tracks: dict[str, np.ndarray]


def say(model: Any, readings: Sequence[Reading]) -> Said:
    """Have a model say pieces in one padded batch."""
    check_precision(model)
    lengths = torch.tensor([len(reading.ids) for reading in readings], device=model.device)
    ids = torch.zeros(len(readings), int(lengths.max()), dtype=torch.int64)
    for row, reading in enumerate(readings):
        ids[row, : len(reading.ids)] = torch.tensor(reading.ids)
    said = model.say(ids.to(model.device), lengths, readings)
    ends = said.alignment.ends.double().cpu().numpy() * model.mel_spec.hop_length / model.mel_spec.sample_rate
    borders = np.concatenate([np.zeros((len(readings), 1)), ends], 1)
    tracks = {name: track.float().cpu().numpy() for name, track in said.tracks.items()}
    return Said(said.mel, said.alignment.tgt_lengths, borders, tracks)


def speak_batch(model: Any, readings: Sequence[Reading]) -> list[Audio]:
    """Speak pieces in one padded batch and describe what was said."""
    said = say(model, readings)
    waves = model.vocoder.decode(said.mel, said.frames).float().cpu().numpy()
    return [finished(model, said, row, reading, waves[row]) for row, reading in enumerate(readings)]


def finished(model: Any, said: Said, row: int, reading: Reading, wave: Float[np.ndarray, " n"]) -> Audio:
    """Return the sound of a piece from its waveform: trimmed at its seams, with volume, pauses and what is known."""
    rate, hop = model.mel_spec.sample_rate, model.mel_spec.hop_length
    borders = said.borders[row, : len(reading.ids) + 1]
    first, last = seams(reading, borders)
    wave = loudened(wave, borders, reading, rate)[round(first * rate) : round(last * rate)]
    wave, borders = parted(wave, borders.clip(first, last) - first, reading, rate, hop)
    wave = np.concatenate([wave, silence_behind(reading, rate)])[None]
    return Audio(wave, rate, *described(said, row, reading, borders), text=reading.text)


def silence_behind(reading: Reading, rate: int) -> Float[np.ndarray, " n"]:
    """Return the pause that follows a piece."""
    return np.zeros(round(reading.pause * rate), dtype=np.float32)


def described(
    said: Said, row: int, reading: Reading, borders: Float[np.ndarray, " s1"]
) -> tuple[tuple[Segment, ...], dict[str, Curve]]:
    """Return the phonemes and words of a piece, and its curves."""
    own = {name: track[row, : len(reading.ids)] for name, track in said.tracks.items()}
    return segments(reading.symbols, borders, reading.spans), _curves(reading.symbols, borders, own)


def held_durations(durations: Int[Tensor, "b s"], readings: Sequence[Reading]) -> Int[Tensor, "b s"]:
    """Return durations in frames where symbols whose length is asked for have it."""
    if not any(reading.held for reading in readings):
        return durations
    durations = durations.clone()
    for row, reading in enumerate(readings):
        for place, held in reading.held.items():
            durations[row, place] = held.frames
        if not durations[row].any():  # phonemes that are said too fast to last a frame, and no pause
            durations[row, next(i for i, owner in enumerate(reading.symbols.word_of) if owner >= 0)] = 1
    return durations


def loudened(
    wave: Float[np.ndarray, " n"], borders: Float[np.ndarray, " s1"], reading: Reading, rate: int
) -> Float[np.ndarray, " n"]:
    """Return a piece with the volume of each symbol; ``borders`` in seconds. What is not changed keeps its samples."""
    if not reading.volume or not any(reading.volume):
        return wave
    gain = np.ones(len(wave), dtype=np.float32)
    places = np.rint(borders * rate).astype(np.int64)
    ramp = round(RAMP_SECONDS * rate)
    edges = [0, *(i for i in range(1, len(reading.volume)) if reading.volume[i] != reading.volume[i - 1])]
    for index, begin in enumerate(edges):
        end = edges[index + 1] if index + 1 < len(edges) else len(reading.volume)
        start, stop, level = places[begin], places[end], np.float32(10 ** (reading.volume[begin] / 20))
        if level == 1:
            continue
        gain[start:stop] = level
        # the ramps lie within the stretch, so that its neighbours stay as they are
        size = min(ramp, (stop - start) // 2)
        slope = (np.arange(size, dtype=np.float32) + 0.5) / max(size, 1)
        if begin and reading.volume[begin - 1] == 0:
            gain[start : start + size] = 1 + (level - 1) * slope
        if end < len(reading.volume) and reading.volume[end] == 0:
            gain[stop - size : stop] = level + (1 - level) * slope
    return wave * gain


def parted(
    wave: Float[np.ndarray, " n"], borders: Float[np.ndarray, " s1"], reading: Reading, rate: int, hop: int
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " s1"]]:
    """Return a piece with the silence that is asked for in the middle of its pauses, and its borders, in seconds."""
    parts, done, borders = [], 0, borders.copy()
    ramp = round(RAMP_SECONDS * rate)
    shift = 0.0
    for place, held in sorted(reading.held.items()):
        if not held.silence:
            continue
        middle = round((borders[place] + borders[place + 1] - 2 * shift) / 2 * rate)
        before = wave[done:middle].copy()
        size = min(ramp, len(before))
        before[len(before) - size :] *= np.linspace(1, 0, size, dtype=np.float32)
        if done:
            size = min(ramp, len(before))
            before[:size] *= np.linspace(0, 1, size, dtype=np.float32)
        parts += [before, np.zeros(held.silence * hop, dtype=np.float32)]
        done = middle
        shift += held.silence * hop / rate
        borders[place + 1 :] += held.silence * hop / rate
    if not parts:
        return wave, borders
    rest = wave[done:].copy()
    size = min(ramp, len(rest))
    rest[:size] *= np.linspace(0, 1, size, dtype=np.float32)
    return np.concatenate([*parts, rest]), borders


def griffin_lim(facts: SpeechFacts) -> GriffinLim:
    """The built-in vocoder without weights, by explicit choice only."""
    return GriffinLim(facts.mel_spec)


def _curves(symbols: Symbols, borders: np.ndarray, tracks: dict[str, np.ndarray]) -> dict[str, Curve]:
    """Per-symbol pitch and energy as curves over time, undefined in pauses."""
    silent = np.array([symbol in SPECIALS or symbol in PAUSES for symbol in symbols.symbols])
    units = {"pitch": "Hz", "energy": "dB"}
    curves = {}
    for name, unit in units.items():
        if name in tracks:
            values = np.where(silent, np.nan, tracks[name])
            times = np.stack([borders[:-1], borders[1:]], axis=1).ravel()
            curves[name] = Curve(times, np.repeat(values, 2), unit)
    return curves

"""Lengths: how long a text is spoken, and how its symbols share that, evenly or each with its own.

The rule. A predictor says how long each symbol of the text lasts; with a prompt, all of them times the pace of the
prompt's speaker, which is the prompt's length over what the predictor says of the prompt's text, at least 1/2 and at
most 2. Published is the prompt's frames per symbol times the number of symbols: there the silence around a text and a
pause within a prompt stretch or starve a short text, and a word needs a hand-set speed. With ``uniform`` durations only
the sum counts, and a text has at least a frame for each symbol.

Shapes: b batch, s symbols, p symbols of a prompt.
"""

from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from unisono.duration import Alignment, round_durations
from unisono.errors import RequestError
from unisono_sound.voice import Reading

from unisono_tts.speaking import held_durations
from unisono_tts.zipvoice.request import ZipVoiceRequest

PACES = (0.5, 2.0)
"""How much slower or faster than predicted a prompt's speaker is taken to be, at most."""


def pace_of(predicted: Float[Tensor, " p"], frames: int) -> float:
    """Return by what to multiply predicted durations, so that a prompt's come out as ``frames``, within limits."""
    low, high = PACES
    return min(max(frames / max(float(predicted.sum()), 1e-3), low), high)


def asked_frames(reading: Reading, seconds_per_frame: float) -> int | None:
    """Return the frames that a reading's request asks for; None where the predictor says how many.

    Raises ``RequestError`` for fewer than a text has symbols, and where pauses have lengths of their own.
    """
    seconds = reading.request.seconds
    if seconds is None:
        return None
    if reading.held:
        message = f"seconds={seconds:g} sets the whole length, and so do pauses of given lengths: leave one of them out"
        raise RequestError(message, code="conflict", path="seconds", value=seconds)
    frames, symbols = round(seconds / seconds_per_frame), len(reading.ids)
    if frames < symbols:
        message = (
            f"seconds={seconds:g} has {frames} frames for {symbols} symbols, and each needs one: "
            f"give at least {symbols * seconds_per_frame:.2f}"
        )
        raise RequestError(message, code="range", path="seconds", value=seconds)
    return frames


def check_length(model: Any, request: ZipVoiceRequest, first_limit: int | None = None) -> None:
    """Raise ``RequestError`` where a length is asked for that the text cannot have, or is said in several pieces."""
    if request.seconds is None:
        return
    pieces = list(islice(model.voice.read(request, model.max_piece_characters, first_limit), 2))
    if len(pieces) > 1:
        message = (
            f"seconds={request.seconds:g} is the length of one piece, and this text is said in several, the first "
            f"{pieces[0].text.strip()[:40]!r}: ask for it in parts, or set pace"
        )
        raise RequestError(message, code="limit", path="seconds", value=request.seconds)
    for reading in pieces:
        asked_frames(reading, model.mel_spec.hop_length / model.mel_spec.sample_rate)


def evenly(
    predicted: Float[Tensor, "b s"],
    lengths: Int[Tensor, " b"],
    readings: Sequence[Reading],
    asked: Sequence[int | None],
) -> Alignment:
    """Return symbols that share their sum, or what is asked for, evenly.

    Raises ``RequestError`` for words at a pace of their own and pauses of given lengths: nothing tells where they are.
    """
    totals = []
    for row, reading in enumerate(readings):
        if reading.held or len(set(reading.pace)) > 1:
            path = "word_paces" if reading.request.word_paces else "text"
            message = (
                "this model shares a text's length evenly among its symbols, and knows no place of a word or pause: "
                "leave word_paces, rates and pauses of given lengths out, or train with infilling.durations=predicted"
            )
            raise RequestError(message, code="unsupported", path=path, value=reading.text)
        count = len(reading.ids)
        total = asked[row]
        own = round(float(predicted[row, :count].double().sum()) / reading.pace[0]) if total is None else total
        totals.append(max(own, count))
    return Alignment.uniform(lengths, torch.tensor(totals, device=lengths.device), num_tokens=predicted.shape[1])


def singly(
    predicted: Float[Tensor, "b s"],
    lengths: Int[Tensor, " b"],
    pace: Float[Tensor, "b s"],
    readings: Sequence[Reading],
    asked: Sequence[int | None],
) -> Alignment:
    """Return symbols that last as long as predicted at their pace, in all as long as is asked for."""
    durations = round_durations(predicted, lengths, speed=pace)
    for row, total in enumerate(asked):
        if total is not None:
            count = lengths[row : row + 1]
            one = round_durations(predicted[row : row + 1], count, speed=pace[row : row + 1], total=total)
            durations[row] = one[0]
    return Alignment.from_durations(held_durations(durations, readings), lengths)


def stretched(durations: Float[Tensor, " p"], frames: int) -> Int[Tensor, " p"]:
    """Return a prompt's predicted durations, brought to its frames."""
    return round_durations(durations[None], total=torch.tensor([frames]))[0]

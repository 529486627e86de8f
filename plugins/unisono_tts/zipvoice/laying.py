"""Laying: how a prompt's symbols and a text's lie on the frames of one canvas, the prompt's first.

::

    symbols   prompt's, without the pause at their end │ pause      │ text's, without the silence at their start
    frames    of the recording                         │ both sides │ to be filled in

The pause where they meet has the prompt's last frames and the text's first, as between two sentences of a recording.

Shapes: s symbols, p symbols of a prompt, t frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from unisono.duration import Alignment, beta_binomial_prior, search
from unisono_sound.voice import Reading

from unisono_tts.zipvoice.lengths import stretched
from unisono_tts.zipvoice.prompt import Prompt


@dataclass(frozen=True, eq=False)
class Laid:
    """A prompt on its frames: ``durations`` of its symbols, and ``rest``, the frames of the pause behind them."""

    prompt: Prompt
    durations: Int[Tensor, " p"]
    rest: int = 0


def symbols_of(reading: Reading, prompt: Prompt | None) -> list[int]:
    """Return the symbols that the network reads."""
    return reading.ids if prompt is None else [*prompt.ids, prompt.pause, *reading.ids[1:]]


def lay(model: Any, prompt: Prompt, predicted: Float[Tensor, " s"]) -> Laid:
    """Lay a prompt on its frames: evenly, by the aligner, or, where the model has none, as predicted and stretched."""
    count, frames = len(prompt.ids), len(prompt.mel)
    device = prompt.mel.device
    src, tgt = torch.tensor([count], device=device), torch.tensor([frames], device=device)
    if model.uniform:
        return Laid(prompt, Alignment.uniform(src, tgt).durations[0])
    if model.aligner is None:
        return Laid(prompt, stretched(predicted[:count], frames))
    ids = torch.tensor([[*prompt.ids, *prompt.behind]], device=device)
    src = src + len(prompt.behind)
    prior = None if model.schedule.prior_steps else beta_binomial_prior(src, tgt)
    scores = model.aligner(model.embedding(ids), prompt.mel[None], src, tgt, prior)
    durations = search(scores.detach(), src, tgt)[0]
    return Laid(prompt, durations[:count], int(durations[count:].sum()))


def join(alignment: Alignment, laid: Sequence[Laid | None]) -> Alignment:
    """Return how all symbols lie on the whole canvas, from how those of the texts lie on theirs."""
    rows = []
    for row, known in enumerate(laid):
        own = alignment.durations[row, : int(alignment.src_lengths[row])]
        if known is not None:
            first = own[:1] + known.rest
            own = torch.cat([known.durations.to(own), first, own[1:]])
        rows.append(own)
    lengths = torch.tensor([len(row) for row in rows], device=alignment.durations.device)
    return Alignment.from_durations(torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), lengths)

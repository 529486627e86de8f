"""Pairs: held-out recordings, prepared as for training, and the speakers into whose voices they are converted.

Shapes: n, k samples.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor
from unisono.data import derive_seed
from unisono.errors import DataError
from unisono_sound.corpus import Manifest, Utterance
from unisono_sound.measure.evaluate import attempt
from unisono_sound.signal import read_audio

from unisono_convert.prompts import prepared

__all__ = ["Pair", "pairs_of"]

RECORDING = "recording"


@dataclass
class Pair:
    """A recording and the speaker into whose voice it is converted; ``waves`` by system, ``factors`` real time's."""

    utterance: Utterance
    target: str
    source: Float[Tensor, "n"]
    prompt: Float[Tensor, "k"] | None
    waves: dict[str, Float[np.ndarray, "n"]] = field(default_factory=dict)
    factors: list[float] = field(default_factory=list)


def pairs_of(
    model: Any, manifest: Manifest, limit: int, failures: list[dict[str, str]]
) -> tuple[list[Pair], dict[str, list[Float[Tensor, "n"]]]]:
    """Return what is converted, and of each speaker all held-out recordings, prepared as for training."""
    held, names = set(model.facts.held_out), list(model.facts.speakers)
    usable = [u for u in manifest if u.speaker in names and (u.id in held)]
    if not usable:
        message = "no recording of this corpus is among those that the model was kept from: give the corpus it knows"
        raise DataError(message, code="empty", path="data", value=len(manifest))
    of_speaker = {
        name: sorted((u for u in usable if u.speaker == name), key=lambda u: (derive_seed("convert", u.id), u.id))
        for name in names
    }
    waves: dict[str, Float[Tensor, " n"]] = {}
    for utterance in usable:
        found = attempt(failures, utterance.id, RECORDING, _prepared, model, utterance)
        if found is not None:
            waves[utterance.id] = found
    turns = max(map(len, of_speaker.values()))
    chosen = [own[turn] for turn in range(turns) for own in of_speaker.values() if turn < len(own)]
    pairs = []
    for utterance in [u for u in chosen if u.id in waves][:limit]:
        others = [name for name in names if name != utterance.speaker]
        count = sum(pair.utterance.speaker == utterance.speaker for pair in pairs)
        target = others[count % len(others)]
        prompts = [waves[u.id] for u in of_speaker[target] if u.id in waves and u.text != utterance.text]
        pairs.append(Pair(utterance, target, waves[utterance.id], prompts[0] if prompts else None))
    return pairs, {name: [waves[u.id] for u in own if u.id in waves] for name, own in of_speaker.items()}


def _prepared(model: Any, utterance: Utterance) -> Float[Tensor, "n"]:
    rate = model.mel_spec.sample_rate
    return prepared(read_audio(utterance.audio, rate)[0], rate, model.sound)

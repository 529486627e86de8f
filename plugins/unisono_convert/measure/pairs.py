"""Pairs: held-out recordings, prepared as for training, and the speakers into whose voices they are converted.

Shapes: n, k samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor
from unisono.data import derive_seed
from unisono.errors import DataError
from unisono.files import is_folder
from unisono_sound.corpus import Manifest, Utterance
from unisono_sound.measure.evaluate import attempt, read_corpora
from unisono_sound.signal import read_audio

from unisono_convert.corpus.read import recordings_of
from unisono_convert.prompts import prepared

__all__ = ["Pair", "corpus_of", "pairs_of", "pairs_with_strangers"]

RECORDING = "recording"
MOST_BESIDE = 30


@dataclass(eq=False)
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


def pairs_with_strangers(
    model: Any,
    manifest: Manifest,
    pairs: Sequence[Pair],
    beside: dict[str, list[Float[Tensor, "n"]]],
    failures: list[dict[str, str]],
) -> list[Pair]:
    """Return the recordings of pairs again, each with a speaker who was left out of training; a recording of each is
    the prompt, and all of them (at most ``MOST_BESIDE``) are added to ``beside``.
    """
    left_out = [name for name in model.facts.held_out_speakers if any(u.speaker == name for u in manifest)]
    for name in left_out:
        own = sorted((u for u in manifest if u.speaker == name), key=lambda u: (derive_seed("convert", u.id), u.id))
        found = [attempt(failures, u.id, RECORDING, _prepared, model, u) for u in own[:MOST_BESIDE]]
        beside[name] = [wave for wave in found if wave is not None]
    left_out = [name for name in left_out if beside[name]]
    return [
        Pair(pair.utterance, left_out[number % len(left_out)], pair.source, beside[left_out[number % len(left_out)]][0])
        for number, pair in enumerate(pairs if left_out else [])
    ]


def corpus_of(data: Manifest | str | Path | dict[str, str] | Sequence[str]) -> Manifest:
    """Return a manifest: itself, or read of what training takes, or of ``"name=PATH,name=PATH"``."""
    if isinstance(data, Manifest):
        return data
    if isinstance(data, str | Path) and is_folder(Path(data).expanduser()):
        return recordings_of(str(data))
    return read_corpora(data)


def _prepared(model: Any, utterance: Utterance) -> Float[Tensor, "n"]:
    rate = model.mel_spec.sample_rate
    return prepared(read_audio(utterance.audio, rate)[0], rate, model.sound)

"""Controls: what is asked of each bar and track, as numbers that the network reads; 0 where a control is not given.

::

    chord of each beat    1 + number in CHORDS      the same for all tracks
    density               1 + notes that begin in the bar, up to 16
    register              1 + part of the track's range that its mean pitch is in
    length                1 + bin of the mean duration of the notes that begin
    codes                 1 + code of each group    where the network has any

Shapes: n pieces, m bars, c beats of a bar, k tracks, f controls of a bar and track.
"""

from collections.abc import Sequence

import numpy as np
import torch
from einops import repeat
from jaxtyping import Float, Int
from torch import Tensor

from unisono_music.corpus.facts import ScoreFacts
from unisono_music.models.band.sizes import CodeSizes
from unisono_music.scores import CHORDS, DENSEST, PITCH_BINS, density_bin, duration_bin, pitch_bin

DURATION_BINS = 6


def control_counts(facts: ScoreFacts, codes: CodeSizes) -> list[int]:
    """Return how many values each control of a bar has, 0 included."""
    chords = [1 + len(CHORDS)] * facts.beats_per_bar
    return [*chords, 2 + DENSEST, 1 + PITCH_BINS, 1 + DURATION_BINS, *[1 + codes.codebook_size] * codes.num_groups]


def control_kinds(facts: ScoreFacts, codes: CodeSizes) -> list[int]:
    """Return which controls are of one kind, and given or not together: chords, density, register, length, codes."""
    return [*[0] * facts.beats_per_bar, 1, 2, 3, *[4] * codes.num_groups]


def controls_of(
    chord: Int[np.ndarray, "n m c"],
    density: Int[np.ndarray, "n m k"],
    pitch: Float[np.ndarray, "n m k"],
    duration: Float[np.ndarray, "n m k"],
    facts: ScoreFacts,
    num_codes: int = 0,
) -> Int[Tensor, "k n m f"]:
    """Return what was measured as controls; -1 and NaN are not given, and neither are codes."""
    voices = facts.voices
    register = np.stack(
        [pitch_bin(pitch[..., column], voice.lowest, voice.highest) for column, voice in enumerate(voices)], -1
    )
    own = np.stack([density_bin(density), register, duration_bin(duration, facts.steps_per_beat)], -1)  # [n, m, k, 3]
    beats = np.full((*chord.shape[:2], facts.beats_per_bar), -1, dtype=np.int64)
    beats[..., : chord.shape[-1]] = chord
    shared = repeat(beats, "n m c -> n m k c", k=len(voices))
    codes = np.full((*own.shape[:3], num_codes), -1, dtype=np.int64)
    return torch.from_numpy(np.concatenate([shared, own, codes], -1) + 1).permute(2, 0, 1, 3).contiguous()


def withheld(
    controls: Int[Tensor, "k n m f"], kinds: Sequence[int], share: float, generators: Sequence[torch.Generator]
) -> Int[Tensor, "k n m f"]:
    """Return controls of which some are not given, so that a network learns to do without.

    Of each piece and kind, with probability ``share`` none; else each bar and track is withheld with ``share / 4``, a
    chord for all tracks at once. Codes are withheld as a whole half of the time.
    """
    k, n, m, f = controls.shape
    kind = torch.tensor(kinds)
    kept = torch.empty(k, n, m, f, dtype=torch.bool)
    for number, generator in enumerate(generators):
        whole = torch.rand(5, generator=generator) >= torch.tensor([share] * 4 + [0.5 if share else 0.0])
        single = torch.rand(k, m, 5, generator=generator) >= share / 4
        single[..., 0] = single[:1, :, 0]
        kept[:, number] = (whole & single)[..., kind]
    return torch.where(kept.to(controls.device), controls, 0)

"""Controls: how far chords, densities and mean pitches that are asked for are met."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from unisono.evaluation import Row, Section

from unisono_music.corpus import ScoreFacts
from unisono_music.measure.held import Held
from unisono_music.scores import CHORDS, Features, Score, features_of, pitch_bin

MODEL, UNASKED = "model", "model, unasked"


def controls(synthesizer: Any, held: Held, free: Sequence[Score], fields: dict[str, Any]) -> Section:
    """Ask for the chords, densities and mean pitches of real pieces and see how far they are met, beside the pieces
    ``free`` of the same lengths, for which they were not asked."""
    wanted = [features_of(score) for score in held.real]
    asked = [{**asked_of(features, held.facts), "seed": 1 + number, **fields} for number, features in enumerate(wanted)]
    made = {MODEL: synthesizer(asked), UNASKED: free}
    rows = []
    for measure, unit, better, compared in COMPARED:
        found = {
            system: [compared(w, features_of(score), held.facts) for w, score in zip(wanted, scores, strict=True)]
            for system, scores in made.items()
        }
        for system, label in ((MODEL, measure), (UNASKED, f"{measure}, unasked")):
            rows.append(Row(label, {MODEL: float(np.concatenate(found[system]).mean())}, unit, 3, better))
    return Section("Controls", rows)


def asked_of(features: Features, facts: ScoreFacts) -> dict[str, Any]:
    """Return the request's fields that ask for the features of a piece: its bars, chords, densities and pitches."""
    density, pitch = {}, {}
    for column, voice in enumerate(facts.voices):
        density[voice.name] = [float(min(count, facts.steps_per_bar)) for count in features.density[:, column]]
        if not voice.drums:
            pitch[voice.name] = [None if np.isnan(mean) else float(mean) for mean in features.pitch[:, column]]
    chords = [" ".join(CHORDS[chord] for chord in beats if chord >= 0) for beats in features.chord]
    return {"bars": len(chords), "chords": chords, "density": density, "mean_pitch": pitch}


def _chords_met(wanted: Features, found: Features, facts: ScoreFacts) -> np.ndarray:
    return (wanted.chord == found.chord)[wanted.chord >= 0].astype(float)


def _density_off(wanted: Features, found: Features, facts: ScoreFacts) -> np.ndarray:
    return np.abs(wanted.density - found.density).ravel().astype(float)


def _register_met(wanted: Features, found: Features, facts: ScoreFacts) -> np.ndarray:
    met = []
    for column, voice in enumerate(facts.voices):
        one, other = (pitch_bin(part.pitch[:, column], voice.lowest, voice.highest) for part in (wanted, found))
        met.append((one == other)[one >= 0])
    return np.concatenate(met).astype(float)


COMPARED: tuple[tuple[str, str, str, Callable[[Features, Features, ScoreFacts], np.ndarray]], ...] = (
    ("chord of a beat as asked", "share", "higher", _chords_met),
    ("notes in a bar off", "notes", "lower", _density_off),
    ("part of the range as asked", "share", "higher", _register_met),
)

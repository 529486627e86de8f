"""Held: the pieces that a model of scores is measured on, and the corpus that they are compared with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from unisono.data import derive_seed
from unisono.errors import DataError

from unisono_music.corpus import ScoreData, ScoreFacts
from unisono_music.corpus.chorales import ChoraleData
from unisono_music.corpus.data import score_of_rows
from unisono_music.corpus.midi import MidiData
from unisono_music.corpus.stored import PITCH, TRACK, Stored
from unisono_music.measure.measures import Reference
from unisono_music.scores import Score

MOST_BARS = 16
"""Bars of a piece that are compared; longer ones are cut."""


@dataclass(frozen=True, eq=False)
class Held:
    """What a model is measured on: ``real`` pieces of whole bars, all that it was ``trained`` on, the ``reference`` of
    these, and the ``stored`` held-out pieces as they are. ``seen``: they are those that its facts name as held out."""

    facts: ScoreFacts
    real: list[Score]
    trained: list[Score]
    stored: list[Stored]
    reference: Reference
    seen: bool

    @classmethod
    def read(cls, model: Any, data: str | Path | ScoreData, limit: int) -> "Held":
        """Read a corpus for a model; raises ``DataError`` as ``evaluate`` does."""
        if limit < 1:
            raise DataError(f"limit={limit} must be at least 1", code="range", path="limit", value=limit)
        module = data if isinstance(data, ScoreData) else _module(Path(data))
        module.setup()
        facts, own = model.facts, module.describe()
        for name in ("steps_per_beat", "beats", "unit"):
            if own[name] != facts[name]:
                raise DataError(
                    f"these data have {name} {own[name]}, the model {facts[name]}: give data of its kind",
                    code="conflict",
                    path="data",
                    value=own[name],
                )
        if [voice["name"] for voice in own["voices"]] != [voice["name"] for voice in facts["voices"]]:
            raise DataError(
                "these data have other voices than the model: give data of its kind", code="conflict", path="data"
            )
        train = module.train_set.pieces
        held = module.val_set.pieces if module.val_set else train
        stored = sorted(held, key=lambda piece: derive_seed("chosen", piece.id))
        stored = [piece for piece in stored if _inside(piece, facts)][:limit]
        size = facts.steps_per_bar
        real = [score_of_rows(torch.from_numpy(p.notes), p.num_steps, facts) for p in stored]
        real = [score.cut(0, min(score.num_steps // size, MOST_BARS) * size) for score in real]
        real = [score for score in real if score.num_notes]
        if not real:
            raise DataError(
                "no held-out piece has a whole bar within the model's ranges: give others", code="empty", path="data"
            )
        trained = [score_of_rows(torch.from_numpy(piece.notes), piece.num_steps, facts) for piece in train]
        seen = bool(stored) and module.val_set is not None and not {p.id for p in train} & {p.id for p in stored}
        return cls(facts, real, trained, stored, Reference.of(trained, facts.voices, size), seen)


def num_bars(score: Score, facts: ScoreFacts) -> int:
    """Return how many bars of the model's a score has."""
    return -(-score.num_steps // facts.steps_per_bar)


def _module(path: Path) -> ScoreData:
    """The data at a path: a JSON file of chorales, or a folder of MIDI files."""
    return MidiData(str(path), crop_bars=None) if path.is_dir() else ChoraleData(str(path), crop_bars=None)


def _inside(piece: Stored, facts: ScoreFacts) -> bool:
    """Whether every voice stays within the pitches that the model knows."""
    for number, voice in enumerate(facts.voices):
        pitches = piece.notes[piece.notes[:, TRACK] == number, PITCH]
        if len(pitches) and not voice.lowest <= pitches.min() <= pitches.max() <= voice.highest:
            return False
    return True

"""TuneData: small tunes over chords, made on the spot; for tests and tiny recipes, no file is read."""

import torch
from unisono.data import Audit, derive_seed
from unisono.errors import DataError

from unisono_music.corpus.data import ScoreData
from unisono_music.scores import Meter, Note, Score, Track

_CHORDS = ((0, 4, 7), (5, 9, 0), (7, 11, 2), (9, 0, 4))
_VOICES = (("soprano", 72), ("alto", 65), ("tenor", 58), ("bass", 48))


def make_tune(number: int, num_voices: int = 4) -> Score:
    """Make the tune of a number: 2 to 5 bars in 4/4, a chord for each half bar, some of its notes struck twice."""
    generator = torch.Generator().manual_seed(derive_seed("tune", number))

    def draw(most: int) -> int:
        return int(torch.randint(most, (), generator=generator))

    num_bars, key = 2 + draw(4), draw(3)
    notes: list[list[Note]] = [[] for _ in range(num_voices)]
    for half in range(2 * num_bars):
        chord = _CHORDS[draw(4)] if half < 2 * num_bars - 1 else _CHORDS[0]
        for voice in range(num_voices):
            near = _VOICES[voice][1]
            tone = (chord[draw(3)] if voice < num_voices - 1 else chord[0]) + key
            pitch = near + (tone - near) % 12
            cuts = ((8,), (4, 4), (6, 2))[draw(3)]
            at = 8 * half
            for size in cuts:
                notes[voice].append(Note(at, size, pitch, 60 + 10 * draw(4)))
                at += size
    tracks = tuple(Track(_VOICES[voice][0], tuple(own)) for voice, own in enumerate(notes))
    return Score(tracks, 16 * num_bars, title=f"tune {number}")


class TuneData(ScoreData):
    """Tunes of a few voices, items as of ``ScoreData``.

    Args:
        num_items: tunes to train on.
        num_voices: 1 to 4, the soprano first.
        crop_bars, transpose, batch_size, num_workers: as of ``ChoraleData``.
        val_size: tunes held out.
    """

    def __init__(
        self,
        *,
        num_items: int = 32,
        num_voices: int = 4,
        crop_bars: int | None = None,
        transpose: tuple[int, int] = (0, 0),
        batch_size: int = 8,
        val_size: int = 4,
        num_workers: int = 0,
    ):
        super().__init__(crop_bars, transpose, batch_size, num_workers)
        if not 1 <= num_voices <= len(_VOICES):
            raise DataError(
                f"num_voices={num_voices} must be in [1, {len(_VOICES)}]",
                code="range",
                path="data.num_voices",
                value=num_voices,
            )
        self.num_items, self.num_voices, self.val_size = num_items, num_voices, val_size

    def prepare(self, progress: bool = True) -> Audit:
        audit = Audit("pieces")
        tunes = {f"tune-{n}": make_tune(n, self.num_voices) for n in range(self.num_items + self.val_size)}
        for id, tune in tunes.items():
            audit.keep(id, len(tune.bars), "bars")
        ids = list(tunes)
        train, val = ({id: tunes[id] for id in part} for part in (ids[: self.num_items], ids[self.num_items :]))
        return self.settle(audit, train, val, Meter(), repeats=True)

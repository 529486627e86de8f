"""ChoraleData: pieces of a few voices from JSON, such as Bach's chorales."""

from pathlib import Path

from unisono.data import Audit, hold_out
from unisono.errors import DataError, did_you_mean

from unisono_music.corpus.data import ScoreData
from unisono_music.scores import VOICES, Meter, Score, read_chorales


class ChoraleData(ScoreData):
    """Pieces of a JSON file: an object of parts, each a list of pieces, each a list of steps, each a list of pitches.

    Args:
        path: the file.
        voices: what the pitches of a step are called, in their order.
        train_part, val_part: parts of the file. Others sit out. Where ``val_part`` is null, ``val_size`` pieces of
            ``train_part`` are held out, chosen by their ids.
        val_size: pieces held out where the file has no part for them.
        crop_bars: bars of a training item, from any place; null leaves pieces whole.
        transpose: semitones [low, high] by which training items are moved, as far as every voice stays within the
            pitches that it has in the corpus.
        batch_size: pieces per step over all processes.
        num_workers: loading processes per rank.
    """

    def __init__(
        self,
        path: str,
        *,
        voices: tuple[str, ...] = VOICES,
        train_part: str = "train",
        val_part: str | None = "valid",
        val_size: int = 16,
        crop_bars: int | None = 8,
        transpose: tuple[int, int] = (-5, 6),
        batch_size: int = 16,
        num_workers: int = 0,
    ):
        super().__init__(crop_bars, transpose, batch_size, num_workers)
        self.path, self.voices = path, tuple(voices)
        self.train_part, self.val_part, self.val_size = train_part, val_part, val_size

    def prepare(self, progress: bool = True) -> Audit:
        audit = Audit("pieces")
        pieces = read_chorales(Path(self.path).expanduser(), self.voices)
        parts = list(dict.fromkeys(piece.part for piece in pieces))
        for name, part in (("train_part", self.train_part), ("val_part", self.val_part)):
            if part is not None and part not in parts:
                raise DataError(
                    f"{self.path} has no part {part!r}{did_you_mean(part, parts)}: set data.{name}",
                    code="unknown",
                    path=f"data.{name}",
                    value=part,
                )
        found: dict[str, dict[str, Score]] = {part: {} for part in parts}
        for piece in pieces:
            if piece.part not in (self.train_part, self.val_part):
                continue
            if piece.score is None:
                audit.drop(piece.id, piece.reason, piece.detail)
                continue
            audit.keep(piece.id, len(piece.score.bars), "bars", piece.part)
            found[piece.part][piece.id] = piece.score
        aside = {part: sum(piece.part == part for piece in pieces) for part in parts}
        for part in aside.keys() - {self.train_part, self.val_part}:
            audit.note(f"{aside[part]} pieces of the part {part!r} sit out")
        audit.note("whether a pitch that goes on is held or struck again is not known: it is one note")
        train = found[self.train_part]
        if not train:
            raise DataError(
                f"{self.path}: no usable piece in {self.train_part!r}; dropped: {audit.reasons}",
                code="empty",
                path="data.path",
                value=str(self.path),
            )
        if self.val_part is not None:
            val = {} if self.val_part == self.train_part else found[self.val_part]
        else:
            held = hold_out(dict.fromkeys(train, 1), self.val_size)
            val = {id: score for id, score in train.items() if id in held}
            train = {id: score for id, score in train.items() if id not in held}
        return self.settle(audit, train, val, Meter(), repeats=False)

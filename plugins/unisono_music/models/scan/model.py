"""ScanModel: what state-space models of voices share: facts, requests, writing bar by bar or all at once.

Written in float64, so that the same notes come of a convolution over all steps and of pieces one after the other: what
these differ by, 1e-13, is far below what decides a draw. Only devices without float64 (mps) write in float32.

Shapes: b batch, n steps, q voices.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from jaxtyping import Int
from torch import Tensor, nn
from unisono import Model
from unisono.batching import Progress, chunks, grouped
from unisono.errors import DataError
from unisono.model import OnStep

from unisono_music.corpus import ScoreFacts
from unisono_music.models.scan.request import Asked, ScanRequest, asked
from unisono_music.models.scan.steps import Steps, pad_steps
from unisono_music.models.tokens import Coding
from unisono_music.scores import Score, grid_of

AT_ONCE = 16
"""Requests that are written side by side."""
M = TypeVar("M", bound=nn.Module)


class Writer(Protocol):
    """Rows under way: ``steps``, of which ``done`` are written; it must stop at all of ``stops``, the last its end."""

    steps: Steps
    done: int
    stops: list[int]

    def advance(self, stop: int) -> None:
        """Write up to a step that is no further than the next of ``stops``."""
        ...


class ScanModel(Model):
    """A model that writes steps in their order. A subclass defines `networks`, `losses`, `writer` and `draw_key`."""

    Media: ClassVar[type[Score]] = Score
    Facts: ClassVar[type[ScoreFacts]] = ScoreFacts
    facts: ScoreFacts
    source_facts: ClassVar[tuple[str, ...]] = ("voices", "repeats", "steps_per_beat", "beats", "unit")
    Request: ClassVar[Any] = ScanRequest
    text_field: ClassVar[str] = "score"

    def __init__(self):
        super().__init__()
        self.evaluations = 0

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build for the voices and bars of the corpus; raises ``DataError`` where a voice has several notes at once."""
        super().build(facts)
        if self.facts.polyphonic:
            raise DataError(
                f"{type(self).__name__} has one note for each voice and step, and these data several: set "
                "data.midi.at_once to top",
                code="conflict",
                path="data.midi.at_once",
            )
        self.coding = Coding(self.facts)
        self.networks(self.coding.sizes, self.facts.steps_per_bar)

    def units(self, batch: dict[str, Any]) -> dict[str, int]:
        return {"bars": int((batch["bars"] >= 0).sum()) - len(batch["bars"])}

    # ---- what a model defines ------------------------------------------------------------------

    def networks(self, voices: Sequence[int], steps_per_bar: int) -> None:
        """Make the networks, for so many tokens of each voice."""
        raise TypeError(f"{type(self).__name__} defines no networks()")

    def draw_key(self, request: Any) -> tuple[Any, ...]:
        """Return what must agree for two requests to be written side by side."""
        raise TypeError(f"{type(self).__name__} defines no draw_key()")

    def writer(self, requests: Sequence[Any], rows: Sequence[Asked], seeds: Sequence[int]) -> Writer:
        """Begin to write requests of one ``draw_key``."""
        raise TypeError(f"{type(self).__name__} defines no writer()")

    # ---- synthesis -----------------------------------------------------------------------------

    def synthesize(
        self,
        requests: Sequence[Any],
        generator: torch.Generator | None = None,
        on_step: OnStep | None = None,
    ) -> list[Score]:
        """Write a score for each request."""
        rows = [asked(request, self.facts, self.coding) for request in requests]
        seeds = [self.seed_of(request, generator) for request in requests]
        progress = Progress(on_step, sum(len(row.tokens) for row in rows))
        made: dict[int, Score] = {}
        kinds = grouped(range(len(rows)), lambda i: self.draw_key(requests[i]), lambda i: len(rows[i].tokens))
        for group in (part for kind in kinds for part in chunks(kind, AT_ONCE)):
            writer = self.writer([requests[i] for i in group], [rows[i] for i in group], [seeds[i] for i in group])
            before, lengths = progress.done, [len(rows[i].tokens) for i in group]
            for stop in writer.stops:
                writer.advance(stop)
                progress.to(before + sum(min(writer.done, length) for length in lengths))
            for i, tokens, length in zip(group, writer.steps.tokens.cpu(), lengths, strict=True):
                made[i] = rows[i].score(tokens[:length], self.coding)
        progress.finish()
        return [made[i] for i in range(len(rows))]

    def stream(self, request: Any, generator: torch.Generator | None = None) -> Iterator[Score]:
        """Yield bar after bar, each as soon as it is written; what is kept between them are the networks' states."""
        with torch.inference_mode():
            row, size = asked(request, self.facts, self.coding), self.facts.steps_per_bar
            writer = self.writer([request], [row], [self.seed_of(request, generator)])
        for stop in range(size, len(row.tokens) + 1, size):
            with torch.inference_mode():
                writer.advance(stop)
                whole = row.score(writer.steps.tokens[0, :stop].cpu(), self.coding)
            yield whole.cut(stop - size, stop)

    def side_by_side(self, rows: Sequence[Asked]) -> tuple[Steps, Int[Tensor, " b"]]:
        """Return requests as padded steps, and how many of each are given."""
        tokens, place, bar = ([getattr(row, name) for row in rows] for name in ("tokens", "place", "bar"))
        return pad_steps(tokens, place, bar, self.device), torch.tensor([r.given for r in rows], device=self.device)

    def exact(self, network: M) -> M:
        """Return a copy of a network in float64, where the device has that."""
        kind = torch.float32 if self.device.type == "mps" else torch.float64
        return deepcopy(network).eval().requires_grad_(False).to(kind)

    # ---- what is tried: by previews in training, and by the conformance kit ---------------------

    def preview_requests(self) -> list[Any]:
        fixed = [self.Request(bars=4), self.Request(bars=6, seed=1)]
        beginning = self._beginning(self.facts.steps_per_bar)
        return [*fixed, self.Request(notes=beginning, bars=4)] if beginning else fixed

    def check_requests(self) -> list[Any]:
        requests = [*super().check_requests(), self.Request(bars=1), self.Request(bars=9, bpm=60, temperature=0.5)]
        beginning = self._beginning(self.facts.steps_per_bar + 3)
        return [*requests, self.Request(notes=beginning, bars=3)] if beginning else requests

    def given_parts(self, request: Any, made: Score) -> list[tuple[Any, Any]]:
        row = asked(request, self.facts, self.coding)
        found = self.coding.encode(grid_of(made))
        return [(row.tokens[: row.given].tolist(), found[: row.given].tolist())]

    def _beginning(self, steps: int) -> list[tuple[str, int, int, int]]:
        """The first notes of a held-out piece, up to a step."""
        names = [voice.name for voice in self.facts.voices]
        return [
            (names[track], onset, min(length, steps - onset), pitch)
            for track, onset, length, pitch, _ in self.facts.sample
            if onset < steps
        ]

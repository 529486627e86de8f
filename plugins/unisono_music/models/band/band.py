"""music/band: BandControlNet, several tracks written in parallel under controls for each bar and track.

Luo et al., "BandControlNet: Parallel Transformers-based Steerable Popular Music Generation with Fine-Grained
Spatiotemporal Features" (arXiv:2407.10462). Tracks write their words side by side, each in its own row, and wait for
one another at bar lines, where they exchange what they wrote (`network.py`, `compose.py`).

Differences beside those of the network, the words and the codes: controls are withheld from time to time while it
learns, so that a request may leave any of them open; words that the grammar does not allow have no probability, in
training too; velocities are not written.

Shapes: k tracks, n pieces, t words, s bars, p steps of a bar, f controls of a bar and track, v words of the vocabulary.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F
from unisono import Model
from unisono.batching import Progress, grouped
from unisono.errors import DataError, RequestError
from unisono.masked import Nucleus
from unisono.model import OnStep
from unisono.verify import Draw

from unisono_music.corpus.facts import ScoreFacts
from unisono_music.models.band.coder import BarCoder
from unisono_music.models.band.compose import Composition, Plan, Written
from unisono_music.models.band.controls import control_counts, control_kinds, controls_of, withheld
from unisono_music.models.band.grammar import Grammar
from unisono_music.models.band.network import BandNetwork
from unisono_music.models.band.pieces import Pieces, pieces_of
from unisono_music.models.band.request import BandRequest, asked, bars_of
from unisono_music.models.band.sizes import BandSizes, CodeSizes, Structure
from unisono_music.models.band.words import Words
from unisono_music.scores import Grid, Score, changes, grid_of, score_of

PREVIEW_CHORDS = "C | F G | Am | F | C G | C"


class Band(Model):
    """BandControlNet; see the module.

    Args:
        network: sizes of the layers.
        codes: sizes of the bars' codes.
        structure: how bars that are alike see one another; ``product`` as published.
        features: whether it has controls at all, and structure with them; without, a track knows its own words only.
        cross_track: whether tracks exchange anything.
        withheld_share: of the training items that do without a kind of control.
        code_weight: of the autoencoder's loss; it shares no weight with the rest.
        max_bars: of a piece that is written.
    """

    Media: ClassVar[type[Score]] = Score
    Facts: ClassVar[type[ScoreFacts]] = ScoreFacts
    facts: ScoreFacts
    source_facts: ClassVar[tuple[str, ...]] = ("voices", "steps_per_beat", "beats", "unit")
    Request: ClassVar[type[BandRequest]] = BandRequest
    text_field: ClassVar[str] = "chords"
    salt: ClassVar[str] = "band"

    def __init__(
        self,
        *,
        network: BandSizes = BandSizes(),  # noqa: B008
        codes: CodeSizes = CodeSizes(),  # noqa: B008
        structure: Structure = "product",
        features: bool = True,
        cross_track: bool = True,
        withheld_share: float = 0.2,
        code_weight: float = 1.0,
        max_bars: int = 32,
    ):
        super().__init__()
        self.network, self.codes = network, codes
        self.structure: Structure = structure
        self.features, self.cross_track = features, cross_track
        self.withheld_share, self.code_weight, self.max_bars = withheld_share, code_weight, max_bars
        self.evaluations = 0

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build for the voices, ranges and bars of the corpus; raises ``DataError`` for tracks of several notes at
        once."""
        super().build(facts)
        own = self.facts
        if own.polyphonic:
            raise DataError(
                "music/band writes one note at a time in each track, and tracks of this corpus have several at once: "
                "take their top lines, or other tracks",
                code="unsupported",
                path="polyphonic",
                value=True,
            )
        self.lowest = [voice.lowest for voice in own.voices]
        self.words = Words(own.steps_per_bar, max(voice.num_pitches for voice in own.voices))
        self.grammar = Grammar.of(self.words)
        self.allowed: Tensor
        self.register_buffer("allowed", self._ranges(), persistent=False)
        self.kinds = control_kinds(own, self.codes)
        self.net = BandNetwork(
            num_tracks=len(own.voices),
            vocabulary=len(self.words),
            controls=control_counts(own, self.codes) if self.features else [],
            sizes=self.network,
            structure=self.structure,
            cross_track=self.cross_track,
        )
        self.coder = (
            BarCoder(self.words, len(own.voices), self.codes) if self.features and self.codes.num_groups else None
        )

    def _ranges(self) -> Bool[Tensor, "k v"]:
        """The words of each track: all but pitches above its highest."""
        allowed = torch.ones(len(self.facts.voices), len(self.words), dtype=torch.bool)
        for row, voice in zip(allowed, self.facts.voices, strict=True):
            row[self.words.pitches][voice.num_pitches :] = False
        return allowed

    # ---- training ------------------------------------------------------------------------------

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Return the mean cost of a word, that of all tracks in a step (``nats_per_step``), and the coder's parts."""
        pieces = self.pieces(batch)
        controls = self.measured(batch)
        parts: dict[str, Tensor] = {}
        coding: Tensor | float = 0.0
        if self.coder is not None:
            cost, quantised = self.coder(pieces.pitch, pieces.onset, pieces.kept, batch["row"])
            made = self.global_mean(cost, pieces.sounding.expand(cost.shape))
            commitment = self.global_mean(quantised.commitment, pieces.kept.repeat(len(pieces.pitch), 1))
            coding = self.code_weight * (made + commitment)
            parts = {"bars": made, "perplexity": quantised.perplexity.mean()}
            if self.training:
                tokens = quantised.tokens.unflatten(0, pieces.pitch.shape[:2])
                controls = torch.cat([controls[..., : -self.codes.num_groups], tokens + 1], -1)
        if self.training:
            generators = [torch.Generator().manual_seed(seed) for seed in self.row_seeds(batch)]
            controls = withheld(controls, self.kinds, self.withheld_share, generators)
        cost = self.cost(pieces, controls)
        words = self.global_mean(cost, pieces.there)
        each = (cost * pieces.there).sum((0, 2)) / pieces.steps  # of all tracks, by piece
        steps = pieces.sounding.flatten(1)
        parts["nats_per_step"] = self.global_mean(each[:, None].expand(steps.shape), steps)
        return {"loss": words + coding, "words": words, **parts}

    def pieces(self, batch: dict[str, Any]) -> Pieces:
        """Return the pieces of a batch as words, on the model's device."""
        grids = [
            _grid(notes, int(steps), len(self.lowest))
            for notes, steps in zip(batch["notes"].cpu().numpy(), batch["steps"].tolist(), strict=True)
        ]
        return pieces_of(grids, self.lowest, self.grammar, self.allowed).to(self.device)

    def measured(self, batch: dict[str, Any]) -> Int[Tensor, "k n s f"]:
        """Return what was measured of a batch as controls, without codes."""
        names = ("chord", "density", "pitch", "duration")
        chord, density, pitch, duration = (batch[name].cpu().numpy() for name in names)
        return controls_of(chord, density, pitch, duration, self.facts, self.codes.num_groups).to(self.device)

    def cost(self, pieces: Pieces, controls: Int[Tensor, "k n s f"]) -> Float[Tensor, "k n t"]:
        """Return what each word costs in nats, 0 for padding: only words that the grammar allows share probability."""
        guide = self.net.read(controls, pieces.kept)
        logits = self.net(pieces.words, pieces.bars, pieces.openings, guide).float()
        logits = torch.where(pieces.there[..., None], logits.masked_fill(~pieces.legal, -torch.inf), 0.0)
        cost = F.cross_entropy(logits.flatten(0, 2), pieces.targets.flatten(), reduction="none")
        return cost.view_as(pieces.targets) * pieces.there

    def coded(self, pieces: Pieces, controls: Int[Tensor, "k n s f"]) -> Int[Tensor, "k n s f"]:
        """Return controls with the codes of the pieces' bars."""
        if self.coder is None:
            return controls
        codes = self.coder.codes(pieces.pitch, pieces.onset, pieces.kept) + 1
        return torch.cat([controls[..., : -self.codes.num_groups], codes], -1)

    def units(self, batch: dict[str, Any]) -> dict[str, int]:
        return {"notes": int((batch["notes"][..., 0] >= 0).sum())}

    # ---- synthesis -----------------------------------------------------------------------------

    def synthesize(
        self,
        requests: Sequence[BandRequest],
        generator: torch.Generator | None = None,
        on_step: OnStep | None = None,
    ) -> list[Score]:
        """Write a score for each request; those that draw alike are written side by side."""
        plans = [self.plan(request, self.seed_of(request, generator)) for request in requests]
        progress = Progress(on_step, sum(len(plan.bars) for plan in plans))
        made: dict[int, Score] = {}
        for group in grouped(range(len(plans)), lambda number: _draw_key(requests[number])):
            before = progress.done
            composition = self.compose([plans[number] for number in group], requests[group[0]])
            while not composition.ended:
                self.step(composition)
                progress.to(before + sum(composition.finished))
            for number, piece in zip(group, composition.written(), strict=True):
                made[number] = self.score(piece, sum(plans[number].bars), requests[number].bpm)
        progress.finish()
        return [made[number] for number in range(len(plans))]

    def stream(self, request: BandRequest, generator: torch.Generator | None = None) -> Iterator[Score]:
        """Yield each bar as soon as all tracks have written it."""
        plan = self.plan(request, self.seed_of(request, generator))
        composition, told, size = self.compose([plan], request), 0, self.words.bar_steps
        while not composition.ended:
            self.step(composition)
            (done,) = composition.finished
            if done > told:
                score = self.score(composition.written()[0], done * size, request.bpm)
                for bar in range(told, done):
                    yield score.cut(bar * size, (bar + 1) * size)
                told = done

    def compose(self, plans: Sequence[Plan], draw: BandRequest) -> Composition:
        """Begin pieces side by side; ``draw`` says how words are drawn."""
        warp = None
        if draw.top_p < 1:
            nucleus: Any = Nucleus(draw.top_p)
            warp = lambda logits: nucleus(logits, None)  # noqa: E731
        return Composition(self.net, self.grammar, self.allowed, plans, Draw(draw.temperature, warp))

    def step(self, composition: Composition) -> None:
        """Evaluate the network once for all pieces of a composition."""
        composition.step()
        self.evaluations += 1

    def plan(self, request: BandRequest, seed: int) -> Plan:
        """Return what is to be written for a request; raises ``RequestError`` for what this model cannot do."""
        if request.asks and not self.features:
            raise RequestError(
                "this model was trained without controls: give bars alone", code="unsupported", path="chords"
            )
        count = bars_of(request, self.max_bars)
        controls = asked(request, count, self.facts, self.codes.num_groups)
        if request.like is not None:
            codes = self._codes_like(request.like)[:, :count]
            controls[:, : codes.shape[1], -self.codes.num_groups :] = codes + 1
        return Plan(controls, (self.words.bar_steps,) * count, seed)

    def _codes_like(self, path: str) -> Int[Tensor, "k s q"]:
        """The codes of the bars of a score; raises ``RequestError`` unless it is of the model's tracks."""
        if self.coder is None:
            raise RequestError("this model has no codes: leave like out", code="unsupported", path="like", value=path)
        try:
            score = Score.read(path, self.facts.steps_per_beat)
            grid = grid_of(score)
        except DataError as error:
            raise RequestError(str(error), code=error.code, path="like", value=path) from None
        names = [voice.name for voice in self.facts.voices]
        if len(grid.pitch) != len(names) or not score.num_steps:
            raise RequestError(
                f"{path} has {len(grid.pitch)} tracks of {score.num_steps} steps: give one for each of "
                f"{', '.join(names)}, with notes",
                code="shape",
                path="like",
                value=len(grid.pitch),
            )
        for voice, row in zip(self.facts.voices, grid.pitch, strict=True):
            outside = row[(row >= 0) & ((row < voice.lowest) | (row > voice.highest))]
            if outside.size:
                raise RequestError(
                    f"{path}: {voice.name} has the pitch {outside[0]}, outside of {voice.lowest} to {voice.highest}: "
                    "transpose it",
                    code="range",
                    path="like",
                    value=int(outside[0]),
                )
        pieces = pieces_of([grid], self.lowest, self.grammar, self.allowed).to(self.device)
        return self.coder.codes(pieces.pitch, pieces.onset, pieces.kept)[:, 0].cpu()

    def score(self, written: Written, num_steps: int, bpm: float | None = None) -> Score:
        """Return words as a score of the corpus' tracks."""
        rows = [self.words.decode(track, num_steps) for track in written.words]
        pitch = np.stack([np.where(p < 0, -1, p + low) for (p, _), low in zip(rows, self.lowest, strict=True)])
        return score_of(Grid(pitch, np.stack([onset for _, onset in rows])), self.facts.blank(num_steps, bpm))

    def preview_requests(self) -> list[Any]:
        """Return chords that are followed, and bars that are not told anything."""
        if not self.features:
            return [self.Request(bars=min(8, self.max_bars)), self.Request(bars=min(4, self.max_bars), seed=1)]
        chords = "|".join(PREVIEW_CHORDS.split("|")[: self.max_bars])
        top = self.facts.voices[0].name
        return [
            self.Request(chords=chords, density={top: 4}),
            self.Request(bars=min(4, self.max_bars), seed=1),
        ]


def _draw_key(request: BandRequest) -> tuple[float, float]:
    return request.temperature, request.top_p


def _grid(notes: Int[np.ndarray, "n 5"], steps: int, voices: int) -> Grid:
    """The notes (track, onset, duration, pitch, velocity) of a piece as a grid; those of track -1 are padding."""
    pitch = np.full((voices, steps), -1, dtype=np.int64)
    onset = np.zeros((voices, steps), dtype=bool)
    for track, begin, duration, height, _ in notes[notes[:, 0] >= 0].tolist():
        pitch[track, begin : begin + duration] = height
        onset[track, begin] = True
    return Grid(pitch, onset | (changes(pitch) & (pitch >= 0)))

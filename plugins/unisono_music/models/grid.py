"""GridModel: a masked model of voices over time; it writes, fills gaps, goes on and harmonises.

Known relative: Coconet (Huang et al., "Counterpoint by Convolution", arXiv:1903.07227), which fills masked cells of a
grid of Bach's chorales by any order. Decoded by any preset of ``unisono.masked``.

Differences:
- A transformer with depthwise convolutions over the steps; Coconet is a deep convolutional network over time and pitch.
- Cells are hidden by the plan's cosine, by whole voices, and by stretches of bars; Coconet hides any cells.
- Chords, density and mean pitch of each bar may be told; Coconet has no controls.
- Where the data know repeats, a cell says if it is struck or held; Coconet's have pitches alone.

Shapes: b batch, n steps, q voices, v vocabulary, m bars, c beats of a bar.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from unisono.data import derive_seed
from unisono.errors import DataError, RecipeError
from unisono.masked import Canvas, Layout, Plan, Scheduled, Strategy
from unisono.masked.model import MaskedModel, StreamNetwork, TaskWindow
from unisono.masked.training.corrupt import Corrupted, PlanMasking

from unisono_music.corpus import ScoreFacts
from unisono_music.models.filling import GridFilling
from unisono_music.models.network import GridCondition, GridNetwork
from unisono_music.models.request import GridRequest, read_request
from unisono_music.models.sampling import SAMPLERS, SAMPLING
from unisono_music.models.sizes import GridSizes, Hiding
from unisono_music.models.tokens import Coding, batch_tokens
from unisono_music.scores import Score, density_bin, grid_of, pitch_bin

MASKING = PlanMasking(Plan(Scheduled(1)))
"""What is hidden of the open cells while training: a share γ(r), γ MaskGIT's cosine and r uniform."""


class GridModel(MaskedModel):
    """A masked model over the cells of a grid: one for each voice and step.

    ::

        what stands (a voice, bars, notes) ─ tokens ─┐
        chords, density, mean pitch ─ controls ──────┴─ network ─ cells ─ score

    Args:
        max_bars: bars that are filled at once; longer scores go window by window.
        network: sizes of the network.
        hiding: what is hidden while training.
        label_smoothing: of the cells' labels.
    """

    Media: ClassVar[type[Score]] = Score
    Facts: ClassVar[type[ScoreFacts]] = ScoreFacts
    facts: ScoreFacts
    Request: ClassVar[type[GridRequest]] = GridRequest
    salt: ClassVar[str] = "music-grid"
    text_field: ClassVar[str] = "score"
    samplers: ClassVar[dict[str, str]] = SAMPLERS
    decoding_fields: ClassVar[tuple[str, ...]] = SAMPLING.fields
    source_facts: ClassVar[tuple[str, ...]] = ("voices", "repeats", "steps_per_beat", "beats", "unit")

    def __init__(
        self,
        *,
        max_bars: int = 8,
        network: GridSizes = GridSizes(),  # noqa: B008
        hiding: Hiding = Hiding(),  # noqa: B008
        label_smoothing: float = 0.0,
    ):
        super().__init__()
        if max_bars < 1:
            raise RecipeError(
                f"model.max_bars={max_bars} must be at least 1", code="range", path="model.max_bars", value=max_bars
            )
        if not 0 <= label_smoothing < 1:
            raise RecipeError(
                f"model.label_smoothing={label_smoothing} must be in [0, 1)",
                code="range",
                path="model.label_smoothing",
                value=label_smoothing,
            )
        self.max_bars, self.sizes, self.hiding, self.label_smoothing = max_bars, network, hiding, label_smoothing

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build for the voices and bars of the corpus; raises ``DataError`` where a voice has several notes at once."""
        super().build(facts)
        if self.facts.polyphonic:
            raise DataError(
                "music/grid has one note for each voice and step, and these data several: set data.midi.at_once to top",
                code="conflict",
                path="data.midi.at_once",
            )
        self.coding = Coding(self.facts)
        self.net = GridNetwork(self.coding.sizes, self.facts.steps_per_bar, self.sizes)

    def layout(self, num_positions: int, request: GridRequest | None = None) -> Layout:
        """Return what each cell is: step · q + voice, all voices decoded together, each with its own range."""
        return Layout.streams(num_positions, self.coding.sizes, shared=True)

    # ---- training ------------------------------------------------------------------------------

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        seeds = self.row_seeds(batch)
        tokens, condition = self.read_batch(batch, seeds)
        canvas = Canvas.blank(self.layout(tokens.shape[1]), seeds, condition.length * tokens.shape[2], self.device)
        given = self.given(condition, seeds)
        corrupted = MASKING(canvas.freeze(tokens.flatten(1), given.flatten(1)), tokens.flatten(1))
        loss, accuracy = self.hidden_losses(self.seen(corrupted, condition), corrupted, self.label_smoothing)
        return {"loss": loss, "accuracy": accuracy}

    def seen(self, corrupted: Corrupted, condition: GridCondition) -> Float[Tensor, "b l v"]:
        """Return the logits of every cell of a corrupted canvas, tokens beyond a voice's own apart."""
        canvas, q = corrupted.canvas, len(self.coding.sizes)
        tokens, known = (x.unflatten(1, (-1, q)) for x in (canvas.tokens, canvas.known))
        logits = self.predict(tokens, known, condition).flatten(1, 2).float()
        return (
            logits.masked_fill(canvas.layout.foreign(), float("-inf")) if not canvas.layout.one_vocabulary else logits
        )

    def read_batch(
        self, batch: dict[str, Any], seeds: list[int] | None = None
    ) -> tuple[Int[Tensor, "b n q"], GridCondition]:
        """Return tokens and condition of a batch; without ``seeds``, and where all is told, all controls are."""
        lowest = torch.tensor([voice.lowest for voice in self.facts.voices])
        notes, steps = batch["notes"].cpu(), batch["steps"].tolist()
        rows = [batch_tokens(own, n, lowest, self.facts.repeats) for own, n in zip(notes, steps, strict=True)]
        tokens = nn.utils.rnn.pad_sequence(rows, batch_first=True).to(self.device)
        place, chord, density, pitch = (
            nn.utils.rnn.pad_sequence(list(rows), batch_first=True).to(self.device)
            for rows in zip(*self._controls(batch, seeds), strict=True)
        )
        condition = GridCondition(place, chord, density, pitch, batch["steps"], batch["begins"], batch["ends"])
        return tokens, condition

    def _controls(self, batch: dict[str, Any], seeds: list[int] | None) -> list[tuple[Tensor, ...]]:
        """Place in the bar, and chord, density and mean pitch as far as they are told, of each row's steps."""
        low, high = ([getattr(voice, name) for voice in self.facts.voices] for name in ("lowest", "highest"))
        whole = {name: batch[name].cpu().numpy() for name in ("bars", "chord", "density", "pitch")}
        found = []
        for row, steps in enumerate(batch["steps"].tolist()):
            bars = whole["bars"][row]
            bars = bars[bars >= 0]
            size = np.diff(bars)
            which = np.repeat(np.arange(len(size)), size)
            place = np.minimum(np.arange(steps) - bars[:-1][which], self.facts.steps_per_bar - 1)
            m = len(size)
            chord, density, pitch = (whole[name][row, :m] for name in ("chord", "density", "pitch"))
            beats = np.minimum(place // self.facts.steps_per_beat, chord.shape[1] - 1)
            columns = [pitch_bin(pitch[:, i], low[i], high[i]) for i in range(len(low))]
            controls = [1 + chord[which, beats], 1 + density_bin(density)[which], 1 + np.stack(columns, 1)[which]]
            if seeds is not None and self.training:
                controls = self._told(controls, which, derive_seed(seeds[row], "controls"))
            arrays = [place, *controls]
            found.append(tuple(torch.from_numpy(np.asarray(x, dtype=np.int64)) for x in arrays))
        return found

    def _told(self, controls: list[np.ndarray], which: np.ndarray, seed: int) -> list[np.ndarray]:
        """Controls with some of them hidden: none is told, or each of chord, density and pitch in a share of bars."""
        generator = np.random.default_rng(seed)
        if generator.random() < self.hiding.controls:
            return [np.zeros_like(control) for control in controls]
        bars = which.max() + 1 if len(which) else 0
        told = []
        for control in controls:
            shape = (bars, *control.shape[1:])
            share = generator.choice([0.0, 0.5, 1.0])
            told.append(np.where((generator.random(shape) < share)[which], control, 0))
        return told

    def given(self, condition: GridCondition, seeds: list[int]) -> Bool[Tensor, "b n q"]:
        """Return what of each item is given in training: some voices, all but a stretch of bars, or nothing."""
        n, q = condition.density.shape[1:]
        given = torch.zeros(len(seeds), n, q, dtype=torch.bool)
        for row, (seed, length) in enumerate(zip(seeds, condition.length.tolist(), strict=True)):
            generator = np.random.default_rng(derive_seed(seed, "given"))
            kind = generator.random()
            if kind < self.hiding.voices and q > 1:
                kept = generator.permutation(q)[: generator.integers(1, q)]
                given[row, :length, torch.from_numpy(kept)] = True
            elif self.hiding.voices <= kind < self.hiding.voices + self.hiding.bars:
                start, stop = np.sort(generator.integers(0, length + 1, 2))
                if stop > start:
                    given[row, :start], given[row, stop:length] = True, True
        return given.to(condition.length.device)

    def units(self, batch: dict[str, Any]) -> dict[str, int]:
        return {"bars": int((batch["bars"] >= 0).sum()) - len(batch["bars"])}

    # ---- synthesis -----------------------------------------------------------------------------

    def task(self, request: GridRequest, seed: int, streaming: bool = False) -> GridFilling:
        SAMPLING.check(request)
        return GridFilling(self, read_request(self.facts, self.coding, request), seed)

    def denoiser(self, windows: Sequence[TaskWindow], canvas: Canvas) -> StreamNetwork:
        parts = {
            name: nn.utils.rnn.pad_sequence(
                [getattr(window.task, name)[window.start : window.stop] for window in windows], batch_first=True
            ).to(self.device)
            for name in ("place", "chord", "density", "mean_pitch")
        }
        edges = [[window.start == 0, window.stop == len(window.task.tokens)] for window in windows]
        begins, ends = torch.tensor(edges, device=self.device).unbind(1)
        q = len(self.coding.sizes)
        condition = GridCondition(
            place=parts["place"],
            chord=parts["chord"],
            density=parts["density"],
            register=parts["mean_pitch"],
            length=canvas.length // q,
            begins=begins,
            ends=ends,
        )
        return StreamNetwork(self.predict, q, condition)

    def strategy(self, request: GridRequest, canvas: Canvas, network: StreamNetwork) -> Strategy:
        (condition,) = network.condition
        unconditional = StreamNetwork(self.predict, network.num_streams, condition.untold())
        return SAMPLING.strategy(request, canvas.layout, unconditional)

    def predict(
        self, tokens: Int[Tensor, "b n q"], known: Bool[Tensor, "b n q"], condition: GridCondition
    ) -> Float[Tensor, "b n q v"]:
        """Return the logits of every cell."""
        return self.net(tokens, known, condition)

    # ---- what is asked by whom checks it --------------------------------------------------------

    def preview_requests(self) -> list[GridRequest]:
        bars = min(self.max_bars, 4)
        fixed = [self.Request(bars=bars), self.Request(bars=bars + 1, chords=["C", "G", "Am", "F", "C"][: bars + 1])]
        if len(self.facts.voices) > 1 and self.facts.sample:
            first = self.facts.voices[0].name
            melody = [
                (first, onset, length, pitch) for track, onset, length, pitch, _ in self.facts.sample if not track
            ]
            if melody:
                fixed.append(self.Request(notes=melody, keep_voices=[first]))
        return fixed

    def check_requests(self) -> list[GridRequest]:
        voice = self.facts.voices[-1]
        middle = (voice.lowest + voice.highest) // 2
        return [
            *super().check_requests(),
            self.Request(bars=1),
            self.Request(bars=2 * self.max_bars + 1),
            self.Request(bars=3, notes=[(voice.name, 2, 3, middle)], density={voice.name: 4}, guidance_scale=2.0),
            self.Request(bars=2, mean_pitch={voice.name: [middle, None]}, bpm=60),
            *(self.Request(bars=2, sampler=name) for name in ("maskgit", "mdlm", "one_pass")),
        ]

    def given_parts(self, request: GridRequest, made: Score) -> list[tuple[Any, Any]]:
        asked = read_request(self.facts, self.coding, request)
        found = self.coding.encode(grid_of(made))
        return [(asked.tokens[asked.frozen].tolist(), found[asked.frozen].tolist())]

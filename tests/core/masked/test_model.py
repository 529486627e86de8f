"""MaskedModel: a model of another modality, written from its docstring alone; batching and progress beneath it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field
from refused import refused
from unisono import Request, Synthesizer
from unisono.batching import Progress, chunks, grouped
from unisono.data import derive_seed
from unisono.errors import UnisonoError
from unisono.masked import Canvas, Layout, Plan, PlanMasking, Scheduled, cut, make_strategy
from unisono.masked.model import MaskedModel, StreamNetwork, TaskWindow

V, Q, LIMIT = 5, 2, 6


class BeadRequest(Request):
    """A string of beads in two rows."""

    text: str = Field(default="", description="beads that are given, one letter a to e each; ? is to be made")
    colour: int = Field(default=0, ge=0)
    sampler: str = "maskgit"
    num_steps: int | None = None
    temperature: float | None = None


@dataclass
class Beads:
    """Task, and its own windows of at most `LIMIT` beads."""

    model: "BeadModel"
    request: BeadRequest
    seed: int
    tokens: torch.Tensor = field(init=False)
    known: torch.Tensor = field(init=False)
    done: int = 0
    told: int = 0

    def __post_init__(self):
        ids = [[max("abcde".find(c), 0)] * Q for c in self.request.text]
        self.tokens = torch.tensor(ids, dtype=torch.int64)
        self.known = torch.tensor([[c != "?", False] for c in self.request.text])

    @property
    def total(self):
        return len(self.tokens)

    def runs(self):
        return [self._run()]

    def _run(self):
        for number, (start, stop) in enumerate(cut(0, self.total, LIMIT, 2)):
            kind = BeadModel.settings(self.request)
            made = yield TaskWindow(self, start, stop, derive_seed(self.seed, number), kind)
            self.tokens[start:stop], self.known[start:stop], self.done = made, True, stop

    def pieces(self):
        if self.told < self.done:
            self.told, before = self.done, self.told
            yield "".join("abcde"[i] for i in self.tokens[before : self.done, 0])

    def whole(self):
        return "".join("abcde"[i] for i in self.tokens[:, 0]), self.tokens.clone()

    def view(self, canvas, row):
        return int(canvas.known[row].sum())


class BeadModel(MaskedModel):
    Request = BeadRequest
    decoding_fields = ("sampler", "num_steps", "temperature")
    rows_at_once = 3

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Parameter(torch.randn(4, Q, V, V + 1, generator=torch.Generator().manual_seed(0)))
        self.rows_seen: list[int] = []

    def task(self, request, seed, streaming=False):
        return Beads(self, request, seed)

    def layout(self, num_positions, request=None):
        return Layout.streams(num_positions, [V] * Q, shared=True)

    def denoiser(self, windows: Sequence[TaskWindow], canvas):
        self.rows_seen.append(len(windows))
        colour = torch.tensor([window.request.colour for window in windows])
        return StreamNetwork(self.predict, Q, colour)

    def strategy(self, request, canvas, network):
        return make_strategy(
            request.sampler, canvas.layout, num_steps=request.num_steps, temperature=request.temperature
        )

    def predict(self, tokens, known, colour):
        seen = torch.where(known, tokens, V)
        left = torch.nn.functional.pad(seen[:, :-1, 0], (1, 0), value=V)
        return (
            2
            * self.table[colour % 4][:, None]
            .expand(-1, tokens.shape[1], -1, -1, -1)
            .gather(-1, left[:, :, None, None, None].expand(-1, -1, Q, V, 1))[..., 0]
        )


@pytest.fixture
def model():
    return BeadModel().eval()


ASKED = [
    {"text": "a??b?", "seed": 1},
    {"text": "?" * 15, "seed": 2, "colour": 3},
    {"text": "??c", "seed": 1, "sampler": "one_pass"},
    {"text": "?" * 7, "seed": 2**62, "colour": 1},
    {"text": "abc", "seed": 3, "temperature": 0.5},
    {"text": "e????????", "seed": 5, "num_steps": 2},
]


def test_a_request_alone_is_the_request_in_a_batch_and_what_is_given_stays(model):
    synth = Synthesizer(model)
    together = synth([dict(fields) for fields in ASKED])
    for fields, (text, tokens) in zip(ASKED, together, strict=True):
        assert all(c in ("?", made) for c, made in zip(fields["text"], text, strict=True))
        alone, own = synth(**fields)
        assert alone == text and torch.equal(own, tokens)
    assert synth(text="?" * 9, seed=1)[0] != synth(text="?" * 9, seed=4)[0]


def test_windows_of_one_kind_share_a_decoding_and_evaluations_are_counted(model):
    Synthesizer(model)([{"text": "?" * 6, "seed": i, "num_steps": 4} for i in range(7)])
    assert model.rows_seen == [3, 3, 1] and model.evaluations == 3 * 4
    model.rows_seen.clear()
    Synthesizer(model)([{"text": "?" * 14, "seed": 1}, {"text": "?" * 14, "seed": 2, "sampler": "llada"}])
    assert model.rows_seen == [1] * 6


def test_progress_streams_and_live_views_follow_the_windows(model):
    synth, calls = Synthesizer(model), []
    synth([{"text": "?" * 15}, {"text": "?" * 4}], on_step=lambda *call: calls.append(call))
    assert [done for done, _ in calls] == sorted({done for done, _ in calls}) and calls[-1] == (19, 19)
    assert {total for _, total in calls} == {19} and len(calls) == 4
    pieces = list(synth.stream(text="?" * 15, seed=2, colour=3))
    assert len(pieces) == 4 and "".join(pieces) == synth(text="?" * 15, seed=2, colour=3)[0]
    *views, last = synth.snapshots(text="?" * 6, num_steps=3)
    assert views == sorted(views) and len(views) == 3 and views[-1] == 12
    assert last[0] == synth(text="?" * 6, num_steps=3)[0]


def test_a_strategy_may_depend_on_all_windows_and_their_network(model, monkeypatch):
    seen = []

    def strategy_for(windows, canvas, network):
        seen.append((len(windows), canvas.layout.length, network.num_streams))
        return make_strategy("left_to_right", canvas.layout, temperature=0)

    monkeypatch.setattr(model, "strategy_for", strategy_for)
    asked = [{"text": "?" * 4, "seed": 1}, {"text": "?" * 4, "seed": 2}]
    first, second = Synthesizer(model)(asked)
    assert seen == [(2, 4 * Q, Q)] and first[0] == second[0]  # greedy: seeds change nothing


def test_hidden_losses_are_the_mean_over_hidden_places(model):
    generator = torch.Generator().manual_seed(1)
    layout = Layout.streams(6, [V] * Q, shared=True)
    tokens = torch.randint(V, (3, 6 * Q), generator=generator)
    blank = Canvas.blank(layout, [3, 4, 5], torch.tensor([6 * Q, 4 * Q, 2 * Q]))
    corrupted = PlanMasking(Plan(Scheduled(1)))(blank, tokens)
    logits = torch.randn(3, 6 * Q, V, generator=generator)
    smooth, costs, right = 0.1, [], []
    for row, place in (corrupted.weights > 0).nonzero().tolist():
        assert not corrupted.canvas.known[row, place] and place < corrupted.canvas.length[row]
        log_p = logits[row, place].double().log_softmax(-1)
        costs.append(-(1 - smooth) * log_p[tokens[row, place]] - smooth * log_p.mean())
        right.append(float(logits[row, place].argmax() == tokens[row, place]))
    loss, accuracy = model.hidden_losses(logits, corrupted, smooth)
    assert loss.item() == pytest.approx(sum(costs).item() / len(costs), rel=1e-5)  # float32 against float64
    assert accuracy.item() == pytest.approx(sum(right) / len(right), rel=1e-6)


def test_presets_and_their_knobs_come_by_name(model):
    with refused(UnisonoError, "unsupported", "num_steps", value=3):
        Synthesizer(model)(text="???", sampler="one_pass", num_steps=3)
    cold = [Synthesizer(model)(text="?" * 6, temperature=0, sampler="left_to_right", seed=s)[0] for s in (1, 2)]
    assert cold[0] == cold[1]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9))), st.integers(1, 4))
def test_batches_hold_every_item_once_by_kind_short_ones_first(items, at_once):
    numbered = list(enumerate(items))
    groups = grouped(numbered, lambda item: item[1][0], lambda item: item[1][1])
    assert sorted(item for group in groups for item in group) == numbered
    for group in groups:
        assert len({kind for _, (kind, _) in group}) == 1
        assert group == sorted(group, key=lambda item: (item[1][1], item[0]))
        parts = list(chunks(group, at_once))
        assert [item for part in parts for item in part] == group
        assert all(len(part) == at_once for part in parts[:-1]) and 1 <= len(parts[-1]) <= at_once
    assert [len(part) for part in chunks(numbered, lambda rest: len(rest))] == [len(numbered)] * bool(numbered)


def test_progress_only_grows_and_ends_at_the_total():
    calls = []
    progress = Progress(lambda *call: calls.append(call), 5)
    for done in (0, 2, 1, 2, 7):
        progress.to(done)
    progress.finish()
    assert calls == [(2, 5), (5, 5)]
    nothing = Progress(lambda *call: calls.append(call), 0)
    nothing.finish()
    nothing.finish()
    assert calls[2:] == [(0, 0)]
    Progress(None, 3).advance()

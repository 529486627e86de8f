"""What holds of every strategy: frozen tokens, counts, batches, executors, bills, and wrong input."""

import math
from dataclasses import replace

import pytest
import torch
import unisono.masked as um
from refused import ANYTHING, refused
from torch.utils._python_dispatch import TorchDispatchMode
from unisono.errors import UnisonoError
from unisono.masked import Canvas, Handle, Layout, decode
from unisono.masked.run.execute import rehearse
from unisono.masked.run.step import step
from unisono.masked.stages.schedules import check_schedule

L, V = 12, 7
FLAT = Layout.sequence(L, V)
BLOCKS = Layout.blocks(L, 4, V)
LEVELS = Layout.levels(4, 3, V, shared=False)


class Net:
    """A smooth function of what is known, different at every position; each row its own if conditioned."""

    def __init__(self, vocab_size=V, condition=None, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.emit = torch.randn(64, vocab_size + 1, vocab_size, generator=generator)
        self.bias = torch.randn(64, vocab_size, generator=generator)
        self.condition = condition
        self.calls = 0

    def __call__(self, tokens, known, query):
        self.calls += 1
        v = self.bias.shape[1]
        seen = torch.where(known, tokens, v)
        l_ = tokens.shape[1]
        # a masked position says nothing, so that padding at the end changes nothing
        parts = self.emit[torch.arange(l_) % 64, seen] * known[..., None]
        mean = parts.sum(1, keepdim=True) / known.sum(1).clamp_min(1)[:, None, None]
        logits = 2 * self.bias[:l_] + 3 * mean.roll(1, -1) * torch.arange(1, l_ + 1)[:, None].sin()
        if self.condition is not None:
            logits = logits + self.condition[:, None]
        return um.at_sites(logits, query)

    def rows(self, index):
        part = Net(self.bias.shape[1])
        part.emit, part.bias = self.emit, self.bias
        part.condition = None if self.condition is None else self.condition[index]
        return part


class Critic:
    def __call__(self, tokens, known, query):
        return torch.sin(tokens * 1.7 + torch.arange(tokens.shape[1]))[..., None].double()

    def rows(self, index):
        return self


FLATS = {
    "random": um.random_order(3),
    "maskgit": um.maskgit(4),
    "token_critic": um.token_critic(Critic(), 4),
    "halton": um.halton(3, 4, 4),
    "arpg": um.arpg(5),
    "locality": um.locality(Layout.grid(3, 4, V), (1, 2, 3, 6)),
    "vampnet": um.vampnet(4),
    "maskgct": um.maskgct(4, share=0.5),
    "mmm": um.mmm(),
    "mdlm": um.mdlm(6),
    "remdm_cap": um.remdm(6, "cap", 0.2),
    "remdm_conf": um.remdm(6, "conf"),
    "dream": um.dream(4, choice_temperature=0.3),
    "dimple": um.dimple(4, 0.6),
    "fast_dllm": um.fast_dllm(0.6),
    "fast_dllm_factor": um.fast_dllm(None, 1.0),
    "frechet": um.frechet(),
    "entropy_bounded": um.entropy_bounded(0.5),
    "kl_stable": um.kl_stable(0.1, 0.3),
    "credit": um.credit(0.7),
    "corrected": replace(um.maskgit(3), revise=um.Correct(3)),
    "codes": replace(um.random_order(2), draw=um.ArithmeticCodes(4)),
    "fixed_noise": replace(um.maskgit(4), draw=um.FixedNoise()),
    "guided": replace(um.maskgit(3), guide=um.ClassifierFree(2.5, None, rescale=0.5)),
}
GROUPED = {
    "soundstorm": (um.soundstorm((3, 1, 1)), LEVELS),
    "momask": (um.momask((3, 1, 1), share=0.5), LEVELS),
    "group_ipd": (um.group_ipd((2, 2, 1)), LEVELS),
    "llada": (um.llada(2, 1.0), BLOCKS),
    "block_diffusion": (um.block_diffusion(3), BLOCKS),
    "block_edit": (um.block_diffusion(3, edit=0.6), BLOCKS),
    "fast_dllm_blocks": (um.fast_dllm(0.6), BLOCKS),
}
ALL = {**{name: (strategy, FLAT) for name, strategy in FLATS.items()}, **GROUPED}
battery = pytest.mark.parametrize(("strategy", "layout"), list(ALL.values()), ids=list(ALL))


def prompted(layout, seeds, lengths=None):
    """Three tokens frozen here and there; the rest to be filled."""
    canvas = Canvas.blank(layout, seeds, lengths)
    start = layout.vocab[:, 0]
    where = torch.zeros(layout.length, dtype=torch.bool)
    where[[0, 3, 5]] = True
    return canvas.freeze(start + 2, where)


def net_for(layout, rows=None):
    condition = (
        None if rows is None else torch.randn(rows, layout.vocab_size, generator=torch.Generator().manual_seed(9))
    )
    return Net(layout.vocab_size, condition)


@battery
def test_frozen_stays_vocabulary_is_kept_and_the_bill_is_right(strategy, layout):
    canvas = prompted(layout, [5, 6, 7], [L, L - 2, 6])
    net, seen = net_for(layout, 3), []
    handle = Handle(net)
    done = decode(handle, canvas, strategy, on_step=seen.append)
    calls = net.calls
    assert done.canvas.known.all()
    assert torch.equal(done.tokens[canvas.frozen], canvas.tokens[canvas.frozen])
    start, stop = layout.vocab.unbind(1)
    inside = (done.tokens >= start) & (done.tokens < stop) | canvas.padding
    assert inside.all()
    if not isinstance(strategy.score, um.Perturbed) or not isinstance(strategy.score.score, um.Critic):
        assert done.nfe == calls == handle.nfe
    else:
        assert done.nfe == 2 * calls
    assert len(seen) >= int(done.steps.max())
    for before, after in zip([canvas, *seen], seen, strict=False):
        assert torch.equal(after.tokens[canvas.frozen], canvas.tokens[canvas.frozen])
        if isinstance(strategy.revise, um.Never):
            assert torch.equal(after.tokens[before.known], before.tokens[before.known])
            assert (after.masked.sum(1) <= before.masked.sum(1)).all()
        late = torch.where(after.known & ~canvas.frozen, layout.group, -1).amax(1)
        early = torch.where(after.masked, layout.group, 99).amin(1)
        assert (late <= early).all()  # a group opens when all before it are complete
    assert (done.age[canvas.frozen] == -1).all() and (done.age[~canvas.frozen] >= 0).all()


@battery
def test_alone_in_a_batch_padded_and_reordered(strategy, layout):
    seeds, lengths = [11, 12, 13, 14], [L, 9, 9, 6]
    condition = torch.randn(4, layout.vocab_size, generator=torch.Generator().manual_seed(9))
    together = decode(Net(layout.vocab_size, condition), prompted(layout, seeds, lengths), strategy)
    order = torch.tensor([2, 0, 3, 1])
    shuffled = prompted(layout, [seeds[i] for i in order], [lengths[i] for i in order])
    mixed = decode(Net(layout.vocab_size, condition[order]), shuffled, strategy)
    assert torch.equal(mixed.tokens, together.tokens[order])
    for i in (0, 2):
        alone = decode(
            Net(layout.vocab_size, condition[i : i + 1]),
            prompted(layout, seeds[i : i + 1], lengths[i : i + 1]),
            strategy,
        )
        assert torch.equal(alone.tokens[0], together.tokens[i])
    again = decode(Net(layout.vocab_size, condition), prompted(layout, seeds, lengths), strategy)
    assert torch.equal(again.tokens, together.tokens)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    decode(Net(layout.vocab_size, condition), prompted(layout, seeds, lengths), strategy)
    assert torch.equal(torch.get_rng_state(), state)


@battery
def test_executors_agree(strategy, layout):
    canvas = prompted(layout, [21, 22, 23], [L, 8, 6])
    net = net_for(layout, 3)
    slow = decode(net, canvas, strategy, executor=um.sync)
    first: list[int] = []
    packed = decode(net, canvas, strategy, executor=um.Compact(lambda rows, tokens: first.extend(rows.tolist())))
    assert torch.equal(packed.tokens, slow.tokens) and torch.equal(packed.steps, slow.steps)
    assert sorted(first) == [0, 1, 2] and packed.positions <= slow.positions
    if strategy.static:
        fast = decode(net, canvas, strategy, executor=um.unrolled)
        assert torch.equal(fast.tokens, slow.tokens) and fast.nfe == slow.nfe
        assert len(rehearse(canvas, strategy)) == int(fast.steps.max())
    else:
        with refused(UnisonoError, "unsupported", "strategy"):
            decode(net, canvas, strategy, executor=um.unrolled)


class NoLook(TorchDispatchMode):
    """Refuses whatever makes the host wait for a value, or a shape depend on one."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name()
        if name in ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::equal"):
            raise AssertionError(f"{name} in a step")
        if name.startswith(("aten::index.", "aten::index_put", "aten::_index_put")):
            if any(t is not None and t.dtype in (torch.bool, torch.uint8) for t in args[1]):
                raise AssertionError(f"{name} by a mask in a step")
        return func(*args, **(kwargs or {}))


@battery
def test_a_step_looks_at_no_value(strategy, layout):
    canvas, handle = prompted(layout, [1, 2]), Handle(net_for(layout))
    with torch.no_grad(), NoLook():
        for _ in range(3):
            canvas = step(handle, canvas, strategy, width=layout.length)
    assert canvas.known.sum() > prompted(layout, [1, 2]).known.sum()


def test_the_look_out_sees():
    with NoLook():
        for look in (
            lambda x: bool(x.any()),
            lambda x: x.nonzero(),
            lambda x: torch.arange(3)[x],
            lambda x: x.sum().item(),
        ):
            with pytest.raises(AssertionError):
                look(torch.tensor([True, False, True]))


def test_a_traced_step_serves_other_canvases():
    """The graph of one step, recorded on one canvas, gives the next step of another."""
    from torch.fx.experimental.proxy_tensor import make_fx

    strategy, net = um.maskgit(4), net_for(FLAT)

    def one(tokens, known, frozen, seed, group, total):
        canvas = replace(Canvas.blank(FLAT, seed), tokens=tokens, known=known, frozen=frozen)
        memo = {"plan.group": group * 0 - 1}
        after = step(Handle(net), replace(canvas, memo=memo), strategy, width=L)
        return after.tokens, after.known

    def inputs(seeds, at):
        c = Canvas.blank(FLAT, seeds).freeze(torch.full((L,), 3), torch.arange(L) < at)
        return c.tokens, c.known, c.frozen, c.seed, c.step, c.step

    graph = make_fx(one)(*inputs([1, 2], 2))
    for seeds, at in (([3, 4], 2), ([5, 6], 7)):
        for expected, got in zip(one(*inputs(seeds, at)), graph(*inputs(seeds, at)), strict=True):
            assert torch.equal(expected, got)


def test_counts_are_exact_with_ties():
    def flat(tokens, known, query):
        return torch.zeros(*tokens.shape, V)

    for strategy in (um.maskgit(4, choice_temperature=0.0), um.dream(4), um.llada(4), um.choose_then_draw(4)):
        seen = []
        decode(flat, Canvas.blank(FLAT, [1, 2]), strategy, on_step=lambda c, seen=seen: seen.append(c.masked.sum(1)))
        expected = [9, 6, 3, 0] if "maskgit" not in strategy.name and "choose" not in strategy.name else None
        expected = expected or [max(1, math.floor(L * math.cos(math.pi * i / 8) + 1e-9)) for i in (1, 2, 3)] + [0]
        assert [s.tolist() for s in seen] == [[n, n] for n in expected]


def test_guidance_of_scale_one_and_temperature_zero():
    canvas, net = prompted(FLAT, [1, 2, 3]), net_for(FLAT)
    plain = decode(net, canvas, um.maskgit(4))
    guided = decode(net, canvas, um.maskgit(4, guide=um.ClassifierFree(1.0, Net(seed=3))))
    assert torch.equal(plain.tokens, guided.tokens) and guided.nfe == 2 * plain.nfe
    strong = decode(net, canvas, um.maskgit(4, guide=um.ClassifierFree(6.0, Net(seed=3))))
    assert not torch.equal(plain.tokens, strong.tokens)
    cold = decode(net, canvas, replace(um.dream(4), warp=um.Temperature(0.0)))
    assert torch.equal(cold.tokens, decode(net, canvas, replace(um.dream(4), draw=um.Greedy())).tokens)


def test_per_row_steps():
    canvas, net = Canvas.blank(FLAT, [1, 2, 3]), net_for(FLAT)
    done = decode(net, canvas, um.maskgit(torch.tensor([2, 5, 12])))
    assert done.steps.tolist() == [2, 5, 12]
    for i, n in enumerate((2, 5, 12)):
        alone = decode(net, Canvas.blank(FLAT, [i + 1]), um.maskgit(n))
        assert torch.equal(alone.tokens[0], done.tokens[i])
    packed = decode(net, canvas, um.maskgit(torch.tensor([2, 5, 12])), executor=um.Compact())
    assert torch.equal(packed.tokens, done.tokens) and packed.positions == (2 + 5 + 12) * L


def test_query_only_asks_for_what_it_fills():
    canvas = prompted(FLAT, [1])
    done = decode(net_for(FLAT), canvas, um.arpg(4))
    assert done.nfe == 4 and done.positions == L - 3
    assert torch.equal(done.tokens, decode(net_for(FLAT), canvas, replace(um.arpg(4), query_only=False)).tokens)
    with refused(UnisonoError, "conflict", "query_only", value="maskgit"):
        replace(um.maskgit(4), query_only=True)


def test_end_of_sequence_fills_the_rest():
    strategy = replace(um.random_order(), score=um.Rank(torch.arange(L)), stop=um.EndOfSequence(6))
    canvas = Canvas.blank(FLAT, list(range(20)), [L] * 19 + [5])
    done = decode(net_for(FLAT), canvas, strategy)
    ended = 0
    for row, n in zip(done.tokens.tolist(), done.steps.tolist(), strict=True):
        if n < 5:
            ended += 1
            assert row[n - 1] == 6 and set(row[n:5]) == {6} and 6 not in row[: n - 1]
    assert ended > 0


class Masking(Net):
    """A model that reads the rows' lengths, as one with attention over padded batches must."""

    def attend(self, canvas, query):
        return self(canvas.tokens, canvas.known & ~canvas.padding, query)


def test_padding_changes_nothing():
    short, condition = Layout.sequence(8, V), torch.randn(2, V, generator=torch.Generator().manual_seed(1))
    tried = 0
    for name, strategy in FLATS.items():
        if name in ("halton", "locality"):
            continue  # their order belongs to one grid
        exact = decode(Masking(V, condition), prompted(short, [1, 2]), strategy)
        padded = decode(Masking(V, condition), prompted(FLAT, [1, 2], [8, 8]), strategy)
        assert torch.equal(padded.tokens[:, :8], exact.tokens), name
        assert padded.nfe == exact.nfe, name
        tried += 1
    assert tried >= 20


# --- wrong input


def test_everything_frozen_costs_nothing():
    canvas = Canvas.blank(FLAT, [1, 2]).freeze(torch.full((L,), 3), torch.ones(L, dtype=torch.bool))
    for strategy, layout in ALL.values():
        if layout is FLAT:
            for executor in (um.sync, um.Compact()):
                done = decode(net_for(FLAT), canvas, strategy, executor=executor)
                assert done.nfe == done.positions == 0 and (done.tokens == 3).all()
    empty = decode(net_for(FLAT), Canvas.blank(FLAT, [1], [0]), um.maskgit(4))
    assert empty.nfe == 0
    assert decode(net_for(FLAT), Canvas.blank(Layout.sequence(0, V), [1]), um.maskgit(4)).tokens.shape == (1, 0)
    assert decode(net_for(FLAT), Canvas.blank(FLAT, []), um.mdlm(4)).nfe == 0


def test_a_draft_is_complete_unless_it_is_to_be_revised():
    canvas = Canvas.blank(FLAT, [1, 2]).start_from(torch.full((L,), 3), torch.ones(L, dtype=torch.bool))
    assert decode(net_for(FLAT), canvas, um.maskgit(4)).nfe == 0
    revised = decode(net_for(FLAT), canvas, replace(um.random_order(), revise=um.Correct(5)))
    assert revised.nfe > 0 and not torch.equal(revised.tokens, canvas.tokens)


def test_more_steps_than_tokens():
    for strategy in (um.maskgit(100), um.llada(100), um.dream(100), um.arpg(100)):
        assert decode(net_for(FLAT), Canvas.blank(FLAT, [1]), strategy).nfe == L
    assert decode(net_for(FLAT), Canvas.blank(FLAT, [1]), um.maskgit(1)).nfe == 1


def raises(code, path, value, names, call):
    with refused(UnisonoError, code, path, value=value, names=names):
        call()


def test_wrong_canvases():
    blank = Canvas.blank(FLAT, [1, 2], [L, 5])
    raises("limit", "tokens", 13, "12", lambda: blank.prompt(torch.zeros(2, 13, dtype=torch.long)))
    raises("range", "where", 5, "5 positions", lambda: blank.prompt(torch.zeros(2, 6, dtype=torch.long)))
    raises("range", "tokens", 7, ["position 1", "0 to 6"], lambda: blank.prompt(torch.tensor([[0, 7], [0, 0]])))
    raises(
        *("range", "tokens", 2, ["position 1", "7 to 13"]),
        lambda: Canvas.blank(LEVELS, [1]).prompt(torch.full((1, 3), 2)),
    )
    raises(
        "type", "where", torch.float32, "boolean", lambda: blank.freeze(torch.zeros(L, dtype=torch.long), torch.ones(L))
    )
    raises(
        "shape", "tokens", (3,), "(2, 12)", lambda: blank.freeze(torch.zeros(3).long(), torch.ones(L, dtype=torch.bool))
    )
    raises("range", "lengths", [13], "0 to 12", lambda: Canvas.blank(FLAT, [1], [13]))
    raises("shape", "lengths", 1, "2 seeds", lambda: Canvas.blank(FLAT, [1, 2], [3]))
    raises("range", "size", 0, "at least 1", lambda: Layout.blocks(4, 0, 3))
    raises("empty", "sizes", [], "at least one", lambda: Layout.streams(4, []))
    raises("type", "num_frames", 2.5, "2.5", lambda: Layout.streams(2.5, [3]))
    raises("range", "width", -1, "-1", lambda: Layout.grid(2, -1, 3))
    raises("shape", "groups", 1, "2 streams", lambda: Layout.streams(4, [3, 3], [0]))
    raises("range", "start[0]", (0, 0), "position 0", lambda: Layout.sequence(4, 0))


def test_wrong_schedules_and_knobs():
    raises("value", "schedule", 1.0, "0", lambda: um.maskgit(4, lambda r, n: torch.ones_like(r)))
    raises("value", "schedule", ANYTHING, "r = ", lambda: check_schedule(lambda r, n: (1 - r) * (1 + 2 * r) / 1.2))
    raises("range", "schedule", (0.0, 2 - 2 / 256), "0 to 1", lambda: check_schedule(lambda r, n: 2 - 2 * r))
    raises("range", "exponent", 0, "above 0", lambda: um.power(0))
    raises("range", "num_steps", [0], "at least 1", lambda: um.maskgit(0))
    raises(
        *("shape", "num_steps", [3, 1], "3"),
        lambda: decode(Net(), Canvas.blank(LEVELS, [1]), um.soundstorm((3, 1))),
    )
    raises(
        *("shape", "num_steps", (2,), "3 rows"),
        lambda: decode(Net(), Canvas.blank(FLAT, [1, 2, 3]), um.maskgit(torch.tensor([1, 2]))),
    )
    raises("shape", "sizes", [1, 2], ["3", "12"], lambda: um.locality(Layout.grid(3, 4, V), (1, 2)))
    raises("unknown", "kind", "best", "rescale", lambda: um.remdm(4, "best"))
    raises("unknown", "rule", "best", "entropy", lambda: um.dream(4, "best"))
    raises("conflict", "factor", 1.0, "threshold", lambda: um.fast_dllm(0.9, 1.0))
    raises(
        *("range", "tokens", [99], f"0 to {V - 1}"),
        lambda: decode(Net(), Canvas.blank(FLAT, [1]), replace(um.dream(4), warp=um.Suppress((99,)))),
    )
    raises("range", "p", 0, "above 0", lambda: um.Nucleus(0))
    raises(
        "range",
        "max_steps",
        0,
        "at least 1",
        lambda: decode(Net(), Canvas.blank(FLAT, [1]), um.maskgit(4), max_steps=0),
    )


@pytest.mark.parametrize("executor", [um.sync, um.unrolled, um.Compact()], ids=["sync", "unrolled", "compact"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_logits_from_which_nothing_can_be_drawn(executor, value):
    net = Net()

    def model(tokens, known, query):
        logits = net(tokens, known, query)
        if known.sum() > 6:
            logits[1, 7:] = value
        return logits

    raises(
        *("value", "logits", 1, ["row 1", "step 2"]),
        lambda: decode(um.Unconditional(model), Canvas.blank(FLAT, [1, 2]), um.llada(4, 1.0), executor=executor),
    )


def test_wrong_models():
    blank = Canvas.blank(FLAT, [1])
    raises(
        "shape",
        "logits",
        (1, 12, 3),
        "(1, 12, 7)",
        lambda: decode(lambda t, k, q: torch.zeros(1, L, 3), blank, um.maskgit(4)),
    )
    raises(
        *("type", "logits", torch.int64, "torch.int64"),
        lambda: decode(lambda t, k, q: torch.zeros(1, L, V).long(), blank, um.maskgit(4)),
    )
    raises(
        *("unsupported", "model", "function", "rows(index)"),
        lambda: decode(
            lambda t, k, q: torch.zeros(2, L, V),
            Canvas.blank(FLAT, [1, 2], [3, 9]),
            um.maskgit(4),
            executor=um.Compact(),
        ),
    )


def test_steps_that_commit_nothing():
    never = replace(um.fast_dllm(0.9), select=um.Threshold(1.0))
    raises("failed", "strategy", 12, ["fast_dllm", "max_steps"], lambda: decode(Net(), Canvas.blank(FLAT, [1]), never))
    forced = decode(Net(), Canvas.blank(FLAT, [1]), never, max_steps=3)
    assert forced.nfe == 3 and forced.canvas.known.all()
    assert decode(Net(), Canvas.blank(BLOCKS, [1]), um.llada(4), max_steps=2).nfe == 2


@pytest.mark.parametrize("strategy", [um.llada(3, 1.0), um.mdlm(9), um.fast_dllm(0.5)], ids=lambda s: s.name)
def test_one_step_at_a_time_is_the_same(strategy):
    seen, handle = [], Handle(Net())
    canvas = Canvas.blank(BLOCKS, [3, 4], [12, 7])
    done = decode(handle, canvas, strategy, on_step=seen.append)
    again = Handle(Net())
    with torch.enable_grad():
        for before, here in zip(seen, um.steps(again, canvas, strategy), strict=True):
            assert torch.is_grad_enabled()  # between steps the mode is the caller's
            assert torch.equal(before.tokens, here.tokens) and torch.equal(before.age, here.age)
    assert torch.equal(here.tokens, done.tokens) and (again.nfe, again.positions) == (handle.nfe, handle.positions)
    assert len(list(um.steps(Net(), canvas, strategy, max_steps=2))) == 2
    assert list(um.steps(Net(), Canvas.blank(BLOCKS, [3], [0]), strategy)) == []
    raises("range", "max_steps", 0, "at least 1", lambda: um.steps(Net(), canvas, strategy, max_steps=0))

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
from unisono.masked import random as counter
from unisono.masked.run.execute import rehearse
from unisono.masked.run.step import step
from unisono.masked.stages.draw import invert
from unisono.masked.stages.schedules import check_schedule
from unisono.masked.stages.warp import _by_torch
from unisono.model import Request
from unisono.seeds import MAX_SEED

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


def test_random_numbers_match_the_published_generator():
    """SplitMix64 from seed 1234567, as in its reference implementation."""
    states = torch.tensor([1234567]) + torch.tensor([1, 2, 3]) * counter._GAMMA
    got = [z & (2**64 - 1) for z in counter._mix(states).tolist()]
    assert got == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_random_numbers_are_uniform_and_apart():
    rows, sites = torch.arange(400), torch.arange(200)
    u = counter.uniform(rows, rows * 0, sites, counter.DRAW)
    assert float(u.min()) > 0 and float(u.max()) < 1
    assert abs(float(u.mean()) - 0.5) < 4 / math.sqrt(12 * u.numel())
    histogram = torch.histc(u.float(), 100, 0, 1)
    assert float(((histogram - 800) ** 2 / 800).sum()) < 99 + 6 * math.sqrt(198)
    for other in (
        counter.uniform(rows, rows * 0 + 1, sites, counter.DRAW),
        counter.uniform(rows, rows * 0, sites, counter.SCORE),
        counter.uniform(rows + 1, rows * 0, sites, counter.DRAW),
        counter.uniform(rows, rows * 0, sites + 1, counter.DRAW),
    ):
        assert abs(float(torch.corrcoef(torch.stack([u.flatten(), other.flatten()]))[0, 1])) < 5 / math.sqrt(u.numel())
    assert len(torch.unique(um.row_seeds(7, 100))) == 100
    for wrong in (-1, MAX_SEED + 1):
        with refused(UnisonoError, "range", "seed", value=wrong, names=str(MAX_SEED)):
            um.row_seeds(wrong, 3)


def test_rows_of_any_request_seed_have_seeds_of_their_own():
    seeds = [0, 1, 2**42 - 1, 2**42, 2**42 + 1, 2**44, 2**44 + 1, 2**62, 2**62 + 2**42, MAX_SEED - 1, MAX_SEED]
    rows = torch.cat([um.row_seeds(seed, 4096) for seed in seeds])
    assert rows.unique().numel() == len(rows)
    assert torch.equal(um.row_seeds(2**42 - 1, 2), torch.tensor([2**62 - 2**20, 2**62 - 2**20 + 1]))  # as shipped
    assert Request(seed=MAX_SEED).seed == MAX_SEED


def test_arithmetic_codes_cover_the_law_evenly():
    """64 rows of one lattice hit each token of one position as often as its probability says, to one row."""
    p = torch.tensor([0.5, 0.25, 0.125, 0.125])

    def model(tokens, known, query):
        return p.log().expand(*tokens.shape, 4)

    strategy = replace(um.random_order(), score=um.Rank(torch.arange(2)), draw=um.ArithmeticCodes(64))
    tokens = decode(model, Canvas.blank(Layout.sequence(2, 4), torch.arange(64)), strategy).tokens
    assert (torch.bincount(tokens[:, 0], minlength=4) - 64 * p).abs().max() <= 1
    pairs = torch.bincount(tokens[:, 0] * 4 + tokens[:, 1], minlength=16).view(4, 4)
    assert (pairs - 64 * p[:, None] * p).abs().max() <= 1
    free = decode(model, Canvas.blank(Layout.sequence(2, 4), torch.arange(64)), um.random_order()).tokens
    assert (torch.bincount(free[:, 0], minlength=4) - 64 * p).abs().max() > 1


def test_arithmetic_codes_do_not_run_out():
    """200 fair coins from one code: the last ones are as fair as the first, and no code repeats itself."""

    def model(tokens, known, query):
        return torch.zeros(*tokens.shape, 2)

    strategy = replace(um.random_order(), score=um.Rank(torch.arange(200)), draw=um.ArithmeticCodes(512))
    tokens = decode(model, Canvas.blank(Layout.sequence(200, 2), torch.arange(512)), strategy).tokens.double()
    late = tokens[:, 150:]
    assert abs(float(late.mean()) - 0.5) < 4 * 0.5 / math.sqrt(late.numel())
    assert float(torch.corrcoef(late.T).fill_diagonal_(0).abs().max()) < 6 / math.sqrt(512)
    assert len(torch.unique(late, dim=0)) == 512


def test_guidance_of_scale_one_and_temperature_zero():
    canvas, net = prompted(FLAT, [1, 2, 3]), net_for(FLAT)
    plain = decode(net, canvas, um.maskgit(4))
    guided = decode(net, canvas, um.maskgit(4, guide=um.ClassifierFree(1.0, Net(seed=3))))
    assert torch.equal(plain.tokens, guided.tokens) and guided.nfe == 2 * plain.nfe
    strong = decode(net, canvas, um.maskgit(4, guide=um.ClassifierFree(6.0, Net(seed=3))))
    assert not torch.equal(plain.tokens, strong.tokens)
    cold = decode(net, canvas, replace(um.dream(4), warp=um.Temperature(0.0)))
    assert torch.equal(cold.tokens, decode(net, canvas, replace(um.dream(4), draw=um.Greedy())).tokens)


def test_warps_on_paper():
    p = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.double)
    logits = p.log()[None, None]
    planned = um.Plan(um.Fixed(1))(Canvas.blank(Layout.sequence(1, 4), [0]), {})

    def left(warp):
        return [round(x, 4) for x in warp(logits, planned).softmax(-1)[0, 0].tolist()]

    assert left(um.Nucleus(0.8)) == [0.625, 0.375, 0, 0]  # the token that reaches .8 belongs to it
    assert left(um.Nucleus(0.81)) == [0.5263, 0.3158, 0.1579, 0]
    assert left(um.Nucleus(0.01)) == [1, 0, 0, 0]
    assert left(um.TopTokens(2)) == left(um.TopTokens(share=0.5)) == [0.625, 0.375, 0, 0]
    assert left(um.Temperature(2.0)) == [round(x, 4) for x in (p.sqrt() / p.sqrt().sum()).tolist()]
    assert left(um.Suppress((0,))) == [0, 0.6, 0.3, 0.1]
    assert left(um.Typical(0.2)) == [0, 1, 0, 0]  # −log .3 = 1.20 is nearest the entropy, 1.14
    assert left(um.Chain(um.TopTokens(2), um.Temperature(0))) == [1, 0, 0, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("p", [0.15, 0.9, 1.0])
def test_filters_keep_what_a_sorted_list_keeps(dtype, ties, p):
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(1, 8, 301, generator=generator, dtype=dtype) * 2
    logits = (logits.round() if ties else logits).masked_fill(logits > 3.5, -torch.inf)
    prob = logits.double().softmax(-1)[0]
    surprise = -logits.double().log_softmax(-1)[0]
    entropy = torch.special.entr(prob).sum(-1, keepdim=True)
    for warp, far in ((um.Nucleus(p), -prob), (um.Typical(p), (surprise - entropy).abs().float())):
        kept = warp(logits, None)[0]
        for row in range(8):
            total, expected = 0.0, set()
            for token in sorted(range(301), key=lambda t: (float(far[row, t]), t)):
                if total >= p - 1e-6 and (p < 1 or prob[row, token] == 0):
                    break
                expected.add(token)
                total += float(prob[row, token])
            assert set(kept[row].isfinite().nonzero()[:, 0].tolist()) == expected
            assert torch.equal(kept[row, sorted(expected)], logits[0, row, sorted(expected)])


@pytest.mark.parametrize("p", [1e-9, 0.3, 0.9, 0.999999])
def test_partial_selection_keeps_what_a_whole_sort_keeps(p, monkeypatch):
    """Rows made to defeat a selection of few: many equals at the cut, nearly all forbidden, one token, all needed."""
    v, generator = 700, torch.Generator().manual_seed(5)
    monkeypatch.setattr("unisono.masked.stages.warp._LARGE", 256)
    flat, two, one = torch.zeros(v), torch.zeros(v), torch.full((v,), -torch.inf)
    two[::2], one[123] = 1.0, 0.0  # entropy between two surprises: equal distances on both sides
    few = torch.full((v,), -torch.inf).index_fill(0, torch.tensor([3, 4, 699]), 2.0)
    noise = torch.randn(v, generator=generator)
    peaked = noise.clone().index_fill(0, torch.tensor([350]), 50.0)
    logits = torch.stack([flat, two, one, few, noise, noise.round(), peaked, noise * 1e-4, -0.0 * flat])[None]
    for warp in (um.Typical(p), um.Nucleus(p)):
        whole = v + 1  # as large as this, a vocabulary is "small" and sorted at once
        got = warp(logits, None)
        with monkeypatch.context() as patch:
            patch.setattr("unisono.masked.stages.warp._SMALL", whole)
            patch.setattr("unisono.masked.stages.warp._LARGE", whole)
            expected = warp(logits, None)
            patch.setattr("unisono.masked.stages.warp._by_numpy", _by_torch)  # as on a GPU
            by_torch = warp(logits, None)
        assert torch.equal(got, expected) and torch.equal(got, by_torch)
        size = got.isfinite().sum(-1)[0]
        assert size[2] == 1 and size[0] == size[8] == max(1, math.ceil((p - 1e-6) * v))
        assert torch.equal(got[0, 0].isfinite(), torch.arange(v) < size[0])  # of equals the first


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_lowest_and_the_highest_number_draw_what_can_be_drawn(dtype):
    logits = torch.full((1, 2, 5000), -torch.inf, dtype=dtype)
    logits[0, :, 3000], logits[0, :, 3500] = 0.0, -30.0
    assert invert(logits, torch.tensor([[0.0, 1 - 2**-53]], dtype=torch.float64)).tolist() == [[3000, 3500]]


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

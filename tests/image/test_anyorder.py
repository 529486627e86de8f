"""Decoders in any order: what is computed in parts is what is computed whole, and probabilities are those of a law."""

import math
from dataclasses import dataclass, replace
from itertools import permutations, product
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from unisono.errors import RecipeError
from unisono.masked import Cached, Canvas, Layout, Plain, QueryOnly, Recompute, arpg, decode, random_order
from unisono.nn.condition import Condition
from unisono_image.anyorder.decoding import Growing, in_groups
from unisono_image.anyorder.grouped import Grouped, GroupedSizes, GroupedView, sight_of
from unisono_image.anyorder.groups import groups_of_row
from unisono_image.anyorder.two_pass import TwoPass, TwoPassSizes, View, behind

CODES = 3


@dataclass(frozen=True)
class Everything:
    """All that is known and what is asked for, every time; nothing is kept."""

    exact: ClassVar[bool] = True

    def __call__(self, canvas: Canvas, valid: Tensor, note: Tensor, wanted: Tensor):
        there = ~canvas.padding
        return there & (canvas.known | wanted), torch.zeros_like(there), note


class Forced:
    """Draws the tokens that were given beforehand, and adds up what they had as log probabilities."""

    exact = True

    def __init__(self, tokens: Tensor):
        self.tokens, self.total = tokens, torch.zeros(len(tokens), dtype=torch.float64)
        self.each = torch.zeros(tokens.shape, dtype=torch.float64)

    def __call__(self, logits: Tensor, sites: Tensor, live: Tensor, at: Any) -> Tensor:
        drawn = self.tokens.gather(1, sites)
        each = logits.double().log_softmax(-1).gather(-1, drawn[..., None])[..., 0]
        each = torch.where(live, each, 0)
        self.total += each.sum(1)
        self.each.scatter_add_(1, sites, each)
        return drawn


def two_pass(height=2, width=2, codes=CODES, seed=0) -> TwoPass:
    torch.manual_seed(seed)
    net = TwoPass(TwoPassSizes(dim=16, num_layers=4, num_heads=2, filter_multiple=8), codes, (height, width), 6, True)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return net.eval().requires_grad_(False)


def grouped(places=4, codes=CODES, seed=0) -> Grouped:
    torch.manual_seed(seed)
    net = Grouped(GroupedSizes(dim=16, num_layers=2, num_heads=2), codes, places, 6, True)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return net.eval().requires_grad_(False)


def told(*classes: int, words: tuple[int, ...] = ()) -> Condition:
    """Conditions of these classes, with so many words each."""
    g = torch.Generator().manual_seed(5)
    vectors, spoken = torch.randn(3, 6, generator=g), torch.randn(len(classes), max(words, default=0), 6, generator=g)
    mask = torch.arange(spoken.shape[1]) < torch.tensor(words or [0] * len(classes))[:, None]
    return Condition(vectors[list(classes)], spoken * mask[..., None], mask)


def all_rows(places=4, codes=CODES) -> Tensor:
    return torch.tensor(list(product(range(codes), repeat=places)))


def log_probs(logits: Tensor, tokens: Tensor, order: Tensor) -> Tensor:
    """Of each token, in the order."""
    return logits.double().log_softmax(-1).gather(-1, tokens.gather(1, order)[..., None])[..., 0]


def run(view: Any, tokens: Tensor, strategy: Any, seeds: Any, given: Tensor | None = None, policy: Any = None):
    """Decode with forced tokens; returns their log probabilities by place, and the canvas."""
    n = tokens.shape[1]
    canvas = Canvas.blank(Layout.grid(2, n // 2, CODES), seeds)
    if given is not None:
        canvas = canvas.freeze(tokens, given)
    forced = Forced(tokens)
    done = decode(Cached(view, policy or QueryOnly()), canvas, replace(strategy, draw=forced))
    assert torch.equal(done.tokens, tokens)
    return forced.each, done


# ---- the two-pass decoder ------------------------------------------------------------------------


def test_each_order_has_a_law():
    net, rows = two_pass(), all_rows()
    for order in list(permutations(range(4)))[::5]:
        ordered = torch.tensor(order).expand(len(rows), 4)
        logits = net(rows, told(*[0] * len(rows)), ordered)
        total = log_probs(logits, rows, ordered).sum(1).exp().sum()
        assert abs(float(total) - 1) < 1e-5


def test_a_mixture_of_orders_is_bounded_by_the_mean():
    net, rows = two_pass(), all_rows()
    each = []
    for order in permutations(range(4)):
        ordered = torch.tensor(order).expand(len(rows), 4)
        each.append(log_probs(net(rows, told(*[1] * len(rows)), ordered), rows, ordered).sum(1))
    each = torch.stack(each)
    assert bool((each.mean(0) <= each.logsumexp(0) - torch.tensor(24.0).log() + 1e-9).all())
    assert float(each.std(0).max()) > 0.01  # orders do differ


@pytest.mark.parametrize("one_by_one", [True, False])
def test_one_token_a_step_is_the_teacher_forced_law(one_by_one):
    net = two_pass(2, 3)
    tokens = torch.randint(0, CODES, (5, 6))
    classes = told(0, 1, 2, 0, 1, words=(0, 1, 3, 2, 0))
    each, done = run(View(net, net.begin(classes), one_by_one), tokens, random_order(1), [7, 8, 9, 10, 11])
    order = done.age.argsort(1)
    assert len({tuple(row) for row in order.tolist()}) > 1
    whole = log_probs(net(tokens, classes, order), tokens, order)
    assert torch.allclose(each.gather(1, order), whole, atol=1e-5)


def test_given_tokens_come_first_and_rows_may_differ_in_them():
    net = two_pass(2, 3)
    tokens, classes = torch.randint(0, CODES, (4, 6)), told(0, 1, 2, 0, words=(2, 0, 1, 3))
    given = torch.tensor([[0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 1], [0, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1]]).bool()
    each, done = run(View(net, net.begin(classes)), tokens, random_order(1), [1, 2, 3, 4], given)
    order = (done.age * 6 + torch.arange(6)).argsort(1)  # given ones have age -1, and follow their sites
    whole = torch.zeros(4, 6, dtype=torch.float64).scatter(
        1, order, log_probs(net(tokens, classes, order), tokens, order)
    )
    assert torch.allclose(each, whole.masked_fill(given, 0), atol=1e-5)
    for row in range(3):
        alone, _ = run(
            View(net, net.begin(classes.rows(torch.tensor([row])))),
            tokens[row : row + 1],
            random_order(1),
            [row + 1],
            given[row : row + 1],
        )
        assert torch.allclose(alone[0], each[row], atol=1e-6)


@pytest.mark.parametrize("one_by_one", [True, False])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_step_of_several_is_a_product_of_marginals(one_by_one, steps):
    """All rows of tokens in one order: their probabilities add up to 1, and are those of recomputing."""
    net, rows = two_pass(), all_rows()
    classes = told(*[1] * len(rows))
    view = View(net, net.begin(classes), one_by_one)
    each, done = run(view, rows, arpg(steps), [5] * len(rows))
    assert len(set(done.age[0].tolist())) == steps
    assert abs(float(each.sum(1).exp().sum()) - 1) < 1e-5
    again, _ = run(view, rows, arpg(steps), [5] * len(rows), policy=Recompute())
    assert torch.allclose(each, again, atol=1e-5)
    if not one_by_one:
        return
    for site in range(4):  # as if this one were the first of its step, in an ordinary causal pass
        age = done.age[0]
        order = (age * 8 + torch.arange(4) - torch.where(torch.arange(4) == site, 4, 0)).argsort()
        ordered = order.expand(len(rows), 4)
        whole = log_probs(net(rows, classes, ordered), rows, ordered)
        assert torch.allclose(each[:, site], whole[:, order.tolist().index(site)], atol=1e-5)


def test_what_tokens_of_a_step_see_is_a_choice_that_matters():
    net, rows = two_pass(2, 3), torch.randint(0, CODES, (3, 6))
    classes = told(0, 0, 0)
    first, second = (run(View(net, net.begin(classes), flag), rows, arpg(3), [1, 2, 3])[0] for flag in (True, False))
    assert not torch.allclose(first, second, atol=1e-3)


def test_queries_leave_nothing_behind():
    """With another asking vector, what is kept of tokens is the same, bit for bit."""
    kept = []
    for shift in (0.0, 1.0):
        net = two_pass(2, 3)
        net.asking.add_(shift)
        cached = Cached(View(net, net.begin(told(1, words=(2,)))), QueryOnly())
        canvas = Canvas.blank(Layout.grid(2, 3, CODES), [3])
        tokens = torch.tensor([[0, 1, 2, 0, 1, 2]])
        decode(cached, canvas, replace(arpg(3), draw=Forced(tokens)))
        assert cached._memory is not None
        kept.append(cached._memory)
    assert torch.equal(kept[0].valid, kept[1].valid)
    assert int(kept[0].valid.sum()) > 0
    assert torch.equal(kept[0].kv, kept[1].kv)


def test_each_token_goes_through_the_first_pass_once():
    net, counted = two_pass(2, 3), []
    net.first[0].register_forward_hook(lambda module, args, out: counted.append(args[0].shape[1]))
    view = View(net, net.begin(told(0)))
    counted.clear()
    run(view, torch.zeros(1, 6, dtype=torch.int64), arpg(3), [1])
    assert sum(counted) <= 6


@pytest.mark.parametrize("make", [two_pass, grouped])
def test_words_that_are_not_there_change_nothing(make):
    net, rows = make(), torch.randint(0, CODES, (2, 4))
    order = torch.stack([torch.randperm(4), torch.randperm(4)])
    rest = () if make is two_pass else (torch.tensor([[0, 1, 1, 2]] * 2),)
    together = net(rows, told(0, 1, words=(3, 1)), order, *rest)
    both = told(0, 1, words=(3, 1))
    alone = Condition(both.vector[1:], both.words[1:, :1], both.mask[1:, :1])
    assert torch.allclose(net(rows[1:], alone, order[1:], *(r[1:] for r in rest)), together[1:], atol=1e-6)
    without = Condition(both.vector[1:], both.words[1:, :0], both.mask[1:, :0])
    assert not torch.allclose(net(rows[1:], without, order[1:], *(r[1:] for r in rest)), together[1:], atol=1e-3)


def test_in_front_is_seen_by_all_and_tokens_by_later_ones():
    seen = behind(torch.tensor([[True, False, True]]), 5)[0, 0]
    assert seen.tolist() == [
        [True, False, True, False, False],
        [True, False, True, False, False],
        [True, False, True, False, False],
        [True, False, True, True, False],
        [True, False, True, True, True],
    ]


def test_the_class_is_read_and_has_no_place():
    net = two_pass()
    rows = torch.zeros(2, 4, dtype=torch.int64)
    order = torch.arange(4).expand(2, 4)
    logits = net(rows, told(0, 1), order)
    assert not torch.allclose(logits[0, 0], logits[1, 0], atol=1e-3)
    turn = net.turn(torch.tensor([[net.start_place]]))
    assert torch.equal(turn.cosine, torch.ones_like(turn.cosine))


def test_a_place_turns_by_its_row_and_its_column():
    net = two_pass(2, 3)
    turn = net.turn(torch.arange(7)[None]).cosine[0, 0]
    assert torch.equal(turn[1, :2], turn[2, :2])  # same row
    assert torch.equal(turn[1, 2:], turn[4, 2:])  # same column
    assert not torch.equal(turn[1], turn[4])
    assert not torch.equal(turn[1], turn[2])


def test_published_sizes():
    with torch.device("meta"):
        counts = {}
        for dim, layers, heads in ((1024, 24, 16), (1280, 36, 20), (1536, 48, 24)):
            net = TwoPass(TwoPassSizes(dim=dim, num_layers=layers, num_heads=heads), 16384, (16, 16), dim)
            counts[dim] = sum(p.numel() for p in net.parameters()) / 1e6
    assert counts == {
        1024: pytest.approx(320, rel=0.01),
        1280: pytest.approx(719, rel=0.01),
        1536: pytest.approx(1300, rel=0.05),
    }


@pytest.mark.parametrize(
    ("sizes", "fields", "path"),
    [
        (TwoPassSizes, {"num_layers": 3}, "model.network.num_layers"),
        (TwoPassSizes, {"dim": 24, "num_heads": 4}, "model.network.dim"),
        (TwoPassSizes, {"dropout": 1.5}, "model.network.dropout"),
        (TwoPassSizes, {"filter_multiple": 0}, "model.network.filter_multiple"),
        (GroupedSizes, {"dim": 10, "num_heads": 4}, "model.network.dim"),
        (GroupedSizes, {"num_layers": 0}, "model.network.num_layers"),
        (GroupedSizes, {"dropout": -0.1}, "model.network.dropout"),
    ],
)
def test_wrong_sizes_are_refused(sizes, fields, path):
    with pytest.raises(RecipeError) as caught:
        sizes(**fields)
    assert caught.value.path == path


# ---- the grouped decoder ---------------------------------------------------------------------------


def test_who_sees_whom_is_the_rule():
    torch.manual_seed(0)
    for _ in range(20):
        n = int(torch.randint(1, 9, ()))
        groups = torch.cat([torch.zeros(1, dtype=torch.int64), torch.randint(0, 2, (n - 1,))]).cumsum(0)
        seen = sight_of(groups[None], torch.tensor([[True]]))[0]
        kind = ["class"] + ["token"] * n + ["query"] * n
        group = [-1, *groups.tolist(), *groups.tolist()]
        for i, j in product(range(2 * n + 1), repeat=2):
            if kind[j] == "query":
                rule = kind[i] == "query" and group[i] == group[j]
            elif kind[i] == "query":
                rule = group[j] < group[i]
            else:
                rule = group[j] <= group[i]
            assert bool(seen[i, j]) == rule, (kind[i], i, kind[j], j)


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (1, 3), (2, 2), (4,)])
def test_groups_have_a_law(sizes):
    net, rows = grouped(), all_rows()
    order = torch.tensor([2, 0, 3, 1]).expand(len(rows), 4)
    groups = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)).expand(len(rows), 4)
    logits = net(rows, told(*[0] * len(rows)), order, groups)
    assert abs(float(log_probs(logits, rows, order).sum(1).exp().sum()) - 1) < 1e-5


@pytest.mark.parametrize("policy", [QueryOnly(), Everything()])
@pytest.mark.parametrize("steps", [1, 2, 3, 6])
def test_groups_in_parts_are_groups_at_once(policy, steps):
    net = grouped(6)
    tokens, classes = torch.randint(0, CODES, (4, 6)), told(0, 1, 2, 0, words=(2, 0, 1, 3))
    made = [groups_of_row(2, 3, steps, radius=1, seed=seed) for seed in range(4)]
    by_place, rank = (torch.stack(parts) for parts in zip(*made, strict=True))
    each, done = run(
        GroupedView(net, net.begin(classes), by_place), tokens, in_groups(by_place), [1, 2, 3, 4], policy=policy
    )
    assert torch.equal(done.age, by_place)
    order = rank.argsort(1)
    whole = log_probs(net(tokens, classes, order, by_place.gather(1, order)), tokens, order)
    assert torch.allclose(each.gather(1, order), whole, atol=1e-5)


def test_rows_with_given_tokens_are_the_same_alone_and_together():
    """A row that waits for a longer group of its neighbour's asks for nothing that its own queries would see."""
    net = grouped(6)
    tokens, classes = torch.randint(0, CODES, (3, 6)), told(0, 1, 2, words=(0, 2, 1))
    given = torch.tensor([[0, 0, 0, 0, 0, 0], [1, 0, 0, 1, 0, 0], [0, 1, 1, 1, 1, 0]]).bool()
    known = [row.nonzero()[:, 0].tolist() for row in given]
    by_place = torch.stack([groups_of_row(2, 3, 2, radius=0, seed=i, known=k)[0] for i, k in enumerate(known)])
    together, _ = run(GroupedView(net, net.begin(classes), by_place), tokens, in_groups(by_place), [1, 2, 3], given)
    for row in range(3):
        part = slice(row, row + 1)
        view = GroupedView(net, net.begin(classes.rows(torch.tensor([row]))), by_place[part])
        alone, _ = run(view, tokens[part], in_groups(by_place[part]), [row + 1], given[part])
        assert torch.allclose(alone[0], together[row], atol=1e-6)


def test_queries_of_a_group_see_one_another():
    net = grouped()
    rows = torch.zeros(1, 4, dtype=torch.int64)
    order = torch.arange(4)[None]
    classes = told(0)
    wide, narrow = (net(rows, classes, order, torch.tensor([groups])) for groups in ([0, 1, 1, 1], [0, 1, 2, 2]))
    assert torch.allclose(wide[:, 0], narrow[:, 0], atol=1e-6)
    assert not torch.allclose(wide[:, 1], narrow[:, 1], atol=1e-3)  # asked with two others, or alone


def test_published_size_of_lpd():
    with torch.device("meta"):
        net = Grouped(GroupedSizes(), 16384, 256, 1024)
    assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(337, rel=0.01)


# ---- guidance ----------------------------------------------------------------------------------------


def test_guidance_grows_with_the_tokens():
    canvas = Canvas.blank(Layout.grid(2, 3, CODES), [1, 2]).freeze(
        torch.zeros(6, dtype=torch.int64), torch.arange(6) < 2
    )
    by_step = Growing(3.0, Plain()).share(canvas)
    assert torch.allclose(by_step, torch.full((2, 6), 3 / 6, dtype=torch.float64))
    rank = torch.tensor([[-1, -1, 0, 1, 2, 3], [-1, -1, 3, 2, 1, 0]])
    by_token = Growing(3.0, Plain(), rank=rank).share(canvas)
    assert by_token[0, 2:].tolist() == pytest.approx([2 / 6, 3 / 6, 4 / 6, 5 / 6])
    assert by_token[1, 2:].tolist() == pytest.approx([5 / 6, 4 / 6, 3 / 6, 2 / 6])


def test_guidance_leads_away_from_no_class_and_1_is_none():
    net = two_pass(2, 3)
    tokens = torch.randint(0, CODES, (2, 6))
    classes, none = told(0, 1), told(2, 2)

    def guided(scale: float) -> Tensor:
        other = Cached(View(net, net.begin(none)), QueryOnly())
        return run(View(net, net.begin(classes)), tokens, replace(arpg(3), guide=Growing(scale, other)), [1, 2])[0]

    plain = run(View(net, net.begin(classes)), tokens, arpg(3), [1, 2])[0]
    assert torch.allclose(guided(1.0), plain, atol=1e-6)
    assert not torch.allclose(guided(4.0), plain, atol=1e-2)


# ---- learning ------------------------------------------------------------------------------------------


def learn(net: Any, places: int, groups: Tensor | None, steps: int = 150) -> Tensor:
    """Train on pictures of one token, any of 4, all over; returns −log p of each token by its place in the order."""
    optimizer = torch.optim.Adam(net.requires_grad_(True).parameters(), 1e-2)
    g = torch.Generator().manual_seed(3)
    nats = torch.zeros(places)
    for step in range(steps):
        tokens = torch.randint(0, 4, (64, 1), generator=g).expand(64, places)
        order = torch.rand(64, places, generator=g).argsort(1)
        rest = () if groups is None else (groups.expand(64, places),)
        nats = -log_probs(net(tokens, told(*[0] * 64), order, *rest), tokens, order)
        if step < steps - 1:
            optimizer.zero_grad()
            nats.mean().backward()
            optimizer.step()
    return nats.mean(0).detach()


def test_no_token_is_seen_before_it_is_predicted():
    """The first token says all: it costs log 4 whatever was learnt, and each later one next to nothing."""
    torch.manual_seed(0)
    net = TwoPass(TwoPassSizes(dim=32, num_layers=2, num_heads=2, dropout=0.0, filter_multiple=8), 4, (2, 2), 6)
    nats = learn(net, 4, None)
    assert float(nats[0]) == pytest.approx(math.log(4), abs=0.06)
    assert float(nats[1:].max()) < 0.1


@pytest.mark.parametrize(("groups", "blind"), [((0, 1, 1, 1), 1), ((0, 0, 1, 1), 2), ((0, 0, 0, 0), 4)])
def test_tokens_of_a_group_do_not_know_of_each_other(groups, blind):
    torch.manual_seed(0)
    net = Grouped(GroupedSizes(dim=32, num_layers=2, num_heads=2, dropout=0.0), 4, 4, 6)
    nats = learn(net, 4, torch.tensor([groups]), 80)
    assert nats[:blind].tolist() == pytest.approx([math.log(4)] * blind, abs=0.06)
    assert all(late < 0.1 for late in nats[blind:].tolist())

"""Hogwild: the shared cache is what reading everything again gives; blocks in their places; workers and lists."""

import pytest
import torch
from refused import refused
from unisono.errors import DataError, RequestError
from unisono.nn.rotary import rotate, rotation
from unisono_branches.corpus.sorting import (
    HEADERS,
    LETTERS,
    NUMBERS,
    PADDING,
    STEP,
    STOP,
    VOCABULARY,
    SortingData,
    merged,
    shares,
    transcript,
)
from unisono_branches.hogwild.blocks import Block, SharedCache, turned
from unisono_branches.hogwild.execute import work
from unisono_branches.hogwild.layout import Apart, layout, layouts
from unisono_branches.measure.sorting import EVALUATIONS, RIGHT, evaluate
from unisono_branches.network.sight import causal_sight
from unisono_branches.network.sizes import NetworkSizes
from unisono_branches.network.transformer import Transformer

SIZES = NetworkSizes(dim=32, num_layers=3, num_heads=2)
PROMPT = (1, 5, 2, 7)
END_OF_STEP = 3


@pytest.fixture(scope="module")
def net() -> Transformer:
    net = Transformer(12, SIZES)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return net


def random(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_turning_is_adding_positions():
    x = random((2, 5, 8))
    at = rotate(x[None], rotation(torch.arange(5) + 7, 8))[0]
    assert (turned(turned(x, 0, steps=True), 7) - at).abs().max() < 1e-5
    assert (turned(turned(at, -7), 7) - at).abs().max() < 1e-5


def test_a_block_that_moved_is_as_if_it_had_been_written_there():
    first, then, keys, values = random((2, 4, 8)), random((2, 3, 8), 1), random((2, 6, 8), 2), random((2, 6, 8), 3)
    common, own, whole = Block(), Block(), Block()
    common.append(0, first, first)
    whole.append(0, first, first)
    own.append(0, torch.cat([then, keys], 1), torch.cat([then, values], 1))
    own.move(3, common)
    whole.append(0, keys, values)
    assert (own.length, common.length) == (3, 10)
    for one, other in zip(common.layers[0], whole.layers[0], strict=True):
        assert (one - other).abs().max() < 1e-5


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_what_workers_see_is_what_reading_it_all_again_gives(net, workers):
    """Random tokens, steps of random lengths, workers that stop at different times; no cache beside one."""
    generator = torch.Generator().manual_seed(workers)
    goal = [9 + 5 * worker for worker in range(workers)]

    def choose(worker, written, logits):
        assert logits.isfinite().all()
        if len(written) == goal[worker]:
            return 0
        return (
            END_OF_STEP
            if torch.rand((), generator=generator) < 0.3
            else int(torch.randint(4, 12, (), generator=generator))
        )

    headers = list(range(8, 8 + workers))
    out = work(
        net, PROMPT, headers, choose, end_of_step=END_OF_STEP, stop=0, limit=100, keep_logits=True
    )  # fmt: skip
    assert [len(own) - 1 for own in out.tokens] == goal and out.cut == 0
    assert any(END_OF_STEP in own for own in out.tokens)
    tokens, owners, found = list(PROMPT), [-1] * len(PROMPT), [None] * len(PROMPT)
    for time in range(1 + max(goal)):
        for worker, own in enumerate(out.tokens):
            if time < len(own):
                tokens.append(own[time])
                owners.append(worker)
                found.append(out.logits[time][worker])
    distance, mask = layout(tuple(owners), tuple(token == END_OF_STEP for token in tokens))
    whole = net(torch.tensor([tokens]), Apart.by(distance[None], mask[None], SIZES.head_dim))[0].detach()
    worst = max(float((row - own).abs().max()) for row, own in zip(whole, found, strict=True) if own is not None)
    assert worst < 1e-5 * float(whole.abs().max().clamp_min(1)), worst


def test_one_worker_that_never_ends_a_step_is_the_plain_network(net):
    tokens = torch.tensor([[1, 5, 2, 7, 4, 9, 6]])
    distance, mask = layout((-1, -1, -1, 0, 0, 0, 0), 7 * (False,))
    plain = net(tokens, causal_sight(tokens, SIZES.head_dim))
    assert (net(tokens, Apart.by(distance[None], mask[None], SIZES.head_dim)) - plain).abs().max() < 1e-5


def test_who_sees_whom_by_hand():
    """A prompt of one, two workers with a header each, one step of A that moves while B is inside of its own."""
    owners, ends = (-1, 0, 1, 0, 1, 0, 1), (False,) * 3 + (True, False, False, False)
    distance, mask = layout(owners, ends)
    # Time 1, A's token: [prompt][B: header, token][A: header, token]
    assert distance[3][:5].tolist() == [4, 1, 3, 0, 2] and mask[3].tolist() == 5 * [True] + 2 * [False]
    # Time 2, B's token, A's step in common: [prompt, A's token][A: header, token][B: header, token, token]
    assert distance[6].tolist() == [6, 4, 2, 5, 1, 3, 0] and mask[6].all()


def test_padding_changes_nothing(make):
    model = make("hogwild").model
    long, short = transcript("dacbe", 2), transcript("ba", 1)
    alone = model.predict(short["tokens"][None], short["owners"][None])[0]
    n, t = len(short["tokens"]), len(long["tokens"])
    tokens, owners = torch.zeros(2, t, dtype=torch.int64), torch.full((2, t), PADDING)
    tokens[0], owners[0] = long["tokens"], long["owners"]
    tokens[1, :n], owners[1, :n] = short["tokens"], short["owners"]
    assert (model.predict(tokens, owners)[1, :n] - alone).abs().max() < 1e-5
    assert layouts(owners, tokens == NUMBERS[STEP], PADDING)[1].any(-1).all()


@pytest.mark.parametrize("letters", ["a", "ba", "dacbe", "zyxwvu"])
def test_shares_are_the_list_and_transcripts_say_them(letters):
    for workers in (1, 2):
        own = shares(letters, workers)
        assert merged(own) == "".join(sorted(letters))
        found = transcript(letters, workers)
        for worker, written in enumerate(own):
            tokens = found["tokens"][found["owners"] == worker].tolist()
            text = "".join(VOCABULARY[token] for token in tokens)
            assert text == HEADERS[workers][worker] + "".join(f"{letter};" for letter in written)
            targets = [t for t in found["targets"][found["owners"] == worker].tolist() if t >= 0]
            assert "".join(VOCABULARY[t] for t in targets) == written + STOP


def test_a_perfect_network_sorts_in_half_the_steps(make, monkeypatch):
    """The executor, told by the other's tokens alone what is left, with a choice in place of a network's."""
    net = make("hogwild").model.net
    letters, written = "gadcfeb", {0: "", 1: ""}

    def choose(worker, own, logits):
        written[worker] = "".join(VOCABULARY[token] for token in own if VOCABULARY[token] in LETTERS)
        if len(own) % 2:
            return NUMBERS[STEP]
        left = sorted(set(letters) - set(written[0]) - set(written[1][: len(written[0])]))
        if not left or (worker and len(left) == 1):
            return NUMBERS[STOP]
        return NUMBERS[left[-worker]]

    prompt = [NUMBERS[letter] for letter in letters]
    out = work(net, prompt, [0, 1], choose, end_of_step=NUMBERS[STEP], stop=NUMBERS[STOP], limit=14)
    assert merged([written[0], written[1]]) == "abcdefg"
    assert out.evaluations == 2 + 2 * 4  # the list, headers, four letters with their ends


def test_a_cache_without_tokens_has_an_order():
    cache = SharedCache(3)
    assert [block.length for block in cache.order(1)] == [0, 0, 0, 0]
    assert cache.order(1)[-1] is cache.blocks[1] and cache.order(1)[0] is cache.common


def test_lists_are_made_once_and_held_out_by_what_they_read():
    data = SortingData(num_items=300, max_items=3, val_size=20)
    audit = data.prepare(progress=False)
    assert audit.reasons.keys() <= {"same list"} and audit.kept + len(audit.dropped) == 320
    assert not set(data.train_set.lists) & set(data.val_set.lists) and len(data.val_set.lists) >= 20
    with refused(DataError, "range", "data.max_items"):
        SortingData(max_items=27)


@pytest.mark.parametrize(
    ("fields", "code", "path"),
    [
        ({"text": "aba"}, "value", "text"),
        ({"text": "a b"}, "value", "text"),
        ({"text": "abcdef"}, "limit", "text"),
        ({"text": ""}, "empty", "text"),
        ({"text": "ab", "workers": 3}, "unknown", "workers"),
    ],
)
def test_what_is_no_list_is_refused_by_its_field(make, fields, code, path):
    with refused(RequestError, code, path):
        make("hogwild")(**fields)


def test_it_is_measured_on_a_file(make, tmp_path):
    path = tmp_path / "lists.txt"
    path.write_text("ba\ncab\nabcdefgh\n", encoding="utf-8")
    report = evaluate(make("hogwild"), path)
    assert 0 <= report.value(RIGHT, "two workers") <= 1 and report.value(EVALUATIONS, "one worker") >= 2
    assert {failure["id"] for failure in report.failures} == {"line 3"} and len(report.failures) == 2
    (tmp_path / "none.txt").write_text("\n", encoding="utf-8")
    with refused(DataError, "empty", "none.txt"):
        evaluate(make("hogwild"), tmp_path / "none.txt")

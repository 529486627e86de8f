"""Multiverse: branches as a batch are the masked sequential text, token for token, and logits to rounding."""

import pytest
import torch
from refused import refused
from unisono.data import derive_seed
from unisono.errors import DataError, RequestError
from unisono.verify import Draw
from unisono_branches.corpus.sums import SumSizes, answer_of, make_problem
from unisono_branches.corpus.tagged import TaggedData
from unisono_branches.grammar.lane import Lane
from unisono_branches.grammar.read import read, visible
from unisono_branches.grammar.tags import END, END_PATH, PATH, TAGS, pieces_of
from unisono_branches.measure.tagged import EQUAL, EVALUATIONS, RIGHT, evaluate
from unisono_branches.multiverse.execute import Execution, begin
from unisono_branches.network.sight import Masked

PROMPT = "1:3+4;2:9+5?"
BLOCK = "<Parallel><Goal><Outline>1</Outline><Outline>2</Outline></Goal><Path>1:3+4=07</Path><Path>2:9</Path>"
BLOCK += "<Conclusion>7</Conclusion></Parallel>"


@pytest.fixture(scope="module")
def model(make):
    """Untrained, with weights so large that its laws are uneven, and in double precision."""
    model = make("multiverse", "--data.context=160").model.double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.35)
        # Tags are rare among characters otherwise.
        model.net.head.weight[: len(TAGS)] *= 2
    return model


@pytest.fixture(scope="module")
def chain(make, model):
    chain = make("chain", "--data.context=160").model.double()
    chain.load_state_dict(model.state_dict())
    return chain


def asked(model, text=PROMPT, **fields):
    return model.Request(text=text, **{"temperature": 1.5, "max_branches": 3, "max_nesting": 2, **fields})


def run(model, requests, watch=None):
    tasks = [begin(model.facts, request, request.seed, model.beside) for request in requests]
    execution = Execution(model.net, model.facts, tasks, watch)
    return execution.run(), execution


@pytest.fixture(scope="module")
def seeds(model):
    """Seeds by which the untrained model opens branches, blocks within blocks among them."""
    made, _ = run(model, [asked(model, seed=seed) for seed in range(40)])
    wanted = [seed for seed, text in enumerate(made) if text.facts["branches"] > 1]
    nested = [seed for seed in wanted if nesting(made[seed].pieces) > 1]
    assert len(wanted) > 3 and nested
    return [*nested[:2], *wanted[:2]]


def nesting(pieces):
    return max(sum(block >= 0 for block in level) for level in read(pieces).blocks)


def test_branches_as_a_batch_are_one_by_one(model, seeds):
    beside, cost = run(model, [asked(model, seed=seed) for seed in seeds])
    serial, more = run(model, [asked(model, seed=seed, execution="serial") for seed in seeds])
    for one, other in zip(beside, serial, strict=True):
        assert one.tokens == other.tokens
        assert one.facts["steps"] < other.facts["steps"]
    assert cost.evaluations < more.evaluations


def test_logits_are_those_of_the_whole_text_under_the_mask(model, seeds):
    for seed in seeds:
        found = {}

        def watch(tokens, logits, found=found):
            found.update({id(token): (token, row) for token, row in zip(tokens, logits, strict=True)})

        tasks = [begin(model.facts, asked(model, seed=seed), seed, True)]
        run_ = Execution(model.net, model.facts, tasks, watch)
        run_.run()
        written = [token for token in tasks[0].text.tokens if token.piece != END]
        reading = read([token.piece for token in written])
        assert [token.position for token in written] == list(reading.positions)
        tokens = torch.tensor([model.facts.encode([token.piece for token in written])])
        parts = (torch.tensor([part]) for part in (reading.positions, reading.blocks, reading.branches))
        whole = model.predict(tokens, *parts)[0].detach()
        # The last token before the end mark was read as well; what was forced behind it too.
        assert {id(token) for token in written} <= found.keys()
        for row, token in zip(whole, written, strict=True):
            assert (found[id(token)][1] - row).abs().max() < 1e-5


def test_tokens_are_those_of_the_masked_network_step_by_step(model, seeds):
    """Without cache, fork or batch: each token is drawn from the law of all that is before it, within the grammar."""
    made, _ = run(model, [asked(model, seed=seed) for seed in seeds[:4]])
    vocabulary, draw = model.facts.vocabulary, Draw(1.5)
    for seed, text in zip(seeds, made, strict=False):
        reading, places = read(text.pieces), places_of(text.pieces, seed)
        seen = visible(torch.tensor([reading.blocks]), torch.tensor([reading.branches]))
        tokens, compared = torch.tensor([text.tokens]), 0
        for at in range(text.facts["prompt_tokens"], len(text.pieces)):
            if not reading.free[at] or reading.positions[at] > 160 - 60:  # near the limit, room decides as well
                continue
            allowed, own_seed = places[at]
            sight = Masked.at(torch.tensor([reading.positions[:at]]), model.sizes.head_dim, seen[:, :at, :at])
            logits = model.net(tokens[:, :at], sight)[:, -1:].detach().float()
            wrong = torch.tensor([piece not in allowed for piece in vocabulary])
            drawn = draw(
                logits.masked_fill(wrong, -torch.inf), torch.tensor([own_seed]), torch.tensor([[reading.positions[at]]])
            )
            assert vocabulary[int(drawn)] == text.pieces[at], (at, text.text)
            compared += 1
        assert compared > 10


def places_of(pieces, seed):
    """What the grammar allows at each place of a text, read from left to right, and the seed of its lane's draws."""
    lanes, places, at = [[Lane(), seed, 0, 0]], [], 0
    while at < len(pieces):
        lane, seed, forks, paths = lanes[-1]
        if lane.state == "paths" and pieces[at] == PATH:
            count = pieces[at:].index(":") + 1
            places += [(set(), 0)] * count
            lanes[-1][2:] = [forks + (paths == 0), paths + 1]
            lanes.append([lane.path(), derive_seed("path", seed, lanes[-1][2], paths), 0, 0])
            at += count
            continue
        characters, tags = lane.allowed(3, 2)
        places.append(({*tags, *(pieces_of("0123456789+:;=? ") if characters else ())}, seed))
        if lane.state == "paths":
            lanes[-1][3] = 0
        lane.read(pieces[at], 3, 2)
        if pieces[at] == END_PATH:
            lanes.pop()
        at += 1
    return places


def test_branches_see_nothing_of_their_siblings(model):
    """Another token in one path moves nothing in the other, and what is behind both."""
    pieces = [*pieces_of(PROMPT + BLOCK)]
    reading = read(pieces)
    x, other = pieces.index("4", len(PROMPT)), pieces.index("9", len(PROMPT))
    parts = [torch.tensor([part]) for part in (reading.positions, reading.blocks, reading.branches)]
    before, tokens = (torch.tensor([model.facts.encode(pieces)]) for _ in range(2))
    tokens[0, x] = model.facts.encode(["8"])[0]
    one, two = (model.predict(given, *parts)[0] for given in (before, tokens))
    moved = (one - two).abs().amax(-1) > 1e-9
    path = [at for at, branch in enumerate(reading.branches) if branch[0] == 1]
    assert other in path and not moved[path].any()
    assert not moved[:x].any() and moved[x]
    reduce = pieces.index("<Conclusion>")
    assert moved[reduce:].all()


def test_depth_is_the_longest_branch_and_the_reduce(model, seeds):
    made, _ = run(model, [asked(model, seed=seed, max_nesting=1) for seed in seeds])
    for text in made:
        reading = read(text.pieces)
        assert text.facts["depth"] == reading.depth
        # Each step settles one chosen token of the longest path; closing a path takes one more step.
        blocks = sum(piece == "<Parallel>" for piece in text.pieces)
        assert text.facts["steps"] <= reading.depth - text.facts["prompt_tokens"] + 2 * blocks + 1


def test_alone_and_in_a_batch(model, seeds):
    requests = [asked(model, seed=seed, execution=("parallel", "serial")[seed % 2]) for seed in seeds]
    together, _ = run(model, requests)
    for request, text in zip(requests, together, strict=True):
        (alone,), _ = run(model, [request])
        assert (alone.tokens, alone.order, alone.facts) == (text.tokens, text.order, text.facts)


def test_what_is_written_can_be_read_at_every_limit(model):
    made, _ = run(model, [asked(model, seed=seed, max_depth=13 + 6 * seed) for seed in range(0, 24, 2)])
    for number, text in enumerate(made):
        read(text.pieces, max_branches=3, max_nesting=2)
        assert text.facts["depth"] <= 13 + 12 * number
        assert text.text.startswith(PROMPT)


def test_a_chain_writes_its_paths_one_behind_the_other(chain, seeds):
    made, _ = run(chain, [asked(chain, seed=seed) for seed in range(16)])
    assert any(text.facts["branches"] > 1 for text in made)
    for text in made:
        read(text.pieces, max_branches=3, max_nesting=2)
        assert text.facts["depth"] == len(text.pieces) <= 160
    texts, _ = run(chain, [asked(chain, seed=seed, execution="serial") for seed in range(4)])
    assert [text.tokens for text in texts] == [text.tokens for text in made[:4]]


def test_a_prompt_may_hold_blocks(model):
    request = asked(model, text=PROMPT + BLOCK, seed=3, max_nesting=0)
    (made,), _ = run(model, [request])
    reading = read(pieces_of(request.text))
    first = made.order.index(0)
    assert first == made.facts["prompt_tokens"] == len(reading.pieces)
    assert read(made.pieces).positions[first] == reading.depth < first


@pytest.mark.parametrize(
    ("fields", "code", "path"),
    [
        ({"text": PROMPT + "<Parallel>"}, "format", "text"),
        ({"text": 10_000 * "<Parallel><Goal><Outline>1</Outline></Goal><Path>1:"}, "limit", "text"),
        ({"text": "<Parallel><Goal>" + 65 * "<Outline>1</Outline>"}, "limit", "text"),
        ({"text": 160 * "1"}, "limit", "text"),
        ({"text": PROMPT, "max_depth": 161}, "limit", "max_depth"),
        ({"text": PROMPT, "max_depth": 5}, "limit", "text"),
        ({"text": "what?"}, "value", "text"),
        ({"text": ""}, "empty", "text"),
        ({"text": PROMPT, "max_branches": 65}, "range", "max_branches"),
        ({"text": PROMPT, "max_branches": 64, "max_nesting": 2}, "limit", "max_branches"),
        ({"text": PROMPT, "temperature": float("nan")}, "range", "temperature"),
        ({"text": PROMPT, "execution": "sideways"}, "unknown", "execution"),
    ],
)
def test_what_cannot_be_written_is_refused_by_its_field(make, fields, code, path):
    with refused(RequestError, code, path):
        make("multiverse", "--data.context=160")(**fields)


def test_lines_that_cannot_be_used_are_listed(tmp_path):
    import json

    problems = [make_problem(seed, SumSizes(max_branches=3)).model_dump() for seed in range(5)]
    wrong = [{"prompt": "1", "text": "<Parallel>"}, {"prompt": "1"}, problems[0]]
    path = tmp_path / "texts.jsonl"
    path.write_text("\n".join(map(json.dumps, [*problems, *wrong])) + "\n{", encoding="utf-8")
    data = TaggedData(root=str(path), val_size=1, batch_size=1)
    audit = data.prepare(progress=False)
    assert (audit.kept, len(data.train_set), len(data.val_set)) == (5, 4, 1)
    assert sorted(audit.reasons) == ["not JSON", "not well formed", "same prompt", "wrong fields"]
    with refused(DataError, "empty", "data.root"):
        TaggedData(root=str(path), context=8, val_size=0).prepare(progress=False)


def test_it_is_measured_on_a_file(make, tmp_path):
    from unisono_branches.cli import _sums

    class Args:
        file, count, first_seed, branches, terms = (
            str(tmp_path / "sums.jsonl"),
            3,
            derive_seed("x") % 1000,
            (2, 3),
            (2, 3),
        )

    assert _sums(Args()) == 0
    report = evaluate(make("multiverse"), Args.file)
    assert report.systems == ["parallel", "serial"] and report.value(EQUAL, "serial") == 1
    assert report.value(EVALUATIONS, "parallel") <= report.value(EVALUATIONS, "serial")
    assert 0 <= report.value(RIGHT, "parallel") <= 1 and not report.failures
    assert evaluate(make("chain"), Args.file, limit=1).systems == ["chain"]


def test_the_answer_is_what_the_last_conclusion_ends_with():
    problem = make_problem(1, SumSizes())
    assert answer_of(problem.text) == problem.text.rpartition("</Conclusion>")[0][-3:]
    assert answer_of("12") == ""

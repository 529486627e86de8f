"""Generators of tokens in any order: requests, samplers and likelihoods of whole models, with random weights."""

import math
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from picture_facts import FACTS
from refused import refused
from torch import Tensor
from unisono import Image, Synthesizer
from unisono.errors import RecipeError, RequestError
from unisono.recipe import Recipe
from unisono_image.anyorder.groups import group_sizes, groups_of_row
from unisono_image.corpus.data import Picture
from unisono_image.corpus.shapes import SHAPES, ShapeData
from unisono_image.measure.likelihood import bound_per_token, evaluate, nats_per_token
from unisono_image.models.untrained import tokenizer

NAMES = ("arpg", "lpd")
ASKED = {"label": "circle", "guidance": 0.0}


def make(name: str, *overrides: str, noise: float = 0.5, facts: Any = FACTS) -> Any:
    """A generator with random weights over the untrained tokenizer's tokens, 4 × 4 of 16 codes."""
    model: Any = Recipe.read(f"image/{name}-tiny", list(overrides)).build_model(facts)
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(noise * torch.randn(parameter.shape, generator=g))
    if model.num_tokens == 16:
        model.attach("tokenizer", tokenizer(FACTS))
    return model.eval()


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    return {name: make(name) for name in NAMES}


def drawn(model: Any, **fields: Any) -> tuple[Tensor, Tensor]:
    """The tokens of one request, and the step at which each was settled."""
    task = model.task(model.Request(**{**ASKED, **fields}), fields.get("seed", 3))
    canvas = model.filling([task]).run()
    return canvas.tokens[0], canvas.age[0]


@pytest.mark.parametrize("name", NAMES)
def test_surprise_is_of_a_distribution_and_depends_on_the_past_alone(models, name):
    model = models[name]
    tokens = torch.randint(0, 16, (3, 16))
    condition, order = model.condition_of([0, 1, -1], ["", "", ""]), model.orders([1, 2, 3])
    nats = model.surprises(tokens, condition, order)
    chances = model.logits_one_by_one(tokens, condition, order).double().softmax(-1)
    assert torch.allclose(chances.gather(-1, tokens.gather(1, order)[..., None])[..., 0].log(), -nats)
    changed = tokens.scatter(1, order[:, 9:10], (tokens.gather(1, order[:, 9:10]) + 1) % 16)
    again = model.surprises(changed, condition, order)
    assert torch.allclose(again[:, :9], nats[:, :9], atol=1e-6)
    assert not torch.allclose(again[:, 10:], nats[:, 10:], atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_one_token_a_step_is_drawn_from_the_law_that_is_measured(models, name):
    """Drawn by an order, the likeliest token each time: each is the likeliest of what the law says in that order."""
    model = models[name]
    tokens, age = drawn(model, temperature=0, num_steps=16)
    assert sorted(age.tolist()) == list(range(16))
    order = age.argsort()[None]
    logits = model.logits_one_by_one(tokens[None], model.condition_of([0], [""]), order)
    assert torch.equal(logits.argmax(-1), tokens[None].gather(1, order))


@pytest.mark.parametrize("name", NAMES)
def test_orders_belong_to_seeds(models, name):
    orders = models[name].orders([4, 5, 6])
    assert torch.equal(models[name].orders([6])[0], orders[2])
    assert orders.sort(1).values.tolist() == [list(range(16))] * 3
    assert len({tuple(row) for row in orders.tolist()}) == 3


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("guidance", [0.0, 2.0])
def test_steps_are_evaluations(models, name, guidance):
    model = models[name]
    before = model.evaluations
    _, age = drawn(model, num_steps=4, guidance=guidance)
    assert len(set(age.tolist())) == 4
    assert model.evaluations - before == (8 if guidance else 4)


@pytest.mark.parametrize("name", NAMES)
def test_guidance_changes_what_is_drawn_and_its_ramp_does_too(models, name):
    model = models[name]
    ways = [{"guidance": 0.0}, {"guidance": 9.0}, {"guidance": 9.0, "guidance_ramp": False}]
    made = [tuple(drawn(model, num_steps=8, **way)[0].tolist()) for way in ways]
    assert len(set(made)) == 3


def test_all_of_a_step_seen_or_those_before(models):
    model = models["arpg"]
    for steps, same in ((16, True), (2, False)):
        first, second = (drawn(model, num_steps=steps, same_step=way)[0] for way in ("causal", "mutual"))
        assert torch.equal(first, second) is same, steps


@pytest.mark.parametrize("sampler", ["random_order", "halton", "locality", "left_to_right"])
def test_other_orders(models, sampler):
    _, age = drawn(models["arpg"], sampler=sampler)
    assert int(age.min()) == 0
    if sampler == "left_to_right":
        assert age.tolist() == sorted(age.tolist())


def test_groups_are_those_of_the_row(models):
    for near, sampler in ((True, "lpd"), (False, "lpd_random")):
        groups, _ = groups_of_row(4, 4, 4, radius=1, seed=3, near=near)
        _, age = drawn(models["lpd"], sampler=sampler)
        assert torch.equal(age, groups)
    assert torch.bincount(age).tolist() == list(group_sizes(16, 4))


@pytest.mark.parametrize("name", NAMES)
def test_given_tokens_stay_and_steps_are_of_the_rest(models, name):
    model = models[name]
    ramp = np.arange(3 * 64, dtype=np.uint8).reshape(3, 8, 8)
    mask = np.zeros((3, 8, 8), np.uint8)
    mask[:, 4:] = 255
    task = model.task(model.Request(**ASKED, image=Image(ramp), mask=Image(mask), num_steps=3), 3)
    given = task.tokens[:8, 0].clone()
    canvas = model.filling([task]).run()
    assert torch.equal(canvas.tokens[0, :8], given)
    assert canvas.age[0, :8].tolist() == [-1] * 8
    assert sorted(set(canvas.age[0, 8:].tolist())) == [0, 1, 2]


def test_what_has_learnt_nothing_knows_nothing():
    """A new ARPG's logits are 0: each token has the same chance."""
    model = make("arpg", noise=0.0)
    pixels = [np.zeros((3, 8, 8), np.uint8), np.full((3, 8, 8), 200, np.uint8)]
    pictures = [Picture("a", 0, 0), Picture("b", 1)]
    assert nats_per_token(model, pixels, pictures, ["circle"]) == pytest.approx([math.log(16)] * 2)


@pytest.mark.parametrize("name", NAMES)
def test_likelihood_of_a_picture_is_its_own(models, name):
    model = models[name]
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, 256, (3, 8, 8)).astype(np.uint8) for _ in range(3)]
    pictures = [Picture("a", 0, 0), Picture("b", 1, 1), Picture("c", 2, 0)]
    together = nats_per_token(model, pixels, pictures, ["circle", "square"])
    assert nats_per_token(model, pixels[:1], pictures[:1], ["circle", "square"]) == pytest.approx(
        together[:1], rel=1e-5
    )
    swapped = nats_per_token(model, pixels, pictures, ["square", "circle"])  # by name, not by number
    assert swapped != pytest.approx(together, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "fields", "code", "path"),
    [
        ("arpg", {"sampler": "maskgit"}, "unknown", "sampler"),
        ("arpg", {"choice_temperature": 1.0}, "conflict", "choice_temperature"),
        ("arpg", {"sampler": "locality", "schedule": "cosine"}, "conflict", "schedule"),
        ("arpg", {"top_k": 3, "temperature": 0}, "conflict", "top_k"),
        ("lpd", {"sampler": "locality"}, "unknown", "sampler"),
        ("lpd", {"choice_temperature": 1.0}, "conflict", "choice_temperature"),
        ("lpd", {"schedule": "cosine"}, "conflict", "schedule"),
        ("lpd", {"top_k": 3, "temperature": 0}, "conflict", "top_k"),
    ],
)
def test_wrong_requests_are_refused(models, name, fields, code, path):
    model = models[name]
    with refused(RequestError, code, path):
        model.task(model.Request(**{**ASKED, **fields}), 0)


@pytest.mark.parametrize(
    ("name", "override", "path"),
    [
        ("lpd", "--model.groups.train_steps=[64]", "model.groups.train_steps"),
        ("lpd", "--model.groups.train_steps=[]", "model.groups.train_steps"),
        ("lpd", "--model.groups.radius=-1", "model.groups.radius"),
        ("lpd", "--model.groups.num_steps=0", "model.groups.num_steps"),
        ("arpg", "--model.network.num_layers=3", "model.network.num_layers"),
        ("arpg", "--model.guidance=-1", "model.guidance"),
    ],
)
def test_wrong_recipes_are_refused(name, override, path):
    with pytest.raises(RecipeError) as caught:
        make(name, override)
    assert caught.value.path == path


@torch.no_grad()
def test_the_bound_of_a_masked_generator_is_the_mean_over_its_orders():
    """Of a small picture, masks drawn often enough: the mean over all 24 orders of what it says one after the other."""
    model = make("maskgit", "--model.grid=2", noise=0.3)
    tokens = torch.tensor([[3, 1, 15, 7]])
    condition = model.condition_of([1], [""])
    mean = 0.0
    for order in permutations(range(4)):
        known = torch.zeros(1, 4, 1, dtype=torch.bool)
        for place in order:
            logits = model.predict(tokens[..., None] * known, known, condition)[0, place, 0]
            mean -= float(logits.log_softmax(-1)[tokens[0, place]]) / 24
            known[0, place] = True
    many = tokens.expand(2000, 4)
    found = bound_per_token(model, many, condition.rows(torch.zeros(2000, dtype=torch.int64)), list(range(2000)), 1)
    assert float(found.mean()) == pytest.approx(mean / 4, abs=4 * float(found.std()) / 2000**0.5)
    assert float(found.std()) / 2000**0.5 < 0.02 * mean


@pytest.mark.parametrize(("name", "row"), [("arpg", "nats a token"), ("maskgit", "nats a token, at most")])
def test_evaluation_says_how_likely_pictures_are(name, row):
    data = ShapeData(num_items=36, size=8, batch_size=4, val_size=8)
    data.prepare(progress=False)
    model = make(name, noise=0.0, facts=data.describe())
    classifier = Recipe.read("image/classifier-tiny").build_model({**data.describe(), "classes": list(SHAPES)})
    model.attach("classifier", classifier.eval())
    report = evaluate(Synthesizer(model), data, limit=8, progress=False, num_steps=2)
    nats = report.value(row, "model")
    if name == "arpg":  # its logits are 0 before it has learnt
        assert nats == pytest.approx(math.log(16))
    else:
        assert isinstance(nats, float) and 0 < nats < 2 * math.log(16)
    assert report.value("evaluations for it", "model") == 4  # two steps, each with and without the caption


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_weights_of_sixteen_bits_draw_and_measure(name, kind):
    model = make(name, noise=0.1).to(kind)
    tokens, _ = drawn(model, num_steps=3, guidance=1.0)
    assert 0 <= int(tokens.min()) <= int(tokens.max()) < 16
    nats = model.nats_per_token(tokens[None], model.condition_of([0], [""]), [1])
    assert nats.dtype == torch.float64 and bool(nats.isfinite().all())

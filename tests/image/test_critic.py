"""Critic of picture tokens: what it learns from, and how near it comes to the best there is on a world of known law."""

import itertools
import math

import numpy as np
import pytest
import torch
from picture_facts import FACTS
from refused import refused
from torch import nn
from torch.nn import functional as F
from unisono import Image, Synthesizer
from unisono.errors import RecipeError, RequestError
from unisono.export import load, save_export
from unisono.masked import Unconditional, at_sites
from unisono.nn.condition import ConditionSizes
from unisono.recipe import Recipe
from unisono_image.models.critic import Critic
from unisono_image.models.maskgit_sizes import CriticObjective, Masked, TokenNetSizes
from unisono_image.models.untrained import tokenizer
from unisono_image.models.untrained_generators import critic, generator

CODES, TOKENS = 16, 16
BATCH = {"label": torch.tensor([0, 1, -1]), "caption": ["", "a red circle", ""]}


@pytest.fixture
def judge() -> Critic:
    model = Recipe.read("image/critic-tiny").build_model(FACTS)
    model.attach("generator", generator(model.facts))
    return model.eval()


class Certain:
    """A generator that draws what it is told to, whatever it sees."""

    def __init__(self, tokens, num_codes=CODES):
        self.logits = 1e4 * F.one_hot(tokens, num_codes).float()

    def condition_of(self, labels, captions):
        return list(zip(labels, captions, strict=True))

    def network_of(self, condition):
        self.asked = condition
        return lambda tokens, known, query: at_sites(self.logits, query)


def some_tokens(rows=3):
    return torch.randint(CODES, (rows, TOKENS), generator=torch.Generator().manual_seed(0))


# ---- what it learns from -----------------------------------------------------------------------


def test_a_token_is_drawn_where_it_was_masked_even_if_it_is_the_real_one(judge):
    tokens = some_tokens()
    judge._components["generator"] = Certain(tokens)
    filled, real = judge.drafted(tokens, BATCH, [1, 2, 3])
    assert torch.equal(filled, tokens) and not real.all(1).any() and real.any()
    judge._components["generator"] = Certain((tokens + 1) % CODES)
    filled, again = judge.drafted(tokens, BATCH, [1, 2, 3])
    assert torch.equal(again, real)
    assert torch.equal(filled, torch.where(real, tokens, (tokens + 1) % CODES))


def test_the_generator_is_told_what_the_critic_is_told(judge):
    judge._components["generator"] = told = Certain(some_tokens())
    judge.drafted(some_tokens(), BATCH, [1, 2, 3])
    assert told.asked == [(0, ""), (1, "a red circle"), (-1, "")]
    judge.train()
    judge.condition_sizes = ConditionSizes(dim=8, text_heads=2, dropout=1.0)
    judge.drafted(some_tokens(), BATCH, [1, 2, 3])
    assert told.asked == [(-1, "")] * 3 and judge.forgotten([1, 2, 3]).all()


def test_drafts_belong_to_an_item_and_all_rates_occur(judge):
    tokens = some_tokens(64)
    batch = {"label": torch.zeros(64, dtype=torch.int64), "caption": [""] * 64}
    filled, real = judge.drafted(tokens, batch, list(range(64)))
    one = judge.drafted(tokens[5:6], {"label": batch["label"][5:6], "caption": [""]}, [5])
    assert torch.equal(one[0][0], filled[5]) and torch.equal(one[1][0], real[5])
    shares = (~real).float().mean(1)
    assert float(shares.min()) < 0.2 and float(shares.max()) > 0.95
    assert torch.equal(filled[real], tokens[real]) and (filled != tokens).any()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_drafts_are_drawn_at_the_recipes_temperature(judge, temperature):
    judge.objective = CriticObjective(temperature=temperature)
    tokens = some_tokens(8).fill_(3)
    batch = {"label": torch.zeros(8, dtype=torch.int64), "caption": [""] * 8}
    filled, real = judge.drafted(tokens, batch, list(range(8)))
    network = judge.component("generator").network_of(judge.component("generator").condition_of([0] * 8, [""] * 8))
    likeliest = network(torch.where(real, tokens, 0), real, None).argmax(-1)
    assert torch.equal(filled[~real], likeliest[~real]) == (temperature == 0)


def test_the_generator_is_frozen(judge):
    before = {name: value.clone() for name, value in judge.component("generator").state_dict().items()}
    judge.train()
    batch = {**BATCH, "image": torch.zeros(3, 3, 8, 8), "row": torch.arange(3)}
    judge.losses(batch)["loss"].backward()
    own = [p.grad for p in judge.net.parameters()]
    assert all(grad is not None for grad in own)
    assert all(p.grad is None and not p.requires_grad for p in judge.component("generator").parameters())
    assert all(torch.equal(before[n], v) for n, v in judge.component("generator").state_dict().items())
    assert not judge.component("generator").training


# ---- components and use ------------------------------------------------------------------------


def test_an_export_holds_the_tokenizer_and_not_the_generator(judge, tmp_path):
    assert list(judge.components) == ["tokenizer"]
    found = load(save_export(judge, tmp_path / "critic"))
    assert not (tmp_path / "critic" / "components" / "generator").exists()
    own = Synthesizer(judge)(label="circle")
    np.testing.assert_array_equal(found(label="circle").pixels, own.pixels)
    assert own.pixels.shape == (3, 8, 8) and 0 <= own.pixels.min() <= own.pixels.max() <= 1
    squares = own.pixels[0].reshape(4, 2, 4, 2)
    assert (squares == squares[:, :1, :, :1]).all()  # one number for a token's square
    with refused(RequestError, "missing", "components.generator"):
        found.model.on_train_start()


def test_components_must_be_of_the_same_tokens(judge):
    other = Recipe.read("image/critic-tiny", ["--model.num_codes=17"]).build_model(FACTS)
    with refused(RecipeError, "conflict", "model.num_codes"):
        other.attach("generator", generator(other.facts))
    strange = generator({**FACTS, "classes": ["other"]})
    with refused(RecipeError, "conflict", "components.generator", value="classes"):
        judge.attach("generator", strange)
    changed = tokenizer(FACTS)
    with torch.no_grad():
        next(changed.parameters()).mul_(0.5)
    with refused(RecipeError, "conflict", "components.tokenizer"):
        judge.attach("tokenizer", changed)
    drawing = Recipe.read("image/maskgit-tiny").build_model(FACTS)
    with refused(RecipeError, "conflict", "components.critic", value="classes"):
        drawing.attach("critic", critic({**FACTS, "classes": ["other"]}))


def test_wrong_requests_are_refused(judge):
    asked = Synthesizer(judge)
    with refused(RequestError, "unknown", "label"):
        asked(label="triangle")
    with refused(RequestError, "missing", "image"):
        asked(image="nowhere.png")
    assert (asked(image=Image(np.zeros((3, 8, 8), np.uint8))).pixels != asked().pixels).any()


# ---- against the best there is -----------------------------------------------------------------


class Table(nn.Module):
    """A critic that can say anything of a row: a number for each of its places."""

    def __init__(self, v, n):
        super().__init__()
        self.said = nn.Embedding(v**n, n)
        self.register_buffer("digits", v ** torch.arange(n - 1, -1, -1))
        nn.init.zeros_(self.said.weight)

    def forward(self, tokens, condition):
        return self.said((tokens * self.digits).sum(1))


def test_a_critic_of_an_exact_generator_comes_near_the_bayes_rate():
    """Four places of three tokens, whose law is known; the generator draws from its exact conditionals.

    The chance that a token is real given the whole row follows by enumeration of rows and masks, and with it the
    largest area under the curve that any critic can have. A critic that is a table, trained as any other, must come
    within .01 of it: the difference is what its 80,000 rows leave open.
    """
    v, grid = 3, 2
    n = grid * grid
    g = torch.Generator().manual_seed(7)
    rows = torch.tensor(list(itertools.product(range(v), repeat=n)))
    law = torch.softmax(2.5 * torch.randn(len(rows), generator=g, dtype=torch.float64), 0)

    def conditionals(tokens, known):
        fits = ((rows[None] == tokens[:, None]) | ~known[:, None]).all(-1).double() * law  # [b, rows]
        one_hot = F.one_hot(rows, v).double()
        chance = torch.einsum("br,rnv->bnv", fits, one_hot)
        return chance / chance.sum(-1, keepdim=True)

    class Exact:
        def condition_of(self, labels, captions):
            return None

        def network_of(self, condition):
            return Unconditional(
                lambda tokens, known, query: at_sites(conditionals(tokens, known).clamp_min(1e-300).log(), query)
            )

    model = Critic(
        num_codes=v,
        grid=grid,
        network=TokenNetSizes(dim=8, num_layers=1, num_heads=2, dropout=0),
        condition=ConditionSizes(dim=8, text_heads=2, dropout=0.0),
        objective=CriticObjective(masking=Masked(schedule="linear")),
    )
    model.build({**FACTS, "size": 4, "classes": [], "words": [], "sample_captions": []})
    model._components["generator"] = Exact()

    def batch_of(count, first):
        picks = torch.multinomial(law, count, replacement=True, generator=torch.Generator().manual_seed(first))
        batch = {"label": torch.full((count,), -1), "caption": [""] * count}
        return rows[picks], batch, list(range(first, first + count))

    model.net = Table(v, n)
    optimiser = torch.optim.Adam(model.net.parameters(), lr=0.1)
    decay = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.01, 40)
    for step in range(40):
        tokens, batch, seeds = batch_of(2000, 10_000 * (step + 1))
        loss = model.token_losses(tokens, model.condition_of(batch["label"].tolist(), batch["caption"]), batch, seeds)
        optimiser.zero_grad()
        loss["loss"].backward()
        optimiser.step()
        decay.step()

    # P(row seen, place real): over true rows and masks of k tokens, k = 1 … n equally likely, all of a size alike.
    joint = torch.zeros(len(rows), n, dtype=torch.float64)
    seen = torch.zeros(len(rows), dtype=torch.float64)
    for k in range(1, n + 1):
        for hidden in itertools.combinations(range(n), k):
            known = torch.ones(n, dtype=torch.bool)
            known[list(hidden)] = False
            chance = conditionals(rows, known.expand(len(rows), n))  # given each true row
            agrees = (rows[:, None] == rows[None])[..., known].all(-1).double()
            drawn = torch.stack([chance[:, i][:, rows[:, i]] for i in hidden]).prod(0)  # [true, seen]
            weight = (law[:, None] * agrees * drawn).sum(0) / (n * math.comb(n, k))
            seen += weight
            joint += weight[:, None] * known
    assert abs(float(seen.sum()) - 1) < 1e-12
    posterior = joint / seen[:, None].clamp_min(1e-300)

    tokens, batch, seeds = batch_of(12_000, 10_000_000)
    filled, real = model.drafted(tokens, batch, seeds)
    which = (filled * v ** torch.arange(n - 1, -1, -1)).sum(1)
    assert abs(float(real.double().mean()) - float(joint.sum() / n)) < 0.01
    with torch.no_grad():
        said = model.net(filled, model.condition_of([-1] * len(filled), [""] * len(filled)))
    best, found = (area(score.flatten(), real.flatten()) for score in (posterior[which], said.double()))
    assert 0.6 < best < 0.99 and abs(found - best) < 0.01, (found, best)


def area(score, positive):
    """The area under the receiver's curve: how often a positive is above a negative, ties by half."""
    values, inverse = score.unique(return_inverse=True)
    up, down = (
        torch.zeros(len(values), dtype=torch.float64).index_add(
            0, inverse[chosen], torch.ones(int(chosen.sum())).double()
        )
        for chosen in (positive, ~positive)
    )
    below = down.cumsum(0) - down
    return float((up * (below + down / 2)).sum() / (up.sum() * down.sum()))

"""The text models: bounds against exact laws, blocks against autoregression, batches, prompts, what each learns."""

import itertools
import math
import statistics

import flat
import pytest
import torch
from refused import refused
from unisono.errors import CheckpointError, DataError, RecipeError, RequestError
from unisono.recipe import Recipe
from unisono.verify import KVCache
from unisono_text.corpus.tokenizer import Tokenizer
from unisono_text.models import masking
from unisono_text.models.anchored import Anchored
from unisono_text.models.ar import Autoregressive
from unisono_text.models.block import BlockModel, moments, search_windows, variance
from unisono_text.models.mdlm import MDLM
from unisono_text.models.seed import Seed

FACTS = {
    **Tokenizer.characters(["abc"]).to_facts(),
    "context": 8,
    "characters_per_token": 1.0,
    "sample_texts": ["ab"],
}
SIZES = dict(dim=16, num_layers=2, num_heads=2, dropout=0.0)
FIRST = 3  # the tokens before it are special
MODELS = {
    "mdlm": (MDLM, {}),
    "block": (BlockModel, {"block_size": 2}),
    "anchored": (Anchored, {"anchor_layers": 1, "anchor_threshold": 1}),
    "seed": (Seed, {}),
    "ar": (Autoregressive, {}),
}


def make(name: str, facts: dict | None = None, **changes):
    """A model with weights large enough that what it says depends on what it sees."""
    kind, arguments = MODELS[name]
    model = flat.make(kind, **{**SIZES, **arguments, **changes})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model.build({**FACTS, **(facts or {})})
        for parameter in model.net.parameters():
            if parameter.dim() == 2:
                torch.nn.init.normal_(parameter, std=0.4)
    return model.eval()


def batch_of(*rows: list[int], prompt: list[int] | None = None, **more) -> dict:
    longest = max(map(len, rows))
    return {
        "tokens": torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows]),
        "lengths": torch.tensor([len(row) for row in rows]),
        "prompt": torch.tensor(prompt or [0] * len(rows)),
        "row": torch.arange(len(rows)) + 5,
        **more,
    }


def some_batch(*lengths: int, seed: int = 0, **more) -> dict:
    generator = torch.Generator().manual_seed(seed)
    return batch_of(*(torch.randint(FIRST, 6, (n,), generator=generator).tolist() for n in lengths), **more)


# ---- the bound, against an exact law ------------------------------------------------------------


class ExactNetwork:
    """What each position holds, given exactly what it sees, under a law of four tokens that is a table.

    With ``power`` other than 1 it is another network, whose conditionals are sharpened.
    """

    def __init__(self, model, power: float = 1.0):
        generator = torch.Generator().manual_seed(3)
        self.texts = torch.tensor(list(itertools.product(range(FIRST, 6), repeat=4)))
        self.law = torch.rand(len(self.texts), generator=generator, dtype=torch.float64) ** 4
        self.law /= self.law.sum()
        self.mask_id, self.power, self.visible, self.block_size = model.mask_id, power, model.net.visible, 0

    def head(self, logits):
        return logits

    def __call__(self, tokens, mask=None, positions=None, cache=None, hidden=False):
        b, n = tokens.shape
        positions = torch.arange(n) if positions is None else positions
        if mask is None:
            mask = self.visible(positions)
        mask = torch.ones(1, n, n, dtype=torch.bool) if mask is None else mask
        mask = (mask[:, None] if mask.dim() == 2 else mask).expand(b, n, n)
        told = mask & (tokens != self.mask_id)[:, None]  # b, query, key
        # A text agrees with what a query sees if it has each told token at its position.
        differs = (self.texts[:, positions] != tokens[:, None]).double()  # b, text, key
        agrees = torch.einsum("bqk,bxk->bqx", told.double(), differs) == 0
        weight = agrees * self.law
        values = torch.nn.functional.one_hot(self.texts[:, positions], 6).double()  # text, query, v
        marginal = torch.einsum("bqx,xqv->bqv", weight, values)
        return self.power * (marginal / marginal.sum(-1, keepdim=True).clamp_min(1e-300)).clamp_min(1e-30).log()


def samples_of_the_bound(name: str, power: float = 1.0, copies: int = 16, num_samples: int = 4):
    """Per text of the law, independent samples of the bound [texts, copies], and the true surprise of each."""
    model = make(name)
    exact = ExactNetwork(model, power)
    model.net = exact
    rows = exact.texts.repeat_interleave(copies, 0)
    batch = {
        "tokens": rows,
        "lengths": torch.full((len(rows),), 4),
        "prompt": torch.zeros(len(rows), dtype=torch.int64),
        "row": torch.arange(len(rows)),
    }
    return model.bound(batch, num_samples).view(len(exact.texts), copies), -exact.law.log(), exact.law


@pytest.fixture
def bare(monkeypatch):
    """A network that is no module may stand in for one."""
    for kind in (MDLM, BlockModel, Anchored, Seed):
        monkeypatch.setattr(kind, "__setattr__", object.__setattr__)


@pytest.mark.parametrize("name", ["mdlm", "block", "anchored", "seed"])
def test_with_an_exact_network_the_bound_is_the_surprise_and_its_mean_the_entropy(name, bare):
    samples, truth, law = samples_of_the_bound(name)
    mean, error = samples.mean(1), samples.std(1) / math.sqrt(samples.shape[1])
    off = (mean - truth) / error.clamp_min(1e-9)
    assert float(off.abs().max()) < 6  # 81 texts, 16 samples each, in Student's law
    assert float((off**2).mean()) < 1.6
    entropy, spread = float((law * mean).sum()), float(((law * error) ** 2).sum().sqrt())
    assert abs(entropy - float((law * truth).sum())) < 4 * spread
    assert spread < 0.03  # nats, of an entropy of about three


@pytest.mark.parametrize("name", ["mdlm", "block"])
def test_with_another_network_the_bound_is_above_the_entropy(name, bare):
    samples, truth, law = samples_of_the_bound(name, power=2.5)
    spread = float(((law * samples.std(1)) ** 2).sum().sqrt()) / 4
    assert float((law * (samples.mean(1) - truth)).sum()) > 5 * spread


@torch.no_grad()
@pytest.mark.parametrize("name", ["mdlm", "block"])
def test_times_cost_in_the_mean_what_numbers_do(name, bare):
    """What is trained on is the bound that is measured: both means agree, for a network that is not exact."""
    model = make(name)
    model.net = exact = ExactNetwork(model, 1.6)
    batch = some_batch(*[4] * 2400)
    batch["tokens"] = exact.texts[:3].repeat(800, 1)
    batch["row"] = torch.arange(2400)
    seeds = list(range(2400))
    by_time = model.cost(batch, seeds, model.times(batch, seeds)).double().sum(1).view(800, 3)
    by_number = model.bound(batch).view(800, 3)
    for one, other in zip(by_time.T, by_number.T, strict=True):
        error = math.hypot(float(one.std()), float(other.std())) / math.sqrt(800)
        assert abs(float(one.mean() - other.mean())) < 5 * error
        assert other.std() < one.std()


# ---- blocks --------------------------------------------------------------------------------------


@torch.no_grad()
def test_blocks_of_one_token_are_autoregressive():
    model, batch = make("block", block_size=1), some_batch(6, 6)
    by_hand = torch.zeros(2, dtype=torch.float64)
    for at in range(6):
        seen = batch["tokens"][:, : at + 1].clone()
        seen[:, at] = model.mask_id
        log_p = model.predict(seen)[:, at].double().log_softmax(-1)
        by_hand -= log_p.gather(1, batch["tokens"][:, at : at + 1])[:, 0]
    for seed in range(2):
        torch.testing.assert_close(model.bound(batch, 1, seed), by_hand, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_one_block_is_mdlm():
    block, mdlm = make("block", block_size=8), make("mdlm")
    assert set(block.state_dict()) == set(mdlm.state_dict())
    batch, seeds = some_batch(8, 8), [3, 4]
    times = torch.tensor([[0.3], [0.8]], dtype=torch.float64)
    torch.testing.assert_close(block.cost(batch, seeds, times), mdlm.cost(batch, seeds, times), atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("lengths", [(8, 8), (8, 5)])
def test_one_pass_trains_every_block_as_it_is_decoded(lengths):
    model, batch = make("block"), some_batch(*lengths)
    times = torch.full((2, 4), 0.6, dtype=torch.float64)
    corrupted = model.corrupted(batch, [1, 2], times)
    together = model.read(corrupted, batch)
    for row, length in enumerate(lengths):
        for start in range(0, length, 2):
            stop = min(start + 2, length)
            seen = batch["tokens"][row, :stop].clone()
            hidden = corrupted.canvas.masked[row, start:stop]
            seen[start:stop] = seen[start:stop].masked_fill(hidden, model.mask_id)
            alone = model.predict(seen[None])[0, start:]
            torch.testing.assert_close(together[row, start:stop], alone, atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("name", ["block", "anchored"])
def test_a_finished_block_may_be_kept(name):
    """Exact for blocks; for a bidirectional network keys and values are those of the pass that made them."""
    model, batch = make(name), some_batch(6, 6)
    tokens = batch["tokens"].clone()
    tokens[:, 4:] = model.mask_id
    whole = model.predict(tokens)
    cache = KVCache(2)
    first = torch.ones(2, 4, 4, dtype=torch.bool)
    if name == "block":
        first = model.net.visible(torch.arange(4)).expand(2, 4, 4)
    model.predict(tokens[:, :4], cache.mask(first), torch.arange(4).expand(2, 4), cache)
    layers, heads, channels = model.kv_shape
    assert sorted(cache.layers) == list(range(layers))
    assert cache.layers[0][0].shape[1] == heads and cache.layers[0][0].shape[3] == channels
    cache.advance(4)
    last = torch.ones(2, 2, 2, dtype=torch.bool)
    kept = model.predict(tokens[:, 4:], cache.mask(last), torch.arange(4, 6).expand(2, 2), cache)
    apart = float((kept - whole[:, 4:]).abs().max())
    assert apart < 2e-5 if name == "block" else apart > 1e-3


def test_training_draws_times_from_its_interval():
    model, batch = make("block", block_size=4), some_batch(*[8] * 12)
    model.train()
    times = model.times(batch, list(range(12)))
    assert times.shape == (12, 2) and float(times.min()) >= 0.3 and float(times.max()) <= 0.8
    assert float(model.eval().times(batch, list(range(12))).min()) < 0.3


@torch.no_grad()
def test_the_interval_of_least_variance_is_found_at_validation():
    """The windows' variances are those of the blocks whose times lie in them; the choice survives a restart."""
    model, batch = make("block", block_size=4, clip=None), some_batch(*[8] * 60, 3)
    batch["row"] = torch.arange(61)
    assert model.interval == (0.0, 1.0)
    model.on_validation_epoch_start()
    seeds = list(range(61))
    cost = model.token_losses(batch, seeds)[0]["loss"][:60].double()
    pairs = zip(model.times(batch, seeds)[:60].flatten(), cost.view(120, 4).sum(1), strict=True)
    pairs = [(float(time), float(total)) for time, total in pairs]  # the row of three is no whole block
    model.on_validation_epoch_end()
    windows = search_windows()
    by_hand = [statistics.variance([c for t, c in pairs if low <= t <= high]) for low, high in windows]
    assert len(windows) == 36 and model.interval == windows[by_hand.index(min(by_hand))] != (0.0, 1.0)
    assert 0.6 * by_hand[0] > min(by_hand)
    state: dict = {}
    model.on_save_checkpoint(state)
    again = make("block", block_size=4, clip=None)
    again.on_load_checkpoint(state)
    assert again.interval == model.interval
    again.on_validation_epoch_end()  # nothing was validated
    assert again.interval == model.interval


def test_a_given_interval_stays():
    model, batch = make("block"), some_batch(8, 8)
    model.on_validation_epoch_start()
    model.token_losses(batch, [1, 2])
    model.on_validation_epoch_end()
    assert model.interval == (0.3, 0.8)
    assert variance(moments(torch.tensor([0.1]), torch.tensor([2.0]), [(0, 0.5), (0.5, 1)])).tolist() == [math.inf] * 2


# ---- left to right -------------------------------------------------------------------------------


@torch.no_grad()
def test_the_autoregressive_model_is_the_chain_rule_and_keeps_what_it_read():
    model, batch = make("ar"), some_batch(5, 5)
    rows = torch.nn.functional.pad(batch["tokens"], (1, 0), value=model.start_id)
    by_hand, cache = torch.zeros(2, dtype=torch.float64), KVCache(2)
    for at in range(5):
        whole = model.predict(rows[:, : at + 1])[:, -1]
        one = torch.ones(2, 1, 1, dtype=torch.bool)
        kept = model.causal(rows[:, at : at + 1], torch.full((2, 1), at), one, cache)[:, -1]
        cache.advance(1)
        torch.testing.assert_close(kept, whole, atol=1e-5, rtol=1e-4)
        by_hand -= whole.double().log_softmax(-1).gather(1, rows[:, at + 1 : at + 2])[:, 0]
    torch.testing.assert_close(model.bound(batch), by_hand, atol=1e-5, rtol=1e-5)


def test_a_text_begins_with_what_the_tokenizer_says_or_the_masks_row():
    assert make("ar").start_id == FACTS["special"]["bos"] == 1
    model = make("ar")
    model.special = {**model.special, "bos": None}
    assert model.start_id == model.mask_id == 6


# ---- batches -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_padding_and_company_change_nothing(name):
    model, rows = make(name), [[3, 4, 5], [5, 5, 4, 3, 4, 3, 3, 5], [4]]
    together = model.bound(batch_of(*rows), 3)
    for i, row in enumerate(rows):
        alone = batch_of(row)
        alone["row"] += i
        torch.testing.assert_close(model.bound(alone, 3)[0], together[i], atol=1e-5, rtol=1e-5)
    rubbish = batch_of(*rows)
    rubbish["tokens"][0, 3:] = 5
    assert torch.equal(model.bound(rubbish, 3), together)


@torch.no_grad()
@pytest.mark.parametrize("name", MODELS)
def test_a_prompt_is_read_and_costs_nothing(name):
    model = make(name)
    batch = some_batch(6, 6, prompt=[3, 0])
    values, learnt = model.token_losses(batch, [1, 2])
    assert learnt.tolist() == [[False] * 3 + [True] * 3, [True] * 6]
    assert not values["loss"][0, :3].any() and values["loss"].sum() > 0
    if name != "ar":
        canvas = model.canvas(batch, [1, 2])
        assert canvas.known.tolist() == (~learnt).tolist()
        hidden = model.corrupted(batch, [1, 2], torch.ones(2, 4, dtype=torch.float64)).canvas.masked
        assert hidden.tolist() == learnt.tolist()
    other = {**batch, "tokens": batch["tokens"].clone()}
    other["tokens"][0, 0] = 3 + (other["tokens"][0, 0] - 2) % 3
    assert not torch.allclose(model.bound(other, 2)[0], model.bound(batch, 2)[0], atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("name", ["ar", "mdlm", "anchored"])
def test_documents_of_one_row_know_nothing_of_each_other(name):
    model = make(name)
    packed = batch_of([3, 4, 5, 5, 4], documents=torch.tensor([[0, 0, 0, 1, 1]]))
    if name == "ar":
        alone = sum(float(model.bound(batch_of(row))) for row in ([3, 4, 5], [5, 4]))
        assert float(model.bound(packed)) == pytest.approx(alone, abs=1e-5)
    hidden = packed["tokens"].clone()
    hidden[0, [1, 4]] = model.mask_id
    together = model.predict(hidden, model.attention_mask(packed))
    for part in (slice(0, 3), slice(3, 5)):
        torch.testing.assert_close(together[:, part], model.predict(hidden[:, part]), atol=1e-5, rtol=1e-4)


def test_blocks_read_one_document_per_row():
    packed = batch_of([3, 4, 5, 5], documents=torch.tensor([[0, 0, 1, 1]]))
    with refused(DataError, "unsupported", "data.pack", value=True):
        make("block").bound(packed)


def test_no_time_of_training_is_below_the_least(monkeypatch):
    model, batch, seeds = make("mdlm").train(), some_batch(*[4] * 8), list(range(100, 108))
    monkeypatch.setattr(type(model), "min_time", 0.0)
    whole = model.times(batch, seeds)
    monkeypatch.setattr(type(model), "min_time", 0.75)
    torch.testing.assert_close(model.times(batch, seeds), 0.75 + 0.25 * whole)
    assert float(whole.min()) < 0.2


def test_times_of_training_are_strata_of_the_global_batch(monkeypatch):
    model, batch = make("mdlm").train(), some_batch(*[4] * 8)
    seeds = list(range(100, 108))
    times = model.times(batch, seeds)[:, 0]
    assert float(times.min()) >= model.min_time == 1e-3
    assert ((times - 1e-3) / 0.999 * 8).long().sort().values.tolist() == list(range(8))
    # Two processes with half of the batch each draw the same.
    for first in (0, 4):
        monkeypatch.setattr(masking, "_gathered", lambda mine, first=first: (torch.tensor(seeds), first))
        half = {key: value[first : first + 4] for key, value in batch.items()}
        assert torch.equal(model.times(half, seeds[first : first + 4])[:, 0], times[first : first + 4])


def test_times_of_validation_are_even_and_each_rows_own():
    model, batch = make("mdlm"), some_batch(*[4] * 64)
    batch["row"] = torch.arange(64)
    times = model.times(batch, [0] * 64)[:, 0]
    assert float((times.sort().values - (torch.arange(64) + 0.5) / 64).abs().max()) < 2 / 64
    part = {key: value[10:20] for key, value in batch.items()}
    assert torch.equal(model.times(part, [7] * 10)[:, 0], times[10:20])


def test_samples_of_the_bound_are_strata():
    model, batch = make("mdlm"), some_batch(4, 4)
    times = torch.stack([model.sample_numbers(batch, i, 8, 0)[:, 0] for i in range(8)])
    assert (times * 8).long().T.tolist() == [list(range(8))] * 2 and not torch.equal(times[:, 0], times[:, 1])


@torch.no_grad()
def test_a_batch_is_averaged_over_its_tokens():
    model, batch = make("ar"), some_batch(8, 2)
    parts = model.losses(batch)
    assert float(parts["loss"]) == pytest.approx(float(model.bound(batch).sum()) / 10, rel=1e-5)
    assert float(parts["bits_per_character"]) == pytest.approx(float(parts["loss"]) / math.log(2), rel=1e-5)


# ---- texts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_a_text_costs_the_same_in_any_company(name):
    model = make(name)
    texts = ["abc", "", "ccab", "a"]
    together = model.score(texts, num_samples=2)
    assert together[1] == 0 and (together[[0, 2, 3]] > 0).all()
    alone = torch.cat([model.score([text], num_samples=2) for text in texts])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_a_text_after_a_prompt_is_what_it_adds():
    model = make("ar")
    whole, first, rest = *model.score(["abca", "ab"]), *model.score(["ca"], ["ab"])
    assert float(whole - first) == pytest.approx(float(rest), abs=1e-5)


@pytest.mark.parametrize(
    ("texts", "prompts", "code", "path", "value"),
    [
        (["abcabcabc"], None, "limit", "texts", 9),
        (["a"], ["a", "b"], "shape", "prompts", 2),
        # plain characters, which this tokenizer has not
        (["[MASK]"], None, "unsupported", "text", ["A", "K", "M", "S", "[", "]"]),
    ],
)
def test_texts_that_cannot_be_scored(texts, prompts, code, path, value):
    with refused(RequestError, code, path, value=value):
        make("mdlm").score(texts, prompts)


def test_a_mask_can_never_be_said():
    for name in MODELS:
        assert make(name).predict(torch.tensor([[6, 6]])).shape == (1, 2, 6)  # six tokens; the mask is the seventh row


# ---- what each model has of its own --------------------------------------------------------------


@torch.no_grad()
def test_a_network_that_is_told_the_time_listens_and_keeps_nothing():
    model, tokens = make("mdlm", time_conditioning=True), torch.tensor([[6, 4, 6, 3]])
    assert not model.remembers and make("mdlm").remembers
    early, late = (model.predict(tokens, time=torch.tensor([time])) for time in (0.1, 0.9))
    assert not torch.allclose(early, late, atol=1e-4)
    torch.testing.assert_close(model.predict(tokens), model.predict(tokens, time=torch.tensor([0.5])))
    padded = torch.tensor([[6, 4, 6, 3, 0, 0, 0, 0]])
    kept = torch.arange(8)[None] < 4
    torch.testing.assert_close(model.predict(padded, kept)[:, :4], model.predict(tokens), atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="keeps nothing"):
        model.predict(tokens, torch.ones(1, 4, 4, dtype=torch.bool), torch.arange(4)[None], KVCache(1))


def at_step(monkeypatch, kind, step: int, total: int) -> None:
    monkeypatch.setattr(kind, "global_step", step)
    monkeypatch.setattr(kind, "total_steps", total)


def test_anchors_are_what_is_rare_in_its_row(monkeypatch):
    model = make("anchored")
    batch = batch_of([3, 3, 4, 5, 5], [4, 4, 3])
    assert model.anchors(batch).tolist() == [[False, False, True, False, False], [False, False, True, False, False]]
    at_step(monkeypatch, Anchored, 0, 1000)
    values, _ = model.train().token_losses(batch, [1, 2])
    weight = 1e-3  # one of a thousand steps; later 3e-3
    torch.testing.assert_close(values["loss"], values["bound"] + weight * values["anchors"])
    assert not values["anchors"][~model.anchors(batch)].any()
    at_step(monkeypatch, Anchored, 500, 1000)
    values, _ = model.token_losses(batch, [1, 2])
    torch.testing.assert_close(values["loss"], values["bound"] + 3e-3 * values["anchors"])
    assert set(model.eval().token_losses(batch, [1, 2])[0]) == {"loss"}


@torch.no_grad()
@pytest.mark.parametrize("skip", [False, True])
def test_the_denoiser_reads_what_the_anchor_network_said(skip):
    model, tokens = make("anchored", skip=skip), torch.tensor([[6, 4, 6, 3]])
    before = model.predict(tokens)
    model.net.projection.weight.zero_()
    assert not torch.allclose(model.predict(tokens), before, atol=1e-3)
    silent = model.predict(tokens)
    model.net.anchor.embedding.weight.mul_(-1.5)
    assert torch.equal(model.predict(tokens), silent) != skip  # without logits, only states can tell


def test_edits_keep_the_length_the_prompt_and_most_tokens():
    model = make("seed", edit_rate=0.5)
    batch = some_batch(*[8] * 40, prompt=[2] * 40)
    edited = model.edited(batch, list(range(40)))
    changed = edited != batch["tokens"]
    assert not changed[:, :2].any() and 0.05 < float(changed[:, 2:].double().mean()) < 0.5
    assert edited.shape == batch["tokens"].shape and int(edited.min()) >= 0 and int(edited.max()) < 6
    assert torch.equal(make("seed", edit_rate=0.0).edited(batch, list(range(40))), batch["tokens"])
    moved = [
        1 for a, b in zip(batch["tokens"].tolist(), edited.tolist(), strict=True)
        for i in range(2, 6) if a[i : i + 3] != b[i : i + 3] and a[i + 1 : i + 3] == b[i : i + 2]
    ]  # fmt: skip
    assert moved  # some rows were shifted by a deletion


@torch.no_grad()
def test_of_several_ways_to_hide_the_likeliest_is_learnt():
    model, batch = make("seed", num_orders=6), some_batch(8, 8, 8, prompt=[0, 3, 0])
    seeds, times = [1, 2, 3], torch.full((3, 1), 0.5, dtype=torch.float64)
    first, best = model.corrupted(batch, seeds, times), model.likeliest(batch, seeds, times)
    assert torch.equal(first.canvas.masked.sum(1), best.canvas.masked.sum(1))
    assert not best.canvas.masked[1, :3].any()

    def cost(corrupted):
        log_p = model.read(corrupted, batch).double().log_softmax(-1).gather(2, batch["tokens"][..., None])[..., 0]
        return -(log_p * corrupted.canvas.masked).sum(1)

    before, after = cost(first), cost(best)
    assert (after <= before + 1e-6).all() and (after < before - 1e-3).any()
    assert torch.equal(best.weights > 0, best.canvas.masked)


def test_seed_learns_masks_then_edits_then_orders(monkeypatch):
    model, batch, asked = make("seed"), some_batch(8, 8), []
    monkeypatch.setattr(Seed, "likeliest", lambda self, *a: asked.append(1) or Seed.corrupted(self, *a))
    model.train()
    for step, parts, orders in ((0, 1, 0), (79, 1, 0), (80, 3, 0), (89, 3, 0), (91, 3, 1)):
        at_step(monkeypatch, Seed, step, 100)
        asked.clear()
        values, _ = model.token_losses(batch, [1, 2])
        assert (len(values), len(asked)) == (parts, orders), step
    torch.testing.assert_close(values["loss"], values["masks"] + values["edits"])


# ---- starting from another, and what does not fit ------------------------------------------------


def test_diffusion_may_begin_with_autoregressive_weights():
    first, second = make("ar"), make("mdlm")
    shapes = [{name: value.shape for name, value in model.state_dict().items()} for model in (first, second)]
    assert shapes[0] == shapes[1]
    second.check_source(first.facts)
    other = {**FACTS, **Tokenizer.characters(["abd"]).to_facts()}
    with refused(CheckpointError, "conflict", "run.init_from", value=6):
        second.check_source(other)
    with refused(CheckpointError, "conflict", "run.init_from"):
        second.check_source({})


WRONG = {
    "a block that does not divide": ("block", {"block_size": 3}, "shape", "data.context", 8, "block_size=3"),
    "a block of none": ("block", {"block_size": 0}, "range", "model.block_size", 0, "1"),
    "an interval turned round": (
        "block",
        {"clip": (0.8, 0.3)},
        "range",
        "model.clip",
        [0.8, 0.3],
        "0 ≤ low < high ≤ 1",
    ),
    "all layers the anchor's": ("anchored", {"anchor_layers": 2}, "range", "model.anchor.num_layers", 2, "1 to 1"),
    "no anchor": ("anchored", {"anchor_threshold": 0}, "range", "model.anchor.threshold", 0, "1"),
    "a weight": ("anchored", {"anchor_weight": 1.5}, "range", "model.anchor.weight", 1.5, "[0, 1]"),
    "a share": ("seed", {"edit_share": 1.2}, "range", "model.phases.edit_share", 1.2, "[0, 1]"),
    "no order": ("seed", {"num_orders": 0}, "range", "model.phases.num_orders", 0, "1"),
    "a dropout": ("mdlm", {"dropout": 1.0}, "range", "model.network.dropout", 1.0, "[0, 1)"),
    "no head": ("ar", {"num_heads": 0}, "range", "model.network.num_heads", 0, "1"),
    "a width": ("ar", {"dim": 18}, "shape", "model.network.dim", 18, "num_heads=2"),
    "a negative width": ("mdlm", {"filter_dim": -1}, "range", "model.network.filter_dim", -1, "0"),
}


@pytest.mark.parametrize("what", WRONG)
def test_sizes_that_do_not_fit_are_refused(what):
    name, changes, code, path, value, limit = WRONG[what]
    with refused(RecipeError, code, path, value=value, names=limit):
        make(name, **changes)


@pytest.mark.parametrize("name", MODELS)
def test_the_tiny_recipe_names_the_model(name):
    recipe = Recipe.read(f"text/{name}-tiny")
    assert isinstance(recipe.build_model(FACTS | {"context": 32}), MODELS[name][0])

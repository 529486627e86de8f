"""Policies: each decoding has plain's tokens; what sees what; weights of other statistics are refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from refused import refused
from unisono.errors import CheckpointError, RecipeError, RequestError
from unisono.export import load, save_export
from unisono.recipe import Recipe
from unisono.verify import KVCache, autoregressive, decode
from unisono_control.models.policy import ChunkNetwork, ChunkPolicy
from unisono_control.models.transformer import prefix_mask
from unisono_control.playing.decoding import BLOCK
from unisono_control.playing.play import Moment, play

DECODINGS = ("jacobi", "gauss-seidel", "ngram", "shifted-chunk")


def moments_of(model, data, count: int = 6, chunks: int = 2) -> list[Moment]:
    """Moments at steps of the data, with a history of random chunks."""
    generator = np.random.default_rng(0)
    from unisono_control.environments import Observation

    found = data.demonstrations
    rows = [row for row in found.episodes if model.facts.was_trained_on(row.seed)][:count]
    m, a = model.facts.chunk, model.facts.environment.num_actions
    pictures = found.pictures
    return [
        Moment(
            Observation(
                found.states[row.start + 1], row.instruction, None if pictures is None else pictures[row.start + 1]
            ),
            row.seed,
            chunks,
            generator.integers(0, 8, (chunks, m, a)),
            m - 1,
        )
        for row in rows
    ]


@pytest.fixture(scope="module")
def wilder(make_policy):
    """A policy whose weights are large enough that tokens depend on each other."""
    model, data = make_policy("policy", "--data.chunk=5")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.add_(0.25 * torch.randn(parameter.shape, generator=generator))
    return model, data


# ---- the same tokens in fewer evaluations (O1) --------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("decoding", DECODINGS)
@torch.no_grad()
def test_every_decoding_has_plains_tokens(wilder, decoding, temperature):
    model, data = wilder
    moments = moments_of(model, data)
    plain = model.plan(moments, model.Request(temperature=temperature))
    assert len({plan.tokens.tobytes() for plan in plain}) == len(moments), "chunks differ, or nothing is tested"
    made = model.plan(moments, model.Request(decoding=decoding, temperature=temperature))
    for plan, asked in zip(made, plain, strict=True):
        assert np.array_equal(plan.tokens, asked.tokens) and np.array_equal(plan.actions, asked.actions)
        assert asked.rounds == model.num_tokens and 1 <= plan.rounds <= model.num_tokens


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@torch.no_grad()
def test_with_a_cache_and_without_the_tokens_are_those_of_the_whole_network(wilder, temperature):
    """Against decoding that calls `predict` on the whole chunk for each token, and knows no cache."""
    model, data = wilder
    moments = moments_of(model, data, count=3)
    plans = model.plan(moments, model.Request(decoding="jacobi", temperature=temperature))
    tokens = torch.from_numpy(np.stack([plan.tokens.reshape(-1) for plan in plans]))
    batch = model.batch_of(moments)
    logits = model.predict(batch, tokens)
    if not temperature:
        assert torch.equal(logits.argmax(-1), tokens)
    prefix = model.prefix(batch)
    p = prefix.shape[1]
    from unisono.data import derive_seed

    seeds = [derive_seed("chunk", moment.seed, moment.number) for moment in moments]
    prompt = torch.full((3, p), model.num_bins // 2)
    for cache in (None, KVCache):
        made = decode(
            ChunkNetwork(model, prefix),
            prompt,
            autoregressive(),
            p + model.num_tokens,
            seeds=seeds,
            temperature=temperature,
            cache=cache,
        )
        assert torch.equal(made.tokens[:, p:], tokens)


@torch.no_grad()
def test_after_j_rounds_the_first_j_tokens_are_fixed(wilder):
    model, data = wilder
    for plan in model.plan(moments_of(model, data), model.Request(decoding="jacobi")):
        fixed = plan.fixed.reshape(-1)
        assert (fixed <= np.arange(1, len(fixed) + 1)).all() and fixed.max() <= plan.rounds
    for plan in model.plan(moments_of(model, data), model.Request()):
        assert plan.fixed.reshape(-1).tolist() == list(range(1, model.num_tokens + 1))


@torch.no_grad()
def test_what_a_witness_says_is_what_full_jacobi_iteration_does(wilder):
    """All positions at once, by `predict`, from the same first guess: when does each token have its value for good?"""
    model, data = wilder
    moments = moments_of(model, data, count=4)
    plans = model.plan(moments, model.Request(decoding="jacobi"))
    batch, n = model.batch_of(moments), model.num_tokens
    guess = torch.full((4, n), model.num_bins // 2)
    drawn = []
    for _ in range(n):
        guess = model.predict(batch, guess).argmax(-1)
        drawn.append(guess)
    wrong = torch.stack(drawn) != guess
    last = torch.where(wrong, torch.arange(1, n + 1)[:, None, None], 0).amax(0)
    for row, plan in enumerate(plans):
        assert np.array_equal(plan.tokens.reshape(-1), guess[row])
        assert np.array_equal(plan.fixed.reshape(-1), last[row] + 1)


@torch.no_grad()
def test_a_guess_that_is_right_needs_two_evaluations_at_most_one_round_for_all(wilder):
    """The shifted chunk of a plan that has not changed is accepted whole."""
    model, data = wilder
    (moment,) = moments_of(model, data, count=1)
    (plain,) = model.plan([moment], model.Request())
    again = replace(moment, history=np.stack([moment.history[0], plain.tokens]), executed=0)
    (made,) = model.plan([again], model.Request(decoding="shifted-chunk"))
    assert made.rounds == 1 and np.array_equal(made.tokens, plain.tokens)


@torch.no_grad()
def test_n_grams_are_looked_up_in_the_chunks_before(wilder):
    model, data = wilder
    (moment,) = moments_of(model, data, count=1)
    (plain,) = model.plan([moment], model.Request())
    again = replace(moment, history=np.stack([plain.tokens, plain.tokens]), executed=model.facts.chunk)
    (made,) = model.plan([again], model.Request(decoding="ngram", num_draft=16))
    assert np.array_equal(made.tokens, plain.tokens) and made.rounds < model.num_tokens


@torch.no_grad()
def test_blocks_of_gauss_seidel(wilder):
    model, data = wilder
    moments = moments_of(model, data, count=2)
    jacobi = model.plan(moments, model.Request(decoding="jacobi"))
    whole = model.plan(moments, model.Request(decoding="gauss-seidel", block=model.num_tokens))
    single = model.plan(moments, model.Request(decoding="gauss-seidel", block=1))
    assert [plan.rounds for plan in whole] == [plan.rounds for plan in jacobi]
    assert {plan.rounds for plan in single} == {model.num_tokens} and model.num_tokens > BLOCK


@torch.no_grad()
def test_seeds_draw_other_chunks_and_no_two_chunks_of_an_episode_share_their_noise(wilder):
    model, data = wilder
    (moment,) = moments_of(model, data, count=1)
    request = model.Request(temperature=1.0)
    (first,), (later,) = model.plan([moment], request), model.plan([replace(moment, number=5)], request)
    (other,) = model.plan([replace(moment, seed=99)], request)
    assert not np.array_equal(first.tokens, later.tokens) and not np.array_equal(first.tokens, other.tokens)


# ---- alone as in a batch (O5) --------------------------------------------------------------------------


@pytest.mark.parametrize("decoding", ["plain", *DECODINGS])
def test_episodes_alone_are_those_of_a_batch(wilder, decoding):
    model, _ = wilder
    requests = [model.Request(seed=s, decoding=decoding, execute=2 + s, max_steps=6 + 2 * s) for s in range(3)]
    together = play(model, requests)
    for request, made in zip(requests, together, strict=True):
        (alone,) = play(model, [request])
        assert np.array_equal(alone.tokens, made.tokens) and np.array_equal(alone.states, made.states)
        assert (alone.rounds, alone.executed) == (made.rounds, made.executed)


# ---- what sees what (O6) -------------------------------------------------------------------------------


@torch.no_grad()
def test_a_token_changes_what_is_behind_it_alone(wilder):
    """A causal mask where both ways were trained, or the other way round, fails silently: 52 % instead of 98 %."""
    model, data = wilder
    batch = model.batch_of(moments_of(model, data, count=1))
    tokens = torch.randint(0, model.num_bins, (1, model.num_tokens), generator=torch.Generator().manual_seed(1))
    base = model.predict(batch, tokens)
    for j in range(model.num_tokens - 1):
        other = tokens.clone()
        other[0, j] = (other[0, j] + 1) % model.num_bins
        moved = (model.predict(batch, other) - base).abs().amax((0, 2))
        assert (moved[: j + 1] == 0).all() and (moved[j + 1 :] > 0).all(), j


@torch.no_grad()
def test_a_slot_of_the_oft_policy_changes_all_others(oft):
    model, data = oft
    batch = model.batch_of(moments_of(model, data, count=1))
    base = model.predict(batch)
    generator = torch.Generator().manual_seed(0)
    for j in range(model.num_tokens):
        slots = model.slots.clone()
        slots[j] += torch.randn(slots.shape[1], generator=generator)
        moved = (model.predict(batch, slots) - base).abs().amax((0, 2))
        assert (moved > 0).all(), j


@torch.no_grad()
@pytest.mark.parametrize("name", ["policy", "oft"])
def test_every_part_of_an_observation_is_read(make_policy, name):
    model, data = make_policy(name)
    moments = moments_of(model, data, count=1)
    batch = model.batch_of(moments)

    def output(changed):
        if name == "oft":
            return model.predict(changed)
        return model.predict(changed, torch.zeros(1, model.num_tokens, dtype=torch.int64))

    base = output(batch)
    for i in range(batch["state"].shape[1]):
        state = batch["state"].clone()
        state[0, i] += 1
        assert not torch.equal(output({**batch, "state": state}), base), model.facts.environment.state_names[i]
    for i in range(batch["words"].shape[1]):
        words = batch["words"].clone()
        words[0, i] = (words[0, i] + 1) % (len(model.facts.words) + 1)
        assert not torch.equal(output({**batch, "words": words}), base), i
    if "picture" in batch:
        picture = batch["picture"].clone()
        picture[0, 0, 16, 16] ^= 255
        assert not torch.equal(output({**batch, "picture": picture}), base)


def test_the_prefix_sees_itself_and_tokens_what_is_before():
    assert prefix_mask(2, 4).int().tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]


# ---- the border: one evaluation ------------------------------------------------------------------------


def test_an_oft_policy_plans_in_one_evaluation_within_the_percentiles(oft):
    model, _ = oft
    before = model.evaluations
    (made,) = play(model, [model.Request(seed=1)])
    assert model.evaluations - before == len(made.rounds) and set(made.rounds) == {1}
    assert made.tokens is None and made.fixed is None
    low, high = np.array(model.facts.action_low), np.array(model.facts.action_high)
    assert (made.actions >= low - 1e-6).all() and (made.actions <= high + 1e-6).all()


def test_constant_numbers_are_planned_as_themselves(make_policy):
    from counting import COUNTING
    from unisono.nn.swiglu import LayerSizes
    from unisono_control.models.oft import RegressionPolicy

    data = Recipe.read("control/oft-tiny", ["--data.environment=counting", "--data.settings={}"]).build_data()
    data.prepare(progress=False)
    facts = data.describe()
    assert facts.environment == COUNTING and facts.action_low == facts.action_high == (1.0, 0.0)
    sizes = LayerSizes(dim=8, num_layers=1, num_heads=1)
    for model in (ChunkPolicy(network=sizes), RegressionPolicy(network=sizes)):
        model.build(facts)
        batch = data.collate([data.train_set.item(i, torch.Generator()) for i in range(4)])
        assert torch.isfinite(model.losses(batch)["loss"])
        (made,) = play(model.eval(), [model.Request(seed=3)])
        assert np.array_equal(made.actions, [[1.0, 0.0]] * len(made.actions)) and made.success
        with refused(RequestError, "unsupported", "instruction"):
            play(model, [model.Request(instruction="count")])


# ---- weights and facts of different origin -------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ({"chunk": 7}, "chunk"),
        ({"action_low": (-0.5, -0.5, -0.5)}, "action_low"),
        ({"action_high": (0.5, 0.5, 2.0)}, "action_high"),
        ({"words": ("red",)}, "words"),
    ],
)
@pytest.mark.parametrize("name", ["policy", "oft"])
def test_a_start_from_other_statistics_or_chunks_is_refused(make_policy, name, change, value):
    model, _ = make_policy(name)
    model.check_source(model.facts.to_json())
    with refused(CheckpointError, "conflict", "run.init_from", value=value):
        model.check_source(replace(model.facts, **change).to_json())


@pytest.mark.parametrize("change", [{"chunk": 7}, {"action_high": (0.5, 0.5, 2.0)}, {"state_std": None}])
def test_weights_beside_the_facts_of_another_data_set_are_refused(tiny, tmp_path, change):
    """The commonest failure of OpenVLA: the right weights, un-normalised by the statistics of another data set."""
    import json

    model, _ = tiny
    if change == {"state_std": None}:
        change = {"state_std": tuple(2 * value for value in model.facts.state_std)}
    folder = save_export(model, tmp_path / "export")
    assert load(folder).model.facts == model.facts
    path = folder / "unisono.json"
    info = json.loads(path.read_text())
    info["facts"].update({key: list(v) if isinstance(v, tuple) else v for key, v in change.items()})
    path.write_text(json.dumps(info))
    with pytest.raises(CheckpointError):
        load(folder)


def test_the_fingerprint_is_of_what_weights_mean(tiny):
    facts = tiny[0].facts
    assert int(tiny[0].mark) == facts.mark
    assert replace(facts, chunk=9).mark != facts.mark
    assert replace(facts, sample_instructions=(), held_out=(), unseen=("x",)).mark == facts.mark
    state = {**tiny[0].state_dict(), "mark": torch.tensor(5)}
    with refused(CheckpointError, "conflict", "mark", value=5):
        tiny[0].load_state_dict(state)
    tiny[0].load_state_dict({**state, "mark": torch.tensor(facts.mark)})


@pytest.mark.parametrize(
    ("override", "code", "path"),
    [
        ("--model.bins=1", "range", "model.bins"),
        ("--model.network.dropout=1.0", "range", "model.network.dropout"),
        ("--model.network.num_layers=0", "range", "model.network.num_layers"),
        ("--model.network.num_heads=3", "shape", "model.network.dim"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(tiny, override, code, path):
    with refused(RecipeError, code, path):
        Recipe.read("control/policy-tiny", [override]).build_model(tiny[0].facts)


def test_nan_weights_are_told_as_such(make_policy):
    model, _ = make_policy("policy")
    with torch.no_grad():
        model.head.weight.fill_(float("nan"))
    with refused(RequestError, "value", "logits"):
        play(model, [model.Request(seed=0)])


def test_an_untrained_policy_says_what_is_most_frequent_after_some_steps(make_policy):
    """Learning: the loss of a few examples goes down to almost nothing."""
    model, data = make_policy("policy")
    batch = data.collate([data.train_set.item(i, torch.Generator()) for i in range(8)])
    optimiser = torch.optim.Adam(model.parameters(), 2e-2)
    losses = []
    for _ in range(60):
        loss = model.losses(batch)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.detach().item())
    assert losses[-1] < 0.2 * losses[0]
    assert float(model.losses(batch)["accuracy"]) > 0.9

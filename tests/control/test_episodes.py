"""Episodes: played as asked, saved and read back, drawn by playing them again; wrong requests are refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
from counting import Counting
from PIL import Image as Pillow
from refused import refused
from unisono.errors import DataError, RequestError
from unisono_control.environments import registry
from unisono_control.playing.episode import ARRAYS, Episode


@pytest.fixture(scope="module")
def made(policy) -> Episode:
    return policy(seed=2, decoding="jacobi")


def test_an_episode_tells_what_was_done(made, policy):
    facts = policy.model.facts
    steps, chunks = len(made.actions), len(made.rounds)
    assert made.states.shape == (steps + 1, 30) and made.actions.shape == (steps, 3) and made.rewards.shape == (steps,)
    assert sum(made.executed) == steps and made.tokens.shape == made.fixed.shape == (chunks, facts.chunk, 3)
    assert made.seconds == steps / 10 and made.score == float(made.rewards.sum())
    assert (made.success, made.ended) == (False, False) and steps == 24
    assert "time is up" in repr(made) and "seed 2" in repr(made)
    assert json.dumps(made.about(), allow_nan=False) and "states" not in made.about()


def test_actions_are_the_bins_of_the_tokens_in_their_order(made, policy):
    import torch

    decoded = policy.model.bins.decode(torch.from_numpy(made.tokens)).numpy()
    carried = np.concatenate([chunk[:count] for chunk, count in zip(decoded, made.executed, strict=True)])
    assert np.array_equal(carried, made.actions)


def test_json_is_read_back(made, tmp_path):
    read = Episode.read(made.save(tmp_path / "episode.json"))
    for name in ARRAYS:
        assert np.array_equal(getattr(read, name), getattr(made, name)), name
    assert read.about() == made.about()


def test_other_files_are_no_episodes(made, tmp_path):
    path = made.save(tmp_path / "episode.json")
    raw = json.loads(path.read_text())
    for change, code in (
        ({"more": 1}, "format"),
        ({"states": "none"}, "damaged"),
        ({"actions": [[1.0, None, 0.0]]}, "damaged"),
    ):
        path.write_text(json.dumps({**raw, **change}))
        with refused(DataError, code, path):
            Episode.read(path)
    path.write_text("[1]")
    with refused(DataError, "format", path):
        Episode.read(path)


def test_the_film_has_a_frame_for_each_step_and_the_instruction_above(made, tmp_path):
    with Pillow.open(made.save(tmp_path / "episode.gif")) as film:
        assert film.n_frames == len(made.actions) + 1 and film.size == (192, 192 + 16)
        assert film.info["duration"] == 100
        first = np.asarray(film.convert("RGB"))
        film.seek(film.n_frames - 1)
        assert film.info["duration"] == 1000
        assert (np.asarray(film.convert("RGB")) != first).any()


def test_a_film_is_of_the_episode_or_an_error(made, tmp_path):
    """An environment of another version may do something else; its film would show another episode."""
    states = made.states.copy()
    states[4, 0] += 0.25
    with refused(RequestError, "version", "environment", names=["step 4", "seed 2"]):
        replace(made, states=states).save(tmp_path / "other.gif")
    assert not (tmp_path / "other.gif").exists()


def test_a_figure_shows_frames_actions_and_rounds(made, oft):
    figure = made.plot()
    assert len(figure.axes) == 6 + 2 and figure.axes[-1].images[0].get_array().shape == (9, len(made.rounds))
    from unisono_control.playing.play import play

    (plain,) = play(oft[0], [oft[0].Request(seed=0)])
    assert not plain.plot().axes[-1].axison


def test_jerk_is_measured_where_chunks_meet_and_within(made):
    actions = np.zeros((6, 3), dtype=np.float32)
    actions[3:] = 1.0
    episode = replace(made, actions=actions, executed=(3, 3))
    assert episode.boundary_jerk() == (1.0, 0.0)
    assert np.isnan(replace(made, actions=actions[:1], executed=(1,)).boundary_jerk()).all()


def test_fewer_actions_of_a_chunk_are_carried_out_where_asked(policy):
    made = policy(seed=2, execute=1)
    assert set(made.executed) == {1} and len(made.rounds) == len(made.actions)
    with refused(RequestError, "range", "execute", value=4, names="3 actions"):
        policy(seed=2, execute=4)


def test_the_time_limit_can_be_shortened(policy):
    made = policy(seed=2, max_steps=5)
    assert len(made.actions) == 5 and not made.ended and made.executed == (3, 2)


def test_an_instruction_is_followed_in_the_scene_of_the_seed(policy):
    own, told = policy(seed=4), policy(seed=4, instruction="red onto the blue pad")
    assert told.instruction == "red onto the blue pad" and told.kind == "put the red one on the blue pad"
    assert policy(seed=4, instruction=own.instruction).about() == own.about()


def test_instructions_that_cannot_be_read_are_refused(policy):
    with refused(RequestError, "unknown", "instruction", value="orange"):
        policy("put the orange one on the blue pad")
    with refused(RequestError, "limit", "instruction"):
        policy(" ".join(["red"] * 30))
    with refused(RequestError, "format", "instruction"):
        policy("put the red one on the")


@pytest.mark.parametrize(
    ("fields", "code", "path"),
    [
        ({"decoding": "jacoby"}, "unknown", "decoding"),
        ({"decoding": "plain", "block": 4}, "conflict", "block"),
        ({"decoding": "jacobi", "num_draft": 4}, "conflict", "num_draft"),
        ({"temperature": -1}, "range", "temperature"),
        ({"execute": 0}, "range", "execute"),
        ({"seed": -1}, "range", "seed"),
    ],
)
def test_fields_that_do_not_fit_are_refused(policy, fields, code, path):
    with refused(RequestError, code, path):
        policy(fields)


# ---- environments that are not what the policy knows ---------------------------------------------------


@pytest.fixture
def counting_policy(make_policy):
    from unisono import Synthesizer

    return Synthesizer(make_policy("policy", "--data.environment=counting", "--data.settings={}")[0])


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("reset", "failed"),
        ("act", "failed"),
        ("nan", "value"),
        ("shape", "shape"),
        ("reward", "value"),
        ("over", "state"),
    ],
)
def test_an_environment_that_breaks_its_word_ends_the_request_in_a_sentence(counting_policy, monkeypatch, fault, code):
    monkeypatch.setitem(registry._registered, "counting", lambda: Counting(fault))
    with refused(RequestError, code, "environment", names=["counting", "seed 6"]):
        counting_policy(seed=6)


def test_an_environment_without_an_end_is_played_to_its_limit(counting_policy, monkeypatch):
    monkeypatch.setitem(registry._registered, "counting", lambda: Counting("endless"))
    made = counting_policy(seed=6)
    assert len(made.actions) == 20 and not made.ended and not made.success


def test_an_environment_of_another_shape_is_refused(counting_policy, monkeypatch):
    from unisono_control.environments.table import Table

    monkeypatch.setitem(registry._registered, "counting", Table)
    with refused(RequestError, "conflict", "environment", value="state_names"):
        counting_policy(seed=6)


def test_an_environment_that_is_not_installed_here_is_named(counting_policy, monkeypatch):
    monkeypatch.delitem(registry._registered, "counting")
    with refused(DataError, "unknown", "environment", value="counting"):
        counting_policy(seed=6)

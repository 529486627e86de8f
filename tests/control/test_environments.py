"""Environments: the same seed is the same episode; whatever one does wrong is one sentence."""

from importlib.util import find_spec

import numpy as np
import pytest
from counting import Counting
from refused import refused
from unisono.errors import DataError, RequestError
from unisono_control.environments import (
    EnvironmentSpec,
    Session,
    environment_names,
    make_environment,
    register_environment,
)
from unisono_control.environments.table import CLOSE, SPEED, Table
from unisono_control.environments.tasks import ALL_TASKS, NUM_WAYS, Task, read_task

BOX2D = all(find_spec(package) for package in ("gymnasium", "Box2D"))
needs_lander = pytest.mark.skipif(not BOX2D, reason="LunarLander needs the extra control (gymnasium, Box2D)")
ENVIRONMENTS = ["table", pytest.param("lander", marks=needs_lander)]


def episode(session: Session, seed: int) -> np.ndarray:
    session.reset(seed)
    seen = [session.observe().state]
    while not session.done:
        session.act(session.expert())
        seen.append(session.observe().state)
    return np.stack(seen)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_same_seed_is_the_same_episode_whatever_was_played_before(name):
    """The random state of an environment that is not reset between episodes makes a seed mean nothing."""
    session = Session(make_environment(name))
    first = episode(session, 3)
    other = episode(session, 4)
    again = episode(session, 3)
    fresh = episode(Session(make_environment(name)), 3)
    assert np.array_equal(first, again) and np.array_equal(first, fresh)
    assert first.shape != other.shape or not np.array_equal(first, other)


@pytest.mark.parametrize(("name", "count"), [("table", 150), pytest.param("lander", 8, marks=needs_lander)])
def test_the_script_solves_its_environment(name, count):
    session = Session(make_environment(name))
    for seed in range(count):
        episode(session, seed)
        assert session.success and session.ended and session.steps < session.max_steps, seed


@needs_lander
def test_a_landing_of_less_than_200_is_no_success():
    session = Session(make_environment("lander"))
    session.reset(0)
    while not session.done:
        session.act(np.zeros(2))
    assert session.ended and session.score < 200 and not session.success


@needs_lander
def test_the_lander_takes_no_instruction_and_no_longer_limit():
    with refused(RequestError, "unsupported", "instruction", value="land"):
        Session(make_environment("lander")).reset(0, "land")
    with refused(DataError, "range", "settings.max_steps", value=2000):
        make_environment("lander", max_steps=2000)


# ---- the table top ---------------------------------------------------------------------------------


def test_every_task_in_every_phrasing_is_read_back():
    assert len(ALL_TASKS) == 5 * 3 + 2 * 5 * 4
    for task in ALL_TASKS:
        assert all(read_task(task.say(way)) == task for way in range(NUM_WAYS))
    assert read_task("Please, the RED disc on the blue pad!") == Task("red", "on", "blue")


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("dance", "format"),
        ("put the red one", "format"),
        ("red left right of green", "format"),
        ("put the red one on the yellow pad", "unknown"),
        ("put the red one left of the red one", "conflict"),
    ],
)
def test_what_is_no_task_is_refused(said, code):
    with refused(RequestError, code, "instruction", value=said):
        Session(Table()).reset(0, said)


@pytest.mark.parametrize("task", ALL_TASKS[::7])
def test_a_table_is_laid_for_any_task(task):
    table, session = Table(), None
    session = Session(table)
    for seed in range(5):
        session.reset(seed, task.say())
        assert task.disc in table.discs and 3 <= len(table.discs) <= 5 and not table.done
        assert session.observe().instruction == task.say() == table.kind
        while not session.done:
            session.act(session.expert())
        assert session.success


def test_own_instruction_given_back_is_the_same_episode():
    """Episodes are drawn again with the instruction that they had."""
    table = Table()
    table.reset(5)
    state, said = table.observe().state, table.instruction
    table.reset(5, said)
    assert np.array_equal(state, table.observe().state)


def test_a_disc_is_held_until_the_gripper_opens():
    table = Table()
    table.reset(1)
    while not table.held:
        table.act(table.expert())
    place = table.discs[table.held].copy()
    held = table.held
    table.act(np.array([SPEED, 0, 1.0]))
    assert table.held == held and table.discs[held][0] == pytest.approx(place[0] + SPEED)
    table.act(np.array([0, 0, 0.0]))
    assert not table.held


def test_closing_beside_every_disc_takes_none_and_the_script_opens_again():
    table = Table()
    table.reset(2)
    table.gripper = np.array([0.0, 0.0])
    table.act(np.array([0, 0, 1.0]))
    assert table.closed and not table.held
    assert np.array_equal(table.expert(), [0, 0, 0])


def test_the_picture_shows_what_the_state_says():
    table = Table(observe="picture")
    table.reset(0)
    table.gripper = np.array([0.02, 0.02])
    seen = table.observe()
    assert seen.state.shape == (4,) and seen.picture.shape == (3, 32, 32) and seen.picture.dtype == np.uint8
    from unisono_control.environments.table import PAINT

    for colour, (x, y) in table.discs.items():
        assert tuple(seen.picture[:, 31 - int(y * 32), int(x * 32)]) == PAINT[colour]
    assert table.render().shape == (192, 192, 3)
    assert CLOSE < SPEED


def test_settings_of_the_table():
    with refused(DataError, "unknown", "settings.observe", value="smell"):
        make_environment("table", observe="smell")
    with refused(DataError, "unknown", "settings.observes", names="observe"):
        make_environment("table", observes="state")
    with refused(DataError, "range", "max_steps", value=0):
        make_environment("table", max_steps=0)


# ---- environments that break their word --------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "code", "names"),
    [
        ("reset", "failed", "KeyError"),
        ("over", "state", "seed 6"),
        ("shape", "shape", "(3,)"),
        ("nan", "value", "count=nan"),
        ("act", "failed", "ZeroDivisionError"),
        ("reward", "value", "nan"),
        ("expert", "value", "nan"),
    ],
)
def test_what_an_environment_does_wrong_is_told_with_seed_and_step(fault, code, names):
    session = Session(Counting(fault))
    with refused(RequestError, code, "environment", names=["counting", "seed 6", names]):
        episode(session, 6)


def test_an_environment_that_never_ends_is_cut_and_did_not_succeed():
    session = Session(Counting("endless"))
    episode(session, 0)
    assert session.steps == session.max_steps == 20 and session.done
    assert not session.ended and not session.success
    shorter = Session(Counting("endless"), max_steps=4)
    episode(shorter, 0)
    assert shorter.steps == 4
    assert Session(Counting(), max_steps=400).max_steps == 20


@pytest.mark.parametrize(
    ("action", "code"), [([np.nan, 0], "value"), ([np.inf, 0], "value"), ([1.1, 0], "range"), ([1.0], "shape")]
)
def test_actions_that_no_one_may_take_are_refused(action, code):
    session = Session(Counting())
    session.reset(0)
    with refused(RequestError, code, "environment"):
        session.act(np.array(action, dtype=np.float32))
    assert session.steps == 0


def test_environments_are_known_by_name():
    assert {"table", "lander", "counting"} <= set(environment_names())
    with refused(DataError, "unknown", "environment", names="table"):
        make_environment("tabel")
    register_environment("counting", Counting)  # the same again changes nothing
    with refused(DataError, "exists", "environment", value="counting"):
        register_environment("counting", Table)
    with refused(DataError, "exists", "environment", value="table"):
        register_environment("table", Counting)


@pytest.mark.parametrize(
    ("change", "code", "path"),
    [
        ({"groups": (1,)}, "shape", "groups"),
        ({"action_low": (0.0,)}, "shape", "action_names"),
        ({"hz": 0.0}, "range", "hz"),
        ({"max_steps": 0}, "range", "max_steps"),
    ],
)
def test_a_spec_that_does_not_fit_together_is_refused(change, code, path):
    fits = {
        "name": "x",
        "version": "1",
        "state_names": ("a", "b"),
        "groups": (1, 1),
        "action_names": ("c", "d"),
        "action_low": (0.0, 0.0),
        "action_high": (1.0, 1.0),
        "hz": 1.0,
        "max_steps": 5,
    }
    EnvironmentSpec(**fits)
    with refused(DataError, code, path):
        EnvironmentSpec(**{**fits, **change})

"""Demonstrations: recorded, kept, replayed and made into items; what is wrong with them is told."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from counting import COUNTING
from refused import refused
from safetensors.numpy import load_file, save_file
from unisono.data import Audit
from unisono.errors import DataError, RequestError
from unisono_control.demonstrations.data import ControlData, DemonstrationData, ScriptedData
from unisono_control.demonstrations.facts import ranges_of
from unisono_control.demonstrations.record import NoiseSpec, record, replay
from unisono_control.demonstrations.store import STEPS, TABLE, Demonstrations

ARRAYS = ("states", "actions", "executed", "rewards")


@pytest.fixture(scope="module")
def table_top() -> Demonstrations:
    return record("table", {}, range(60), NoiseSpec(share=0.5))[0]


@pytest.fixture
def folder(table_top, tmp_path):
    return table_top.save(tmp_path / "demos")


def counted(**noise) -> Demonstrations:
    return record("counting", {}, range(8), NoiseSpec(**noise))[0]


def settled(found: Demonstrations, **options) -> tuple[ControlData, Audit]:
    data = ControlData(**{"chunk": 4, "batch_size": 2, "val_size": 1, "unseen_share": 0.0, "num_workers": 0, **options})
    audit = Audit("episodes")
    for row in found.episodes:
        audit.keep(row.id, row.steps, "steps")
    data.settle(found, audit)
    return data, audit


def test_what_is_kept_is_read_back(table_top, folder):
    read = Demonstrations.read(folder)
    assert (read.spec, read.settings, read.episodes) == (table_top.spec, {}, table_top.episodes)
    for name in ARRAYS:
        assert np.array_equal(getattr(read, name), getattr(table_top, name))
    assert {path.name for path in folder.iterdir()} == {TABLE, STEPS}


def test_demonstrations_are_replayed_bit_by_bit_and_a_changed_one_is_found(table_top):
    assert len(table_top.episodes) == 60 and replay(table_top) == []
    executed = table_top.executed.copy()
    executed[table_top.episodes[1].start] *= -1
    wrong = replay(replace(table_top, executed=executed), limit=3)
    assert len(wrong) == 1 and wrong[0].startswith(table_top.episodes[1].id)


def test_noise_is_executed_and_not_learnt(table_top):
    noisy = [row for row in table_top.episodes if row.noise]
    assert 20 <= len(noisy) <= 40
    for row in table_top.episodes:
        steps = slice(row.start, row.stop)
        same = np.array_equal(table_top.actions[steps], table_top.executed[steps])
        assert same == (not row.noise)
    clean = record("table", {}, [noisy[0].seed], NoiseSpec(share=0.0))[0]
    assert np.array_equal(clean.states[0], table_top.states[noisy[0].start])
    assert np.array_equal(clean.actions[0], table_top.actions[noisy[0].start])


def test_episodes_that_fail_are_dropped_with_their_reason():
    found, audit = record("table", {"max_steps": 14}, range(30), NoiseSpec(share=0.0))
    assert 0 < len(found.episodes) < 30 and audit.reasons == {"expert failed": 30 - len(found.episodes)}
    assert all(row.steps <= 14 for row in found.episodes)


@pytest.mark.parametrize("fault", ["nan", "act", "reset", "endless"])
def test_an_environment_that_breaks_its_word_leaves_no_corpus(fault):
    with refused(DataError, "empty", "environment", value="counting"):
        record("counting", {"fault": fault}, range(3))


def test_a_folder_is_not_written_over(folder, table_top):
    with refused(DataError, "exists", folder):
        table_top.save(folder)


def test_folders_that_are_none_are_refused(tmp_path):
    with refused(DataError, "missing", tmp_path):
        Demonstrations.read(tmp_path)
    with refused(DataError, "missing"):
        DemonstrationData(str(tmp_path / "nowhere")).prepare()


def damage(folder, **change):
    table = json.loads((folder / TABLE).read_text())
    table.update(change)
    (folder / TABLE).write_text(json.dumps(table))


def test_damaged_tables_are_refused(folder):
    episodes = json.loads((folder / TABLE).read_text())["episodes"]
    for change, code in (
        ({"format": 9}, "version"),
        ({"episodes": episodes[1:]}, "damaged"),
        ({"episodes": episodes[:-1]}, "damaged"),
        ({"episodes": [{"seed": 1}]}, "damaged"),
        ({"episodes": [{**episodes[0], "steps": 0}]}, "type"),
        ({"environment": {"name": "table"}}, "damaged"),
    ):
        kept = (folder / TABLE).read_text()
        damage(folder, **change)
        with refused(DataError, code, TABLE):
            Demonstrations.read(folder)
        (folder / TABLE).write_text(kept)
    (folder / TABLE).write_text("{")
    with pytest.raises(DataError):
        Demonstrations.read(folder)


def test_damaged_steps_are_refused(folder):
    arrays = load_file(folder / STEPS)
    for change, code in (
        ({"actions": arrays["actions"][:-1]}, "shape"),
        ({"states": arrays["states"].astype(np.float64)}, "shape"),
        ({"rewards": None}, "missing"),
    ):
        changed = {key: value for key, value in {**arrays, **change}.items() if value is not None}
        save_file(changed, folder / STEPS)
        with refused(DataError, code, STEPS):
            Demonstrations.read(folder)
    (folder / STEPS).write_bytes((folder / STEPS).read_bytes()[:100])
    with refused(DataError, "damaged", STEPS):
        Demonstrations.read(folder)


def test_episodes_with_nan_are_dropped_and_listed():
    found = counted(share=0.0)
    states = found.states.copy()
    states[found.episodes[2].start + 1, 0] = np.nan
    data, audit = settled(replace(found, states=states))
    assert [(drop.id, drop.reason) for drop in audit.dropped] == [(found.episodes[2].id, "not finite")]
    assert found.episodes[2].seed not in [s for first, last in data.facts.trained for s in range(first, last + 1)]
    everything = np.full_like(found.actions, np.inf)
    with refused(DataError, "empty", "data"):
        settled(replace(found, actions=everything))


def test_statistics_are_of_the_training_steps_alone(table_top):
    data, _ = settled(table_top, val_size=20)
    held = set(data.facts.held_out)
    assert len(held) == 20
    train = [row for row in table_top.episodes if row.seed not in held]
    steps = np.concatenate([np.arange(row.start, row.stop) for row in train])
    low, high = np.quantile(table_top.actions[steps].astype(float), (0.01, 0.99), axis=0)
    assert data.facts.action_low == pytest.approx(low, abs=1e-6)
    assert data.facts.action_high == pytest.approx(high, abs=1e-6)
    assert data.facts.state_mean == pytest.approx(table_top.states[steps].astype(float).mean(0), abs=1e-6)
    assert len(data.train_set) == len(steps)
    assert all(data.facts.was_trained_on(row.seed) == (row.seed not in held) for row in table_top.episodes)


def test_what_is_held_out_depends_on_seeds_alone(table_top):
    fewer = replace(
        table_top,
        episodes=table_top.episodes[:40],
        **{name: getattr(table_top, name)[: table_top.episodes[39].stop] for name in ARRAYS},
    )
    few, many = settled(fewer, val_size=5)[0].facts.held_out, settled(table_top, val_size=5)[0].facts.held_out
    assert set(many) & set(range(40)) <= set(few)


def test_kinds_that_are_held_out_are_not_trained_on(table_top):
    data, audit = settled(table_top, unseen_share=0.2)
    assert data.facts.unseen
    trained = [row for row in table_top.episodes if data.facts.was_trained_on(row.seed)]
    assert trained and not {row.kind for row in trained} & set(data.facts.unseen)
    out = sum(row.kind in data.facts.unseen for row in table_top.episodes)
    assert out >= 0.2 * 60 and any(note.startswith(f"{out} episodes of") for note in audit.notes)


def test_items_are_a_step_with_the_actions_from_there_on():
    found = counted(share=0.0)
    data, audit = settled(found, chunk=4, val_size=0)
    items = [data.train_set.item(i, torch.Generator()) for i in range(len(data.train_set))]
    assert len(items) == len(found.states) and [data.train_set.size(i) for i in range(3)] == [4] * 3
    assert data.train_set.sizes().tolist() == [4] * len(items)
    row = found.episodes[0]
    last = items[row.stop - 1]
    assert torch.equal(last["state"], torch.from_numpy(found.states[row.stop - 1]))
    assert last["actions"].tolist() == [found.actions[row.stop - 1].tolist()] * 4, "the last action is repeated"
    assert "words" not in last and "picture" not in last
    assert any(note.startswith("step, nothing hardly ever") for note in audit.notes), audit.notes


def test_pictures_are_kept_and_handed_out(tmp_path):
    found, _ = record("table", {"observe": "picture"}, range(4), NoiseSpec(share=0.0))
    assert found.pictures is not None and found.pictures.shape == (len(found.states), 3, 32, 32)
    read = Demonstrations.read(found.save(tmp_path / "seen"))
    data = DemonstrationData(str(tmp_path / "seen"), chunk=2, batch_size=2, val_size=0)
    data.prepare()
    item = data.train_set.item(5, torch.Generator())
    assert np.array_equal(item["picture"].numpy(), read.pictures[5]) and item["words"].dtype == torch.int64


def test_instructions_are_words_of_the_training_ones(table_top):
    facts = settled(table_top)[0].facts
    said = table_top.episodes[0].instruction
    ids = facts.read_words(said)
    assert len(ids) == facts.max_words and [facts.words[i - 1] for i in ids if i] == said.split()
    assert facts.read_words(said.upper()) == ids
    with refused(RequestError, "unknown", "instruction", value="redd", names="'red'"):
        facts.read_words("put the redd one on the blue pad")
    with refused(RequestError, "limit", "instruction"):
        facts.read_words(" ".join(["red"] * (facts.max_words + 1)))


def test_held_out_instructions_of_unknown_words_are_dropped():
    found, _ = record("table", {}, range(80), NoiseSpec(share=0.0))
    kept, before = settled(found, val_size=3)
    held = kept.facts.held_out
    assert len(held) == 3 and not before.dropped
    episodes = tuple(
        replace(row, instruction="kindly " + row.instruction) if row.seed == held[0] else row for row in found.episodes
    )
    data, audit = settled(replace(found, episodes=episodes), val_size=3)
    assert [drop.reason for drop in audit.dropped] == ["unknown words"] and held[0] not in data.facts.held_out


def test_facts_that_do_not_fit_together_are_refused():
    facts = settled(counted(share=0.0))[0].facts
    for change, code, path in (
        ({"action_low": (0.0,)}, "shape", "action_low"),
        ({"state_mean": (0.0,)}, "shape", "state_mean"),
        ({"action_low": (9.0, 0.0)}, "range", "action_low"),
        ({"chunk": 0}, "range", "chunk"),
    ):
        with refused(DataError, code, path):
            replace(facts, **change)
    assert facts.environment == COUNTING
    assert type(facts).from_json(json.loads(json.dumps(facts.to_json()))) == facts


def test_ranges_of_seeds():
    assert ranges_of([5, 1, 2, 3, 9, 8]) == ((1, 3), (5, 5), (8, 9))
    assert ranges_of([]) == ()


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"chunk": 0}, "data.chunk"),
        ({"val_size": -1}, "data.val_size"),
        ({"unseen_share": 1.0}, "data.unseen_share"),
        ({"num_episodes": 0}, "data.num_episodes"),
        ({"first_seed": -1}, "data.first_seed"),
        ({"batch_size": 0}, "data.batch_size"),
    ],
)
def test_settings_out_of_range_are_refused(options, path):
    with refused(DataError, "range", path):
        ScriptedData("table", **options)


def test_noise_out_of_range_is_refused():
    with refused(DataError, "range", "data.noise.share", value=1.5):
        NoiseSpec(share=1.5)
    with refused(DataError, "range", "data.noise.scale"):
        NoiseSpec(scale=float("nan"))


def test_an_environment_without_an_expert_makes_no_demonstrations(monkeypatch):
    from counting import Counting

    monkeypatch.delattr(Counting, "expert")
    with refused(DataError, "unsupported", "environment", value="counting"):
        record("counting", {}, range(2))

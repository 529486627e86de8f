"""Evaluation: what is counted is what was done; the corpus must be the policy's own, the seeds nobody's."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from refused import refused
from unisono import Synthesizer, cli
from unisono.errors import DataError
from unisono.evaluation import sweep
from unisono.export import save_export
from unisono_control.measure.evaluate import FIRST_SEED, check_same_data, cost_of, evaluate, fresh_seeds, probe
from unisono_control.models.bins import ActionBins
from unisono_control.playing.play import play


@pytest.fixture(scope="module")
def report(make_policy, oft, tmp_path_factory):
    model, data = make_policy("policy", "--data.unseen_share=0.1")
    rival = save_export(oft[0], tmp_path_factory.mktemp("rival") / "oft")
    with pytest.raises(DataError):  # it sees pictures, and is of other demonstrations
        evaluate(Synthesizer(model), data.demonstrations, limit=2, against=[str(rival)], timed=1, progress=False)
    return model, data, evaluate(Synthesizer(model), data.demonstrations, limit=4, timed=1, progress=False)


def test_a_report_counts_what_episodes_say(report):
    model, _, found = report
    seeds = [FIRST_SEED + i for i in range(4)]
    made = play(model, [model.Request(seed=seed) for seed in seeds])
    assert found.value("success", "plain") == np.mean([e.success for e in made])
    assert found.value("steps", "plain") == np.mean([len(e.actions) for e in made])
    assert found.value("evaluations", "plain") == model.num_tokens
    assert found.value("chunks with plain's tokens", "jacobi") == 100.0
    assert found.value("evaluations by tokens", "shifted-chunk") <= 1
    assert 0 <= found.value("success there", "plain") <= 1
    assert found.value("times plain's", "plain") == 1
    expert = [item for item in found.items if item.get("system") == "plain"]
    assert [item["seed"] for item in expert] == seeds
    histograms = [item for item in found.items if "action" in item]
    chunks = sum(len(e.rounds) for e in made)
    for item in histograms:
        assert sum(item["fixed in round 1, 2, …"]) == chunks * model.facts.chunk
    assert [item["action"] for item in histograms] == ["dx", "dy", "grip"]
    json.dumps(found.to_dict(), allow_nan=False)


def test_costs_are_those_of_single_episodes(tiny):
    model, _ = tiny
    watch = []
    made = play(model, [model.Request(seed=s) for s in (1, 2)], watch=watch)
    pairs = [pair for episode in watch for pair in episode]
    assert len(pairs) == sum(len(e.rounds) for e in made)
    jacobi = play(model, [model.Request(seed=s, decoding="jacobi") for s in (1, 2)])
    cost = cost_of(model, pairs, "jacobi", {})
    assert cost.rounds.tolist() == [r for e in jacobi for r in e.rounds] and cost.equal == 1
    assert np.array_equal(cost.fixed, np.concatenate([e.fixed for e in jacobi]))


def test_evaluation_seeds_were_seen_by_nobody(tiny):
    """Seeds of the training episodes among those of an evaluation make any policy look good."""
    model, _ = tiny
    model_facts = replace(model.facts, trained=((FIRST_SEED, FIRST_SEED + 1),))
    kept, model.facts = model.facts, model_facts
    try:
        assert fresh_seeds([model], 3, {FIRST_SEED + 3}) == [FIRST_SEED + 2, FIRST_SEED + 4, FIRST_SEED + 5]
    finally:
        model.facts = kept


def test_the_corpus_must_be_the_policys_own(tiny):
    model, data = tiny
    found = data.demonstrations
    check_same_data(model, found)
    wider = replace(found, actions=found.actions * np.array([1.3, 1, 1], dtype=np.float32))
    with refused(DataError, "conflict", "data", value="dx"):
        check_same_data(model, wider)
    with refused(DataError, "conflict", "data", value="table"):
        check_same_data(model, replace(found, settings={}))
    with refused(DataError, "conflict", "data", value="other"):
        check_same_data(model, replace(found, spec=replace(found.spec, name="other")))


def test_a_sweep_asks_for_success(tiny):
    model, data = tiny
    done = sweep(
        Synthesizer(model), probe(Synthesizer(model), data.demonstrations, limit=2), {"execute": [1, 3]}, repeats=2
    )
    assert {point.setting["execute"] for point in done.points} == {1, 3}
    assert set(done.better) == {"success", "return"}
    by = {point.setting["execute"]: point.evaluations for point in done.points}
    assert by[1] > by[3] > 0


def test_the_scripts_actions_survive_the_bins():
    """Whether bins are fine enough is known before any training (64 bins of the table top's percentiles)."""
    from unisono_control.demonstrations.data import ScriptedData
    from unisono_control.demonstrations.record import play_expert
    from unisono_control.environments import Session, make_environment

    data = ScriptedData("table", num_episodes=120, val_size=0)
    facts = data.prepare(progress=False) and data.describe()
    outcomes = {}
    for count in (64, 2):
        bins = ActionBins(facts.action_low, facts.action_high, count)
        session = Session(make_environment("table"))
        outcomes[count] = []
        for seed in range(200, 300):
            play_expert(session, seed, through=lambda a, b=bins: b.decode(b.encode(torch.from_numpy(a))).numpy())
            outcomes[count].append(session.success)
    assert np.mean(outcomes[64]) >= 0.98 and np.mean(outcomes[2]) < 0.5


# ---- the command line ----------------------------------------------------------------------------------


def test_demonstrations_are_recorded_described_and_replayed(tmp_path, capsys):
    folder = tmp_path / "demos"
    flags = ["--episodes=5", "--noise-share=0", "--set", "observe=picture", "--set", "max_steps=50"]
    assert cli.main(["control", "record", "table", str(folder), *flags]) in (0, None)
    assert cli.main(["control", "info", str(folder)]) in (0, None)
    assert cli.main(["control", "replay", str(folder), "--limit=3"]) in (0, None)
    assert cli.main(["control", "environments"]) in (0, None)
    said = capsys.readouterr().out
    assert "5 episodes" in said and '{"observe": "picture", "max_steps": 50}' in said
    assert "3 of 3 episodes come out as recorded" in said and "\ntable\n" in said
    table = json.loads((folder / "episodes.json").read_text())
    table["settings"]["max_steps"] = 51  # what its spec says, is what counts
    table["episodes"][0]["seed"] += 1
    (folder / "episodes.json").write_text(json.dumps(table))
    assert cli.main(["control", "replay", str(folder)]) == 1


@pytest.mark.parametrize(
    "words",
    [
        ["record", "tabel", "x"],
        ["record", "table", "x", "--episodes=0"],
        ["record", "table", "x", "--first-seed=-1"],
        ["record", "table", "x", "--noise-share=2"],
        ["record", "table", "x", "--set", "observe"],
        ["record", "table", "x", "--set", "smell=1"],
        ["replay", "x"],
        ["replay", "x", "--limit=0"],
        ["info", "x"],
    ],
)
def test_wrong_words_end_in_a_sentence(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["control", *words]) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("unisono: ") and len(said.splitlines()) == 1
    assert not list(tmp_path.iterdir())

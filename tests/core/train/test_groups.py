"""Groups and optimisers in runs: what is frozen stays to the bit, runs resume, and two processes equal one."""

import json
import os
import subprocess
import sys

import pytest
import torch
from refused import refused
from short_runs import fit, last
from unisono.cli import main
from unisono.errors import CheckpointError, RecipeError
from unisono.export import find_training_state, read_training_state
from unisono.recipe import Recipe

QUIET = ("--trainer.enable_model_summary=false", "--run.preview_seconds=0", "--trainer.num_sanity_val_steps=0")
GROUPS = (
    "[{pattern: net.layers.0.*, lr: 0.5}, {pattern: net.embedding.*, frozen: true}, "
    "{pattern: net.head.*, weight_decay: 0.1}]"
)
GROUPED = (f"--optim.groups={GROUPS}", "--optim.lr=0.01", "--optim.weight_decay=0.01")


def recipe(folder, *overrides, name="text/ar-tiny"):
    return Recipe.read(name, [f"--run.dir={folder}", *QUIET, "--trainer.max_steps=4", *overrides])


def untrained(recipe):
    data = recipe.build_data()
    data.prepare(progress=False)
    model = recipe.build_model(data.describe())
    model.configure_model()
    return model.state_dict()


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_run_with_groups_resumes_to_the_bit_and_leaves_frozen_weights(optimizer, tmp_path):
    given = (*GROUPED, f"--optim.optimizer={optimizer}")
    whole = fit(recipe(tmp_path / "whole", *given))
    fit(recipe(tmp_path / "parts", *given, "--trainer.max_steps=2", "--optim.schedule=constant"))
    parts = fit(recipe(tmp_path / "parts", *given, "--optim.schedule=constant"), resume="last")
    straight = fit(recipe(tmp_path / "straight", *given, "--optim.schedule=constant"))
    kept, other = last(parts), last(straight)
    assert kept["state_dict"].keys() == other["state_dict"].keys()
    assert all(torch.equal(value, other["state_dict"][name]) for name, value in kept["state_dict"].items())
    begun = untrained(recipe(tmp_path, *given))
    for name, value in whole.model.state_dict().items():
        frozen = name.startswith("net.embedding.")
        assert torch.equal(value, begun[name]) == frozen or name.endswith(".inverse_frequencies"), name


def test_other_groups_are_applied_to_a_run_that_goes_on(tmp_path, capsys):
    begun = fit(recipe(tmp_path, "--trainer.max_steps=2", "--optim.lr=0.01"))
    before = last(begun)
    result = fit(recipe(tmp_path, *GROUPED), resume="last")
    assert "optim.groups" in json.loads((result.folder / "changes.json").read_text())[0]["changes"]
    assert "optim.groups" in capsys.readouterr().out
    after = last(result)
    names = [name for group in after["optimizer_states"][0]["param_groups"] for name in group["param_names"]]
    assert "net.embedding.weight" not in names and len(names) == len(after["optimizer_states"][0]["state"])
    assert {float(value["step"]) for value in after["optimizer_states"][0]["state"].values()} == {4.0}
    raw = "current_model_state" if "current_model_state" in after else "state_dict"
    frozen = "net.embedding.weight"
    assert torch.equal(after[raw][frozen], before[raw][frozen])
    back = fit(recipe(tmp_path, "--optim.lr=0.01", "--trainer.max_steps=6"), resume="last")  # trained again
    steps = {float(value["step"]) for value in last(back)["optimizer_states"][0]["state"].values()}
    assert steps == {2.0, 6.0} and not torch.equal(last(back)[raw][frozen], before[raw][frozen])


def test_another_optimiser_is_refused_for_a_run_that_goes_on(tmp_path):
    fit(recipe(tmp_path, "--trainer.max_steps=2"))
    with pytest.raises(CheckpointError, match=r"optim\.optimizer='adamw'.*'muon'"):
        fit(recipe(tmp_path, "--optim.optimizer=muon"), resume="last")


def test_discriminators_are_named_by_patterns_too(tmp_path):
    groups = "[{pattern: 'discriminators.*.bias', frozen: true}, {pattern: net.head.*, frozen: true}]"
    given = recipe(tmp_path, f"--optim.groups={groups}", "--optim.lr=0.01", name="codec/vocos-gan-tiny")
    begun = untrained(given)
    result = fit(given)
    moved = {name for name, value in result.model.state_dict().items() if not torch.equal(value, begun[name])}
    frozen = {
        n for n in begun if n.startswith("net.head.") or (n.startswith("discriminators.") and n.endswith(".bias"))
    }
    assert frozen and not moved & frozen
    assert any(name.startswith("discriminators.") for name in moved) and any(name.startswith("net.") for name in moved)


def test_a_wrong_pattern_is_refused_before_the_first_step(tmp_path):
    with refused(RecipeError, "unknown", "optim.groups[0].pattern", value="net.layer.*", names="net.layers."):
        fit(recipe(tmp_path, "--optim.groups=[{pattern: net.layer.*}]"))
    assert not list(tmp_path.iterdir())


def test_a_dry_run_prints_the_groups_with_counts(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    given = [*QUIET, *GROUPED, "--optim.optimizer=muon", f"--run.dir={tmp_path}"]
    assert main(["train", "text/ar-tiny", "--dry-run", *given]) == 0
    said = capsys.readouterr().out
    rows = [line for line in said.splitlines() if "│" in line]
    (frozen,) = [row for row in rows if "net.embedding.*" in row]
    assert "frozen" in frozen and " 1 " in frozen
    assert any("muon" in row and "net.layers.0.*" in row and "0.005" in row for row in rows)
    assert any("the rest" in row and "adamw" in row for row in rows)


def test_adapters_without_weights_beneath_them_are_refused(tmp_path):
    with refused(RecipeError, "missing", "run.init_from"):
        fit(recipe(tmp_path, "--adapters.rank=2"))


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "strategy"), [("adamw", "ddp"), ("muon", "ddp"), ("muon", "fsdp2")])
def test_two_processes_equal_one_with_groups(optimizer, strategy, tmp_path):
    # eps=1: steps proportional to gradients, so that rounding in a small one stays small
    given = [*GROUPED, f"--optim.optimizer={optimizer}", "--optim.eps=1", "--trainer.max_steps=2"]
    given += ["--trainer.accelerator=cpu"]
    one = last(fit(recipe(tmp_path / "one", *given)))["state_dict"]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "unisono", "train"]
    done = subprocess.run(
        [sys.executable, *launcher, "text/ar-tiny", *QUIET, *given, f"--run.dir={tmp_path}/two", "--no-progress",
         f"--trainer.strategy={strategy}"],
        capture_output=True, text=True, timeout=280, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    two = read_training_state(find_training_state(tmp_path / "two/text-ar-tiny/0001"))["state_dict"]
    begun = untrained(recipe(tmp_path, *given))
    for name, value in one.items():
        # Muon orthogonalises in bfloat16, and sums of shards are rounded elsewhere: 6 % of a movement were seen
        most = 2.4e-6 if strategy == "ddp" else 0.15 * float((value - begun[name]).abs().max()) + 2.4e-6
        torch.testing.assert_close(value, two[name], rtol=0, atol=most)

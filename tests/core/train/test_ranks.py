"""Ranks: processes that a launcher started share one folder and one preparation."""

import json
import os
import subprocess
import sys

import pytest
import torch
from lightning.fabric.plugins.environments.lightning import find_free_network_port
from run_commands import arguments
from unisono.errors import RecipeError, UnisonoError
from unisono.train.ranks import Ranks, fitting_devices, join_ranks


def torchrun(command, environ=None, processes=2):
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m", "unisono"]
    return subprocess.run(
        [sys.executable, *launcher, *command],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(environ or {})},
    )


@pytest.mark.slow
def test_torchrun_needs_no_devices_and_equals_one_process(tmp_path):
    done = torchrun(arguments(tmp_path / "two", "--trainer.max_steps=3"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("run: ") == 1
    folder = tmp_path / "two/codec-vocos-tiny/0001"
    assert f"run: {folder}" in done.stdout
    assert [path.name for path in folder.parent.iterdir()] == ["0001"]
    one = subprocess.run(
        [sys.executable, "-m", "unisono", *arguments(tmp_path / "one", "--trainer.max_steps=3")], capture_output=True
    )
    assert one.returncode == 0
    states = [
        torch.load(where / "codec-vocos-tiny/0001/checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for where in (tmp_path / "one", tmp_path / "two")
    ]
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], rtol=0, atol=2.4e-6)
    # and the launcher's count against the recipe's
    done = torchrun(arguments(tmp_path / "other", "--trainer.devices=3"))
    assert done.returncode and "the launcher started 2: leave both out" in done.stderr
    assert not (tmp_path / "other").exists()


def test_what_rank_0_cannot_do_ends_the_others(tmp_path):
    done = torchrun(arguments(tmp_path, "--resume"))
    assert done.returncode and "unisono: nothing to resume" in done.stderr
    assert "rank 0 failed, so rank 1 stops" in done.stderr


class Store:
    """A key-value store in memory; what is not there is waited for in vain."""

    def __init__(self):
        self.kept = {}

    def set(self, key, value):
        self.kept[key] = value

    def get(self, key):
        return self.kept[key].encode()

    def wait(self, keys, limit):
        if keys[0] not in self.kept:
            raise RuntimeError("wait timeout")


def test_the_first_makes_and_the_others_read():
    store = Store()
    assert Ranks(0, 2, store).share("x", lambda: [1, "a"]) == [1, "a"]
    assert Ranks(1, 2, store).share("x", lambda: pytest.fail("made twice")) == [1, "a"]
    with pytest.raises(KeyError):
        Ranks(0, 2, store).share("y", lambda: {}["gone"])
    with pytest.raises(UnisonoError, match="rank 0 failed, so rank 1 stops: 'gone'"):
        Ranks(1, 2, store).share("y", lambda: None)
    with pytest.raises(UnisonoError, match="waited 7200 s for rank 0 to say 'z'"):
        Ranks(1, 2, store).share("z", lambda: None)


def test_a_rank_that_nobody_started_with_others_is_refused(monkeypatch):
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(UnisonoError, match="start the processes with torchrun"):
        join_ranks()


@pytest.mark.parametrize(
    ("given", "local", "fits"),
    [
        ({}, 4, {"devices": 4, "num_nodes": 2}),
        ({"devices": "auto"}, 4, {"devices": 4, "num_nodes": 2}),
        ({"devices": 4, "num_nodes": 2}, 4, {"devices": 4, "num_nodes": 2}),
        ({"devices": 4}, 4, {"devices": 4, "num_nodes": 2}),
        ({"devices": 8}, 8, {"devices": 8, "num_nodes": 1}),
        ({"devices": 3}, 4, None),
        ({"num_nodes": 3}, 4, None),
    ],
)
def test_devices_are_those_that_were_started(given, local, fits, monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(local))
    if fits is None:
        with pytest.raises(RecipeError, match="leave both out"):
            fitting_devices(given, Ranks(0, 8), "x")
    else:
        assert fitting_devices(given, Ranks(0, 8), "x") == fits


def test_what_is_shared_is_plain(tmp_path):
    store = Store()
    Ranks(0, 2, store).share("x", lambda: "ü")
    assert json.loads(store.kept["x"]) == {"made": "ü"}


@pytest.mark.slow
def test_nodes_that_were_started_by_hand_share_one_folder(tmp_path):
    port = find_free_network_port()
    command = ["train", "text/mdlm-tiny", "--no-progress", f"--run.dir={tmp_path}", "--trainer.strategy=fsdp2"]
    command += ["--trainer.num_nodes=2", "--trainer.devices=1", "--trainer.accelerator=cpu"]
    nodes = [
        subprocess.Popen(
            [sys.executable, "-m", "unisono", *command],
            env={**os.environ, "NODE_RANK": str(node), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for node in range(2)
    ]
    printed = [node.communicate(timeout=280)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], printed
    assert [path.name for path in (tmp_path / "text-mdlm-tiny").iterdir()] == ["0001"]
    assert printed[0].count("run: ") == 1 and "run: " not in printed[1]

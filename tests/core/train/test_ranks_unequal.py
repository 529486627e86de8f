"""Ranks that do not fit together: plugins of other versions, and more processes than items."""

import json
import os
import subprocess
import sys

import pytest
import torch
from run_commands import arguments
from unisono.data import DataModule, collate_items
from unisono.data.loader import ReplayableLoader
from unisono.data.sampler import OrderedBatchSampler, ReplayableBatchSampler
from unisono.errors import DataError

VERSIONS = ("1.0", "1.1")

COMPARE = """
import importlib, json, sys
from types import SimpleNamespace
import torch
from unisono import plugin
from unisono.errors import PluginError
from unisono.train.callbacks.repeatable import SamePlugins

rank, place, kinds = int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
torch.distributed.init_process_group("gloo", f"file://{place}/meeting", rank=rank, world_size=2)
told = []
for kind in kinds:
    sys.path.insert(0, f"{place}/{kind}/{rank}")
    importlib.invalidate_caches()
    plugin.discover.cache_clear()
    try:
        SamePlugins().on_fit_start(SimpleNamespace(world_size=2), None)
        told.append(None)
    except PluginError as error:
        told.append([error.code, error.value, str(error)])
    sys.path.pop(0)
with open(f"{place}/{rank}.json", "w") as file:
    json.dump(told, file)
torch.distributed.destroy_process_group()
"""

TRAIN = """
import os, sys
sys.path.insert(0, f"{sys.argv[1]}/{os.environ['RANK']}")
from unisono import cli
sys.exit(cli.main(sys.argv[2:]))
"""


def install(folder, version):
    """Put the metadata of a distribution with one plugin into a folder: discovery reads no more."""
    info = folder / "stranger-0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: stranger\nVersion: {version}\n")
    (info / "entry_points.txt").write_text("[unisono.plugins]\nstranger = nowhere:plugin\n")


@pytest.fixture
def places(tmp_path):
    """Folders of what each rank has: the same version, two versions, and a plugin that only rank 0 has."""
    for rank, version in enumerate(VERSIONS):
        install(tmp_path / "same" / str(rank), "1.0")
        install(tmp_path / "versions" / str(rank), version)
    install(tmp_path / "missing" / "0", "1.0")
    return tmp_path


def test_ranks_with_other_versions_of_a_plugin_are_refused_on_each(places):
    kinds = ["same", "versions", "missing"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", COMPARE, str(rank), str(places), json.dumps(kinds)], stderr=subprocess.PIPE
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=240)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    for rank in range(2):
        same, versions, missing = json.loads((places / f"{rank}.json").read_text())
        assert same is None
        assert versions[:2] == missing[:2] == ["conflict", 1]
        one, other = versions[2].split(" against ")  # rank 1 and rank 0
        assert "('stranger', 'stranger', '1.1')" in one and "('stranger', 'stranger', '1.0')" in other
        one, other = missing[2].split(" against ")
        assert "stranger" not in one and "stranger" in other


class Numbers(DataModule):
    """Items 0, 1, …: their numbers."""

    def item(self, index, generator):
        return {"number": index}

    def __len__(self):
        return 5


def of_each_rank(sampler, world_size):
    loaders = [
        ReplayableLoader(Numbers(1, 0), sampler, collate_items, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    return [[batch["number"].tolist() for batch in loader] for loader in loaders]


@pytest.mark.parametrize("batch_size", [5, 3, 2])
def test_as_many_processes_as_a_batch_has_items_get_one_each(batch_size):
    sampler = ReplayableBatchSampler([1] * 5, batch_size, seed=3)
    shares = of_each_rank(sampler, batch_size)
    for step, batch in enumerate(sampler.batches(0)):
        assert [share[step] for share in shares] == [[number] for number in batch]
    with pytest.raises(DataError) as caught:
        of_each_rank(sampler, batch_size + 1)
    assert (caught.value.code, caught.value.path, caught.value.value) == ("limit", "devices", batch_size + 1)


@pytest.mark.parametrize(("batch_size", "smallest"), [(1, 1), (2, 2), (3, 5), (5, 5), (9, 5)])
def test_validation_shares_every_item_once_while_its_batches_have_enough(batch_size, smallest):
    """5 items in max(1, 5 // batch_size) batches, as evenly as they go: all processes have one up to the smallest."""
    sampler = OrderedBatchSampler(torch.ones(5), batch_size)
    assert min(map(len, sampler.batches())) == smallest
    for world_size in range(1, smallest + 1):
        shares = of_each_rank(sampler, world_size)
        assert sorted(number for share in shares for batch in share for number in batch) == [0, 1, 2, 3, 4]
        assert len({len(share) for share in shares}) == 1 and all(batch for share in shares for batch in share)
    with pytest.raises(DataError) as caught:
        of_each_rank(sampler, smallest + 1)
    assert (caught.value.code, caught.value.path) == ("limit", "devices")


def together(program, *more):
    """Two processes as a launcher starts them."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *program]
    return subprocess.run(
        [sys.executable, *launcher, *more],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.slow
def test_a_run_of_ranks_with_other_plugins_ends_with_the_sentence(places):
    script = places / "train.py"
    script.write_text(TRAIN)
    train = arguments(places / "runs", "--trainer.max_steps=1")
    done = together([str(script)], str(places / "versions"), *train)
    assert done.returncode and "rank 1 has other plugins than rank 0" in done.stderr, done.stderr
    done = together([str(script)], str(places / "same"), *train)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_run_of_more_processes_than_items_ends_with_the_sentence(tmp_path):
    for flag, said in (("--data.val_size=1", "a batch of 1 items"), ("--data.batch_size=1", "is not divisible by 2")):
        done = together(["-m", "unisono"], *arguments(tmp_path, "--trainer.max_steps=1", flag))
        assert done.returncode and said in done.stderr, done.stderr

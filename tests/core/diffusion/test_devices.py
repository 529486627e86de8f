"""Several ranks against one: four gloo processes (ranks.py), in groups of two and three and a mesh of two by two."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from refused import refused
from torch import nn
from unisono.diffusion import SchedulerRecurrence
from unisono.diffusion.devices import (
    CFGSplit,
    Patched,
    Patches,
    Stale,
    TimeSharded,
    TransformerPatches,
    UNetPatches,
    exchange,
    parastep,
)
from unisono.diffusion.devices.patches import split_rows
from unisono.errors import UnisonoError

diffusers = pytest.importorskip("diffusers")

# Half a minute of computing; four processes that wait for each other take long on a busy machine.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What each of the four processes found, by scenario."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("ranks.py")), str(folder), str(port)],
        capture_output=True,
        text=True,
        timeout=800,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(4)]


def each(ranks, scenario, size):
    """What the ranks of a group found in a scenario."""
    found = [rank[f"{scenario} {size}"] for rank in ranks if f"{scenario} {size}" in rank]
    assert len(found) == size
    return found


sizes = pytest.mark.parametrize("size", [2, 3])


@sizes
def test_every_rank_gets_all_parts_even_of_ranks_that_have_none(ranks, size):
    expected = torch.cat([torch.full((1, rank), float(rank)) for rank in range(size)], 1)
    for found in each(ranks, "exchanges", size):
        assert torch.equal(found["fresh"], expected)


@sizes
def test_stale_values_are_as_old_as_stated_once_warm(ranks, size):
    expected = torch.tensor([0.0, 1, 2, 1, 2, 3, 4])[:, None] * 10 + torch.arange(float(size))
    for found in each(ranks, "exchanges", size):
        assert torch.equal(found["stale"], expected)
        # Each value is twice the one that was used in its place.
        assert found["drift"] == pytest.approx(0.5)


@sizes
def test_the_first_rank_decides_how_many_steps_are_accepted(ranks, size):
    for found in each(ranks, "exchanges", size):
        assert found["counts"] == [3, 1]


@sizes
def test_rows_over_ranks_give_the_bits_of_one_process(ranks, size):
    first = each(ranks, "solved", size)[0]
    for found in each(ranks, "solved", size):
        assert torch.equal(found["sharded"], found["local"])
        assert found["sharded counts"] == found["local counts"]
        assert torch.equal(found["sharded"], first["sharded"])


@sizes
def test_parastep_is_fixed_steps_over_ranks(ranks, size):
    for found in each(ranks, "solved", size):
        assert torch.equal(found["parastep"], found["fixed steps"])
        apart = (found["parastep"] - found["local"]).norm() / found["local"].norm()
        assert 0 < apart < 0.2


@sizes
def test_branches_over_ranks_give_the_bits_of_one_process(ranks, size):
    for found in each(ranks, "guided", size):
        assert torch.equal(found["split"], found["whole"])


def test_rows_and_branches_over_a_mesh_give_the_bits_of_one_process(ranks):
    for rank in ranks:
        assert torch.equal(rank["mesh"]["split"], rank["mesh"]["whole"])


@sizes
@pytest.mark.parametrize(
    "name",
    [
        "sdxl",
        "sdxl odd",
        "pixels",
        "dit",
        "words in front",
        "image/dit",
        "image/unet",
        "a wide stride",
        "a dilated kernel",
    ],
)
def test_fresh_patches_are_one_process_up_to_rounding(ranks, size, name):
    for found in each(ranks, "pictures", size):
        got, expected = found[name]
        # Sums run in another order: some ulps of float32, in networks of ten to twenty layers.
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
        assert float(expected.std()) > 1e-2


@sizes
def test_a_stale_convolution_sees_its_neighbours_last_rows(ranks, size):
    for found in each(ranks, "displaced", size):
        for got, expected in found["conv"]:
            torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@sizes
def test_a_stale_group_norm_is_corrected_by_its_own_rows(ranks, size):
    for found in each(ranks, "displaced", size):
        torch.testing.assert_close(*found["group norm"], rtol=1e-4, atol=1e-4)


@sizes
def test_a_stale_transformer_attends_to_what_others_had(ranks, size):
    for found in each(ranks, "displaced", size):
        fresh, stale = found["transformer"]
        assert fresh < 1e-5 and 1e-3 < stale < 1


@sizes
def test_stale_patches_drift_a_little_and_say_so(ranks, size):
    for found in each(ranks, "displaced", size):
        scale = float(found["serial"].abs().max())
        torch.testing.assert_close(found["fresh"], found["serial"], rtol=0, atol=1e-4 * scale)
        torch.testing.assert_close(found["always warm"], found["serial"], rtol=0, atol=1e-4 * scale)
        torch.testing.assert_close(found["fresh window"], found["serial"], rtol=0, atol=5e-2 * scale)
        apart = (found["stale"] - found["serial"]).norm() / found["serial"].norm()
        assert 1e-4 < apart < 0.2
        # Nothing is left of the last sample when another begins.
        assert torch.equal(found["again"], found["stale"])
        assert len(found["drift"]) > 30
        assert all(0 < value < 2 for value in found["drift"])


@sizes
def test_what_several_ranks_cannot_do_is_said(ranks, size):
    for found in each(ranks, "displaced", size):
        assert found["refused window"] == ["conflict", "evaluator", "Patched"]
        assert found["refused rows"] == ["conflict", "timestep", (3.0, 4.0)]
        assert found["refused rank"] == ["limit", "ranks", size]
    assert ranks[3]["not in the group"] == ["value", "group", 3]


def test_bands_end_at_multiples():
    assert split_rows(16, 2, 4) == [8, 8]
    assert split_rows(13, 3, 2) == [6, 4, 3]
    assert split_rows(7, 3, 1) == [3, 2, 2]
    for total in range(1, 40):
        for ranks in range(1, 5):
            for multiple in (1, 2, 4):
                if -(-total // multiple) >= ranks:
                    each = split_rows(total, ranks, multiple)
                    assert sum(each) == total and min(each) > 0 and all(n % multiple == 0 for n in each[:-1])
    with refused(UnisonoError, "limit", "ranks", value=3, names=["7 rows", "2 bands of 4"]):
        split_rows(7, 3, 4)


class Small(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x, t):
        return self.layers(x)


def test_one_process_leaves_a_network_as_it_is():
    network = Small(nn.Conv2d(1, 2, 3, padding=1), nn.GroupNorm(1, 2))
    before = [dict(vars(module)) for module in network.modules()]
    patches = UNetPatches(network, policy=Stale(1))
    assert [dict(vars(module)) for module in network.modules()] == before
    assert Patched(patches).pure and patches.drift == {}
    x = torch.ones(2, 3)
    assert exchange("a", x, 0)[0] is x
    assert TimeSharded().agree([2, 3]) == [2, 3]


class Counting(Stale):
    """A policy that counts how often it was reset."""

    resets = 0

    def reset(self):
        self.resets += 1
        super().reset()


class Whole(Patches):
    """Patches that replace nothing inside of a network."""

    def install(self):
        pass

    def call(self, forward, x, *args, **kwargs):
        return forward(x, *args, **kwargs)


@pytest.fixture
def one_of_two(monkeypatch):
    """This process is the second of two ranks, as far as `Patches` can tell; nothing may be sent."""
    monkeypatch.setattr("unisono.diffusion.devices.patches.group_size", lambda group: 2)
    monkeypatch.setattr("unisono.diffusion.devices.patches.group_rank", lambda group: 1)


def test_a_timestep_that_grows_begins_a_new_sample(one_of_two):
    network, policy = Small(nn.Identity()), Counting(1)
    patches = Whole(network, policy=policy)
    x = torch.zeros(2, 1, 4, 4)

    def resets(x, t):
        before = policy.resets
        with torch.no_grad():
            network(x, torch.tensor([t, t]))
        return policy.resets - before

    assert resets(x, 9.0) == 1  # the first picture
    assert [resets(x, t) for t in (7.0, 7.0, 3.0)] == [0, 0, 0]
    assert [resets(x, t) for t in (3.5, 3.25, 3.5, 3.0)] == [1, 0, 1, 0]
    assert resets(x[:1].expand(2, 1, 4, 4).mT[:, :, :2], 1.0) == 1  # another shape
    patches.reset()
    assert resets(x[:, :, :2].contiguous(), 900.0) == 0  # and after a reset any time is the first
    patches.remove()
    assert "forward" not in vars(network)


def test_a_ranks_own_part_is_always_new(one_of_two, monkeypatch):
    patches = Whole(Small(nn.Identity()), policy=Stale(1))
    old = [torch.zeros(1, 2), torch.ones(1, 2)]
    monkeypatch.setattr(patches, "gather", lambda *args: list(old))
    whole = patches.whole("layer", torch.full((1, 2), 5.0), 1)
    assert whole.tolist() == [[0, 0, 5, 5]]
    patches.remove()


def test_guidance_in_one_process_is_what_it_was():
    split = CFGSplit(lambda x, t, sample, branch: x + 10 * branch + sample, 2.0)
    x, t, sample = torch.zeros(2), torch.zeros(2), torch.tensor([0, 1])
    assert torch.equal(split(x, t, sample), torch.tensor([-10.0, -9.0]))


@pytest.mark.parametrize(
    ("layer", "path", "value"),
    [
        (nn.BatchNorm2d(2), "layers.0", "BatchNorm2d"),
        (nn.ConvTranspose2d(1, 1, 2), "layers.0", "ConvTranspose2d"),
        (nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"), "layers.0.padding", ("reflect", (1, 1))),
    ],
)
def test_layers_that_are_not_known_are_named(layer, path, value):
    with refused(UnisonoError, "unsupported", path, value=value, names=["layers.0", type(layer).__name__]):
        UNetPatches(Small(layer))


def test_options_out_of_range_are_said():
    with refused(UnisonoError, "range", "Stale", value=0, names=["at least 1", "Fresh()"]):
        Stale(0)
    with refused(UnisonoError, "range", "Stale.warmup", value=-1, names="at least 0"):
        Stale(1, warmup=-1)
    with refused(UnisonoError, "missing", "blocks", value="blocks", names="none"):
        TransformerPatches(Small())
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(4)
    recurrence = SchedulerRecurrence(scheduler, lambda x, t, sample: x)
    with refused(UnisonoError, "range", "steps", value=1):
        parastep(recurrence, torch.ones(1, 1))
    report = parastep(recurrence, torch.ones(1, 1), steps=2).report
    assert report.rounds == 3  # one step alone, a pair, the last

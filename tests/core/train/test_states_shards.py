"""Shards: what each process holds of a tensor, written by all, read back whole and as any other mesh holds it."""

import os
import subprocess
import sys

import pytest
import torch
from sharded_cases import together
from unisono.export import find_training_state, read_training_state
from unisono.export.state_folder import read_state_folder
from unisono.recipe import Recipe
from unisono.train import train

MESHES = """
import multiprocessing, sys, warnings
from pathlib import Path
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.distributed.tensor.placement_types import _StridedShard
from unisono.export.state_folder import encode, read_state_folder
from unisono.train.states.attach import _Like
from unisono.train.states.folder import pieces_of, write_folder
from unisono.train.states.names import by_name, load_by_name, parameter_names


warnings.simplefilter("error")

def build(kind, meshes):
    torch.manual_seed(0)
    # 7 rows on 4 processes: uneven, and one process with fewer; 3 rows: one with none
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 7), nn.LayerNorm(7), nn.Linear(7, 3))
    model.register_buffer("seen", torch.arange(5.0))
    mesh = meshes[kind]
    if kind == "tensor":
        parallelize_module(model, mesh["tensor"], {"0": ColwiseParallel(), "2": RowwiseParallel()})
    fully_shard(model, mesh=mesh["shard"] if kind == "tensor" else mesh)
    return model, torch.optim.AdamW(model.parameters(), lr=0.1)

def step(model, optimizer):
    model(torch.full((4, 6), 0.5)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()

def state_of(model, optimizer):
    return {
        "state_dict": model.state_dict(),
        "optimizer_states": [by_name(optimizer.state_dict(), parameter_names(model, optimizer))],
    }

def whole(value):
    if isinstance(value, DTensor):
        return value.full_tensor()
    if isinstance(value, dict):
        return {key: whole(inner) for key, inner in value.items()}
    return [whole(inner) for inner in value] if isinstance(value, list) else value

def same(one, other, at=""):
    if isinstance(one, torch.Tensor):
        assert type(one) is type(other), at
        local = [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in (one, other)]
        assert torch.equal(*local), at
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), at
        [same(one[key], other[key], f"{at}.{key}") for key in one]
    elif isinstance(one, list | tuple):
        [same(a, b, f"{at}.{i}") for i, (a, b) in enumerate(zip(one, other, strict=True))]
    else:
        assert one == other, at

def main(rank, folder):
    torch.distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=4)
    meshes = {
        "fsdp": init_device_mesh("cpu", (4,)),
        "hsdp": init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard")),
        "tensor": init_device_mesh("cpu", (2, 2), mesh_dim_names=("shard", "tensor")),
    }

    group = torch.distributed.new_group(backend="gloo")
    written = {}
    for kind in meshes:
        model, optimizer = build(kind, meshes)
        step(model, optimizer)
        tensors = {}
        state = encode(state_of(model, optimizer), tensors)
        pieces = pieces_of(tensors, rank, 4, lambda name: name.startswith("optimizer_states"))
        write_folder(folder / kind, pieces, state, 1, group)
        torch.distributed.barrier()
        kept = whole(state_of(model, optimizer))
        if rank == 0:
            torch.save(kept, folder / f"{kind}.pt")
        # as this mesh holds it
        same(state_of(model, optimizer), read_state_folder(folder / kind, like=_Like(model)), kind)
        # and as any other mesh holds what was written so far
        for source, told in {**written, kind: kept}.items():
            other, fresh = build(kind, meshes)
            read = read_state_folder(folder / source, like=_Like(other))
            other.load_state_dict(read["state_dict"])
            load_by_name(fresh, read["optimizer_states"][0], parameter_names(other, fresh))
            same(told, whole(state_of(other, fresh)), f"{source} to {kind}")
        written[kind] = kept

    # a joint weight that is cut within each of its three parts: several ranges of rows for one process
    mesh = meshes["tensor"]
    values = torch.arange(12.0 * 4).reshape(12, 4)
    copies = DTensor.from_local(values, mesh, [Replicate(), Replicate()], run_check=False)
    joint = copies.redistribute(placements=[Shard(1), _StridedShard(0, split_factor=3)])
    assert joint.to_local()[:, 0].tolist() != sorted(set(range(24 * (rank % 2), 24))), "in one piece"
    pieces = pieces_of({"joint": joint}, rank, 4, lambda name: True)
    assert len(pieces) == 3
    write_folder(folder / "joint", pieces, {"state_dict": {"w": {"$tensor": "joint"}}}, 1, group)
    torch.distributed.barrier()
    holder = nn.Module()
    holder.w = nn.Parameter(joint)
    same(joint, read_state_folder(folder / "joint", like=_Like(holder))["state_dict"]["w"])
    torch.distributed.destroy_process_group()

# forked: what was imported is there
fork = multiprocessing.get_context("fork")
processes = [fork.Process(target=main, args=(rank, Path(sys.argv[1]))) for rank in range(4)]
[process.start() for process in processes]
[process.join() for process in processes]
sys.exit(max(abs(process.exitcode) for process in processes))
"""


@pytest.mark.slow
def test_states_go_from_any_mesh_to_any_other(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", MESHES, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    kinds = ("fsdp", "hsdp", "tensor")
    for kind in kinds:  # this process is alone, and has no mesh
        kept = torch.load(tmp_path / f"{kind}.pt", weights_only=True)
        read = read_state_folder(tmp_path / kind)
        assert kept["state_dict"].keys() == read["state_dict"].keys()
        for name, value in kept["state_dict"].items():
            assert torch.equal(value, read["state_dict"][name]), f"{kind}: {name}"
        moments = read["optimizer_states"][0]["state"]
        for name, values in kept["optimizer_states"][0]["state"].items():
            assert all(torch.equal(value, moments[name][key]) for key, value in values.items()), f"{kind}: {name}"
    assert len(list((tmp_path / "fsdp").glob("*.distcp"))) == 4
    joint = read_state_folder(tmp_path / "joint")["state_dict"]["w"]
    assert torch.equal(joint, torch.arange(12.0 * 4).reshape(12, 4))


def test_a_run_goes_from_one_process_to_two_that_share_its_weights_and_back(tmp_path):
    """Within what two processes differ from one: sums are taken in another order."""

    def fit(name, steps, **kwargs):
        given = (f"--run.dir={tmp_path / name}", f"--trainer.max_steps={steps}", "--run.preview_seconds=0")
        result = train(Recipe.read("text/mdlm-tiny", list(given)), progress=False, **kwargs)
        assert result is not None
        return result

    begun = fit("mine", 1)
    together("sharded_states", str(tmp_path / "two"), "3", str(find_training_state(begun.folder)))
    state = find_training_state(tmp_path / "two/run")
    assert state == tmp_path / "two/run/checkpoints/0000003"
    assert len(list(state.glob("*.distcp"))) == 2
    ended, straight = fit("mine", 4, resume=state), fit("straight", 4)
    assert ended.folder == tmp_path / "two/run"
    one, other = (read_training_state(find_training_state(each.folder)) for each in (straight, ended))
    assert one["global_step"] == other["global_step"] == 4
    for kind in ("state_dict", "current_model_state"):
        for name, value in one[kind].items():
            torch.testing.assert_close(value, other[kind][name], rtol=0, atol=2e-6)

"""State folders: what is written is read back; what is damaged, newer, half deleted or dangerous is refused."""

import io
import json
import math
import os
import pickle
import shutil
import warnings
from itertools import pairwise

import pytest
import torch
from refused import refused
from unisono.errors import CheckpointError
from unisono.export import find_training_state, read_training_state
from unisono.export.state_folder import decode, encode, read_state_folder
from unisono.train.states.folder import Piece, write_folder

STATE = {
    "unisono": {"recipe": {"model": {"name": "x"}}, "facts": {"mean": 0.5}},
    "state_dict": {"w": torch.arange(12.0).reshape(3, 4), "half": torch.ones(2, dtype=torch.bfloat16)},
    "loops": {"steps": 3, "odd": [(1, 2), {3: "three", "$mark": None}, {1, 2}, b"\x00\xff", math.inf, -0.0, True]},
    "scalar": torch.tensor(7),
    "empty": torch.empty(0, 3),
    "kind": torch.float16,
}


def equal(one, other):
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(equal, one, other))
    return type(one) is type(other) and one == other


def write(folder, state=STATE, cut=lambda name, tensor: [Piece(name, tensor.shape, (0,) * tensor.ndim, tensor)]):
    tensors = {}
    told = encode(state, tensors)
    folder.mkdir(parents=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        write_folder(folder, [piece for name, t in tensors.items() for piece in cut(name, t)], told, 3, None)
    return folder


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "checkpoints" / "0000003")


def test_a_state_comes_back_as_it_was(folder):
    assert equal(read_state_folder(folder), STATE)
    assert equal(read_state_folder(folder, only=("scalar",)), {"scalar": STATE["scalar"]})
    shapes = read_state_folder(folder, meta=True)["state_dict"]["w"]
    assert shapes.is_meta and shapes.shape == (3, 4)
    assert read_training_state(folder)["loops"]["steps"] == 3


@pytest.mark.parametrize("seed", range(20))
def test_any_range_of_a_tensor_is_read_from_any_pieces(tmp_path, seed):
    """Against slicing: a tensor cut at random, and rooms for random ranges of it."""
    draw = torch.Generator().manual_seed(seed)

    def cuts(size):
        inner = torch.randint(1, size, (int(torch.randint(0, 4, (), generator=draw)),), generator=draw).tolist()
        edges = sorted({0, size, *inner})
        return list(pairwise(edges))

    whole = torch.randn(7, 5, 6, generator=draw)
    pieces = [
        Piece("w", whole.shape, (a, c, e), whole[a:b, c:d, e:f].clone())
        for a, b in cuts(7)
        for c, d in cuts(5)
        for e, f in cuts(6)
    ]
    folder = write(tmp_path / "state", {"w": whole}, lambda name, tensor: pieces)
    rooms = []
    for _ in range(5):
        low = [int(torch.randint(0, size, (), generator=draw)) for size in whole.shape]
        high = [int(torch.randint(a, size + 1, (), generator=draw)) for a, size in zip(low, whole.shape, strict=True)]
        rooms.append((tuple(low), torch.full([b - a for a, b in zip(low, high, strict=True)], math.nan)))
    mark = torch.zeros(1)
    assert read_state_folder(folder, like=lambda at, shape, dtype: (mark, rooms))["w"] is mark
    for (a, b, c), room in rooms:
        d, e, f = room.shape
        assert torch.equal(room, whole[a : a + d, b : b + e, c : c + f])


class Odd:
    pass


@pytest.mark.parametrize("value", [Odd(), 1j, OSError("x"), len, type("Text", (str,), {})("a")])
def test_what_could_not_be_read_back_is_refused_by_its_place(value):
    with refused(CheckpointError, "type", "callbacks.mine.2", value=value, names=type(value).__name__):
        encode({"callbacks": {"mine": [1, 2, value]}}, {})


def changed(folder, change):
    place = folder / "state.json"
    told = json.loads(place.read_text())
    change(told)
    place.write_text(json.dumps(told))


SHARD = "__0_0.distcp"


def test_a_shard_that_is_missing_or_cut_is_named(folder):
    size = (folder / SHARD).stat().st_size
    os.truncate(folder / SHARD, size // 2)
    with refused(CheckpointError, "damaged", SHARD, names=[SHARD, f"{size // 2} bytes of {size}"]):
        read_training_state(folder)
    (folder / SHARD).unlink()
    with refused(CheckpointError, "missing", SHARD, names=SHARD):
        read_training_state(folder)


def test_a_folder_that_was_never_finished_is_no_state(folder):
    run = folder.parent.parent
    assert find_training_state(run) == folder
    (folder / "state.json").unlink()
    with refused(CheckpointError, "missing", names=str(run)):
        find_training_state(run)
    with refused(CheckpointError, "missing", "state.json", names="no state.json"):
        read_training_state(find_training_state(folder))


def test_a_newer_format_is_refused(folder, tmp_path):
    changed(folder, lambda told: told.update(format=2))
    with refused(CheckpointError, "version", "state.json", value=2, names="upgrade"):
        read_training_state(folder)
    torch.save({**STATE, "unisono": {**STATE["unisono"], "format": 2}}, tmp_path / "x.ckpt")
    with refused(CheckpointError, "version", "x.ckpt", value=2, names="upgrade"):
        read_training_state(tmp_path / "x.ckpt")


def drop_piece(told):
    told["tensors"]["state_dict.w"]["pieces"] = []


def grow(told):
    entry = told["tensors"]["state_dict.w"]
    entry["shape"] = entry["pieces"][0][1] = [10**9, 4]


def stretch(told):
    told["tensors"]["state_dict.w"]["pieces"][0][0][0] = 1


def turn(told):
    entry = told["tensors"]["state_dict.w"]
    entry["shape"] = entry["pieces"][0][1] = [4, 3]


@pytest.mark.parametrize(
    "change",
    [
        drop_piece,
        grow,
        stretch,
        turn,
        lambda told: told["tensors"]["state_dict.w"]["pieces"][0].__setitem__(4, 10**9),
        lambda told: told["tensors"]["state_dict.w"]["pieces"][0].__setitem__(3, -1),
        lambda told: told["tensors"]["state_dict.w"].update(dtype="load"),
        lambda told: told["tensors"].pop("state_dict.w"),
        lambda told: told["state"].update(loops={"$run": "x"}),
        lambda told: told.update(state=[]),
        lambda told: told.pop("files"),
    ],
)
def test_an_index_that_does_not_fit_is_damaged(folder, change):
    changed(folder, change)
    with refused(CheckpointError, "damaged", "state.json"):
        read_training_state(folder)


@pytest.mark.parametrize("text", ["", "[", '{"format": 1', '{"format": ' + "[" * 10**5])
def test_text_that_is_no_index_is_damaged(folder, text):
    (folder / "state.json").write_text(text)
    with refused(CheckpointError, "damaged", "state.json"):
        read_training_state(folder)


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('executed')",))


def test_no_code_in_a_folder_runs(folder):
    (folder / ".metadata").write_bytes(pickle.dumps(Bomb()))
    assert equal(read_state_folder(folder), STATE)  # not opened
    bomb = io.BytesIO()
    torch.save(Bomb(), bomb)

    def plant(told):
        for entry in told["tensors"].values():
            for piece in entry["pieces"]:
                piece[3:] = [0, told["files"][SHARD]]

    (folder / SHARD).write_bytes(bomb.getvalue().ljust((folder / SHARD).stat().st_size, b"\0"))
    changed(folder, plant)
    with refused(CheckpointError, "damaged", "state.json"):
        read_training_state(folder)


@pytest.mark.parametrize("name", ["../other", "/etc/hostname", "pipe"])
def test_no_file_from_elsewhere_is_read(folder, name):
    os.mkfifo(folder / "pipe")

    def plant(told):
        told["files"][name] = told["files"].pop(SHARD)
        for entry in told["tensors"].values():
            for piece in entry["pieces"]:
                piece[2] = name

    changed(folder, plant)
    with refused(CheckpointError, "unsafe", "state.json", value=name):
        read_training_state(folder)


def test_the_newest_of_files_and_folders_is_found(folder):
    run, states = folder.parent.parent, folder.parent
    shutil.copytree(folder, states / "0000009")
    (states / "last").write_text("0000003\n")
    assert find_training_state(run) == states / "0000003"  # a run that went on from there
    assert find_training_state(states / "last") == states / "0000003"
    (states / "last.ckpt").write_bytes(b"")
    os.utime(states / "last.ckpt", (1e9, 1e9))
    assert find_training_state(run) == states / "0000003"
    os.utime(states / "last.ckpt", (4e9, 4e9))
    assert find_training_state(run) == states / "last.ckpt"
    (states / "last.ckpt").unlink()
    shutil.copytree(folder, states / ".unisono-1")
    for told in ("0000004", "../../0000009", "", "\0", ".unisono-1"):
        (states / "last").write_text(told)
        assert find_training_state(run) == states / "0000009"


def test_marks_of_json_are_told_from_a_state_s_own_keys():
    value = {"$tensor": "x", "plain": {"$tuple": [1]}, "one": {"$": 1}}
    assert decode(json.loads(json.dumps(encode(value, {}))), lambda name, at: pytest.fail("no tensor")) == value

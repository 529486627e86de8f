"""Parts of keeping states: the shelf, the writer, host copies, and optimisers by name."""

import copy
import threading

import pytest
import torch
from refused import refused
from torch import nn
from unisono.errors import CheckpointError
from unisono.train.states.host import HostCopies
from unisono.train.states.names import by_name, load_by_name, parameter_names
from unisono.train.states.shelf import Shelf
from unisono.train.states.writer import Writer


def put(shelf, step, folder=False):
    aside = shelf.hidden("" if folder else ".ckpt")
    if folder:
        aside.mkdir(parents=True)
        (aside / "state.json").write_text(str(step))
        return shelf.place_folder(aside, step)
    aside.parent.mkdir(parents=True, exist_ok=True)
    aside.write_text(str(step))
    return shelf.place_file(aside, step)


def names(shelf):
    return sorted(path.name for path in shelf.folder.iterdir())


@pytest.mark.parametrize("folder", [False, True])
def test_the_newest_states_are_kept_and_those_ahead_removed(tmp_path, folder):
    shelf = Shelf(tmp_path / "checkpoints")
    end, last = ("", "last") if folder else (".ckpt", "last.ckpt")
    for step in (1, 2, 3, 4):
        newest = put(shelf, step, folder)
        shelf.prune(newest, 2)
    assert names(shelf) == [f"0000003{end}", f"0000004{end}", last]
    shelf.name(newest, "best-1")
    newest = put(shelf, 2, folder)  # resumed from a state that was copied elsewhere, say
    shelf.prune(newest, 2)
    assert names(shelf) == [f"0000002{end}", f"best-1{end}", last]
    again = put(shelf, 2, folder)
    shelf.prune(again, 1)
    assert names(shelf) == [f"0000002{'.1' if folder else end}", f"best-1{end}", last]
    other = put(shelf, 3, not folder)
    shelf.prune(other, 1)
    assert not (shelf.folder / last).exists() and len(names(shelf)) == 3


@pytest.mark.parametrize("folder", [False, True])
def test_a_name_is_given_to_the_same_bytes(tmp_path, folder):
    shelf = Shelf(tmp_path)
    kept = None
    for step in (1, 2):
        path = put(shelf, step, folder)
        kept = shelf.name(path, "best-1")
        one, other = (path / "state.json", kept / "state.json") if folder else (path, kept)
        assert one.samefile(other) and other.read_text() == str(step)
    assert not [name for name in names(shelf) if name.startswith(".")]


def test_what_killed_writers_left_is_removed(tmp_path):
    shelf = Shelf(tmp_path)
    path = put(shelf, 1)
    shelf.hidden(".ckpt").write_text("half")
    shelf.hidden().mkdir()
    shelf.clean()
    assert names(shelf) == [path.name, "last.ckpt"]


def test_one_write_at_a_time_and_its_error_once():
    writer, going, gate = Writer(), [], threading.Event()

    def slow():
        going.append("slow")
        assert gate.wait(60)
        going.append("slow ended")

    def failing():
        going.append("failing")
        raise OSError("full")

    writer.start(slow, beside=True)
    assert writer.busy and not writer.failed
    threading.Timer(0.05, gate.set).start()
    writer.start(failing, beside=True)
    error = writer.wait()
    assert going == ["slow", "slow ended", "failing"]
    assert isinstance(error, OSError) and writer.wait() is None and not writer.failed
    thread = []
    writer.start(lambda: thread.append(threading.current_thread()), beside=False)
    assert thread == [threading.current_thread()]


def test_copies_do_not_follow_what_is_trained_on():
    copies, weight = HostCopies(), torch.ones(3, 4)
    taken = copies.take(
        {"a": weight, "tied": weight, "view": weight[1:], "turned": weight.t(), "scalar": torch.tensor(1)}
    )
    assert taken["a"] is taken["tied"] and taken["view"].data_ptr() != weight.data_ptr()
    assert taken["view"].untyped_storage().nbytes() == taken["view"].nbytes  # not the whole of what it is a part of
    weight.zero_()
    assert all(bool((value == 1).all()) for value in taken.values())
    held = taken["a"].data_ptr()
    again = copies.take({"a": weight})
    assert again["a"].data_ptr() == held and not again["a"].any() and copies.nbytes == weight.nbytes
    copies.clear()
    assert copies.nbytes == 0


# ---- optimisers --------------------------------------------------------------------------------


def trained(groups, steps=2):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    parameters = dict(model.named_parameters())
    optimizer = torch.optim.AdamW(
        [{"params": [parameters[name] for name in each], **given} for each, given in groups], lr=0.01
    )
    for step in range(steps):
        model(torch.full((2, 3), 1.0 + step)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


def test_an_optimiser_is_restored_by_name_whatever_the_order_and_the_groups():
    first = [(["0.weight", "1.weight"], {"weight_decay": 0.5}), (["0.bias", "1.bias"], {"weight_decay": 0.0})]
    second = [(["1.bias"], {}), (["0.bias"], {}), (["1.weight", "0.weight"], {})]
    model, optimizer = trained(first)
    saved = by_name(optimizer.state_dict(), parameter_names(model, optimizer))
    assert saved["param_groups"][0]["params"] == ["0.weight", "1.weight"]
    other, fresh = trained(second, steps=0)
    other.load_state_dict(model.state_dict())
    load_by_name(fresh, copy.deepcopy(saved), parameter_names(other, fresh))  # torch takes tensors over as they are
    assert [group["weight_decay"] for group in fresh.param_groups] == [0.0, 0.0, 0.5]
    for one, mine in ((model, optimizer), (other, fresh)):
        one(torch.full((2, 3), 3.0)).square().sum().backward()
        mine.step()
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_a_state_that_counts_its_parameters_is_read_in_their_order():
    groups = [(["0.weight", "1.weight"], {}), (["1.bias"], {})]
    _, optimizer = trained(groups)
    other, fresh = trained(groups, steps=0)
    names = parameter_names(other, fresh)
    load_by_name(fresh, by_name(optimizer.state_dict(), names), names)
    mine, read = optimizer.state_dict(), fresh.state_dict()
    assert mine["param_groups"] == read["param_groups"] and mine["state"].keys() == read["state"].keys()
    assert all(torch.equal(mine["state"][i][k], read["state"][i][k]) for i in mine["state"] for k in mine["state"][i])
    with refused(CheckpointError, "shape", "optimizer_states", value=3):
        by_name(optimizer.state_dict(), names[:2])
    with refused(CheckpointError, "conflict", "0.weight", value=6, names="0.weight"):
        load_by_name(fresh, by_name(optimizer.state_dict(), ["a.weight", "b.weight", "b.bias"]), names)


def test_what_is_frozen_since_is_left_out_and_what_is_trained_since_begins_afresh():
    model, optimizer = trained([(["0.weight", "1.weight"], {}), (["1.bias"], {"weight_decay": 0.25})])
    saved = by_name(optimizer.state_dict(), parameter_names(model, optimizer))
    other, fresh = trained([(["0.weight", "0.bias"], {}), (["1.bias"], {})], steps=0)
    load_by_name(fresh, copy.deepcopy(saved), parameter_names(other, fresh))
    held = by_name(fresh.state_dict(), parameter_names(other, fresh))["state"]
    assert held.keys() == {"0.weight", "1.bias"}
    assert all(torch.equal(held[name]["exp_avg"], saved["state"][name]["exp_avg"]) for name in held)
    assert [group["weight_decay"] for group in fresh.param_groups][1] == 0.25


def test_wrappers_do_not_change_names():
    model, optimizer = trained([(["0.weight"], {}), (["1.weight"], {})])
    holder = nn.ModuleDict({"_orig_mod": model})
    assert parameter_names(holder, optimizer) == ["0.weight", "1.weight"]

"""Strategies as recipes name them: names, options, classes; sizes of meshes; what is sharded, and what is refused."""

from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.profilers import AdvancedProfiler, PyTorchProfiler, SimpleProfiler
from lightning.pytorch.strategies import DDPStrategy
from refused import refused
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook
from unisono import plugin as plugins
from unisono.assemble import build_model
from unisono.errors import RecipeError, UnisonoError
from unisono.model import Model
from unisono.nn.adapters import AdapterSpec, adapt
from unisono.nn.tensor_plan import TensorPlan
from unisono.recipe import Recipe
from unisono.train import train
from unisono.train.ranks import join_ranks
from unisono.train.strategies.choose import check_choice, make
from unisono.train.strategies.mesh import Sizes
from unisono.train.strategies.sharded import Sharded, check_fit
from unisono.train.strategies.tensor import parallelize, plans_of
from unisono.train.strategies.units import kept_whole, repeated_blocks

TINY = "text/mdlm-tiny"


def recipe(*overrides: str, name: str = TINY) -> Recipe:
    return Recipe.read(name, ["--trainer.enable_model_summary=false", "--run.preview_seconds=0", *overrides])


# ---- names, options, classes -------------------------------------------------------------------


def test_a_name_an_option_or_a_class_makes_a_strategy():
    assert make("strategy", "auto", "x") == "auto" and make("strategy", "ddp", "x") == "ddp"
    assert isinstance(make("strategy", "fsdp2", "x"), Sharded)
    hsdp = make("strategy", {"name": "hsdp", "replicate": 2, "gather": "bfloat16"}, "x")
    assert (hsdp.sizes, hsdp.gather, hsdp.reshard_after_forward) == (Sizes(2, None), "bfloat16", True)
    assert make("strategy", {"name": "tensor", "size": 4}, "x").sizes == Sizes(1, None, 4)
    path = {"class_path": "lightning.pytorch.strategies.DDPStrategy", "init_args": {"static_graph": True}}
    made = make("strategy", path, "x")
    assert isinstance(made, DDPStrategy) and made._ddp_kwargs["static_graph"] is True


def test_ddp_takes_the_options_that_people_need():
    options = {
        "find_unused_parameters": True,
        "static_graph": True,
        "gradient_as_bucket_view": True,
        "bucket_cap_mb": 7,
        "process_group_backend": "gloo",
        "timeout_seconds": 90.0,
    }
    made = make("strategy", {"name": "ddp", "comm_hook": "fp16_compress", **options}, "x")
    assert made._timeout.total_seconds() == 90 and made.process_group_backend == "gloo"
    for name in ("find_unused_parameters", "static_graph", "gradient_as_bucket_view", "bucket_cap_mb"):
        assert made._ddp_kwargs[name] == options[name]
    assert made._ddp_comm_hook is default_hooks.fp16_compress_hook
    low = make("strategy", {"name": "ddp", "comm_hook": "power_sgd"}, "x")
    assert isinstance(low._ddp_comm_state, powerSGD_hook.PowerSGDState)


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"name": "simple", "extended": False}, SimpleProfiler),
        ({"name": "advanced", "line_count_restriction": 0.5}, AdvancedProfiler),
        ({"name": "pytorch", "row_limit": 3}, PyTorchProfiler),
        ({"class_path": "lightning.pytorch.profilers.SimpleProfiler"}, SimpleProfiler),
        ("simple", SimpleProfiler),
    ],
)
def test_profilers_are_chosen_likewise(given, kind):
    assert isinstance(make("profiler", check_choice("profiler", given, "x"), "x"), kind)


def test_a_recipe_holds_a_choice_checked_and_whole():
    given = recipe("--trainer.strategy.name=hsdp", "--trainer.strategy.shard=4", "--trainer.profiler={name: simple}")
    chosen = given.trainer["strategy"]
    assert chosen["name"] == "hsdp" and chosen["shard"] == 4 and chosen["replicate"] is None
    again = Recipe.from_dict(given.to_dict(), name=given.name)
    assert again.trainer == given.trainer and "hsdp" in given.to_yaml()
    options = ["--trainer.strategy=hsdp", "--trainer.strategy.shard=4"]
    assert recipe(*options).trainer["strategy"] == chosen
    path = {"class_path": "no.such.Thing"}  # which is imported when a run begins
    assert recipe(f"--trainer.strategy={path}").trainer["strategy"] == {**path, "init_args": {}}


@pytest.mark.parametrize(
    ("given", "code", "path", "names"),
    [
        ({"name": "fsdpp"}, "unknown", "trainer.strategy.name", ["'fsdpp'", "fsdp2"]),
        ({"replicate": 2}, "missing", "trainer.strategy.name", ["hsdp"]),
        ({"name": "fsdp2", "shard": 2}, "unknown", "trainer.strategy.shard", []),
        ({"name": "hsdp", "shard": "two"}, "type", "trainer.strategy.shard", ["'two'"]),
        ({"name": "ddp", "comm_hook": "zip"}, "unknown", "trainer.strategy.comm_hook", ["power_sgd"]),
        ({"name": "ddp", "bucket_cap_mb": 0}, "range", "trainer.strategy.bucket_cap_mb", ["0"]),
        ({"class_path": "a.B", "args": {}}, "unknown", "trainer.strategy.args", ["init_args"]),
        ({"class_path": 3}, "type", "trainer.strategy", ["3"]),
    ],
)
def test_wrong_choices_are_refused_when_a_recipe_is_read(given, code, path, names):
    with refused(RecipeError, code, path, names=names):
        recipe(f"--trainer.strategy={given}")


@pytest.mark.parametrize(
    ("given", "code", "path", "names"),
    [
        ({"class_path": "no.such.Thing"}, "missing", "trainer.strategy.class_path", ["'no.such.Thing'"]),
        ({"class_path": "json.JSONDecoder"}, "type", "trainer.strategy.class_path", ["Strategy"]),
        (
            {"class_path": "lightning.pytorch.strategies.SingleDeviceStrategy", "init_args": {"x": 1}},
            "value",
            "trainer.strategy.init_args",
            ["'x'"],
        ),
        ("fsdp", "unsupported", "trainer.strategy", ["fsdp2"]),
        ("ddp_find_unused_parameters_true", "unsupported", "trainer.strategy", ["find_unused_parameters"]),
    ],
)
def test_others_when_a_run_begins(given, code, path, names):
    with refused(RecipeError, code, path, names=names):
        make("strategy", given, "x")


def test_a_run_tells_what_does_not_fit_before_it_writes(tmp_path):
    for strategy, code, path in (
        ("{class_path: no.such.Thing}", "missing", "trainer.strategy.class_path"),
        ("{name: hsdp, replicate: 2, shard: 2}", "shape", "trainer.strategy.replicate"),
    ):
        given = recipe(f"--run.dir={tmp_path}", f"--trainer.strategy={strategy}", "--trainer.devices=1")
        with refused(RecipeError, code, path):
            train(given, progress=False)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("devices", ["64", "[0, 63]"])
def test_more_devices_than_there_are(devices, tmp_path):
    given = recipe(f"--run.dir={tmp_path}", "--trainer.accelerator=gpu", f"--trainer.devices={devices}")
    with refused(RecipeError, "value", "trainer", names="gpu"):
        train(given, progress=False)
    assert not list(tmp_path.rglob("*.*"))


def test_sharding_needs_a_device_that_can():
    with refused(RecipeError, "device", "trainer.strategy", value="mps", names=["mps", "cuda"]):
        check_fit(Sharded(), "mps", 1)
    check_fit(Sharded(), "cuda", 1)
    check_fit(DDPStrategy(), "mps", 1)
    with refused(RecipeError, "shape", "trainer.strategy.replicate", names=["3", "8"]):
        check_fit(Sharded(Sizes(3, None)), "cuda", 8, 2)


# ---- meshes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "processes", "nodes", "fitted"),
    [
        (Sizes(), 8, 2, (1, 8, 1)),
        (Sizes(None, None), 8, 2, (2, 4, 1)),
        (Sizes(4, None), 8, 1, (4, 2, 1)),
        (Sizes(None, 4), 8, 1, (2, 4, 1)),
        (Sizes(1, None, 2), 8, 1, (1, 4, 2)),
        (Sizes(2, 2, 2), 8, 1, (2, 2, 2)),
        (Sizes(), 1, 1, (1, 1, 1)),
    ],
)
def test_sizes_of_a_mesh_multiply_to_the_processes(sizes, processes, nodes, fitted):
    made = sizes.fitted(processes, nodes)
    assert (made.replicate, made.shard, made.tensor) == fitted
    assert made.fitted(processes, nodes) == made


@pytest.mark.parametrize(
    ("sizes", "processes", "name", "names"),
    [
        (Sizes(3, None), 8, "replicate", ["replicate=3", "8"]),
        (Sizes(None, 3), 8, "shard", ["shard=3", "8"]),
        (Sizes(2, 2), 8, "replicate", ["4 processes", "8"]),
        (Sizes(1, None, 3), 8, "tensor", ["tensor=3", "8"]),
        (Sizes(2, None, 2), 2, "replicate", ["replicate=2", "2"]),
        (Sizes(None, None), 8, "replicate", ["8", "fsdp2"]),
    ],
)
def test_sizes_that_do_not_are_refused_with_the_numbers(sizes, processes, name, names):
    code = "missing" if sizes.replicate is sizes.shard is None else "shape"
    with refused(RecipeError, code, f"trainer.strategy.{name}", names=names):
        sizes.fitted(processes)
    with refused(RecipeError, "shape", "trainer.strategy.shard"):
        Sizes(shard=-1)


# ---- what is sharded ---------------------------------------------------------------------------


class Block(nn.Module):
    def __init__(self, dim: int = 4):
        super().__init__()
        self.linear, self.norm = nn.Linear(dim, dim), nn.LayerNorm(dim)


class Written(nn.Module):
    kept_whole = ("codes.",)

    def __init__(self):
        super().__init__()
        self.codes, self.rest = nn.Embedding(3, 4), nn.Linear(4, 4)


def test_units_are_blocks_that_are_repeated():
    model = nn.Module()
    model.blocks = nn.ModuleList(Block() for _ in range(3))
    model.uneven = nn.ModuleList([Block(4), Block(5)])
    model.single = nn.ModuleList([Block()])
    model.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))  # too small to be gathered each by itself
    model.inner = nn.Sequential(nn.Module())
    model.inner[0].blocks = nn.ModuleList(Block() for _ in range(2))
    assert repeated_blocks(model) == [*model.blocks, *model.inner[0].blocks]


def test_scalars_and_what_a_module_names_are_kept_whole():
    model = nn.Module()
    model.temperature = nn.Parameter(torch.tensor(1.0))
    model.quantizer = Written()
    model.heads = nn.Linear(2, 2)
    assert set(kept_whole(model)) == {"temperature", "quantizer.codes.weight"}


def test_every_unit_of_every_model_has_weights_and_no_two_share_them():
    models = 0
    for plugin in plugins.discover().values():
        for name in plugins.get(plugin.name).models:
            target = plugins.resolve(f"{plugin.name}/{name}", "models")
            assert issubclass(target, Model) and callable(target.shard_units)
            assert all(hasattr(target, method) for method in target.reads_weights)
            models += 1
    assert models >= 33


def tiny(name: str) -> Model:
    given = Recipe.read(f"{name}-tiny", [])
    data = given.build_data()
    data.prepare(progress=False)
    return build_model(given, data.describe())


def test_plans_name_layers_that_there_are():
    model = tiny("text/mdlm")
    plans = plans_of(model)
    assert list(plans) == ["net.layers.0", "net.layers.1"]
    for name, plan in plans.items():
        there = {path for path, _ in model.get_submodule(name).named_modules()}
        assert {*plan.columns, *plan.rows} <= there
    assert plans_of(tiny("codec/vocos")) == {}


def test_what_a_plan_cannot_cut_is_refused_by_name():
    mesh = SimpleNamespace(size=lambda: 3)
    with refused(RecipeError, "shape", "trainer.strategy.size", names=["net.layers.0.num_heads", "2", "3"]):
        parallelize(tiny("text/mdlm"), mesh)
    with refused(RecipeError, "unsupported", "trainer.strategy.name", names=["Vocos", "fsdp2"]):
        parallelize(tiny("codec/vocos"), mesh)

    adapted = tiny("text/mdlm")
    adapt(adapted, AdapterSpec(rank=2))
    with refused(RecipeError, "conflict", "trainer.strategy.name", value="tensor", names=["adapters", "fsdp2"]):
        parallelize(adapted, mesh)

    class Wide(nn.Module):
        tensor_plan = TensorPlan(columns={"linear": 2}, rows=(), heads=())

        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 8)

    with refused(RecipeError, "shape", "trainer.strategy.size", names=["linear.out_features", "4", "3"]):
        parallelize(nn.Sequential(Wide()), mesh)


# ---- nodes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "nodes", "code", "path"),
    [
        ({}, 2, "missing", "NODE_RANK"),
        ({"NODE_RANK": "2"}, 2, "range", "NODE_RANK"),
        ({"NODE_RANK": "1"}, 1, "range", "NODE_RANK"),
        ({"NODE_RANK": "1"}, 2, "missing", "MASTER_ADDR"),
        ({"NODE_RANK": "1", "MASTER_ADDR": "127.0.0.1"}, 2, "missing", "MASTER_PORT"),
    ],
)
def test_nodes_that_do_not_know_one_another_are_refused(given, nodes, code, path, monkeypatch):
    for name in ("NODE_RANK", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with refused(UnisonoError, code, path):
        join_ranks(nodes)


def test_a_single_node_needs_no_variable(monkeypatch):
    monkeypatch.setenv("NODE_RANK", "0")
    assert join_ranks(1).world_size == 1

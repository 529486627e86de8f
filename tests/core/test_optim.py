"""OptimSpec: the schedule's closed forms, which parameters are trained how, and what resumed states are given."""

import copy
import io
import math

import pytest
import torch
from refused import refused
from torch import nn
from unisono import plugin as plugins
from unisono.assemble import attach_components
from unisono.errors import CheckpointError, MissingExtra, RecipeError
from unisono.nn.layers import hidden_layers
from unisono.optim import GaLoreSpec, GroupSpec, MuonSpec, OptimSpec, make
from unisono.optim.make import fused_step
from unisono.optim.muon import MuonAdamW
from unisono.recipe import Recipe


class Net(nn.Module):
    """Two repeated layers of a matrix and a norm, between an embedding and a head."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 96)
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(96, 96), nn.LayerNorm(96)) for _ in range(2))
        self.head = nn.Linear(96, 5)

    def forward(self, tokens):
        x = self.embed(tokens)
        for layer in self.layers:
            x = x + layer(x)
        return self.head(x)


def net(seed=1):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Net()


def learn(model, optimizer, steps=3):
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(torch.arange(5)), torch.arange(5).flip(0)).backward()
        optimizer.step()


def through_a_file(model, optimizer):
    """What a checkpoint gives back, read as checkpoints are: no objects."""
    file = io.BytesIO()
    torch.save([model.state_dict(), optimizer.state_dict()], file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def told(optimizer):
    """Rate and decay of each parameter, by name."""
    return {
        name: (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for name in group["param_names"]
    }


# ---- the schedule ------------------------------------------------------------------------------


def test_linear_and_cosine_go_from_the_end_of_the_warm_up_to_the_least_rate():
    linear = OptimSpec(warmup_steps=4, schedule="linear", min_lr_ratio=0.2)
    assert [linear.factor(step, 14) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert linear.factor(4, 14) == 1.0
    assert linear.factor(9, 14) == pytest.approx(0.2 + 0.8 * 0.5)
    assert linear.factor(14, 14) == linear.factor(20, 14) == pytest.approx(0.2)
    cosine = OptimSpec(warmup_steps=4, schedule="cosine", min_lr_ratio=0.2)
    assert cosine.factor(4, 14) == 1.0
    assert cosine.factor(6, 14) == pytest.approx(0.2 + 0.8 * 0.5 * (1 + math.cos(math.pi * 0.2)))
    assert cosine.factor(14, 14) == pytest.approx(0.2)


def test_the_scheduler_asks_for_the_length_at_each_step():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    length = [10]
    schedule = OptimSpec(warmup_steps=0, schedule="linear", min_lr_ratio=0.0).scheduler(optimizer, lambda: length[0])
    assert schedule.get_last_lr() == [2.0]
    length[0] = 2
    optimizer.step()
    schedule.step()
    assert schedule.get_last_lr() == [1.0]


# ---- groups ------------------------------------------------------------------------------------


def by_shape(module):
    """Which parameters decayed in version 0.1.0: those of two axes or more that are no embedding's."""
    embeddings = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
    parameters = [p for p in module.parameters() if p.requires_grad]
    return [
        [p for p in parameters if (p.ndim >= 2 and id(p) not in embeddings) is decayed] for decayed in (True, False)
    ]


def assert_as_before(module):
    optimizer = OptimSpec(weight_decay=0.3).make(module)
    before = {decay: parameters for decay, parameters in zip((0.3, 0.0), by_shape(module), strict=True) if parameters}
    assert [group["weight_decay"] for group in optimizer.param_groups] == list(before)
    for group, parameters in zip(optimizer.param_groups, before.values(), strict=True):
        assert list(map(id, group["params"])) == list(map(id, parameters))


def test_weight_decay_spares_biases_norms_and_embeddings():
    module = nn.Sequential(nn.Embedding(3, 4), nn.LayerNorm(4), nn.Linear(4, 2), nn.Conv1d(2, 2, 3), nn.LSTM(2, 2))
    module.append(nn.MultiheadAttention(4, 2))
    decay = {name: decay for name, (_, decay) in told(OptimSpec(weight_decay=0.3).make(module)).items()}
    decayed = {"2.weight", "3.weight", "4.weight_ih_l0", "4.weight_hh_l0", "5.in_proj_weight", "5.out_proj.weight"}
    assert {name for name, value in decay.items() if value == 0.3} == decayed
    assert {value for name, value in decay.items() if name not in decayed} == {0.0}
    assert_as_before(module)


def test_a_head_that_shares_its_weights_with_an_embedding_is_spared_and_named_by_either():
    model = net()
    model.head.weight = model.embed.weight
    assert told(OptimSpec(weight_decay=0.3).make(model))["embed.weight"] == (1e-3, 0.0)
    for pattern in ("head.weight", "embed.*"):
        assert told(OptimSpec(groups=(GroupSpec(pattern, lr=0.5),)).make(model))["embed.weight"][0] == 5e-4
    assert_as_before(model)


def test_a_flattened_or_sharded_parameter_decays_as_it_was_made():
    model = net()
    model.own = nn.Parameter(torch.ones(2, 3))
    spec = OptimSpec(weight_decay=0.3)
    whole = told(spec.make(model))
    spec.settle(model)
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(parameter.detach().flatten()[: parameter.numel() // 2]))
    assert told(spec.make(model)) == whole and whole["own"] == (1e-3, 0.3)


@pytest.mark.parametrize("name", ["tts/fastpitch", "codec/vocos", "motion/momask", "text/anchored"])
def test_groups_are_those_of_version_0_1_0(name):
    model = tiny(name)
    assert_as_before(model)


@pytest.mark.slow
def test_groups_of_every_model_are_those_of_version_0_1_0():
    names = [f"{plugin}/{model}" for plugin in ("tts", "codec", "motion", "image", "text")
             for model in plugins.get(plugin).models]  # fmt: skip
    assert len(names) >= 33
    for name in names:
        model = tiny(name)
        for module in (model, *(getattr(model, part) for part in ("net", "discriminators") if hasattr(model, part))):
            if isinstance(module, nn.Module) and any(p.requires_grad for p in module.parameters()):
                assert_as_before(module)


def tiny(name):
    recipe = Recipe.read(f"{name}-tiny")
    data = recipe.build_data()
    data.prepare(progress=False)
    model = recipe.build_model(data.describe())
    attach_components(model, recipe.components)
    model.configure_model()
    return model


GROUPS = (
    GroupSpec("layers.0.*", lr=0.5),
    GroupSpec("*.bias", weight_decay=0.2),
    GroupSpec("layers.*.1.*", frozen=True),
)


def test_the_first_pattern_that_fits_counts():
    model = net()
    frozen = copy.deepcopy(model.layers[1][1].weight)
    optimizer = OptimSpec(lr=0.01, weight_decay=0.3, groups=GROUPS).make(model)
    assert told(optimizer) == {
        "layers.0.0.weight": (0.005, 0.3), "layers.0.0.bias": (0.005, 0.0),
        "layers.0.1.weight": (0.005, 0.0), "layers.0.1.bias": (0.005, 0.0),
        "layers.1.0.bias": (0.01, 0.2), "layers.1.1.bias": (0.01, 0.2), "head.bias": (0.01, 0.2),
        "layers.1.0.weight": (0.01, 0.3), "head.weight": (0.01, 0.3), "embed.weight": (0.01, 0.0),
    }  # fmt: skip
    learn(model, optimizer)
    weight = model.layers[1][1].weight
    assert weight.grad is None and weight not in optimizer.state and torch.equal(weight, frozen)
    assert len(optimizer.state) == len(told(optimizer))


def test_the_same_groups_step_as_torchs_own_do():
    ours, theirs = net(), net()
    spec = OptimSpec(lr=0.01, weight_decay=0.3, groups=GROUPS[:2])
    rates = told(spec.make(net()))
    reference = torch.optim.AdamW(
        [{"params": [p], "lr": rates[n][0], "weight_decay": rates[n][1]} for n, p in theirs.named_parameters()],
        betas=spec.betas, eps=spec.eps,
    )  # fmt: skip
    learn(ours, spec.make(ours))
    learn(theirs, reference)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_patterns_name_parameters_as_the_whole_model_does():
    model = nn.ModuleDict({"net": net(), "judge": nn.Linear(2, 2)})
    spec = OptimSpec(groups=(GroupSpec("judge.*", lr=0.1), GroupSpec("net.head.*", frozen=True)))
    own, judge = spec.make(model["net"], model), spec.make(model["judge"], model)
    assert told(judge) == {"judge.weight": (1e-4, 1e-6), "judge.bias": (1e-4, 0.0)}
    assert not any(name.startswith(("judge", "net.head")) for name in told(own))


def test_wrong_groups_are_refused():
    def made(*groups):
        OptimSpec(groups=groups).make(net())

    with refused(RecipeError, "unknown", "optim.groups[0].pattern", value="layrs.0.*", names="layers."):
        made(GroupSpec("layrs.0.*"))
    with refused(RecipeError, "unknown", "optim.groups[1].pattern", value="Layers.*"):
        made(GroupSpec("head.*"), GroupSpec("Layers.*"))
    with refused(RecipeError, "conflict", "optim.groups[1].pattern", value="*.bias", names="'*'"):
        made(GroupSpec("*"), GroupSpec("*.bias"))
    with refused(RecipeError, "empty", "optim.groups"):
        made(GroupSpec("*", frozen=True))
    model = nn.ModuleDict({"net": net(), "judge": nn.Linear(2, 2)})
    with refused(RecipeError, "empty", "optim.groups", names="Linear"):
        OptimSpec(groups=(GroupSpec("judge.*", frozen=True),)).make(model["judge"], model)
    model["net"].requires_grad_(False)
    with refused(RecipeError, "conflict", "optim.groups[0].pattern", value="net.*"):
        OptimSpec(groups=(GroupSpec("net.*", lr=0.5),)).make(model)
    for path, value, code, given in (
        ("lr", 0.0, "range", dict(pattern="*", lr=0.0)),
        ("weight_decay", -1.0, "range", dict(pattern="*", weight_decay=-1.0)),
        ("pattern", None, "empty", dict(pattern="")),
        ("frozen", "*", "conflict", dict(pattern="*", frozen=True, lr=0.5)),
    ):
        with refused(RecipeError, code, f"optim.groups.{path}", value=value):
            GroupSpec(**given)


@pytest.mark.parametrize(
    ("given", "code", "path"),
    [
        ("--optim.groups=[{patern: x}]", "unknown", "optim.groups[0].patern"),
        ("--optim.groups=[{lr: 0.5}]", "missing", "optim.groups[0].pattern"),
        ("--optim.groups=[{pattern: x, lr: fast}]", "type", "optim.groups[0].lr"),
        ("--optim.groups=[net.*]", "type", "optim.groups[0]"),
        ("--optim.groups=net.*", "type", "optim.groups"),
        ("--optim.optimizer=adamW", "unknown", "optim.optimizer"),
        ("--optim.fused=maybe", "unknown", "optim.fused"),
        ("--optim.muon.momentum=1.0", "range", "optim.muon.momentum"),
        ("--optim.muon.ns_steps=0", "range", "optim.muon.ns_steps"),
        ("--optim.galore.rank=0", "range", "optim.galore.rank"),
        ("--optim.galore.scale=0", "range", "optim.galore.scale"),
    ],
)
def test_a_wrong_section_is_refused(given, code, path):
    with refused(RecipeError, code, path):
        Recipe.read("text/ar-tiny", [given])


def test_groups_of_a_recipe_are_those_of_python():
    groups = "[{pattern: net.layers.*, lr: 0.5}, {pattern: '*.bias', frozen: true}]"
    recipe = Recipe.read("text/ar-tiny", [f"--optim.groups={groups}"])
    assert recipe.optim["groups"][0] == {"pattern": "net.layers.*", "lr": 0.5, "weight_decay": None, "frozen": False}
    again = Recipe.from_dict(recipe.to_dict())
    model = tiny_of(again)
    assert model.optim.groups == (GroupSpec("net.layers.*", lr=0.5), GroupSpec("*.bias", frozen=True))


def tiny_of(recipe):
    data = recipe.build_data()
    data.prepare(progress=False)
    return recipe.build_model(data.describe())


# ---- optimisers by name ------------------------------------------------------------------------


def test_muon_steps_hidden_matrices_and_adamw_all_else_as_torchs_own_do():
    ours, theirs = net(), net()
    assert hidden_layers(ours) == ["layers.0.0", "layers.1.0"]
    spec = OptimSpec(optimizer="muon", lr=0.01, weight_decay=0.3, eps=1e-8, muon=MuonSpec(momentum=0.9))
    mine = spec.make(ours)
    assert isinstance(mine, MuonAdamW)
    hidden = [layer[0].weight for layer in theirs.layers]
    rest = [p for p in theirs.parameters() if all(p is not q for q in hidden)]
    two = [
        torch.optim.Muon(hidden, lr=0.01, weight_decay=0.3, momentum=0.9, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(
            [
                {"params": [theirs.head.weight], "weight_decay": 0.3},
                {"params": [p for p in rest if p is not theirs.head.weight], "weight_decay": 0.0},
            ],
            lr=0.01, betas=spec.betas, eps=1e-8,
        ),
    ]  # fmt: skip
    schedules = [spec.scheduler(each, 10) for each in (mine, *two)]
    for _ in range(3):
        learn(ours, mine, 1)
        two[0].zero_grad()
        two[1].zero_grad()
        nn.functional.cross_entropy(theirs(torch.arange(5)), torch.arange(5).flip(0)).backward()
        for each in (*two, *schedules):
            each.step()
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_muon_asks_for_the_loss_once():
    model, calls = net(), []

    def closure():
        calls.append(1)
        loss = model(torch.arange(5)).square().mean()
        loss.backward()
        return loss

    loss = OptimSpec(optimizer="muon").make(model).step(closure)
    assert len(calls) == 1 and loss.requires_grad


@pytest.mark.parametrize("name", ["adamw", "muon", "galore_adamw", "adamw8bit"])
def test_a_state_goes_on_to_the_bit_and_under_other_groups_by_name(name):
    if name in ("galore_adamw", "adamw8bit"):
        pytest.importorskip({"galore_adamw": "pytorch_optimizer", "adamw8bit": "bitsandbytes"}[name])
    spec = OptimSpec(optimizer=name, lr=0.01, weight_decay=0.1, galore=GaLoreSpec(rank=8, update_every=2))
    model = net()
    optimizer = spec.make(model)
    learn(model, optimizer)
    weights, state = through_a_file(model, optimizer)
    learn(model, optimizer, 4)
    other = net(2)
    other.load_state_dict(weights)
    resumed = spec.make(other)
    resumed.load_state_dict(copy.deepcopy(state))
    learn(other, resumed, 4)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))

    regrouped = OptimSpec(
        optimizer=name, lr=0.01, groups=(GroupSpec("embed.*", frozen=True), GroupSpec("head.*", lr=0.5)),
        galore=spec.galore,
    )  # fmt: skip
    third = net(3)
    third.load_state_dict(weights)
    renewed = regrouped.make(third)
    renewed.load_state_dict(state)
    assert told(renewed)["head.weight"] == (0.005, 1e-6)
    kept = dict(zip([n for g in state["param_groups"] for n in g["param_names"]], range(99), strict=False))
    for group in renewed.param_groups:
        for parameter, parameter_name in zip(group["params"], group["param_names"], strict=True):
            mine, saved = renewed.state[parameter], state["state"][kept[parameter_name]]
            saved = saved | saved.get("__bnb_optimizer_quant_state__", {})
            saved.pop("__bnb_optimizer_quant_state__", None)
            assert mine.keys() == saved.keys()
            assert all(torch.equal(mine[k], saved[k]) for k in mine if isinstance(saved[k], torch.Tensor))
    assert "embed.weight" not in told(renewed)
    learn(third, renewed, 1)


def test_a_state_without_names_goes_on_by_order_or_is_refused():
    model = net()
    optimizer = OptimSpec().make(model)
    learn(model, optimizer)
    state = optimizer.state_dict()
    for group in state["param_groups"]:
        del group["param_names"]
    again = OptimSpec().make(model)
    again.load_state_dict(state)
    assert len(again.state) == len(optimizer.state) and told(again) == told(optimizer)
    with refused(CheckpointError, "version", "optim.groups"):
        OptimSpec(groups=(GroupSpec("head.*", lr=0.5),)).make(model).load_state_dict(state)


def test_which_kernel_steps_is_settled_where_the_run_goes_on():
    model = net()
    there = OptimSpec(fused=True).make(model)
    learn(model, there)
    here = OptimSpec(fused=False).make(model)
    here.load_state_dict(there.state_dict())
    assert {group["fused"] for group in there.param_groups} == {True}
    assert {group["fused"] for group in here.param_groups} == {None}


def test_a_fused_step_is_that_of_the_others():
    one, other = net(), net()
    learn(one, OptimSpec(fused=True, lr=0.01).make(one))
    learn(other, OptimSpec(fused=False, lr=0.01).make(other))
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)  # float32, operations in another order


def test_fused_is_chosen_on_a_gpu_and_refused_where_it_cannot_be():
    on_cpu, on_meta = [torch.ones(1)], [torch.ones(1, device="meta")]
    assert fused_step(OptimSpec(), on_cpu, False) is None and fused_step(OptimSpec(fused=False), on_cpu, False) is None
    assert fused_step(OptimSpec(fused=True, clip_norm=0), on_cpu, True) is True
    with refused(RecipeError, "conflict", "optim.fused", names="16-mixed"):
        fused_step(OptimSpec(fused=True), on_cpu, True)
    with refused(RecipeError, "device", "optim.fused", names="meta"):
        fused_step(OptimSpec(fused=True), on_meta, False)
    with refused(RecipeError, "conflict", "optim.fused", names="adamw8bit"):
        OptimSpec(fused=True, optimizer="adamw8bit")


@pytest.mark.gpu
def test_fused_is_chosen_on_a_gpu():
    assert {group["fused"] for group in OptimSpec().make(net().cuda()).param_groups} == {True}
    assert {group["fused"] for group in OptimSpec().make(net().cuda(), scaled=True).param_groups} == {None}


@pytest.mark.parametrize(("name", "package"), [("adamw8bit", "bitsandbytes"), ("galore_adamw", "pytorch-optimizer")])
def test_an_optimiser_whose_package_is_missing_is_refused(name, package, monkeypatch):
    def missing(package, module=None, extra=""):
        raise MissingExtra(package, extra)

    monkeypatch.setattr(make, "optional", missing)
    with refused(MissingExtra, "dependency", package, names="unisono[optimizers]"):
        OptimSpec(optimizer=name).make(net())


@pytest.mark.parametrize("name", ["muon", "galore_adamw"])
def test_an_optimiser_of_matrices_is_refused_where_there_are_none(name):
    with refused(RecipeError, "unsupported", "optim.optimizer", value=name):
        OptimSpec(optimizer=name).make(nn.Linear(3, 3))

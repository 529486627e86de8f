"""Adapters: training begins at the model, what lies beneath stays to the bit, merging changes nothing."""

import copy
import json

import pytest
import torch
import unisono
from refused import refused
from torch import nn
from unisono.assemble import attach_components
from unisono.errors import MissingExtra, RecipeError
from unisono.export import export_run, load, read_training_state, save_export
from unisono.nn import adapters
from unisono.nn.adapters import AdapterSpec, adapt, merge, target_names
from unisono.recipe import Recipe
from unisono.train import train

TRANSFORMERS = [
    "tts/fastpitch",
    "codec/soundstorm",
    "codec/gmlm",
    "motion/mmm",
    "motion/momask",
    "image/dit",
    "text/ar",
]
"""A transformer of each of the first plugins; tests/text/test_adapters.py has every one of text."""
OTHERS = [
    *("asr/ctc", "asr/paraformer", "branches/multiverse", "codec/dac", "codec/rvq", "control/oft", "control/policy"),
    *("image/arpg", "image/critic", "image/lpd", "image/maskgit", "image/tokenizer-line", "music/grid"),
    *("outline/pvd", "outline/vertex-ar", "restore/miipher", "restore/mp-senet", "tts/zipvoice", "views/sharp-it"),
]
"""Those of the others, and codecs whose quantisers have layers of their own."""
QUIET = ["--trainer.enable_model_summary=false", "--run.preview_seconds=0", "--trainer.num_sanity_val_steps=0"]


class Tiny(unisono.Model):
    """Two repeated layers between an embedding and a head."""

    def build(self, facts):
        super().build(facts)
        self.embedding = nn.Embedding(7, 8)
        self.layers = nn.ModuleList(nn.ModuleDict({"up": nn.Linear(8, 16), "norm": nn.LayerNorm(16)}) for _ in range(2))
        self.layers.append(nn.ModuleDict({"conv": nn.Conv1d(8, 8, 3, padding=1), "down": nn.Linear(16, 8)}))
        self.head = nn.Linear(8, 7)

    def forward(self, tokens):
        x = self.embedding(tokens)
        wide = sum(layer["norm"](layer["up"](x)).tanh() for layer in self.layers[:2])
        return self.head(self.layers[2]["down"](wide) + self.layers[2]["conv"](x.mT).mT)


def tiny():
    torch.manual_seed(5)
    model = Tiny()
    model.build({})
    return model


TOKENS = torch.arange(7)[None]


@pytest.mark.parametrize("kind", ["lora", "dora", "loha", "lokr", "ia3"])
@pytest.mark.parametrize("targets", [(), ("layers.*", "head")])
def test_each_kind_begins_at_the_model_learns_and_merges(kind, targets):
    plain = tiny().eval()
    model = copy.deepcopy(plain)
    rank = {} if kind == "ia3" else {"rank": 2}
    if kind in ("lora", "dora") or not targets:
        adapt(model, AdapterSpec(kind=kind, **rank, targets=targets))
    else:  # these adapt no Conv1d, which a pattern of more leaves as it is
        adapt(model, AdapterSpec(kind=kind, **rank, targets=targets))
        assert isinstance(model.layers[2]["conv"], nn.Conv1d)
    torch.testing.assert_close(model(TOKENS), plain(TOKENS), rtol=0, atol=1e-6)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert model.adapted == {name for name, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for _ in range(4):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(TOKENS)[0], TOKENS[0].flip(0)).backward()
        optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == model.adapted
    said = model(TOKENS)
    assert not torch.allclose(said, plain(TOKENS), atol=1e-2)
    whole = merge(model)
    torch.testing.assert_close(whole(TOKENS), said, rtol=1e-5, atol=1e-5)
    assert list(whole.state_dict()) == list(plain.state_dict()) and not whole.adapted
    assert all(p.requires_grad for p in whole.parameters())


def test_what_is_adapted_is_inside_repeated_layers_unless_the_model_or_the_recipe_says_so():
    model = tiny()
    assert target_names(model, AdapterSpec()) == ["layers.0.up", "layers.1.up", "layers.2.down"]
    model.adapter_targets = ("layers.?.up",)
    assert target_names(model, AdapterSpec()) == ["layers.0.up", "layers.1.up"]
    assert target_names(model, AdapterSpec(targets=("head", "layers.2.*"))) == [
        "head",
        "layers.2.conv",
        "layers.2.down",
    ]


def test_a_name_that_ends_like_a_target_is_left_alone():
    model = tiny()
    model.other = nn.ModuleDict({"head": nn.Linear(8, 7)})  # peft alone would match the end of its name
    adapt(model, AdapterSpec(targets=("head",), rank=2))
    assert {name.partition(".")[0] for name in model.adapted} == {"head"}


def test_parameters_can_be_trained_beside_the_adapters():
    model = tiny()
    adapt(model, AdapterSpec(rank=2, train=("head.*", "layers.?.norm.weight")))
    own = {name for name in model.adapted if ".lora_" not in name}
    assert own == {"head.weight", "head.bias", "layers.0.norm.weight", "layers.1.norm.weight"}


def test_wrong_adapters_are_refused(monkeypatch):
    for path, value, given in (
        ("rank", 0, dict(rank=0)),
        ("rank", -1, dict(rank=-1)),
        ("alpha", 0.0, dict(alpha=0.0)),
        ("dropout", 1.0, dict(dropout=1.0)),
    ):
        with refused(RecipeError, "range", f"adapters.{path}", value=value, names=str(value)):
            AdapterSpec(**given)
    with refused(RecipeError, "conflict", "adapters.rank", value=4, names="ia3"):
        AdapterSpec(kind="ia3", rank=4)
    with refused(RecipeError, "unknown", "adapters.targets", value="layrs.0.up", names="layers.0.up"):
        adapt(tiny(), AdapterSpec(targets=("layrs.0.up",)))
    with refused(RecipeError, "unsupported", "adapters.targets", value="embedding", names=["Embedding", "Linear"]):
        adapt(tiny(), AdapterSpec(targets=("embedding",)))
    with refused(RecipeError, "unsupported", "adapters.targets", value="layers.2.conv", names=["Conv1d", "ia3"]):
        adapt(tiny(), AdapterSpec(kind="ia3", targets=("layers.2.conv",)))
    with refused(RecipeError, "unknown", "adapters.train", value="haed.*", names="haed"):
        adapt(tiny(), AdapterSpec(train=("haed.*",)))
    with refused(RecipeError, "empty", "adapters"):
        merge(tiny())
    flat = unisono.Model()
    flat.out = nn.Linear(2, 2)
    with refused(RecipeError, "missing", "adapters.targets", names="out"):
        adapt(flat, AdapterSpec())
    monkeypatch.setattr(adapters, "optional", lambda *a, **k: (_ for _ in ()).throw(MissingExtra("peft", "peft")))
    with refused(MissingExtra, "dependency", "peft", names="unisono[peft]"):
        adapt(tiny(), AdapterSpec())


@pytest.mark.parametrize(
    ("given", "code", "path"),
    [
        ("--adapters.rnak=2", "unknown", "adapters.rnak"),
        ("--adapters.kind=lroa", "unknown", "adapters.kind"),
        ("--adapters.rank=two", "type", "adapters.rank"),
        ("--adapters.rank=0", "range", "adapters.rank"),
        ("--adapters=16", "type", "adapters"),
    ],
)
def test_a_wrong_section_is_refused(given, code, path):
    with refused(RecipeError, code, path):
        Recipe.read("text/ar-tiny", [given])


def test_a_recipe_of_before_is_read_as_it_was():
    old = {"model": {"name": "text/ar"}, "data": {"name": "text/toy"}}
    none = {"rank": 0, "alpha": 16.0, "dropout": 0.0}
    for given in (none, {}, {"alpha": 4.0}):
        assert Recipe.from_dict({**old, "model": {**old["model"], "adapters": given}}).adapters == {}
    some = {"rank": 2, "alpha": 4.0, "dropout": 0.1}
    read = Recipe.from_dict({**old, "model": {**old["model"], "adapters": some}})
    assert read.adapters == {"kind": "lora", **some, "targets": [], "train": []}
    assert "adapters" not in read.model and Recipe.from_dict(read.to_dict()).adapters == read.adapters
    assert "adapters" not in Recipe.from_dict(old).to_dict()
    with refused(RecipeError, "conflict", "model.adapters"):
        Recipe.from_dict({**old, "model": {**old["model"], "adapters": some}, "adapters": {"rank": 4}})
    with refused(RecipeError, "type", "model.adapters", value=3):
        Recipe.from_dict({**old, "model": {**old["model"], "adapters": 3}})


@pytest.fixture(
    scope="module", params=[*TRANSFORMERS, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]
)
def tuned(request, tmp_path_factory):
    """A plain export of a plugin's tiny transformer, and a run with adapters that begins at it."""
    folder = tmp_path_factory.mktemp("adapters")
    recipe = Recipe.read(f"{request.param}-tiny")
    data = recipe.build_data()
    data.prepare(progress=False)
    plain = recipe.build_model(data.describe())
    for parameter in plain.parameters():  # what is drawn as zero hands on no gradient, and here it would stay
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05, generator=torch.Generator().manual_seed(3))
    attach_components(plain, recipe.components)
    source = save_export(plain, folder / "plain")
    given = [*QUIET, f"--run.dir={folder}/runs", "--trainer.max_steps=3", "--adapters.rank=2", "--optim.lr=0.01"]
    given += [f"--run.init_from={source}", "--seed=2", "--optim.warmup_steps=0", "--optim.schedule=constant"]
    result = train(Recipe.read(f"{request.param}-tiny", given), progress=False)
    return plain, source, result, next(iter(data.train_dataloader()))


@torch.no_grad()
def loss_of(model, batch):
    torch.manual_seed(1)
    return model.eval().losses(batch)["loss"]


def test_a_transformer_of_each_plugin_is_tuned_and_merged(tuned, tmp_path):
    plain, _, result, batch = tuned
    model = result.model
    names = {name.replace(".base_layer.", "."): name for name, _ in model.named_parameters()}
    learnt = [name for name in model.adapted if ".lora_B." in name]
    assert learnt and all(bool(model.get_parameter(name).any()) for name in learnt)  # each has a gradient
    for name, value in plain.named_parameters():
        assert torch.equal(model.get_parameter(names[name]), value), name
    kept = read_training_state(next(result.folder.glob("checkpoints/last.ckpt")))
    assert kept["state_dict"].keys() == model.state_dict().keys()
    whole = load(export_run(result.folder, tmp_path / "merged")).model
    assert whole.state_dict().keys() == plain.state_dict().keys()
    assert not json.loads((tmp_path / "merged/unisono.json").read_text()).get("base")
    both = load(export_run(result.folder, tmp_path / "kept", adapters="keep")).model
    begun, merged, kept = (loss_of(each, batch) for each in (plain, whole, both))
    torch.testing.assert_close(merged, kept, rtol=1e-5, atol=1e-5)
    assert not torch.equal(begun, kept)

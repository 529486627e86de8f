"""Recipes: what a file says is what is run, and what it cannot mean is an error with a path."""

import inspect
import os
from pathlib import Path

import pytest
import torch
import yaml
from refused import ANYTHING, refused
from unisono import cli
from unisono import plugin as plugins
from unisono.arguments import check_arguments
from unisono.errors import RecipeError
from unisono.recipe import MOVED, Recipe, RunSpec, all_recipes, find_recipe, parse_overrides

TINY = "codec/vocos-tiny"


def read(tmp_path: Path, text: str, *overrides: str) -> Recipe:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return Recipe.read(path, list(overrides))


def minimal(**sections) -> dict:
    return {"model": {"name": "codec/vocos"}, "data": {"name": "codec/tones"}, **sections}


# ---- what is said is what is run ---------------------------------------------------------------


def test_what_a_recipe_leaves_out_is_filled_with_defaults():
    recipe = Recipe.from_dict(minimal())
    assert recipe.model == {
        "name": "codec/vocos",
        "network": {"dim": 512, "intermediate_dim": 1536, "num_blocks": 8},
        "source": "none",
        "objective": {"mel_weight": 1.0, "pitch_weight": 0.2},
    }
    assert recipe.data["mel"]["n_fft"] == 1024
    assert recipe.optim["lr"] == 1e-3
    assert recipe.run_spec == RunSpec()
    assert recipe.seed == 1


def test_the_resolved_recipe_reads_back_as_itself():
    recipe = Recipe.read(TINY, ["--optim.betas=[0.5, 0.6]", "--data.mel.n_mels=40"])
    again = Recipe.from_dict(yaml.safe_load(recipe.to_yaml()), name=recipe.name)
    assert again == recipe
    recipe.to_dict()["model"]["network"]["dim"] = -1  # a copy
    assert recipe.model["network"]["dim"] == again.model["network"]["dim"] == 32


def test_a_recipe_as_plain_values_is_a_copy():
    recipe = Recipe.from_dict(minimal())
    recipe.to_dict()["model"]["network"]["dim"] = 7
    assert recipe.model["network"]["dim"] != 7


def test_the_objects_have_the_values_of_the_recipe():
    recipe = Recipe.read(TINY, ["--data.mel.n_mels=40", "--optim.betas=[0.5, 0.6]", "--seed=7"])
    data = recipe.build_data()
    assert (data.mel.n_mels, data.crop_frames, data.seed) == (40, 16, 7)
    model = recipe.build_model(data.describe())
    assert (model.network.dim, model.mel_spec.n_mels, model.optim.betas) == (32, 40, (0.5, 0.6))
    assert model.recipe == recipe.to_dict()


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "1.e-3", "1.0e-3", "+1e-3", "0.001"])
def test_numbers_are_numbers(tmp_path, text):
    raw = f"model: {{name: codec/vocos}}\ndata: {{name: codec/tones}}\noptim: {{lr: {text}}}\n"
    assert read(tmp_path, raw).optim["lr"] == 1e-3
    assert Recipe.read(TINY, [f"--optim.lr={text}"]).optim["lr"] == 1e-3


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        (["--model.dim=48"], ("model", "network", "dim"), 48),
        (["--model.dim", "48"], ("model", "network", "dim"), 48),
        (["--optim.lr=2e-4"], ("optim", "lr"), 2e-4),
        (["--optim.betas=[0.8, 0.99]"], ("optim", "betas"), [0.8, 0.99]),
        (["--data.mel={n_mels: 40, f_max: 4000}"], ("data", "mel", "n_mels"), 40),
        (["--data.mel.f_max=4000"], ("data", "mel", "f_max"), 4000),
        (["--data.mel.f_max=4000", "--data.mel.n_mels=40"], ("data", "mel", "n_mels"), 40),
        (["--trainer.devices=2"], ("trainer", "devices"), 2),
        (["--trainer.devices=[0, 1]"], ("trainer", "devices"), [0, 1]),
        (["--trainer.max_steps=1", "--trainer.max_steps=2"], ("trainer", "max_steps"), 2),
        (["--run.dir=a=b"], ("run", "dir"), "a=b"),
        (["--seed=5"], ("seed",), 5),
    ],
)
def test_overrides_reach_any_value(override, path, value):
    found = Recipe.read(TINY, override).to_dict()
    for key in path:
        found = found[key]
    assert found == value


def test_a_mapping_and_a_list_can_be_given_where_a_text_can(tmp_path):
    for text, value in (("{a: x, b: y}", {"a": "x", "b": "y"}), ("[x, y]", ["x", "y"]), ("x", "x")):
        raw = f"model: {{name: codec/vocos}}\ndata: {{name: codec/audio, root: {text}}}\n"
        assert read(tmp_path, raw).data["root"] == value
        raw = "model: {name: codec/vocos}\ndata:\n  name: codec/audio\n  root: ???\n"
        assert read(tmp_path, raw, f"--data.root={text}").data["root"] == value


# ---- what cannot be meant ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "code", "path", "names"),
    [
        (minimal(model={"name": "codec/vocos", "dimm": 3}), "unknown", "model.dimm", "'network.dim'"),
        (minimal(data={"name": "codec/tones", "mel": {"n_mel": 3}}), "unknown", "data.mel.n_mel", "'n_mels'"),
        (minimal(optim={"learning_rate": 1}), "unknown", "optim.learning_rate", "known: betas"),
        (minimal(trainer={"max_step": 1}), "unknown", "trainer.max_step", "'max_steps'"),
        (minimal(run={"emadecay": 0.9}), "unknown", "run.emadecay", "'ema_decay'"),
        (minimal(optimizer={}), "unknown", "optimizer", "'optim'"),
        (minimal(components={"vocoder": "x"}), "unknown", "components.vocoder", "'vocoder'"),
        (minimal(model={"name": "codec/vocos", "dim": "wide"}), "type", "model.network.dim", "wide"),
        (minimal(model={"name": "codec/vocos", "dim": 3.5}), "type", "model.network.dim", "3.5"),
        (minimal(optim={"schedule": "cosin"}), "unknown", "optim.schedule", "'cosine'"),
        (minimal(optim={"betas": [0.9]}), "type", "optim.betas", "a list of 2 numbers"),
        (minimal(seed=-1), "range", "seed", ["seed=-1", "≥ 0"]),
        (minimal(seed=True), "type", "seed", "seed=True"),
        (minimal(seed="one"), "type", "seed", "seed='one'"),
        (minimal(run={"ema_decay": 1.0}), "range", "run.ema_decay", "ema_decay=1.0"),
        (minimal(run={"checkpoint_every": 0}), "range", "run.checkpoint.every", ["checkpoint.every=0", "at least 1"]),
        (minimal(run={"stop_seconds": 0.0}), "range", "run.stop_seconds", ["stop_seconds=0.0", "above 0"]),
        (minimal(model=None), "missing", "model.name", "model.name is required"),
        (minimal(data={"num_items": 3}), "missing", "data.name", "data.name is required"),
        (minimal(model=["codec/vocos"]), "missing", "model.name", "model.name is required"),
        (minimal(optim=[1, 2]), "type", "optim", "mapping"),
        ([1, 2], "type", ANYTHING, "mapping"),
        (None, "type", ANYTHING, "mapping"),
    ],
    ids=lambda value: None if isinstance(value, str | list) else str(value)[60:],
)
def test_what_is_wrong_is_said_with_its_path(raw, code, path, names):
    with refused(RecipeError, code, path, names=names) as caught:
        Recipe.from_dict(raw)
    assert "\n" not in str(caught.value)
    assert caught.value.path is None if path is ANYTHING else caught.value.path == path


@pytest.mark.parametrize(
    ("name", "code", "path", "value", "near"),
    [
        ("codec/vocoss", "unknown", "codec.models", "vocoss", "'vocos'"),
        ("codecs/vocos", "unknown", "codecs", None, "'codec'"),
        ("vocos", "format", ANYTHING, "vocos", "plugin/name"),
    ],
)
def test_a_model_of_no_plugin_is_named(name, code, path, value, near):
    with refused(plugins.PluginError, code, path, value=value, names=near):
        Recipe.from_dict(minimal(model={"name": name}))


@pytest.mark.parametrize(
    ("optim", "names"),
    [
        ({"lr": 0.0}, ["optim.lr=0.0", "above 0"]),
        ({"lr": float("nan")}, ["optim.lr=nan", "above 0"]),
        ({"betas": [0.9, 1.0]}, ["optim.betas=[0.9, 1.0]"]),
        ({"warmup_steps": -1}, ["optim.warmup_steps=-1", "at least 0"]),
    ],
)
def test_an_optimizer_that_cannot_be_is_named(optim, names):
    with pytest.raises(RecipeError) as caught:
        Recipe.from_dict(minimal(optim=optim))
    assert caught.value.path is not None and caught.value.path.startswith("optim")
    for name in names:
        assert name in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "code", "path", "value", "names"),
    [
        (["--model.dimm=3"], "unknown", "model.dimm", None, "'network.dim'"),
        (["--data.mel.n_mel=3"], "unknown", "data.mel.n_mel", None, "'n_mels'"),
        (["--model.dim.x=3"], "type", "model.network.dim.x", None, "dim is a value, not a section"),
        (["--max_steps=3"], "unknown", "max_steps", None, "'max_steps'"),
        (["model.dim=3"], "format", ANYTHING, "model.dim=3", "--section.key=value"),
        (["--model.dim"], "missing", "model.dim", None, "--model.dim"),
        (["--model.dim", "--optim.lr=1"], "missing", "model.dim", None, "--model.dim"),
        (["--optim.betas=[0.9"], "format", "--optim.betas", 1, "--optim.betas"),
        (["--model={dim: 3, dim: 4}"], "conflict", "--model", 1, "'dim'"),
    ],
)
def test_a_wrong_override_is_named(overrides, code, path, value, names):
    with refused(RecipeError, code, path, value=value, names=names):
        Recipe.read(TINY, overrides)


def test_a_missing_value_names_the_flag_that_gives_it(tmp_path):
    with refused(RecipeError, "missing", "data.root", names="--data.root"):
        Recipe.read("tts/fastpitch-ljspeech", ["--components.vocoder=griffin-lim"])
    with refused(RecipeError, "missing", "data.root", names="--data.root"):
        Recipe.from_dict(minimal(data={"name": "codec/audio"}))
    with refused(RecipeError, "missing", "optim.lr", names="--optim.lr"):
        Recipe.from_dict(minimal(optim={"lr": "???"}))
    raw = {"model": {"name": "tts/fastpitch"}, "data": {"name": "tts/espeak"}, "components": {"vocoder": "???"}}
    with refused(RecipeError, "missing", "components.vocoder", value="???", names="--components.vocoder"):
        Recipe.from_dict(raw)


def test_a_key_given_twice_is_refused(tmp_path):
    raw = "model: {name: codec/vocos}\ndata: {name: codec/tones}\noptim:\n  lr: 1\n  lr: 2\n"
    with refused(RecipeError, "conflict", "mine.yaml", value=5, names="'lr'"):
        read(tmp_path, raw)


@pytest.mark.parametrize("raw", ["model: [", "a: b: c", "\tx: 1", "!!python/object/apply:os.getcwd []"])
def test_what_is_not_plain_yaml_is_refused(tmp_path, raw):
    with refused(RecipeError, "format", "mine.yaml", value=1):
        read(tmp_path, raw)


def test_a_recipe_that_does_not_exist_is_answered_with_the_nearest(tmp_path):
    with refused(RecipeError, "unknown", "recipe", value="tts/quikstart", names="tts/quickstart"):
        find_recipe("tts/quikstart")
    with refused(RecipeError, "missing", "nowhere.yaml", names="does not exist"):
        find_recipe(tmp_path / "nowhere.yaml")


def test_overrides_keep_the_last_and_read_yaml():
    assert parse_overrides(["--a=1", "--b.c", "x y", "--a=null", "--d="]) == {"a": None, "b.c": "x y", "d": ""}


MODEL = "model: {name: codec/vocos}\n"


@pytest.mark.parametrize(
    ("raw", "code", "line"),
    [
        ("{[1]: 2}", "type", 1),
        ("model:\n  ? {a: 1}\n  : 2", "type", 2),
        (MODEL + "seed: " + "9" * 5000, "range", 2),
        ("a: " + "[" * 5000, "limit", 1),
        ("model: 1\nmodel: 2", "conflict", 2),
        ("model: {name: a, name: b}", "conflict", 1),
        (MODEL + "data: {name: !!int 3}", "format", 2),
        (MODEL + "---\n" + MODEL, "format", 2),
    ],
)
def test_a_file_that_is_no_plain_yaml_is_one_sentence_with_its_line(tmp_path, raw, code, line):
    with refused(RecipeError, code, "mine.yaml", value=line, names=["mine.yaml", f"(line {line})"]) as caught:
        read(tmp_path, raw)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize("value", ["2020-99-99", "2020-01-01", "1:30", "yes", "off", "1_000", "0b1"])
def test_what_is_a_text_in_yaml_1_2_stays_one(tmp_path, value):
    raw = MODEL + f"data: {{name: codec/audio, root: {value}}}\n"
    assert read(tmp_path, raw).data["root"] == value


@pytest.mark.parametrize(("written", "number"), [("010", 10), ("0x10", 16), ("0o10", 8), ("+3", 3)])
def test_integers_are_those_of_yaml_1_2(written, number):
    assert Recipe.read(TINY, [f"--model.dim={written}"]).model["network"]["dim"] == number


def test_files_that_are_no_text_are_refused_by_name(tmp_path):
    text = MODEL + "data: {name: codec/audio, root: Müller}\n"
    path = tmp_path / "mine.yaml"
    for encoding, value in (("latin-1", 2), ("utf-16", "UTF-16")):
        path.write_bytes(text.encode(encoding))
        with refused(RecipeError, "format", "mine.yaml", value=value, names=["save it as UTF-8", str(value)]):
            Recipe.read(path)
    path.write_bytes(text.encode("utf-8-sig"))
    assert Recipe.read(path).data["root"] == "Müller"


def test_paths_that_are_no_files_are_refused_by_name(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    for name, code in (
        ("pipe.yaml", "format"),
        ("folder.yaml", "format"),
        ("loop.yaml", "missing"),
        ("x" * 300 + ".yaml", "missing"),
        ("a\0b.yaml", "missing"),
    ):
        with refused(RecipeError, code, name) as caught:
            find_recipe(tmp_path / name)
        assert "\n" not in str(caught.value)
    with refused(RecipeError, "unknown", "recipe") as caught:
        find_recipe("x" * 5000)
    assert len(str(caught.value)) < 1000


def test_null_fits_only_where_the_type_says_so():
    """Every argument of two constructors: a null is refused by its name, unless null is among its types."""
    for reference, section, role in (("codec/gmlm", "model", "models"), ("codec/voice", "data", "data")):
        target = plugins.resolve(reference, role)
        required = {"root": "x"} if section == "data" else {}
        for name, parameter in inspect.signature(target).parameters.items():
            given = {**required, name: None}
            if "None" in str(parameter.annotation):
                assert check_arguments(target, given, section, "r")[name] is None
            else:
                with pytest.raises(RecipeError) as caught:
                    check_arguments(target, given, section, "r")
                assert (caught.value.path, caught.value.value) == (f"{section}.{name}", None)


def test_errors_carry_path_value_and_code():
    for section, path, value, code in (
        ({"model": {"name": "codec/vocos", "dimm": 3}}, "model.dimm", None, "unknown"),
        ({"data": {"name": "codec/audio"}}, "data.root", None, "missing"),
        ({"data": {"name": "codec/tones", "mel": {"n_mels": "80"}}}, "data.mel.n_mels", "80", "type"),
        ({"model": {"name": "codec/vocos", "source": "x"}}, "model.source", "x", "unknown"),
        ({"run": {"ema_decay": 2.0}}, "run.ema_decay", 2.0, "range"),
        ({"seed": -1}, "seed", -1, "range"),
        ({"seed": 2**63}, "seed", 2**63, "range"),
        ({"seed": "1"}, "seed", "1", "type"),
    ):
        with refused(RecipeError, code, path, value=value) as caught:
            Recipe.from_dict(minimal(**section))
        assert caught.value.path == path


def test_the_seed_of_a_recipe_draws_its_weights():
    first, again, other = (Recipe.read(TINY, [f"--seed={seed}"]) for seed in (3, 3, 4))
    facts = first.build_data().describe()
    states = [recipe.build_model(facts).state_dict() for recipe in (first, again, other)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    drawn = [name for name in states[0] if states[0][name].ndim > 1 and states[0][name].std() > 0]
    assert drawn and any(not torch.equal(states[0][name], states[2][name]) for name in drawn)
    before = torch.get_rng_state()
    first.build_model(facts)
    assert torch.equal(before, torch.get_rng_state())


# ---- formats -----------------------------------------------------------------------------------

VOICE = {"model": {"name": "tts/fastpitch"}, "data": {"name": "tts/espeak"}}


def voice(**model) -> dict:
    return {**VOICE, "model": {**VOICE["model"], **model}}


def test_format_1_is_read_as_format_2():
    old = Recipe.from_dict(voice(dim=32, num_heads=4, mel_loss="l1", pitch_weight=0.3, align_steps=5))
    new = voice(
        network={"dim": 32, "num_heads": 4},
        objective={"mel": "l1", "pitch_weight": 0.3},
        aligner={"align_steps": 5},
    )
    assert old.to_dict() == Recipe.from_dict({**new, "format": 2}).to_dict() == Recipe.from_dict(new).to_dict()
    assert (
        old.to_dict()["format"] == 2 and old.model["network"]["head_dim"] == 64
    )  # the model's default, not the group's
    assert Recipe.from_dict(yaml.safe_load(old.to_yaml())) == old


def test_an_override_by_its_old_name_reaches_the_new_place():
    found = Recipe.read("tts/fastpitch-tiny", ["--model.dim=48", "--model.network.num_heads=3"])
    assert (found.model["network"]["dim"], found.model["network"]["num_heads"]) == (48, 3)
    other = Recipe.read("tts/fastpitch-tiny", ["--model.mel_loss=l1", "--model.name=tts/fastspeech"])
    assert other.model["name"] == "tts/fastspeech" and other.model["objective"]["mel"] == "l1"


def test_an_override_reaches_a_file_of_format_1(tmp_path):
    text = "model: {name: tts/fastpitch, dim: 32, num_heads: 2}\ndata: {name: tts/espeak}\n"
    for override in ("--model.dim=48", "--model.network.dim=48", "--model.network={dim: 48, num_heads: 2}"):
        network = read(tmp_path, text, override).model["network"]
        assert (network["dim"], network["num_heads"]) == (48, 2)
    text = "model: {name: image/dit, objective: eps, dim: 32, num_heads: 2}\ndata: {name: image/shapes}\n"
    for override, found in (
        ("--model.objective=v", ("v", 5.0)),
        ("--model.objective.min_snr=2", ("eps", 2.0)),
        ("--model.objective={name: x0}", ("x0", 5.0)),
        ("--model.min_snr=3", ("eps", 3.0)),
    ):
        objective = read(tmp_path, text, override).model["objective"]
        assert (objective["name"], objective["min_snr"]) == found


def test_an_old_name_in_format_2_is_answered_with_the_new_one():
    with refused(RecipeError, "unknown", "model.dim", names="model.network.dim"):
        Recipe.from_dict({**voice(dim=3), "format": 2})
    with refused(RecipeError, "conflict", "model.dim", value=3, names=["model.network.dim", "remove one"]):
        Recipe.from_dict(voice(dim=3, network={"dim": 4}))
    for wrong in (3, 0, "2", True, None):
        with refused(RecipeError, "version", "format", value=wrong, names="must be 1 or 2"):
            Recipe.from_dict({**VOICE, "format": wrong})


def test_every_flat_name_has_a_place():
    seen = 0
    for state in plugins.states():
        assert state.plugin is not None
        for role in ("models", "data"):
            for short in getattr(state.plugin, role):
                target = plugins.resolve(f"{state.found.name}/{short}", role)
                parameters = inspect.signature(target).parameters
                required = {name: "x" for name in ("root", "path") if name in parameters}
                required |= {"levels": [8, 5]} if short == "tokenizer-fsq" else {}
                required |= {"quantizer": {"name": "fsq", "levels": [8, 5]}} if "quantizer" in parameters else {}
                resolved = check_arguments(target, required, "model", "r")
                for name, path in target.flat.items():
                    assert name not in resolved or name == path.split(".")[0], (target, name)
                    found = resolved
                    for part in path.split("."):
                        found = found[part]
                    given = {**required, name: found}
                    assert check_arguments(target, given, "model", "r", target.flat) == resolved
                    seen += 1
    assert seen > 30


SHIPPED = sorted((Path(__file__).parents[2] / "checkpoints").rglob("recipe.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.parent.name)
def test_recipes_of_shipped_exports_are_read(path):
    """Whatever format they have, each value is kept, under its old or its new name."""
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    resolved = Recipe.from_dict(raw)
    target = plugins.resolve(raw["model"]["name"], "models")
    for name, value in raw["model"].items():
        if name == "adapters" and not value.get("rank"):  # none
            assert not resolved.to_dict().get("adapters")
            continue
        found = resolved.model
        for part in target.flat.get(name, name).split(".") if raw.get("format", 1) == 1 else [name]:
            found = found[part]
        assert found == value


# ---- what is shipped ---------------------------------------------------------------------------


def test_every_recipe_file_is_a_recipe_of_its_plugin():
    folder = Path(__file__).parents[2] / "recipes/unisono_recipes"
    files = {f"{path.parent.name}/{path.stem}" for path in folder.rglob("*.yaml")}
    assert files == set(all_recipes()) and len(files) >= 10


@pytest.mark.parametrize("name", sorted(all_recipes()))
def test_a_recipe_opens_with_what_one_must_know(name):
    """The command, and hardware, time and the result to expect, in comments before anything else."""
    text = all_recipes()[name].read_text(encoding="utf-8")
    learns = plugins.resolve(yaml.safe_load(text)["model"]["name"], "models").learns
    opening, _, rest = text.partition("\nformat: 2\n")
    assert rest.startswith("\nmodel:")
    assert all(line.startswith("#") for line in opening.splitlines() if line)
    for part in (f"unisono {'train' if learns else 'assemble'} {name}", "hardware", "time", "expect"):
        assert part in opening, part


@pytest.mark.parametrize("name", sorted(all_recipes()))
def test_a_shipped_recipe_has_keys_of_today_and_reads_as_with_those_of_before(name, tmp_path):
    text = all_recipes()[name].read_text(encoding="utf-8")
    run = yaml.safe_load(text).get("run", {})
    assert not set(MOVED) & set(run)
    if "checkpoint" in run:
        assert run["checkpoint"].keys() == {"every"}
        line = f"  checkpoint: {{every: {run['checkpoint']['every']}}}\n"
        assert text.count(line) == 1
        text = text.replace("???", "here")
        before = text.replace(line, f"  checkpoint_every: {run['checkpoint']['every']}\n")
        assert read(tmp_path, before).to_dict() == read(tmp_path, text).to_dict()


def test_an_override_reaches_the_same_key_under_both_names():
    flags = ("--run.checkpoint_every=7", "--run.checkpoint.every=7")
    for name in (TINY, "tts/fastpitch-tiny"):  # without the key, and with it
        assert [Recipe.read(name, [flag]).run_spec.checkpoint.every for flag in flags] == [7, 7]


def test_recipes_are_listed_shown_and_copied(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert cli.main(["recipes"]) == 0
    assert set(all_recipes()) <= set(capsys.readouterr().out.split())
    assert cli.main(["recipes", "copy", TINY, str(tmp_path)]) == 0
    copied = tmp_path / "codec-vocos-tiny.yaml"
    assert str(copied) in capsys.readouterr().out
    assert Recipe.read(copied).to_dict() == Recipe.read(TINY).to_dict()
    assert cli.main(["recipes", "show", TINY]) == 0
    assert capsys.readouterr().out == copied.read_text(encoding="utf-8")
    assert cli.main(["recipes", "copy", TINY, str(tmp_path / "new/own.yaml")]) == 0
    assert (tmp_path / "new/own.yaml").is_file()
    capsys.readouterr()
    assert cli.main(["recipes", "copy", TINY, str(tmp_path)]) == 2
    assert "exists" in capsys.readouterr().err
    assert cli.main(["recipes", "copy", "codec/vocos-tini", str(tmp_path)]) == 2
    assert "did you mean 'codec/vocos-tiny'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "nowhere.yaml"],
        ["train", TINY, "--model.dimm=3"],
        ["train", TINY, "--model.dim=wide"],
        ["train", TINY, "stray"],
        ["train", "tts/fastpitch-ljspeech"],
        ["train", TINY, "--resume", "nowhere"],
        ["data", "audit", TINY, "--data.num_item=3"],
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_2(arguments, capsys):
    assert cli.main(arguments) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("unisono: ") and "\n" not in said and "Traceback" not in said

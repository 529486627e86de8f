"""Wrong recipes: one clear sentence that names the value and the fix, exit code 2, no traceback."""

from pathlib import Path

import pytest
from wrong_input import TINY, matches

RECIPES = {
    "name": (
        ["tts/quickstrat"],
        "no recipe 'tts/quickstrat'",
        "did you mean 'tts/quickstart'?",
        "unisono recipes",
    ),
    "file": (["gone.yaml"], "recipe file 'gone.yaml' does not exist"),
    "plugin": (["nope/tiny"], "no recipe 'nope/tiny'", "unisono recipes lists them"),
    "section": ([TINY, "--modle.dim=3"], "unknown section 'modle'", "did you mean 'model'?"),
    "key": (
        [TINY, "--model.encoder_layer=3"],
        "unknown key model.encoder_layer",
        "did you mean 'network.encoder_layers'?",
    ),
    "trainer key": (
        [TINY, "--trainer.max_step=3"],
        "unknown key trainer.max_step",
        "did you mean 'max_steps'?",
    ),
    "nested key": ([TINY, "--data.mel.hop=3"], "unknown key data.mel.hop"),
    "type": ([TINY, "--model.dim=wide"], "model.network.dim='wide' must be an integer"),
    "type of a list": ([TINY, "--optim.betas=[a, b]"], "optim.betas=['a', 'b'] must be a list of 2 numbers"),
    "size": ([TINY, "--model.dim=-4"], "cannot be built from the model section", "check its sizes"),
    "choice": ([TINY, "--model.mel_loss=l3"], "model.objective.mel='l3' must be one of 'mse', 'l1'"),
    "seed": ([TINY, "--seed=-1"], "seed=-1 must be a whole number"),
    "missing root": (["tts/fastspeech-ljspeech"], "data.root is required", "--data.root=VALUE"),
    "model name": (
        [TINY, "--model.name=tts/fastspech"],
        "no model 'fastspech'",
        "did you mean 'fastspeech'?",
    ),
    "data name": (
        [TINY, "--data.name=tts/speach"],
        "no data set 'speach'",
        "did you mean 'speech'?",
    ),
    "plugin of a model": (
        [TINY, "--model.name=ttx/fastspeech"],
        "no plugin 'ttx' is installed",
        "did you mean 'tts'?",
    ),
    "component role": (
        [TINY, "--components.vocodr=griffin-lim"],
        "unknown component 'vocodr'",
        "did you mean 'vocoder'?",
    ),
    "component place": ([TINY, "--components.vocoder=/nowhere"], "no export at '/nowhere'"),
    "no value": ([TINY, "--model.dim"], "--model.dim has no value: write --model.dim=value"),
    "not a flag": (
        [TINY, "model.dim=3"],
        "'model.dim=3' is not an override: write --section.key=value",
    ),
    "value in the way": ([TINY, "--model.dim.x=3"], "dim is a value, not a section"),
    "limit": (
        [TINY, "--run.ema_decay=1"],
        "run.ema_decay=1",
        "must be in [0, 1)",
    ),
    "resume": ([TINY, "--resume=/nowhere"], "no training checkpoint under '/nowhere'"),
    "one of many types": (
        [TINY, "--trainer.precision=16-mixd"],
        "trainer.precision='16-mixd' must be one of",
        "'16-mixed'",
    ),
    "a type or none": (
        [TINY, "--trainer.max_epochs=x"],
        "trainer.max_epochs='x' must be an integer or null",
    ),
    "batch size": ([TINY, "--data.batch_size=0"], "batch_size=0 must be at least 1"),
    "strategy": ([TINY, "--trainer.strategy=dpp"], "trainer: ", "strategy='dpp'"),
    "steps": ([TINY, "--trainer.max_steps=-5"], "trainer: ", "max_steps", "-5"),
    "devices": ([TINY, "--trainer.accelerator=cpu", "--trainer.devices=0"], "devices=0"),
    "share of batches": ([TINY, "--trainer.limit_val_batches=-1"], "for limit_val_batches"),
    "init from": ([TINY, "--run.init_from=/nowhere"], "'/nowhere'"),
}


@pytest.mark.parametrize("name", RECIPES)
def test_recipes(complaint, monkeypatch, tmp_path, name):
    monkeypatch.chdir(tmp_path)
    arguments, *parts = RECIPES[name]
    small = ["--data.num_sentences=4", "--data.num_processes=1"] if arguments[0] == TINY else []
    matches(complaint("train", *arguments, *small, "--dry-run", "--no-progress"), *parts)


RECIPE_FILES = {
    "broken": ("model: {name: tts/fastpitch", "is not valid YAML"),
    "twice": ("seed: 1\nseed: 2\n", "mine.yaml: key 'seed' is given twice (line 2)"),
    "a list": ("- model\n", "a recipe is a mapping with the sections model, data"),
    "empty": ("", "a recipe is a mapping with the sections model, data"),
    "no model": ("data: {name: tts/espeak}\n", "model.name is required"),
    "model a word": ("model: tts/fastpitch\ndata: {name: tts/espeak}\n", "model.name is required"),
    "section a word": (
        "model: {name: tts/fastpitch}\ndata: {name: tts/espeak}\noptim: adam\n",
        "optim",
    ),
    "components a word": (
        "model: {name: tts/fastpitch}\ndata: {name: tts/espeak}\ncomponents: x\n",
        "components",
    ),
    "python": (
        "model: !!python/object/apply:os.mkdir [executed]\n",
        "mine.yaml: tag",
        "os.mkdir",
    ),
    "not text": ("\x00\x01", "is not valid YAML"),
}


@pytest.mark.parametrize("name", RECIPE_FILES)
def test_recipe_files(complaint, monkeypatch, tmp_path, name):
    monkeypatch.chdir(tmp_path)
    content, *parts = RECIPE_FILES[name]
    Path("mine.yaml").write_text(content)
    matches(complaint("train", "mine.yaml", "--dry-run"), *parts)
    assert not Path("executed").exists()

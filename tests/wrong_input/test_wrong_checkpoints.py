"""Wrong checkpoints, and places for them: one clear sentence that names value and fix, exit code 2, no traceback."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from unisono.plugin import PLUGIN_API
from wrong_input import AUDIT, TINY, matches


def info(**changes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "unisono.json"
        content = {**json.loads(path.read_text()), **changes}
        path.write_text(json.dumps({k: v for k, v in content.items() if v is not ...}))

    return change


def facts(**changes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        own = {**json.loads((folder / "unisono.json").read_text())["facts"], **changes}
        info(facts={k: v for k, v in own.items() if v is not ...})(folder)

    return change


def write(name: str, content: str | bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        data = content.encode() if isinstance(content, str) else content
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)

    return change


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def cut(share: float, name: str = "model.safetensors") -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(share * len(data))])

    return change


def recipe(**model) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        content = yaml.safe_load((folder / "recipe.yaml").read_text())
        content["model"] |= model
        (folder / "recipe.yaml").write_text(yaml.safe_dump(content))

    return change


def link(name: str, target: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        moved = folder.parent / "moved"
        shutil.move(folder / target, moved)
        (folder / name).symlink_to(moved)

    return change


EVIL = "model: !!python/object/apply:os.mkdir [executed]\n"
AGAIN, FETCH = "export it again", "fetch the export again"
CHECKPOINTS = {
    "weights cut": (cut(0.7), "model.safetensors' is truncated or not safetensors", FETCH),
    "weights cut to nothing": (cut(0), "model.safetensors' is truncated or not safetensors", FETCH),
    "weights a pickle": (
        write("model.safetensors", b"\x80\x04."),
        "is truncated or not safetensors",
        FETCH,
    ),
    "weights missing": (remove("model.safetensors"), "has no model.safetensors", FETCH),
    "vocoder cut": (
        cut(0.7, "components/vocoder/model.safetensors"),
        "vocoder/model.safetensors' is truncated",
        FETCH,
    ),
    "weights of another": (
        lambda f: shutil.copy(f / "components/vocoder/model.safetensors", f / "model.safetensors"),
        "does not fit recipe.yaml",
        "belong to different exports",
    ),
    "another size": (recipe(network={"dim": 16}), "does not fit recipe.yaml", "of another shape"),
    "unknown plugin": (
        info(plugin="sing", model="sing/choir"),
        "'sing'",
        "no plugin 'sing' is installed",
    ),
    "unknown model": (
        info(model="tts/fastpich"),
        "has no model 'fastpich'",
        "did you mean 'fastpitch'?",
    ),
    "plugin and model": (
        info(model="codec/vocos"),
        "names the plugin 'tts' and the model 'codec/vocos'",
        AGAIN,
    ),
    "newer API": (info(api="1.99"), f"needs plugin API 1.99, this is {PLUGIN_API}: upgrade unisono"),
    "another API": (info(api="0.9"), f"needs plugin API 0.9, this is {PLUGIN_API}: upgrade the plugin"),
    "API a number": (info(api=1.0), "needs 'api' as a string, it has 1.0", AGAIN),
    "API a word": (info(api="one"), "api 'one' is not of the form '1.0'"),
    "newer format": (info(format=2), "has export format 2, this version reads 1: upgrade unisono"),
    "no format": (info(format=...), "has export format None", AGAIN),
    "no plugin": (info(plugin=...), "needs 'plugin' as a string, it has None", AGAIN),
    "plugin a number": (info(plugin=5), "needs 'plugin' as a string, it has 5", AGAIN),
    "facts a list": (info(facts=[1]), "needs 'facts' as an object, it has [1]", AGAIN),
    "facts without symbols": (
        facts(symbols=...),
        "do not describe a tts/fastpitch",
        "symbols",
        AGAIN,
    ),
    "facts with a strange mel": (
        facts(mel_spec={"hop": 3}),
        "do not describe",
        "a mel spec has no field 'hop'",
        AGAIN,
    ),
    "facts of nobody": (facts(speakers=["a"]), "do not describe a tts/fastpitch", AGAIN),
    "JSON broken": (
        write("unisono.json", '{"format": 1,'),
        "unisono.json' is not valid JSON",
        FETCH,
    ),
    "JSON not text": (
        write("unisono.json", b"\xff\xfe\x00"),
        "unisono.json' is not valid JSON",
        FETCH,
    ),
    "JSON a list": (write("unisono.json", "[]"), "holds a list, not an object", FETCH),
    "JSON missing": (remove("unisono.json"), "is not an export: it has no unisono.json"),
    "recipe missing": (remove("recipe.yaml"), "has no recipe.yaml", FETCH),
    "recipe broken": (write("recipe.yaml", "model: ["), "recipe.yaml' is not plain YAML", FETCH),
    "recipe a list": (write("recipe.yaml", "- 1"), "is not a recipe with a section 'model'", FETCH),
    "recipe model a word": (
        write("recipe.yaml", "model: x"),
        "is not a recipe with a section 'model'",
        FETCH,
    ),
    "recipe with python": (write("recipe.yaml", EVIL), "recipe.yaml' is not plain YAML", FETCH),
    "recipe key": (recipe(dims=3), "unknown key model.dims", "did you mean 'network.dim'?"),
    "recipe type": (recipe(network={"dim": "wide"}), "model.network.dim='wide' must be an integer"),
    **{
        f"holds {name}": (
            write(name, "x"),
            f"holds '{Path(name).name}'",
            "only numbers and text: remove that file",
        )
        for name in (
            "model.ckpt",
            "pytorch_model.bin",
            "model.pt",
            "extra.pkl",
            "hook.py",
            "components/vocoder/x.pth",
        )
    },
    "vocoder a link": (
        link("components/vocoder", "components/vocoder"),
        "vocoder' is a link",
        "copy the folder there",
    ),
    "components a link": (
        link("components", "components"),
        "components' is a link",
        "copy the folder there",
    ),
    "unknown component": (
        lambda f: shutil.copytree(f / "components/vocoder", f / "components/vocodr"),
        "holds a component 'vocodr'",
        "did you mean 'vocoder'?",
    ),
    "component elsewhere": (
        info(builtin_components={"vocoder": "../elsewhere"}),
        "names '../elsewhere' as its vocoder",
        "griffin-lim",
        AGAIN,
    ),
    "component role with dots": (
        info(builtin_components={"../x": "griffin-lim"}),
        "holds a component '../x'",
        AGAIN,
    ),
    "builtins a list": (info(builtin_components=["vocoder"]), "builtin_components", AGAIN),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoints(complaint, voice_export, monkeypatch, tmp_path, name):
    monkeypatch.chdir(tmp_path)
    change, *parts = CHECKPOINTS[name]
    folder = shutil.copytree(voice_export, tmp_path / "voice")
    change(folder)
    sentence = complaint("generate", folder, "Hello", "-o", tmp_path / "x.wav")
    matches(sentence, str(folder), *parts)
    assert not list(tmp_path.rglob("executed"))
    assert not (tmp_path / "x.wav").exists()


def test_what_is_no_export_at_all(complaint, voice_run, tmp_path):
    def generate(path):
        return complaint("generate", path, "Hello", "-o", tmp_path / "x.wav")

    matches(generate(tmp_path / "gone"), "no export at", "gone", "the folder does not exist")
    matches(generate(voice_run), "is not an export", "unisono export RUN DEST")
    matches(
        generate(voice_run / "checkpoints" / "last.ckpt"),
        "is not an export",
        "unisono export RUN DEST",
    )
    matches(generate(tmp_path), "is not an export: it has no unisono.json")


def test_places_that_cannot_be_written(complaint, voice_run, voice_export, corpus, tmp_path):
    (tmp_path / "file").write_text("mine")
    inside = tmp_path / "file" / "x"
    parts = "cannot write", str(inside), "choose another place"
    small = ("--data.num_sentences=4", "--data.num_processes=1", "--no-progress")
    matches(complaint("train", TINY, *small, f"--run.dir={inside}"), *parts)
    matches(complaint("recipes", "copy", TINY, inside), *parts)
    matches(complaint("export", voice_run, inside), *parts)
    matches(complaint("evaluate", voice_export, corpus, "--json", inside), *parts)
    matches(complaint(*AUDIT, f"--data.root={corpus}", "--json", inside), *parts)
    assert (tmp_path / "file").read_text() == "mine"


def test_an_export_replaces_nothing_but_an_export(complaint, voice_run, tmp_path):
    precious = tmp_path / "home" / "diary.txt"
    precious.parent.mkdir()
    precious.write_text("mine")
    matches(complaint("export", voice_run, precious), "is a file: an export is a folder")
    matches(complaint("export", voice_run, precious.parent), "not empty", "--overwrite")
    matches(
        complaint("export", voice_run, precious.parent, "--overwrite"),
        "is not an export, so it is not overwritten",
    )
    assert precious.read_text() == "mine"


def test_a_limit_below_one(complaint, voice_export, corpus):
    matches(complaint("evaluate", voice_export, corpus, "--limit=-3"), "--limit -3 must be")


def test_exporting_what_is_no_run(complaint, voice_run, tmp_path):
    matches(complaint("export", tmp_path, tmp_path / "out"), "no training checkpoint under")
    data = (voice_run / "checkpoints" / "last.ckpt").read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(data[: len(data) // 2])
    matches(
        complaint("export", tmp_path / "cut.ckpt", tmp_path / "out"),
        "cut.ckpt' cannot be read weights-only (truncated",
    )
    other = ("--component", "vocoder=/nowhere")
    matches(complaint("export", voice_run, tmp_path / "out", *other), "no export at '/nowhere'")
    metrics = ("--metrics", tmp_path / "none.json")
    matches(
        complaint("export", voice_run, tmp_path / "out", *metrics),
        "--metrics",
        "is not a readable JSON file",
    )
    assert not (tmp_path / "out").exists()

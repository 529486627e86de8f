"""Names: where an export is looked for, in which order, and what is said where there is none."""

import json
import shutil
from pathlib import Path

import pytest
import unisono
from refused import refused
from unisono.errors import CheckpointError
from unisono.export import find, locate, packages


def install(site: Path, name: str, export: Path | None, distribution: str = "", version: str = "1.0.0") -> None:
    """Lay a model package out as pip would, in a folder of the Python path."""
    distribution = distribution or f"unisono-model-{name}"
    module = distribution.replace("-", "_")
    (site / module).mkdir(parents=True)
    (site / module / "__init__.py").write_text("raise RuntimeError('code of a model package was run')\n")
    if export is not None:
        shutil.copytree(export, site / module / name)
    info = site / f"{module}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {distribution}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[unisono.checkpoints]\n{name} = {module}\n")


@pytest.fixture
def site(tmp_path, monkeypatch) -> Path:
    """An empty folder of the Python path; the working folder is another."""
    folder, here = tmp_path / "site", tmp_path / "here"
    folder.mkdir()
    here.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.chdir(here)
    return folder


def test_a_folder_comes_first_then_a_package_then_the_shelf(voice_export, site):
    shelf = shutil.copytree(voice_export, "checkpoints/some-voice")
    assert locate("some-voice").folder == Path(shelf) and locate("some-voice").kind == "folder"
    install(site, "some-voice", voice_export)
    found = locate("some-voice")
    assert (found.kind, found.revision, found.distribution) == ("package", "1.0.0", "unisono-model-some-voice")
    assert found.folder == site / "unisono_model_some_voice" / "some-voice" and str(found).endswith("1.0.0")
    shutil.copytree(voice_export, "some-voice")
    assert locate("some-voice").folder == Path("some-voice") == find(Path("some-voice"))


def test_a_model_package_speaks_and_runs_no_code(voice_export, site):
    install(site, "some-voice", voice_export)
    voice = unisono.load("some-voice")
    assert voice("Hello.").waveform.tobytes() == unisono.load(voice_export)("Hello.").waveform.tobytes()
    assert voice.source is not None and voice.source.kind == "package"
    assert [package.folder for package in packages()] == [voice.source.folder]


def test_an_unknown_name_lists_near_ones(voice_export, site):
    with refused(CheckpointError, "unknown", "anything", names="pip install"):
        unisono.load("anything")
    install(site, "some-voice", voice_export)
    shutil.copytree(voice_export, "checkpoints/other-voice")
    with refused(
        CheckpointError, "unknown", "some-voise", value="some-voise", names=["'some-voice'", "unisono models"]
    ):
        unisono.load("some-voise")
    with refused(CheckpointError, "unknown", "zzz", names="known: other-voice, some-voice"):
        unisono.load("zzz")


def test_a_name_that_two_packages_offer_is_neithers(voice_export, site):
    install(site, "some-voice", voice_export)
    install(site, "some-voice", voice_export, distribution="strangers-voice", version="0.3")
    names = ["unisono-model-some-voice 1.0.0", "strangers-voice 0.3"]
    with refused(CheckpointError, "conflict", "some-voice", names=names):
        unisono.load("some-voice")


def test_a_package_without_its_files_is_named(site):
    install(site, "some-voice", None)
    with refused(CheckpointError, "damaged", "some-voice", names="unisono-model-some-voice 1.0.0"):
        unisono.load("some-voice")


@pytest.mark.parametrize(("key", "value"), [("format", 99), ("api", "1.99")])
def test_a_package_of_a_newer_version_is_refused_by_name(voice_export, site, key, value):
    install(site, "some-voice", voice_export)
    path = site / "unisono_model_some_voice/some-voice/unisono.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    names = ["unisono-model-some-voice 1.0.0", str(value), "upgrade unisono"]
    with refused(CheckpointError, "version", path, value=value, names=names):
        unisono.load("some-voice")


def test_names_serve_wherever_an_export_does(voice_export, vocoder_export, site):
    """As a component, as the base of adapters, as what a training starts from."""
    install(site, "some-voice", voice_export)
    install(site, "some-vocoder", vocoder_export)
    voice = unisono.load("some-voice", components={"vocoder": "some-vocoder"})
    assert voice.model.components["vocoder"].origin == site / "unisono_model_some_vocoder" / "some-vocoder"
    facts, weights = unisono.export.read_weights("some-voice")
    assert facts["speakers"] == ["kathleen", "lj"] and weights


@pytest.mark.parametrize(
    "name", ["someone/../../etc", "org/..", "org/a..b", "org/name@../../refs", "org/name@a/../../b", "org/name@.."]
)
def test_an_id_that_leads_elsewhere_is_refused(site, monkeypatch, name):
    def fetch(*args, **kwargs):
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    code = "missing" if name.count("/") > 1 and "@" not in name else "unsafe"  # the first is a path like any other
    with refused(CheckpointError, code, name):
        unisono.load(name)


@pytest.mark.parametrize("name", ["org/na me", "org/name@", "org/name@v 1", "örg/name", "org/name@-x", "-org/name"])
def test_an_id_of_other_characters_is_refused(site, monkeypatch, name):
    monkeypatch.setattr("huggingface_hub.snapshot_download", None)
    with refused(CheckpointError, "format", name, value=name):
        unisono.load(name)

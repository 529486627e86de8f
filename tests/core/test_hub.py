"""Hub: what is pushed, what the hub reads of a card, and loading by revision; against a server of our own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import unisono
from hub_server import Hub, serving
from refused import refused
from unisono.errors import CheckpointError
from unisono.export.hub import push, without_front_matter
from unisono.export.layout import check_tree

# What huggingface_hub says of its own call of its own HTTP client.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub, asked in place of the public one, and an empty cache."""
    from huggingface_hub import constants

    with serving() as state:
        for name, value in {
            "ENDPOINT": state.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": state.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(tmp_path / "hub"),
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,
        }.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setenv("HF_TOKEN", "writes")
        yield state


@pytest.fixture
def export(voice_export, tmp_path) -> Path:
    """An export with a card."""
    folder = shutil.copytree(voice_export, tmp_path / "some-voice")
    state(folder, title="Some voice", licence="CC0 1.0", data="made up", metrics={"WER, by ear": "3.1 %", "MCD": 4.5})
    return folder


def state(folder: Path, **card) -> None:
    info = json.loads((folder / "unisono.json").read_text())
    info["card"] |= card
    (folder / "unisono.json").write_text(json.dumps(info))


def test_what_is_pushed_is_the_export_and_loads_again(hub, export):
    (export / "sheet.png").write_bytes(b"png")
    (export / ".gitignore").write_text("*.ckpt")
    made = push(export, "org/some-voice", tag="v1")
    tree = hub.trees["org/some-voice"][made.commit]
    own = {path.as_posix() for path in check_tree(export)}
    assert tree.keys() == {".gitattributes", *own} - {".gitignore"}
    for name, content in tree.items():
        if name not in ("README.md", ".gitattributes"):
            assert content == (export / name).read_bytes(), name
    voice = unisono.load("org/some-voice@v1")
    assert voice("Hello.").waveform.tobytes() == unisono.load(export)("Hello.").waveform.tobytes()
    assert voice.source is not None and (voice.source.kind, voice.source.revision) == ("hub", made.commit)
    assert str(voice.source) == f"org/some-voice@{made.commit}"


def test_the_hub_reads_the_card(hub, export):
    from huggingface_hub import ModelCard

    made = push(export, "org/some-voice")
    card = ModelCard(hub.trees["org/some-voice"][made.commit]["README.md"].decode())
    data = card.data
    assert (data.license, data.library_name, data.pipeline_tag) == ("cc0-1.0", "unisono", "text-to-speech")
    assert data.tags == ["unisono", "tts", "fastpitch"] and data.model_name == "some-voice"
    measured = {result.metric_name: result.metric_value for result in data.eval_results}
    assert measured == {"WER, by ear": "3.1 %", "MCD": 4.5}
    assert {(r.task_type, r.dataset_name) for r in data.eval_results} == {("text-to-speech", "made up")}
    assert without_front_matter(card.content) == (export / "README.md").read_text()


@pytest.mark.parametrize(
    ("licence", "front"),
    [
        ("CC BY-NC 4.0, as the data", {"license": "cc-by-nc-4.0"}),
        ("mine, Not yours", {"license": "other", "license_name": "mine-not-yours"}),
        ("", {"license": "unknown"}),
    ],
)
def test_a_licence_that_the_hub_does_not_know_is_told_as_it_is(export, licence, front):
    from unisono.export import About
    from unisono.export.hub import front_matter

    state(export, licence=licence, metrics={})
    told = front_matter(About.read(export), "some-voice")
    assert {key: value for key, value in told.items() if key.startswith("license")} == front
    assert "model-index" not in told


def test_a_revision_stays_what_it_was(hub, export):
    first = push(export, "org/some-voice").commit
    assert push(export, "org/some-voice").commit == first
    state(export, notes="changed")
    second = push(export, "org/some-voice").commit
    assert second != first
    wanted = ((f"@{first}", "", first), ("", "changed", second), (f"@{second}", "changed", second))
    for revision, notes, commit in wanted:
        voice = unisono.load(f"org/some-voice{revision}")
        assert voice.info["card"]["notes"] == notes and voice.source is not None and voice.source.revision == commit
    again = push(f"org/some-voice@{first}", "org/copy")  # its card has front matter already
    assert hub.trees["org/copy"][again.commit]["README.md"].count(b"library_name") == 1


def test_what_an_older_export_left_goes(hub, export):
    push(export, "org/some-voice")
    shutil.rmtree(export / "components")
    made = push(export, "org/some-voice")
    assert not [name for name in hub.trees["org/some-voice"][made.commit] if name.startswith("components")]


def test_offline_what_was_fetched_is_taken(hub, export, monkeypatch):
    from huggingface_hub import constants

    made = push(export, "org/some-voice", tag="v1")
    unisono.load("org/some-voice@v1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = len(hub.asked)
    for name in ("org/some-voice@v1", f"org/some-voice@{made.commit}"):
        voice = unisono.load(name)
        assert voice.source is not None and voice.source.revision == made.commit
    for name in ("org/some-voice", "org/some-voice@v2", "org/other"):  # main was not fetched
        with refused(CheckpointError, "missing", name, names="cannot be reached"):
            unisono.load(name)
    with refused(CheckpointError, "failed", "org/some-voice", names="HF_HUB_OFFLINE"):
        push(export, "org/some-voice")
    assert len(hub.asked) == asked


def test_what_is_not_there_is_told(hub, export):
    push(export, "org/some-voice")
    with refused(CheckpointError, "missing", "org/some-voice@v9", names="no such revision"):
        unisono.load("org/some-voice@v9")
    with refused(CheckpointError, "missing", "org/other", names="no public model"):
        unisono.load("org/other")
    hub.create("org/text", {"README.md": b"no model"})
    with refused(CheckpointError, "format", names="hub model org/text@"):
        unisono.load("org/text")


def test_nothing_that_runs_is_fetched(hub, export):
    push(export, "org/some-voice")
    tree = hub.trees["org/some-voice"][hub.refs["org/some-voice"]["main"]]
    hub.commit("org/some-voice", {**tree, "evil.py": b"", "components/evil.so": b"", "x.ckpt": b""})
    assert unisono.load("org/some-voice")("Hello.").seconds > 0
    assert not [asked for asked in hub.asked if "/resolve/" in asked and asked.endswith((".py", ".so", ".ckpt"))]


def test_a_repository_of_something_else_is_left_alone(hub, export):
    hub.create("org/data", {"data.parquet": b"mine", "README.md": b"mine"})
    before = dict(hub.refs["org/data"])
    with refused(CheckpointError, "exists", "org/data", value=["data.parquet"], names="data.parquet"):
        push(export, "org/data")
    assert hub.refs["org/data"] == before


@pytest.mark.parametrize(("token", "told"), [("reads", "may not write"), ("nobody", "HF_TOKEN")])
def test_who_may_not_push_is_told(hub, export, monkeypatch, token, told):
    monkeypatch.setenv("HF_TOKEN", token)
    with refused(CheckpointError, "failed", "org/some-voice", names=told):
        push(export, "org/some-voice")
    assert not hub.trees


def test_a_hub_that_fails_is_one_sentence(hub, export):
    hub.fails = 418
    with refused(CheckpointError, "failed", "org/some-voice", names="418"):
        push(export, "org/some-voice")
    hub.fails = 0


@pytest.mark.parametrize("name", ["some-voice", "../x", "org/..", "org/name@v1", "a/b/c", "org/na me", ""])
def test_only_an_id_is_pushed_to(hub, export, name):
    with refused(CheckpointError, "format", "repository", value=name):
        push(export, name)
    assert not hub.asked


def test_what_could_run_is_not_pushed(hub, export):
    (export / "evil.py").write_text("")
    with refused(CheckpointError, "unsafe", "evil.py"):
        push(export, "org/some-voice")
    assert not hub.asked


@pytest.mark.slow  # two processes that import everything
def test_the_command_line_pushes_and_speaks_offline(hub: Hub, export, tmp_path):
    """In processes of their own, told by the environment as ``huggingface_hub`` says."""
    environ = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}

    code = (
        "import json, sys\nfrom unisono.cli import main\n"
        "sys.exit(max(main(words) for words in json.loads(sys.argv[1])))"
    )

    def call(*commands: list[str], offline: str) -> str:
        command = [sys.executable, "-c", code, json.dumps(commands)]
        environment = {**environ, "HF_HUB_OFFLINE": offline}
        done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=environment, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    push_it = ["push", str(export), "org/some-voice", "--tag", "v1", "--message", "the first"]
    speak = ["generate", "org/some-voice@v1", "Hello.", "-o"]
    assert 'unisono.load("org/some-voice@v1")' in call(push_it, [*speak, "first.wav"], offline="0").splitlines()
    call([*speak, "second.wav"], offline="1")
    assert (tmp_path / "first.wav").read_bytes() == (tmp_path / "second.wav").read_bytes()

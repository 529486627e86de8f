"""The Gradio page: its form and outputs, where gradio is installed; what is said where it is not."""

import asyncio
import contextlib
import importlib.util
import json
import runpy
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, ClassVar

import httpx
import numpy as np
import pytest
from pydantic import Field
from refused import refused
from serving import SOON, Echo, running, until
from unisono import Image, Media, Model, Request, Synthesizer
from unisono.cli import main
from unisono.errors import MissingExtra, RequestError
from unisono.media import Audio
from unisono.serve import Limits, app, gradio_app

HERE = importlib.util.find_spec("gradio") is not None
needs_gradio = pytest.mark.skipif(not HERE, reason='pip install "unisono[ui]"')
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of gradio, and of what it imports


@pytest.fixture(scope="module", autouse=True)
def loops(tmp_path_factory):
    """Gradio makes event loops and closes none; and its files go where the test's go."""
    made, original = [], asyncio.new_event_loop

    def new_event_loop():
        made.append(original())
        return made[-1]

    patched = pytest.MonkeyPatch()
    patched.setattr(asyncio, "new_event_loop", new_event_loop)
    patched.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
    yield
    patched.undo()
    for loop in made:
        loop.close()
    if made:
        asyncio.set_event_loop(None)


def test_without_gradio_one_sentence_names_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    loaded = {"echo": Synthesizer(Echo())}
    for ask in (lambda: gradio_app(loaded), lambda: app(loaded, ui=True)):
        with pytest.raises(MissingExtra, match=r"unisono\[ui\]"):
            ask()
    assert main(["serve", "nothing", "--ui"]) == 2
    told = capsys.readouterr().err
    assert "unisono[ui]" in told and len(told.strip().splitlines()) == 1


def test_a_key_and_the_page_exclude_each_other(monkeypatch, tmp_path, capsys):
    with refused(RequestError, "conflict", "ui"):
        app({"echo": Synthesizer(Echo())}, ui=True, key="k" * 16)
    if HERE:
        (tmp_path / "key").write_text("k" * 16)
        assert main(["serve", "nothing", "--ui", "--key-file", str(tmp_path / "key")]) == 2
        assert "--ui" in capsys.readouterr().err


class Shapes(Model):
    """Makes a picture."""

    class Request(Request):
        text: str = Field(default="", description="what to draw")
        size: int = Field(default=4, ge=1, le=64, description="pixels of a side")

    Media: ClassVar[Any] = Image

    def synthesize(self, requests, generator=None, on_step=None):
        rows = [np.random.default_rng(r.seed).random((3, r.size, r.size)).astype(np.float32) for r in requests]
        return [Image(row) for row in rows]

    def preview_requests(self):
        return [self.Request(size=8), self.Request(size=16, seed=2**63 - 1)]


class Beeps(Shapes):
    """Makes a sound."""

    Media: ClassVar[Any] = Audio

    def synthesize(self, requests, generator=None, on_step=None):
        return [Audio(np.full((1, 100 * r.size), 0.1, np.float32), 8000) for r in requests]


class Poem(Media):
    """A medium of a third party, of which a browser shows nothing."""

    suffixes: ClassVar[tuple[str, ...]] = (".poem", ".txt")

    def _write(self, path):
        path.write_text("a poem")

    def about(self):
        return {"lines": 1}

    def plot(self):
        from matplotlib.figure import Figure

        return Figure(figsize=(1, 1))


class Poet(Shapes):
    """Makes a poem."""

    Media: ClassVar[Any] = Poem

    def synthesize(self, requests, generator=None, on_step=None):
        return [Poem() for _ in requests]


@pytest.fixture(scope="module")
def server():
    if not HERE:
        pytest.skip('pip install "unisono[ui]"')
    models = {"echo": Echo(), "shapes": Shapes(), "beeps": Beeps(), "poet": Poet()}
    with running(models, Limits(seconds=SOON), ui=True) as going:
        yield going


def ask(server, name: str, session: str = "here", **fields: Any) -> list[Any]:
    """Press *Make* as the page does, and return its outputs; an error is raised with its sentence."""
    config = server.http.get("/ui/config").json()
    event = next(dep for dep in config["dependencies"] if dep["api_name"] == name)
    by_id = {component["id"]: component for component in config["components"]}
    given = []
    for number in event["inputs"]:
        props = by_id[number]["props"]
        label = props["label"].partition(":")[0]
        given.append(fields.pop(label) if label in fields else props.get("value"))
    assert not fields
    body = {"data": given, "fn_index": event["id"], "session_hash": session}
    server.http.post("/ui/gradio_api/queue/join", json=body).raise_for_status()
    with server.http.stream("GET", "/ui/gradio_api/queue/data", params={"session_hash": session}) as events:
        for line in events.iter_lines():
            told = json.loads(line.removeprefix("data: ")) if line else {}
            if told.get("msg") == "process_generating" and told["success"]:
                kept = told["output"]["data"]
            if told.get("msg") == "process_completed":
                if not told["success"]:
                    raise RuntimeError(told["output"]["error"])
                return kept
    raise AssertionError("no end was told")


def content(server, data: Any) -> bytes:
    return server.http.get(f"/ui/gradio_api/file={data['path']}").content


@needs_gradio
def test_the_form_has_a_control_for_each_field_and_no_telemetry(server):
    config = server.http.get("/ui/config").json()
    assert config["analytics_enabled"] is False and not config.get("footer_links")
    for name, served in server.server.models.items():
        event = next(dep for dep in config["dependencies"] if dep["api_name"] == name)
        props = [c["props"] for c in config["components"] if c["id"] in event["inputs"]]
        labels = {p["label"].partition(":")[0] for p in props}
        assert labels == {*served.model.Request.model_fields, "format"}
    slider = next(c for c in config["components"] if c["props"].get("label") == "size")
    assert slider["type"] == "slider" and (slider["props"]["minimum"], slider["props"]["maximum"]) == (1, 64)
    assert "pixels of a side" in slider["props"]["info"]
    assert not any("share" in str(c["props"].get("buttons")) for c in config["components"])
    assert server.http.get("/ui/").status_code == 200
    assert server.http.get("/ui/", headers={"Host": "evil.example"}).status_code == 403


@needs_gradio
def test_the_output_is_what_a_request_gives(server):
    text = ask(server, "echo", text="hello")
    assert text[0]["value"] == "HELLO" and text[0]["visible"] is True
    picture, _, file, about = ask(server, "shapes", size=8, seed=str(2**63 - 1))
    expected = server.post("shapes", size=8, seed=2**63 - 1).content
    assert content(server, picture["value"]) == content(server, file) == expected
    assert about == server.post("shapes", "?format=json", size=8).json()["about"]
    sound = ask(server, "beeps", format="flac")
    assert content(server, sound[0]["value"]) == server.post("beeps", "?format=flac").content


@needs_gradio
def test_what_no_browser_shows_is_drawn_and_has_a_file(server):
    text, drawn, file, about = ask(server, "poet")
    assert not text["visible"] and drawn["visible"] and drawn["value"]["type"] == "matplotlib"
    assert content(server, file) == b"a poem" and file["orig_name"] == "poet.poem" and about == {"lines": 1}
    text, drawn, *_ = ask(server, "poet", format="txt")
    assert text["value"] == "a poem" and not drawn["visible"]


@needs_gradio
def test_a_refusal_is_told_in_its_own_sentence(server):
    with pytest.raises(RuntimeError, match="this cannot be said: say another word"):
        ask(server, "echo", text="x", fail='"request"')
    with pytest.raises(RuntimeError, match="the model failed") as crashed:
        ask(server, "echo", text="x", fail='"crash"')
    assert "secret" not in str(crashed.value)
    with pytest.raises(RuntimeError, match="seed"):
        ask(server, "echo", seed="1.5")


@needs_gradio
@pytest.mark.parametrize("field", ["file", "text", "format"])
def test_no_path_is_opened_for_a_visitor(server, tmp_path, field):
    """Gradio would copy what any field names as a file into the folder that it serves."""
    hidden = tmp_path / "hidden.txt"
    hidden.write_text("mine")
    calls = len(server.server.get("echo").model.calls)
    with pytest.raises(RuntimeError, match="not uploaded") as raised:
        ask(server, "echo", **{field: {"path": str(hidden), "meta": {"_type": "gradio.FileData"}}})
    assert "mine" not in str(raised.value) and len(server.server.get("echo").model.calls) == calls
    assert server.http.get(f"/ui/gradio_api/file={hidden}").status_code == 403


@needs_gradio
def test_a_file_that_is_uploaded_is_the_fields_file(server):
    (path,) = server.http.post("/ui/gradio_api/upload", files={"files": ("a.txt", b" and mine")}).json()
    data = {"path": path, "meta": {"_type": "gradio.FileData"}}
    assert ask(server, "echo", text="yours", file=data)[0]["value"] == "YOURS and mine"


@needs_gradio
def test_nothing_of_an_output_stays_in_our_folders(server):
    before = set(Path(tempfile.gettempdir()).glob("unisono-*"))
    ask(server, "shapes")
    until(lambda: set(Path(tempfile.gettempdir()).glob("unisono-*")) <= before)


@needs_gradio
def test_who_closes_the_tab_ends_the_work(server):
    served = server.server.get("echo")
    served.model.gate.clear()
    asked = threading.Thread(target=lambda: attempt(lambda: ask(server, "echo", session="tab", text="long")))
    with httpx.stream("GET", f"{server.url}/ui/gradio_api/heartbeat/tab", timeout=SOON) as heart:
        beats = heart.iter_lines()
        next(beats)
        calls = len(served.model.calls)
        asked.start()
        until(lambda: len(served.model.calls) > calls)
        assert served.batcher.requests == 1
    until(lambda: served.batcher.requests == 0)  # with the gate closed still
    served.model.gate.set()
    asked.join(SOON)
    assert server.post("echo", text="next").text == "NEXT"


def attempt(call) -> None:
    with contextlib.suppress(RuntimeError, AssertionError, httpx.HTTPError, UnboundLocalError):
        call()


@needs_gradio
def test_the_app_of_a_space(voice_export, monkeypatch):
    monkeypatch.setenv("UNISONO_MODEL", str(voice_export))
    made = runpy.run_path(str(Path(__file__).parents[3] / "examples/space/app.py"))["demo"]
    assert type(made).__name__ == "Blocks" and made.analytics_enabled is False and made.has_launched
    labels = {block.label for block in made.blocks.values() if getattr(block, "label", None)}
    assert labels >= {"text", "pace", "speaker", "pitch_shift", "audio", voice_export.name}

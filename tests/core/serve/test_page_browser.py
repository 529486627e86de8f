"""The page in headless Chromium, every foreign host blocked: type, press, see and hear, for each kind of medium."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlparse

import numpy as np
import pytest
from pydantic import Field
from serving import SOON, Echo, Words, running, until
from unisono import Image, Media, Model, Request, Text
from unisono import plugin as plugins
from unisono_motion.skeleton import Motion, Skeleton

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (dev group)")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
STEPS = 5


class Painter(Model):
    """Pictures in steps, from noise to a slope."""

    class Request(Request):
        prompt: str | None = Field(default=None, description="what it shows")
        size: int = Field(default=16, ge=1, le=64, description="its side")

    Media: ClassVar[type[Image]] = Image
    text_field: ClassVar[str] = "prompt"

    def synthesize(self, requests: Sequence[Any], generator: Any = None, on_step: Any = None) -> list[Image]:
        return [self.painted(request, 1.0) for request in requests]

    def snapshots(self, request: Any, generator: Any = None) -> Iterator[Image]:
        for step in range(STEPS):
            yield self.painted(request, (step + 1) / STEPS)

    def painted(self, request: Any, share: float) -> Image:
        noise = np.random.default_rng(request.seed).random((3, request.size, request.size), np.float32)
        slope = np.linspace(0, 1, request.size, dtype=np.float32)
        return Image(share * slope + (1 - share) * noise)


class Filler(Model):
    """A text whose tokens are settled from the last to the first."""

    class Request(Request):
        text: str = Field(default="", description="what it begins with")

    Media: ClassVar[type[Text]] = Text

    def synthesize(self, requests: Sequence[Any], generator: Any = None, on_step: Any = None) -> list[Text]:
        return [list(self.snapshots(request))[-1] for request in requests]

    def snapshots(self, request: Any, generator: Any = None) -> Iterator[Text]:
        words = ("one ", "<b>two</b> ", "three")
        for left in (2, 1, 0):
            pieces = (request.text, *("░" * len(word) if at < left else word for at, word in enumerate(words)))
            order = (-1, *(2 - at if at >= left else -1 for at in range(3)))
            yield Text("".join(pieces), tuple(range(4)), pieces, order, {"left": left})


class Walker(Model):
    """A bone that swings."""

    Media: ClassVar[type[Motion]] = Motion

    def synthesize(self, requests: Sequence[Any], generator: Any = None, on_step: Any = None) -> list[Motion]:
        skeleton = Skeleton(("hip", "knee"), (-1, 0), np.array([[0, 0, 0], [0, -0.5, 0]], np.float32), ENDS)
        swing = np.linspace(-1, 1, 30)
        knee = np.stack([np.sin(swing) / 2, 1 - np.cos(swing) / 2, 0 * swing], -1)
        hip = np.broadcast_to([0.0, 1.0, 0.0], knee.shape)
        return [
            Motion(np.stack([hip, knee], 1).astype(np.float32), skeleton, 30.0, caption="a swing") for _ in requests
        ]


ENDS = np.zeros((2, 3), np.float32)


class Judgement(Media):
    """A third party's medium, which says nothing of how it is shown."""

    suffixes: ClassVar[tuple[str, ...]] = (".json",)

    def _write(self, path: Path) -> None:
        path.write_text('{"verdict": "fine"}')


class Judge(Model):
    """A third party's model."""

    Media: ClassVar[type[Judgement]] = Judgement

    class Request(Request):
        weights: list[float] | None = Field(default=None, min_length=1, description="numbers")
        strict: bool = Field(default=False, description="whether")
        case: str = Field(description="which")

    def synthesize(self, requests: Sequence[Any], generator: Any = None, on_step: Any = None) -> list[Judgement]:
        return [Judgement() for _ in requests]


@pytest.fixture(scope="module")
def server(voice):
    models = {"voice": voice, "painter": Painter(), "filler": Filler(), "walker": Walker(), "judge": Judge()}
    with running({**models, "echo": Echo(), "words": Words()}) as server:
        yield server


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        made = started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield made
        made.close()


class Page:
    """A page of the server, as a user sees it."""

    def __init__(self, page: Any, url: str):
        self.page, self.url = page, url

    def open(self, fragment: str) -> "Page":
        self.page.goto("about:blank")
        self.page.goto(f"{self.url}/#{fragment}")
        self.page.wait_for_selector("#fields .field")
        return self

    def make(self, **texts: str) -> str:
        """Type, press and wait; returns the status."""
        for name, text in texts.items():
            self.page.fill(f"#field-{name}", text)
        self.page.click("#go")
        return self.status()

    def status(self) -> str:
        self.wait("document.querySelector('#stop').disabled && !document.querySelector('#made').ariaBusy")
        return self.page.inner_text("#status")

    def wait(self, holds: str) -> Any:
        """Wait until a JavaScript expression is true; the page's policy forbids what Playwright has for this."""
        end = time.monotonic() + SOON
        while not (value := self.page.evaluate(holds)):
            assert time.monotonic() < end, holds
            self.page.wait_for_timeout(50)
        return value

    def fault(self, name: str) -> str:
        return self.page.inner_text(f"#field-{name}-fault")

    def saved(self) -> bytes:
        with self.page.expect_download() as download:
            self.page.click("#save a")
        return Path(download.value.path()).read_bytes()


@pytest.fixture
def page(server, browser):
    context = browser.new_context(viewport={"width": 1000, "height": 800})
    context.set_default_timeout(SOON * 1000)
    foreign: list[str] = []
    wrong: list[str] = []

    def gate(route: Any) -> None:
        if urlparse(route.request.url).hostname == "127.0.0.1":
            route.continue_()
        else:
            foreign.append(route.request.url)
            route.abort()

    context.route("**/*", gate)
    opened = context.new_page()
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("console", lambda told: wrong.append(told.text) if "Content Security" in told.text else None)
    yield Page(opened, server.url)
    context.close()
    assert foreign == [] and wrong == []


def test_sound_is_heard_as_it_comes_and_then_to_its_end(page):
    page.open("voice").page.select_option("#field-speaker", '"lj"')
    assert "seed 7" in page.make(text="Hello there, world.", seed="7")
    heard = page.wait("document.querySelector('#sound').dataset.heard")
    assert int(heard) >= 1
    page.page.click("summary:has-text('Words')")
    rows = page.page.locator("#sound tr td:first-child").all_inner_texts()
    assert rows == ["Hello", "there", "world"]
    shades = page.page.evaluate(
        "(() => { const c = document.querySelector('#sound canvas'); const d = c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data; return new Set(new Uint32Array(d.buffer)).size; })()"
    )
    assert shades > 100  # a picture of bands, with labels
    page.page.evaluate("document.querySelector('audio').play()")
    page.wait("document.querySelector('audio').ended")
    at, length = page.page.evaluate("(({currentTime: c, duration: d}) => [c, d])(document.querySelector('audio'))")
    assert at == pytest.approx(length, abs=0.02) and length > 0.3


def test_a_sound_that_is_made_at_once_plays_by_itself(page, server):
    page.open("voice").page.uncheck("#live")
    page.make(text="Hello.")
    page.wait("document.querySelector('audio').ended")
    assert page.saved() == server.post("voice", text="Hello.").content


def test_a_picture_is_shown_in_steps(page, server):
    page.open("painter").make(prompt="a slope", size="8")
    assert page.page.get_attribute("#step", "max") == str(STEPS - 1)
    assert page.page.evaluate("document.querySelector('img.picture').naturalWidth") == 8
    last = page.page.get_attribute("img.picture", "src")
    page.page.focus("#step")
    page.page.keyboard.press("Home")
    assert page.page.get_attribute("img.picture", "src") != last
    assert page.saved() == server.post("painter", prompt="a slope", size=8).content
    with page.page.expect_download() as download:
        page.page.click("#save button:has-text('webp')")
    assert Path(download.value.path()).read_bytes()[8:12] == b"WEBP"


def test_a_text_fills(page):
    page.open("filler").make(text="I say: ")
    assert page.page.inner_text("#text") == "I say: one <b>two</b> three"  # markup of a text is text
    page.page.focus("#step")
    page.page.keyboard.press("Home")
    assert page.page.inner_text("#text") == "I say: ░░░░░░░░░░░░░░░three"
    assert page.page.locator("#text .given").all_inner_texts() == ["I say: "]
    assert page.page.locator("#text .new").all_inner_texts() == ["three"]


def test_a_text_grows(page):
    page.open("words").make(text="one two three")
    assert page.page.inner_text("#text") == "ONE TWO THREE "
    assert page.saved() == b"ONE TWO THREE "


def test_a_skeleton_moves(page, tmp_path):
    page.open("walker").make()
    first = page.page.get_attribute("#motion", "data-frame")
    page.wait(f"document.querySelector('#motion').dataset.frame !== '{first}'")
    page.page.click("#motion button")
    assert page.page.inner_text("#motion button") == "Play"
    picture = "document.querySelector('#motion canvas').toDataURL()"
    before = page.page.evaluate(picture)
    page.page.focus("#motion canvas")
    page.page.keyboard.press("ArrowLeft")
    assert page.page.evaluate(picture) != before
    (tmp_path / "a.bvh").write_bytes(page.saved())
    assert Motion.read(tmp_path / "a.bvh", 1.0).positions.shape == (30, 2, 3)


def test_a_third_partys_model_has_its_page(page):
    page.open("judge").page.check("#field-strict")
    page.make(case="one", weights="[0.5, 1]")
    assert json.loads(page.page.inner_text("#view pre")) == {"verdict": "fine"}
    page.page.click("#same summary")
    assert '"weights": [0.5, 1]' in page.page.inner_text("#curl")
    assert "strict=True" in page.page.inner_text("#python")


def test_wrong_input_shows_its_sentence_beside_the_field(page, server):
    page.open("echo").make(number="9", text="x")
    error = server.post("echo", number=9, text="x").json()["error"]["message"]
    assert page.fault("number") == error
    assert page.page.get_attribute("#field-number", "aria-invalid") == "true"
    assert page.page.evaluate("document.activeElement.id") == "field-number"
    page.make(number="three")
    assert page.fault("number") == "number: three is no number: type digits"
    page.make(number="", text="x")
    assert page.page.inner_text("#text") == "X" and page.page.get_attribute("#field-number", "aria-invalid") is None
    page.page.select_option("#field-fail", '"crash"')
    page.make()
    assert "the model failed (RuntimeError)" in page.page.inner_text("#fault")
    page.open("judge").make(case="")
    assert page.fault("case") == "case is required: give it"
    page.make(case="a", weights="[1,")
    assert page.fault("weights").startswith("weights: this is no JSON")
    page.make(weights="[]")
    assert "at least 1 item" in page.fault("weights")


def test_a_file_is_uploaded(page):
    page.open("echo")
    page.page.set_input_files(
        "#field-file", {"name": "it's; a.txt", "mimeType": "text/plain", "buffer": b" and a file"}
    )
    page.make(text="hello")
    assert page.page.inner_text("#text") == "HELLO and a file"


def test_what_runs_is_stopped(page, server):
    model = server.server.get("echo").model
    page.open("echo")
    model.gate.clear()
    try:
        page.page.fill("#field-text", "x")
        page.page.click("#go")
        before = model.steps
        until(lambda: model.steps > before)
        page.page.click("#stop")
        assert page.status().startswith("Stopped after")
        until(lambda: not server.server.get("echo").worker.running)  # while the gate is still closed
    finally:
        model.gate.set()


def test_a_link_holds_the_request(page, server, browser):
    seed, text = str(2**63 - 1), 'a "b" & c = 100 % #ü\n'
    page.open("filler").make(text=text, seed=seed)
    page.page.click("#same summary")
    link = page.page.inner_text("#link")
    assert page.page.url == link
    other = browser.new_page()
    other.goto(link)
    other.wait_for_selector("#fields .field")
    page.page = other
    page.wait(f"document.querySelector('#field-seed').value === '{seed}'")
    assert other.input_value("#field-text") == text
    assert f"seed {seed}" in page.make()
    other.goto("about:blank")
    other.goto(f"{server.url}/#filler?text=%7Bbroken")
    page.wait("!document.querySelector('#fault').hidden")
    other.close()


def test_the_lines_do_the_same(page, server, voice_export, tmp_path, monkeypatch):
    page.open("voice").page.uncheck("#live")
    page.make(text='It\'s "quoted".', pace="1.25", word_paces="[1, 2]", seed=str(2**62))
    page.page.click("#same summary")
    made = page.saved()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "voice").symlink_to(voice_export)
    exec(page.page.inner_text("#python"), {})
    assert (tmp_path / "voice.wav").read_bytes() == made
    (tmp_path / "voice.wav").unlink()
    if shutil.which("curl"):
        subprocess.run(["bash", "-ec", page.page.inner_text("#curl")], timeout=SOON, check=True, capture_output=True)
        assert (tmp_path / "voice.wav").read_bytes() == made


def test_with_a_key_the_page_asks_for_it(page):
    with running({"echo": Echo()}, key="k" * 16) as locked:
        page.page.goto(locked.url)
        page.page.fill("#key", "wrong")
        page.page.click("#key-form button")
        page.wait("document.querySelector('#fault').textContent.includes('wrong key')")
        page.page.fill("#key", "k" * 16)
        page.page.click("#key-form button")
        page.page.wait_for_selector("#fields .field")
        page.make(text="a")
        assert page.page.inner_text("#text") == "A"


CONTROLS = """async ([schema, about]) => {
  const { Form } = await import("/page/form.js");
  const place = document.querySelector("#fields");
  const form = new Form(place, schema, about);
  const told = [...place.querySelectorAll("[data-field]")].map((box) => {
    const input = box.querySelector(`[id="field-${box.dataset.field}"]`);
    return { name: box.dataset.field, control: box.dataset.control, help: box.querySelector(".help").textContent,
             labelled: input.labels.length > 0, low: input.dataset.low, high: input.dataset.high };
  });
  const read = [...(await form.read() ?? new Map())].map(([name, field]) => [name, field.json]);
  return [told, read];
}"""


def plain(value: Any) -> str:
    """A value as JavaScript writes it."""
    whole = isinstance(value, float) and value.is_integer()
    return json.dumps(int(value) if whole else value, separators=(",", ":"), ensure_ascii=False)


def test_every_field_of_every_model_has_a_control_with_its_range_and_help(page):
    page.open("echo")
    kinds = set()
    for state in plugins.states():
        assert state.plugin is not None, state.reason
        for model in state.plugin.models:
            target = plugins.resolve(f"{state.found.name}/{model}", "models")
            schema = target.Request.model_json_schema()
            told, read = page.page.evaluate(CONTROLS, [schema, {"text_field": target.text_field}])
            assert sorted(control["name"] for control in told) == sorted(schema["properties"])
            assert read == []  # nothing was typed: every default is the model's own
            for control in told:
                given = schema["properties"][control["name"]]
                (part,) = [p for p in given.get("anyOf", [given]) if p.get("type") != "null"][:1]
                assert control["labelled"] and given["description"] in control["help"], (model, control)
                kinds.add(control["control"])
                for word, limit in (("at least", "minimum"), ("at most", "maximum"), ("above", "exclusiveMinimum")):
                    if limit in part and part[limit] < 2**53:
                        assert f"{word} {plain(part[limit])}" in control["help"]
                if given.get("default") is not None:
                    assert f"default {plain(given['default'])}" in control["help"]
                if control["control"] == "slider":
                    assert float(control["high"]) == part.get("maximum", part.get("exclusiveMaximum"))
                if "enum" in part:
                    assert control["control"] == "select"
                if given.get("format") == "file-path":
                    assert control["control"] == "file"
    assert kinds == {"text", "either", "number", "digits", "slider", "tick", "select", "json", "file"}


def test_it_fits_a_telephone_and_reads_without_a_mouse(page):
    page.page.set_viewport_size({"width": 360, "height": 640})
    page.open("painter").make(prompt="x")
    assert page.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.page.focus("#field-prompt")
    page.page.keyboard.press("Control+Enter")
    assert page.status().startswith("Made in")
    unnamed = page.page.evaluate(
        "[...document.querySelectorAll('main input, main select, main textarea')]"
        ".filter((e) => !e.labels.length && !e.ariaLabel).map((e) => e.id)"
    )
    assert unnamed == []

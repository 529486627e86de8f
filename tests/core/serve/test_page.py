"""The page: its files, policy and facts; that its form knows every construct of every shipped model's request."""

import json
import re
from html.parser import HTMLParser
from typing import Any, ClassVar

import pytest
from pydantic import Field
from refused import refused
from serving import Echo, running
from unisono import Image, Media, Model, Request, Synthesizer, Text
from unisono import plugin as plugins
from unisono.errors import PluginError
from unisono.media import Audio
from unisono.serve import app
from unisono.serve.page import POLICY, VIEWS, described, examples, static_files, view_of
from unisono_motion.skeleton import Motion

MEDIA = (Audio, Image, Text, Motion, Media)


def scripts() -> dict[str, str]:
    """Every file that a browser gets, those of plugins' media included."""
    files = {name: content.decode() for name, content in static_files().items()}
    for kind in MEDIA:
        name, content = view_of(kind)
        if content is not None:
            files[f"views/{name}"] = content.decode()
    return files


@pytest.fixture(scope="module")
def echo():
    with running({"echo": Echo()}) as server:
        yield server


def test_the_page_is_served_under_its_policy(echo):
    for path, kind in (("/", "text/html"), ("/page/page.css", "text/css")):
        answer = echo.http.get(path)
        assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, kind)
        assert answer.headers["content-security-policy"] == POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
    for name in scripts():
        if name.endswith(".js") and not name.startswith("views/unisono"):
            assert echo.http.get(f"/page/{name}").headers["content-type"].startswith("text/javascript")
    for name in ("nothing.js", "../gate.py", "..%2f__init__.py", "__init__.py", "views"):
        assert echo.http.get(f"/page/{name}").status_code == 404
    sources = [part.split()[1:] for part in POLICY.split("; ")]
    assert {source for part in sources for source in part} == {"'none'", "'self'", "blob:"}


def test_no_file_names_another_host():
    for name, content in scripts().items():
        urls = re.findall(r"(?:https?:)?//[\w.-]+\.\w[^\s\"'`]*", content)
        assert all(url == "http://www.w3.org/2000/svg" for url in urls), (name, urls)


def test_imports_lead_to_files():
    files = scripts()
    for name, content in files.items():
        for target in re.findall(r'(?:from |src=|href=)"([^"]+\.(?:js|css|svg))"', content):
            folder = name.rpartition("/")[0]
            parts = f"{folder}/{target}".strip("/").replace("page/", "", 1) if target[0] == "." else target[6:]
            path = re.sub(r"[^/]+/\.\./|\./", "", parts)
            assert path in files, (name, target)


class Inline(HTMLParser):
    """Collects what a strict policy would refuse."""

    found: ClassVar[list[Any]] = []

    def handle_starttag(self, tag, attrs):
        names = dict(attrs)
        inline = any(name == "style" or name[:2] == "on" for name in names)
        if inline or tag == "style" or (tag == "script" and "src" not in names):
            self.found.append((tag, attrs))


def test_nothing_is_inline():
    parser = Inline()
    for name, content in scripts().items():
        if name.endswith(".html"):
            parser.feed(content)
        risky = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function"
        assert not re.search(risky, content), name
    assert parser.found == []


def handled() -> set[str]:
    listed = re.search(r"HANDLED = \[(.*?)\]", scripts()["schema.js"], re.S)
    assert listed is not None
    return set(re.findall(r'"([^"]+)"', listed[1]))


def keywords(schema: Any) -> set[str]:
    """The keywords of a JSON schema, at any depth; names of properties and definitions are none."""
    found: set[str] = set()
    for name, value in schema.items():
        found.add(name)
        if name in ("properties", "$defs"):
            found |= {word for inner in value.values() for word in keywords(inner)}
        elif name in ("items", "additionalProperties") and isinstance(value, dict):
            found |= keywords(value)
        elif name in ("anyOf", "allOf", "prefixItems"):
            found |= {word for inner in value for word in keywords(inner)}
    return found


def test_the_form_knows_every_construct_of_every_models_request():
    known, seen = handled(), set()
    for state in plugins.states():
        assert state.plugin is not None, state.reason
        for name in state.plugin.models:
            target = plugins.resolve(f"{state.found.name}/{name}", "models")
            used = keywords(target.Request.model_json_schema())
            assert used <= known, (name, used - known)
            seen |= used
    assert {"enum", "anyOf", "prefixItems", "exclusiveMinimum", "format"} <= seen
    assert not {"oneOf", "patternProperties"} & known  # what is not acted on is not listed


class Poem(Media):
    """A third party's medium that says nothing of how it is shown."""

    suffixes: ClassVar[tuple[str, ...]] = (".json",)


def test_a_medium_says_how_it_is_shown():
    assert [view_of(kind)[0] for kind in MEDIA] == [
        "audio.js", "image.js", "text.js", "unisono_motion.skeleton.view.js", "file.js",
    ]  # fmt: skip
    assert view_of(Poem) == ("file.js", None)
    assert set(VIEWS) <= {name[6:-3] for name in static_files() if name.startswith("views/")}


@pytest.mark.parametrize(
    ("shown", "code"),
    [("sculpture", "unknown"), ("unisono_nowhere:view.js", "missing"), ("unisono:view.js", "missing")],
)
def test_a_view_that_is_not_there_stops_the_server(shown, code):
    class Odd(Poem):
        pass

    Odd.shown = shown

    class Odder(Echo):
        Media: ClassVar[Any] = Odd

    with refused(PluginError, code, "Odd.shown", value=shown):
        app({"odd": Synthesizer(Odder())})


class Asked(Model):
    """A model with requests to begin with."""

    class Request(Request):
        text: str = Field(default="", description="what")
        file: str | None = Field(default=None, description="a file", json_schema_extra={"format": "file-path"})

    Media: ClassVar[type[Text]] = Text

    def preview_requests(self) -> list[Any]:
        return [
            self.Request(text="Grüße", seed=2**63 - 1),
            self.Request(text="Grüße", seed=2**63 - 1),
            self.Request(file="a.wav"),
            self.Request(text="long" * 1000),
            self.Request(text='"quoted"'),
        ]

    choices: ClassVar[dict[str, str]] = {"text": "words"}

    def __init__(self):
        super().__init__()
        self.facts = {"words": ["a", "b"]}


def test_examples_are_requests_without_files_as_json_texts():
    with running({"asked": Asked()}) as server:
        served = server.server.get("asked")
        assert examples(served) == [
            {"seed": "9223372036854775807", "text": '"Grüße"'},
            {"text": json.dumps('"quoted"')},
        ]
        told = server.http.get("/v1/models/asked/page").json()
        assert told == described(served, "/page/views/text.js")
        assert told["choices"] == {"text": ["a", "b"]} and told["snapshots"] is False
        assert server.http.get("/v1/models/nobody/page").status_code == 404


def test_with_a_key_the_page_is_open_and_what_it_tells_is_not():
    with running({"echo": Echo()}, key="k" * 16) as server:
        for path in ("/", "/page/page.js"):
            assert server.http.get(path).status_code == 200
        for path in ("/v1/models", "/v1/models/echo/page", "/openapi.json"):
            assert server.http.get(path).status_code == 401

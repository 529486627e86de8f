"""Blocks: the Gradio page of served models: a form from each request's schema, and its medium.

::

    controls ─ read ─ request ─ Served.make: the server's queue ─ encoded ─ audio, image, video, text or file

A medium shows itself by its own hooks: ``suffixes`` and ``encoded`` for what a browser plays, ``plot`` where the format
is none of that, ``about`` for what is known of it. Whoever closes the tab, or stops, ends the work at its next step.
Gradio's telemetry and its sharing are off. A key cannot be sent by this page.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

from unisono.extras import optional
from unisono.media import Media
from unisono.model import choices_of
from unisono.serve.errors import ClientLeft, Refused, refusal_of
from unisono.serve.formats import encoded, media_type
from unisono.serve.limits import Limits
from unisono.serve.page import examples
from unisono.serve.served import Served, Server
from unisono.serve.ui.controls import LEFT_OUT, Control, controls_of, read, shown
from unisono.synthesis import Synthesizer

if TYPE_CHECKING:
    from fastapi import FastAPI

T = TypeVar("T")
PATH = "/ui"
"""Where ``unisono serve --ui`` has the page."""
VIEWS = ("audio", "image", "video", "text")
"""What a browser shows, by the first half of a media type."""
MOST_OPTIONS = 200
"""Of a list to choose from; more are typed."""
KEPT = (600, 3600)
"""Gradio looks every so many seconds for files that are older than so many, and removes them."""


def gradio_app(models: Mapping[str, Synthesizer] | Server, limits: Limits | None = None) -> Any:
    """Return the ``gradio.Blocks`` of loaded models, or of a server that runs; ``launch()`` serves it, as a Space does.

    Raises ``MissingExtra`` where gradio is not installed.
    """
    gr: Any = optional("gradio", extra="ui")
    if isinstance(models, Server):
        server = models
    else:
        server = Server(models, limits)
        server.start()
    visitors: dict[str | None, set[Visitor]] = {}
    with gr.Blocks(title="unisono", analytics_enabled=False, delete_cache=KEPT) as page:
        for served in server.models.values():
            with gr.Tab(served.name):
                _add_model(gr, served, visitors)

        def leave(request: gr.Request) -> None:  # pyright: ignore[reportInvalidTypeForm]
            for visitor in visitors.pop(request.session_hash, ()):
                visitor.left.set()

        page.unload(leave)
    page.queue(max_size=server.limits.requests, default_concurrency_limit=server.limits.requests)
    page.has_launched = True  # else gradio 6.31, mounted, takes any path of this machine for a file that was uploaded
    return page


def mount(app: "FastAPI", server: Server) -> None:
    """Mount the page of a server on its application, at ``PATH``."""
    gr: Any = optional("gradio", extra="ui")
    gr.mount_gradio_app(
        app,
        gradio_app(server),
        path=PATH,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        max_file_size=server.limits.body,
        enable_monitoring=False,
        mcp_server=False,
    )


def view_of(suffix: str) -> str:
    """Return how a file of a suffix is shown: one of ``VIEWS``, or ``"file"``."""
    kind = media_type(suffix).partition("/")[0]
    return kind if kind in VIEWS else "file"


class Visitor:
    """Who sits before the page, in place of `unisono.serve.client.Client`."""

    def __init__(self):
        self.left = asyncio.Event()

    async def wait(self, awaited: Awaitable[T], seconds: float) -> T:
        """Return what is awaited; raises ``ClientLeft``, or ``Refused`` (504) where it takes too long."""
        task, left = asyncio.ensure_future(awaited), asyncio.ensure_future(self.left.wait())
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # nobody may be left to look
        try:
            await asyncio.wait({task, left}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            if left.done():
                raise ClientLeft
            raise Refused(504, f"this took longer than {seconds:g} s and was given up: ask for less", code="limit")
        finally:
            task.cancel()
            left.cancel()


def _add_model(gr: Any, served: Served, visitors: dict[str | None, set[Visitor]]) -> None:
    """The form of one model on the left, its output on the right."""
    kind, model = served.model.Media, served.model
    controls = controls_of(model.Request.model_json_schema(), model.text_field, choices_of(type(model), model.facts))
    formats = [suffix[1:] for suffix in kind.suffixes]
    views = list(dict.fromkeys(view_of(suffix) for suffix in kind.suffixes if view_of(suffix) != "file"))
    first = view_of(kind.suffixes[0])
    with gr.Row():
        with gr.Column():
            inputs = [component_of(gr, control) for control in controls if control.first]
            if behind := [control for control in controls if not control.first]:
                with gr.Accordion(f"{len(behind)} more fields", open=False):
                    inputs += [component_of(gr, control) for control in behind]
            form = gr.Dropdown(formats, value=formats[0], label="format", info="of the file", filterable=False)
            with gr.Row():
                button, stop = gr.Button("Make", variant="primary"), gr.Button("Stop")
        with gr.Column():
            players = [_player(gr, view, visible=view == first) for view in views]
            drawn = gr.Plot(label="drawn", visible=first == "file")
            file, about = gr.File(label="file", interactive=False), gr.JSON(label="about")
    ordered = sorted(controls, key=lambda control: not control.first)

    async def make(
        request: gr.Request,  # pyright: ignore[reportInvalidTypeForm]
        *given: Any,
    ) -> AsyncIterator[list[Any]]:
        visitor = Visitor()
        visitors.setdefault(request.session_hash, set()).add(visitor)
        suffix = f".{given[-1]}"
        view = view_of(suffix)

        def finish(medium: Any) -> tuple[bytes, dict[str, Any], Any]:
            draws = view == "file" and type(medium).plot is not Media.plot
            return encoded(medium, suffix, served.limits.output), medium.about(), medium.plot() if draws else None

        try:
            values = {control.name: read(control, value) for control, value in zip(ordered, given[:-1], strict=True)}
            fields = {name: value for name, value in values.items() if value is not LEFT_OUT}
            ((content, told, figure),) = await served.make(visitor, [served.synthesizer.request(fields)], finish)
        except ClientLeft:
            return
        except Exception as error:
            raise gr.Error(str(refusal_of(error)), title="Refused", print_exception=False) from None
        finally:
            with suppress(KeyError):
                visitors[request.session_hash].remove(visitor)
                if not visitors[request.session_hash]:
                    del visitors[request.session_hash]
        with TemporaryDirectory(prefix="unisono-") as folder:  # Gradio has copied the file when it comes back here
            path = Path(folder) / f"{served.name}{suffix}"
            path.write_bytes(content)
            whole = content.decode("utf-8") if view == "text" else str(path)
            yield [
                *(gr.update(value=whole if view == each else None, visible=view == each) for each in views),
                gr.update(value=figure, visible=figure is not None),
                str(path),
                told,
            ]

    going = button.click(
        make, [*inputs, form], [*players, drawn, file, about], api_name=served.name,
        concurrency_limit=served.limits.requests,
    )  # fmt: skip
    stop.click(None, cancels=[going], queue=False)
    _add_examples(gr, served, list(zip(ordered, inputs, strict=True)))


def component_of(gr: Any, control: Control) -> Any:
    """Return the Gradio component of a control."""
    about: dict[str, Any] = {"label": control.name, "info": control.help}
    begin = shown(control)
    if control.kind == "slider":
        return gr.Slider(control.low, control.high, begin, step=control.step, **about)
    if control.kind == "number":
        standard = "" if control.standard is None else str(control.standard)
        return gr.Number(begin, placeholder=standard, precision=0 if control.whole else None, **about)
    if control.kind == "tick":
        return gr.Checkbox(begin, **about)
    if control.kind == "file":
        return gr.File(label=f"{control.name}: {control.help}", type="filepath")
    if control.kind == "select":
        left = [("(left out)" if control.standard is None else f"{control.standard} (default)", "")]
        texts = [(str(value), shown(control, value)) for value in control.values if value != control.standard]
        options = [*left, *texts] if control.optional else texts
        return gr.Dropdown(options, value=begin if control.optional else None, **about)
    if control.kind == "text" and 0 < len(control.values) <= MOST_OPTIONS:
        left = ["", *control.values] if control.optional else list(control.values)
        return gr.Dropdown(left, value=begin, allow_custom_value=True, **about)
    lines = 4 if control.main else 2 if control.kind == "json" else 1
    placeholder = control.standard if isinstance(control.standard, str) else None
    return gr.Textbox(begin, lines=lines, placeholder=placeholder, **about)


def _player(gr: Any, view: str, visible: bool) -> Any:
    shows: dict[str, Any] = {"label": view, "visible": visible, "interactive": False}
    if view == "text":
        return gr.Textbox(lines=8, buttons=["copy"], **shows)
    buttons = ["download", "fullscreen"] if view == "image" else ["download"]  # and no "share"
    kinds: dict[str, Any] = {"audio": gr.Audio, "image": gr.Image, "video": gr.Video}
    typed = {} if view == "video" else {"type": "filepath"}
    return kinds[view](buttons=buttons, **typed, **shows)


def _add_examples(gr: Any, served: Served, inputs: Sequence[tuple[Control, Any]]) -> None:
    """Requests to begin with: the model's previews; of the fields that any of them sets."""
    found = [{name: json.loads(text) for name, text in example.items()} for example in examples(served)]
    used = [(control, component) for control, component in inputs if any(control.name in fields for fields in found)]
    if used:
        rows = [[shown(control, fields.get(control.name, LEFT_OUT)) for control, _ in used] for fields in found]
        gr.Examples(rows, [component for _, component in used], cache_examples=False)

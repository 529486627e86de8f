"""Page: what ``unisono serve`` shows at ``/``: a form of each model's request, and its medium as people look at it.

Static files of this folder and no others: no dependency, no foreign request. A kind of medium names its view in
``Media.shown``: one of ``views/``, or a script of its own package.
"""

import json
import mimetypes
from importlib import resources
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response

from unisono.errors import PluginError
from unisono.model import Model, choices_of
from unisono.serve.errors import Refused
from unisono.serve.served import Served, Server

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob:; "
    "media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
VIEWS = ("audio", "file", "image", "text")
"""What ``Media.shown`` can name beside ``"package:file.js"``."""
MOST_EXAMPLES, LONGEST_EXAMPLE = 8, 2_000
"""Of examples, and characters of one as JSON; longer ones are for programs."""


def router(server: Server) -> APIRouter:
    """Return the routes of the page; raises ``PluginError`` where a medium names a view that is not there."""
    files = static_files()
    views = {}
    for served in server.models.values():
        name, content = view_of(served.model.Media)
        views[served.name] = f"/page/views/{name}"
        if content is not None:
            files[f"views/{name}"] = content
    routes = APIRouter(include_in_schema=False)

    def answer(name: str) -> Response:
        if name not in files:
            raise Refused(404, "the page has no such file: open /", code="unknown")
        kind = "text/javascript" if name.endswith(".js") else mimetypes.guess_type(name)[0]
        return Response(files[name], media_type=kind, headers=HEADERS)

    @routes.get("/")
    async def index() -> Response:
        return answer("index.html")

    @routes.get("/page/{name:path}")
    async def file(name: str) -> Response:
        return answer(name)

    @routes.get("/v1/models/{name}/page")
    def page(name: str) -> dict[str, Any]:
        return described(server.get(name), views[name])

    return routes


def static_files() -> dict[str, bytes]:
    """Return the files of the page by name; those of the folder ``views`` as ``views/NAME``."""
    folder = resources.files(__name__)
    kinds = (".html", ".css", ".js", ".svg")
    found = {entry.name: entry for entry in folder.iterdir() if entry.name.endswith(kinds)}
    found |= {f"views/{entry.name}": entry for entry in (folder / "views").iterdir() if entry.name.endswith(kinds)}
    return {name: entry.read_bytes() for name, entry in found.items()}


def view_of(kind: Any) -> tuple[str, bytes | None]:
    """Return the file that shows a kind of medium, and its content where it is not the page's own.

    Raises ``PluginError`` where there is none.
    """
    package, colon, name = kind.shown.partition(":")
    if not colon:
        if kind.shown in VIEWS:
            return f"{kind.shown}.js", None
        raise PluginError(
            f"{kind.__name__}.shown={kind.shown!r} is none of {', '.join(VIEWS)}: name one, or 'package:file.js'",
            code="unknown",
            path=f"{kind.__name__}.shown",
            value=kind.shown,
        )
    try:
        return f"{package}.{name}", resources.files(package).joinpath(name).read_bytes()
    except (OSError, ModuleNotFoundError) as error:
        raise PluginError(
            f"{kind.__name__}.shown={kind.shown!r} cannot be read ({type(error).__name__}): put the script there",
            code="missing",
            path=f"{kind.__name__}.shown",
            value=kind.shown,
        ) from None


def described(served: Served, view: str) -> dict[str, Any]:
    """Return what the page is told of a model beside ``/v1/models/{name}``."""
    model: Model = served.model
    count = served.synthesizer.info.get("parameters")
    return {
        "view": view,
        "snapshots": type(model).snapshots is not Model.snapshots,
        "size": None if count is None else f"{count / 1e6:.3g} M parameters",
        "choices": {name: list(values) for name, values in choices_of(type(model), model.facts).items()},
        "load": loaded_as(served),
        "examples": examples(served),
    }


def loaded_as(served: Served) -> str:
    """Return what ``unisono.load`` takes; of a folder only the name, since its place is nobody else's business."""
    source = served.synthesizer.source
    if source is None or source.kind == "folder":
        return served.name
    return f"{source.name}@{source.revision}" if source.kind == "hub" else source.name


def examples(served: Served) -> list[dict[str, str]]:
    """Return requests to begin with, each field as JSON text: the model's previews, without files and long ones."""
    found = []
    for request in served.model.preview_requests():
        set_ = request.model_dump(mode="json", exclude_defaults=True, exclude=set(served.files))
        fields = {name: json.dumps(value, ensure_ascii=False) for name, value in set_.items()}
        if fields and fields not in found and sum(map(len, fields.values())) <= LONGEST_EXAMPLE:
            found.append(fields)
    return found[:MOST_EXAMPLES]

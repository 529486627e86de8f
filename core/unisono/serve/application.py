"""App: the FastAPI application of loaded models, and the description of its routes."""

import contextlib
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

import unisono
from unisono.errors import RequestError, UnisonoError
from unisono.plugin import routes as plugin_routes
from unisono.serve import native, page
from unisono.serve.describe import add_description
from unisono.serve.errors import Refused, refusal_of
from unisono.serve.gate import LOOPBACK, Gate
from unisono.serve.limits import Limits
from unisono.serve.replies import refusal
from unisono.serve.served import Server
from unisono.synthesis import Synthesizer

LOG = logging.getLogger("unisono.serve")


def app(
    models: Mapping[str, Synthesizer],
    *,
    limits: Limits | None = None,
    at_once: int | None = None,
    key: str | None = None,
    hosts: Sequence[str] = LOOPBACK,
    origins: Sequence[str] = (),
    ui: bool = False,
) -> FastAPI:
    """Return the application that serves loaded models under their names; ``app.state.server`` is its ``Server``.

    Args:
        at_once: requests that a model makes together; by default its own ``requests_at_once``.
        key: what ``Authorization: Bearer`` must hold; None lets everybody in who asks for one of ``hosts``.
        origins: of pages of other sites that may ask (CORS).
        ui: add the page that Gradio makes, at ``/ui``.

    Raises ``MissingExtra`` for ``ui`` without gradio, and ``RequestError`` for ``ui`` with a key.
    """
    if ui and key is not None:
        raise RequestError(
            "the Gradio page sends no key: leave the key or the page out, or let a proxy ask for a password",
            code="conflict",
            path="ui",
        )
    server = Server(models, limits, at_once)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        server.start()
        yield
        server.close()

    made = FastAPI(
        title="unisono", version=unisono.__version__, lifespan=lifespan, docs_url=None, redoc_url=None
    )  # their pages fetch scripts of other hosts
    add_description(made)
    made.state.server = server
    made.include_router(native.router(server))
    made.include_router(page.router(server))
    routers, broken = plugin_routes()
    for router in routers:
        made.include_router(router(server))
    for error in broken:  # a plugin that is broken stops nothing
        LOG.warning("%s", error)
    if ui:
        from unisono.serve.ui.blocks import mount

        mount(made, server)
    made.add_exception_handler(Refused, _refused)
    made.add_exception_handler(UnisonoError, _refused)
    made.add_exception_handler(HTTPException, _no_route)
    made.add_middleware(Gate, metrics=server.metrics, key=key, hosts=hosts)
    if origins:  # outermost, so that a page can read refusals too
        from starlette.middleware.cors import CORSMiddleware

        made.add_middleware(CORSMiddleware, allow_origins=list(origins), allow_methods=["*"], allow_headers=["*"])
    made.openapi = lambda: _openapi(made, server)
    return made


async def _refused(request: Request, error: Exception) -> JSONResponse:
    return refusal(refusal_of(error))


async def _no_route(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    told = "no such route: see /docs" if error.status_code == 404 else str(error.detail)
    refused = Refused(error.status_code, told, code="unknown", headers=dict(error.headers or {}))
    return refusal(refused)


def _openapi(app: FastAPI, server: Server) -> dict[str, Any]:
    """The description of all routes, with the schema of each model's request under the model's name."""
    if app.openapi_schema is None:
        made = get_openapi(title=app.title, version=app.version, routes=app.routes)
        schemas = made.setdefault("components", {}).setdefault("schemas", {})
        for name, served in server.models.items():
            prefix = f"#/components/schemas/{name}."
            schema = served.model.Request.model_json_schema(ref_template=prefix + "{model}")
            for inner, definition in schema.pop("$defs", {}).items():
                schemas[f"{name}.{inner}"] = definition
            schemas[name] = schema
        app.openapi_schema = made
    return app.openapi_schema

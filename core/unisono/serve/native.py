"""Native routes: each model by its own request, whole or in pieces; models and their schemas; the server's health."""

from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from unisono.errors import RequestError
from unisono.media import Times, TimesWriter
from unisono.serve.client import Client
from unisono.serve.errors import Refused
from unisono.serve.formats import JSON, described, encoded, media_type, wanted, wanted_times
from unisono.serve.replies import StreamReply, event
from unisono.serve.served import Served, Server

VIEWS = ("pieces", "snapshots")


def router(server: Server) -> APIRouter:
    """Return the routes of every model of a server."""
    routes = APIRouter()

    @routes.get("/health", summary="The process answers")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @routes.get("/ready", summary="Every model is warmed up and takes requests")
    async def ready() -> dict[str, str]:
        if reason := server.why_not_ready():
            raise Refused(503, f"not ready: {reason}", code="state", headers={"Retry-After": "1"})
        return {"status": "ready"}

    @routes.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
    async def metrics() -> Response:
        return Response(server.metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @routes.get("/v1/models", summary="The models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [about(server, served) for served in server.models.values()]}

    @routes.get("/v1/models/{name}", summary="One model")
    async def model(name: str) -> dict[str, Any]:
        return about(server, server.get(name))

    @routes.get("/v1/models/{name}/schema", summary="The JSON schema of a model's request")
    async def schema(name: str) -> JSONResponse:
        return JSONResponse(server.get(name).model.Request.model_json_schema(), media_type="application/schema+json")

    for name in server.models:
        add_model(routes, server, name)

    @routes.post("/v1/models/{name}", include_in_schema=False)
    @routes.post("/v1/models/{name}/stream", include_in_schema=False)
    async def unknown(name: str) -> None:
        server.get(name)

    return routes


def add_model(routes: APIRouter, server: Server, name: str) -> None:
    """Add the two routes of one model, whose bodies are its request's schema."""
    served = server.models[name]
    body = {"required": True, "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}}
    types = {media_type(suffix).partition(";")[0]: {} for suffix in served.model.Media.suffixes}
    answer = {"200": {"description": served.model.Media.__name__, "content": types | {"application/json": {}}}}
    described_as = {"requestBody": body, "responses": answer}

    @routes.post(f"/v1/models/{name}", summary=f"Ask {name}", openapi_extra=described_as, operation_id=name)
    async def make(request: Request, format: str | None = None, times: str | None = None) -> Response:
        kind = served.model.Media
        writer = _times(kind, times)
        suffix = wanted(kind, JSON if writer and format is None else format, request.headers.get("accept"))
        if writer and suffix != JSON:
            message = f"times={times!r:.40} stand in the answer as json, not in format={format!r:.40}: leave one out"
            raise Refused(400, message, code="conflict", path="times")
        async with Client(request, server.limits) as client:
            asked = served.request(await client.fields(), client)
            most = server.limits.output
            if suffix == JSON:
                first = kind.suffixes[0]
                (told,) = await served.make(client, [asked], lambda medium: described(medium, first, most, writer))
                return JSONResponse(told)
            (content,) = await served.make(client, [asked], lambda medium: encoded(medium, suffix, most))
            return Response(content, media_type=media_type(suffix))

    as_events = {
        "requestBody": body,
        "responses": {"200": {"content": {"text/event-stream": {}}, "description": "Events"}},
    }

    @routes.post(
        f"/v1/models/{name}/stream", summary=f"Watch {name}", openapi_extra=as_events, operation_id=f"{name}.stream"
    )
    async def stream(
        request: Request, view: str = "pieces", format: str | None = None, times: str | None = None
    ) -> Response:
        if view not in VIEWS:
            raise Refused(400, f"view={view[:40]!r} is none of {', '.join(VIEWS)}", code="unknown", path="view")
        kind = served.model.Media
        writer = _times(kind, times)
        if writer and view == "snapshots":
            message = f"times={times!r:.40} are those of pieces, not of snapshots: leave one of them out"
            raise Refused(400, message, code="conflict", path="times")
        suffix = kind.suffixes[0] if format is None else wanted(kind, format, None)
        if suffix == JSON:
            suffix = kind.suffixes[0]
        async with Client(request, server.limits) as client:
            asked = served.request(await client.fields(), client)
            name = view.removesuffix("s")

            def events(pieces: Iterator[Any]) -> Iterator[bytes]:
                index, offset = -1, 0.0
                known: list[Times | None] = []
                for index, medium in enumerate(pieces):
                    told = described(medium, suffix, server.limits.output)
                    yield event(name, {"index": index, "offset": offset, **told})
                    if writer:
                        known.append(medium.times())
                    seconds = medium.seconds or 0.0
                    offset = offset + seconds if view == "pieces" else seconds
                whole = {} if writer is None else {"times": kind.encoded_times_of(known, writer).decode()}
                yield event("done", {"pieces": index + 1, "seconds": offset or None, **whole})

            going = served.stream(client, asked, events, snapshots=view == "snapshots")
            return await StreamReply.begin(going, "text/event-stream", events=True)


def _times(kind: Any, times: str | None) -> TimesWriter | None:
    try:
        return wanted_times(kind, times)
    except RequestError as error:
        raise Refused(400, str(error), code=error.code or "value", path="times") from None


def about(server: Server, served: Served) -> dict[str, Any]:
    """Return what is told of a model: OpenAI's four keys, and how it is asked."""
    model, info = served.model, served.synthesizer.info
    return {
        "id": served.name,
        "object": "model",
        "created": server.begun,
        "owned_by": str(info.get("model", type(model).__name__)).partition("/")[0],
        "model": info.get("model"),
        "licence": info.get("license", info.get("licence")),
        "output": model.Media.__name__,
        "formats": [suffix[1:] for suffix in model.Media.suffixes],
        "text_field": model.text_field,
        "streams": served.streams,
        "requests_at_once": served.batcher.at_once,
        "ready": served.ready.is_set(),
    }

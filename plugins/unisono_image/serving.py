"""OpenAI's route of images: a prompt to pictures, all at once or with those that the sampler passes through.

Every model that makes ``Image`` from a ``prompt`` is served by it; its own request fields stand beside OpenAI's.
"""

import base64
import re
import time
from collections.abc import Iterator
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field
from unisono import Image
from unisono.errors import RequestError
from unisono.seeds import MAX_SEED
from unisono.serve import Client, Server, StreamReply
from unisono.serve.formats import encoded
from unisono.serve.openai import Body, asked, openai_body, told_as_openai
from unisono.serve.replies import event

MOST = 10


class ImageBody(Body):
    """What OpenAI's clients send; further keys are fields of the model's own request."""

    model: str = Field(description="a name of /v1/models")
    prompt: str = Field(description="what the pictures show")
    n: int = Field(default=1, ge=1, le=MOST, description="how many; their seeds follow one another")
    size: str = Field(default="auto", description='"256x256", width first, or "auto"')
    output_format: Literal["png", "jpeg", "webp"] = Field(default="png", description="of the files")
    response_format: Literal["b64_json"] = Field(default="b64_json", description="no URLs: nothing is kept here")
    quality: Literal["auto", "standard"] = Field(default="auto", description="set num_steps for another one")
    background: Literal["auto", "opaque"] = Field(default="auto", description="pictures have no transparency")
    user: str | None = Field(default=None, description="not looked at")
    stream: bool = Field(default=False, description="answer with events")
    partial_images: int = Field(default=0, ge=0, le=3, description="of a stream: how many of the pictures on the way")


def router(server: Server) -> APIRouter:
    """Return the route over a server's models that make pictures of a prompt; none where there is no such model."""
    routes = APIRouter()
    able = [name for name, served in server.making(Image).items() if "prompt" in served.model.Request.model_fields]
    if not able:
        return routes

    @routes.post("/v1/images/generations", summary="A prompt, drawn", openapi_extra=openai_body(ImageBody))
    @told_as_openai
    async def generations(request: Request) -> Response:
        async with Client(request, server.limits) as client:
            body, own = asked(ImageBody, await client.fields())
            served = server.one_of(able, body.model, "makes no pictures of a prompt")
            if body.partial_images and not body.stream:
                raise RequestError("partial_images needs stream", code="conflict", path="partial_images")
            fields = {**own, **sized(served, body.size), "prompt": body.prompt}
            first = served.request(fields, client)
            prompts = [first]
            for index in range(1, body.n):
                prompts.append(served.request({**fields, "seed": (first.seed + index) % (MAX_SEED + 1)}, client))
            suffix, most = f".{body.output_format}", server.limits.output

            def finish(picture: Image) -> str:
                return base64.b64encode(encoded(picture, suffix, most)).decode("ascii")

            about = {
                "created": int(time.time()),
                "output_format": body.output_format,
                "usage": {"input_tokens": len(body.prompt), "output_tokens": body.n, "total_tokens": 0},
            }
            about["usage"]["total_tokens"] = len(body.prompt) + body.n
            if not body.stream:
                made = await served.make(client, prompts, finish)
                return JSONResponse({**about, "data": [{"b64_json": picture} for picture in made]})
            if body.n > 1:
                raise RequestError(
                    "a stream is of one picture: leave n out", code="unsupported", path="n", value=body.n
                )
            steps = getattr(first, "num_steps", None)
            if steps is None and body.partial_images:
                raise RequestError("partial_images needs num_steps here", code="missing", path="num_steps")
            steps = steps or 1

            def events(pictures: Iterator[Image]) -> Iterator[bytes]:
                shown = [steps * (number + 1) // (body.partial_images + 1) for number in range(body.partial_images)]
                last, told = None, 0
                data: dict[str, Any]
                for index, picture in enumerate(pictures):
                    if last is not None and index in shown:
                        data = {"type": "image_generation.partial_image", "partial_image_index": told}
                        yield event(data["type"], {**data, "b64_json": finish(last), "created_at": about["created"]})
                        told += 1
                    last = picture
                assert last is not None
                data = {"type": "image_generation.completed", "created_at": about["created"], "usage": about["usage"]}
                yield event(data["type"], {**data, "b64_json": finish(last), "output_format": body.output_format})

            going = served.stream(client, first, events, snapshots=body.partial_images > 0)
            return await StreamReply.begin(going, "text/event-stream", events=True)

    return routes


def sized(served: Any, size: str) -> dict[str, Any]:
    """Return what a size asks of a model; nothing where it is the only one that the model makes.

    Raises ``RequestError`` for another one.
    """
    fields, model = size_of(size), served.model
    if not fields or {"height", "width"} <= set(model.Request.model_fields):
        return fields
    own = model.facts.size
    if set(fields.values()) != {own}:
        raise RequestError(
            f"size={size!r}: {served.name} makes pictures of {own}x{own} alone: leave it out",
            code="unsupported",
            path="size",
            value=size,
        )
    return {}


def size_of(size: str) -> dict[str, Any]:
    """Return ``height`` and ``width`` of ``"WIDTHxHEIGHT"``; nothing of ``"auto"``. Raises ``RequestError``."""
    if size == "auto":
        return {}
    found = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", size)
    if found is None:
        raise RequestError(
            f"size={size[:40]!r} must be such as '64x64', width first, or 'auto'",
            code="format",
            path="size",
            value=size,
        )
    return {"width": int(found[1]), "height": int(found[2])}

"""OpenAI's routes of audio: a text read aloud, whole, in pieces or as events; the voices of each model.

Every model that makes ``Audio`` is served by them; the model's own request fields stand beside OpenAI's in the body.
"""

import base64
from collections.abc import Iterator
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import Field
from unisono.errors import RequestError, did_you_mean
from unisono.media import Audio
from unisono.serve import Client, Served, Server, StreamReply
from unisono.serve.formats import checked
from unisono.serve.openai import Body, asked, openai_body, spelled, told_as_openai
from unisono.serve.replies import event

from unisono_sound.serving.encoder import TYPES, encoded, rate_of, whole

DEFAULT = "default"
"""The name of a model's first or only voice."""


class SpeechBody(Body):
    """What OpenAI's clients send; further keys are fields of the model's own request."""

    model: str = Field(description="a name of /v1/models")
    input: str = Field(description="the text")
    voice: str | dict[str, str] = Field(default=DEFAULT, description="a name of /v1/audio/voices")
    instructions: str | None = Field(default=None, description="must be empty: no model here follows instructions")
    response_format: Literal["mp3", "opus", "flac", "wav", "pcm"] = Field(
        default="mp3", description="pcm is 16 bits, 24 kHz"
    )
    speed: float | None = Field(default=None, description="the model's pace, where it has one")
    stream_format: Literal["audio", "sse"] = Field(default="audio", description="bytes, or events with base64")
    stream: bool = Field(default=True, description="false: the whole at once, with its true length in the header")


def router(server: Server) -> APIRouter:
    """Return the routes over a server's models that make sound; none where there is no such model."""
    routes = APIRouter()
    able = server.making(Audio)
    if not able:
        return routes

    @routes.post("/v1/audio/speech", summary="A text, read aloud", openapi_extra=openai_body(SpeechBody))
    @told_as_openai
    async def speech(request: Request) -> Response:
        async with Client(request, server.limits) as client:
            body, own = asked(SpeechBody, await client.fields())
            served = server.one_of(able, body.model, "makes no sound")
            if body.instructions:
                raise RequestError(
                    "instructions: no model here follows any; give fields of its own, such as pace",
                    code="unsupported",
                    path="instructions",
                )
            kind = body.response_format
            own |= voice_fields(served, body.voice)
            if body.speed is not None:
                own |= spelled(served, "speed", "pace", body.speed)
            prompt = served.request({served.model.text_field: body.input, **own}, client)
            most = server.limits.output
            if body.stream_format == "audio" and not (body.stream and served.streams):
                content, rate = (
                    await served.make(
                        client,
                        [prompt],
                        lambda audio: (checked(whole(audio, kind), most), rate_of(kind, audio.sample_rate)),
                    )
                )[0]
                return Response(content, media_type=TYPES[kind], headers={"X-Sample-Rate": str(rate)})
            if body.stream_format == "sse":
                size = len(body.input)
                going = served.stream(client, prompt, lambda pieces: events(encoded(pieces, kind), size))
                return await StreamReply.begin(going, "text/event-stream", events=True)
            going = served.stream(client, prompt, lambda pieces: encoded(pieces, kind))
            rate = {"X-Sample-Rate": "24000"} if kind == "pcm" else {}
            return await StreamReply.begin(going, TYPES[kind], headers=rate)

    @routes.get("/v1/audio/voices", summary="The voices of each model")
    async def voices() -> dict[str, Any]:
        found = [
            {"id": voice, "name": voice, "object": "voice", "model": name}
            for name, served in able.items()
            if "text" in served.model.Request.model_fields
            for voice in voices_of(served)
        ]
        return {"object": "list", "voices": found, "data": found}

    return routes


def events(chunks: Iterator[bytes], characters: int) -> Iterator[bytes]:
    """Yield OpenAI's events; tokens are characters in and bytes out, since no token of these models is text."""
    size = 0
    for chunk in chunks:
        size += len(chunk)
        audio = base64.b64encode(chunk).decode("ascii")
        yield event(None, {"type": "speech.audio.delta", "audio": audio})
    usage = {"input_tokens": characters, "output_tokens": size, "total_tokens": characters + size}
    yield event(None, {"type": "speech.audio.done", "usage": usage})


def voices_of(served: Served) -> list[str]:
    """Return the names of a model's voices; one without names has one."""
    speakers: list[str] = list(getattr(served.model.facts, "speakers", ()))
    return speakers if speakers and "speaker" in served.model.Request.model_fields else [DEFAULT]


def voice_fields(served: Served, voice: str | dict[str, str]) -> dict[str, Any]:
    """Return the request's field of a voice; raises ``RequestError`` for one that the model has not."""
    name = voice.get("id", "") if isinstance(voice, dict) else voice
    known = voices_of(served)
    if name == DEFAULT:
        return {}
    if name not in known:
        raise RequestError(
            f"unknown voice {name[:80]!r}{did_you_mean(name[:80], [DEFAULT, *known])}",
            code="unknown",
            path="voice",
            value=name,
        )
    return {"speaker": name}

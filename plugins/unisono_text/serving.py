"""OpenAI's route of texts: completions, whole or as they are made.

Every model that makes ``Text`` is served by it; its own request fields stand beside OpenAI's. The answer leaves out the
prompt and the suffix, which the models' texts contain. Where ``max_tokens`` is not given, the model's own length holds.
"""

import time
import uuid
from collections.abc import Iterator
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field
from unisono import Text
from unisono.errors import RequestError
from unisono.seeds import MAX_SEED
from unisono.serve import Client, Server, StreamReply
from unisono.serve.openai import Body, asked, openai_body, spelled, told_as_openai
from unisono.serve.replies import event

from unisono_text.lossless.request import LENGTH

MOST = 16


class CompletionBody(Body):
    """What OpenAI's clients send; further keys are fields of the model's own request."""

    model: str = Field(description="a name of /v1/models")
    prompt: str | list[str] = Field(default="", description="what to go on from; a list: a completion of each")
    max_tokens: int | None = Field(default=None, ge=1, description="tokens to make at most; default: the model's own")
    temperature: float | None = Field(default=None, description="of the draw; default: the model's own")
    top_p: float | None = Field(default=None, description="of the draw; default: the model's own")
    n: int = Field(default=1, ge=1, le=MOST, description="completions of each prompt; their seeds follow one another")
    best_of: int = Field(default=1, ge=1, le=1, description="1: none is made to be thrown away")
    seed: int = Field(default=0, ge=0, le=MAX_SEED, description="the same seed gives the same text")
    stop: str | list[str] = Field(default=[], max_length=4000, description="texts at which a completion is cut")
    suffix: str | None = Field(default=None, description="what follows the completion, where a model can fill in")
    echo: bool = Field(default=False, description="begin with the prompt")
    stream: bool = Field(default=False, description="answer with events")
    stream_options: dict[str, bool] | None = Field(default=None, description='{"include_usage": true}')
    logprobs: Literal[0] | None = Field(default=None, description="not told here: leave it out")
    presence_penalty: float = Field(default=0, ge=0, le=0, description="not known here: 0")
    frequency_penalty: float = Field(default=0, ge=0, le=0, description="not known here: 0")
    user: str | None = Field(default=None, description="not looked at")


def router(server: Server) -> APIRouter:
    """Return the route over a server's models that write; none where there is no such model."""
    routes = APIRouter()
    able = server.making(Text)
    if not able:
        return routes

    @routes.post("/v1/completions", summary="A text, gone on", openapi_extra=openai_body(CompletionBody))
    @told_as_openai
    async def completions(request: Request) -> Response:
        async with Client(request, server.limits) as client:
            body, own = asked(CompletionBody, await client.fields())
            served = server.one_of(able, body.model, "writes no text")
            if own.get("chat"):
                raise RequestError(
                    f"chat is for POST /v1/models/{served.name}: a completion goes on from its prompt",
                    code="unsupported",
                    path="chat",
                )
            for theirs, ours in (("max_tokens", "length"), ("temperature", "temperature"), ("top_p", "top_p")):
                if getattr(body, theirs) is not None:
                    own |= spelled(served, theirs, ours, getattr(body, theirs))
            if body.suffix:
                own |= spelled(served, "suffix", "suffix", body.suffix)
            prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
            if not 1 <= len(prompts) * body.n <= MOST:
                raise RequestError(
                    f"{len(prompts)} prompts of {body.n} completions: from 1 to {MOST} are made at a time",
                    code="limit",
                    path="prompt",
                    value=len(prompts),
                )
            each = [
                served.request({**own, "text": prompt, "seed": (body.seed + index) % (MAX_SEED + 1)}, client)
                for prompt in prompts
                for index in range(body.n)
            ]
            head = {
                "id": f"cmpl-{uuid.uuid4().hex}",
                "object": "text_completion",
                "created": int(time.time()),
                "model": served.name,
            }
            if body.stream:
                if len(each) > 1:
                    raise RequestError("a stream is of one completion", code="unsupported", path="n", value=len(each))
                usage = bool((body.stream_options or {}).get("include_usage"))
                count = served.model.tokenizer.encode

                def events(pieces: Iterator[Text]) -> Iterator[bytes]:
                    cutter, made, whole = Cutter(each[0].text, body), "", ""
                    for piece in pieces:
                        whole += piece.text
                        if part := cutter.add(piece.text):
                            made += part
                            yield event(None, {**head, "choices": [choice(0, part, None)]})
                        if cutter.stopped:
                            break
                    given = len(count(each[0].text))
                    room = min(each[0].length or LENGTH, served.model.context - given)
                    part, reason = cutter.end(len(count(whole)) - given < room)
                    made += part
                    yield event(None, {**head, "choices": [choice(0, part, reason)]})
                    if usage:
                        yield event(None, {**head, "choices": [], "usage": bill(given, len(count(made)))})
                    yield event(None, "[DONE]")

                going = served.stream(client, each[0], events)
                return await StreamReply.begin(going, "text/event-stream", events=True)
            texts = await served.make(client, each)
            choices = []
            for index, (prompt, text) in enumerate(zip(each, texts, strict=True)):
                cutter = Cutter(prompt.text, body)
                part = cutter.add(text.text)
                rest, reason = cutter.end(bool(text.facts.get("ended")))
                choices.append(choice(index, part + rest, reason))
            given = sum(text.facts.get("prompt_tokens", 0) for text in texts)
            made = sum(sum(step >= 0 for step in text.order) for text in texts)
            return JSONResponse({**head, "choices": choices, "usage": bill(given, made)})

    return routes


class Cutter:
    """Takes the prompt and the suffix off a text that comes in pieces, and cuts it at the first of the stops."""

    def __init__(self, prompt: str, body: CompletionBody):
        self.skip = 0 if body.echo else len(prompt)
        self.stops = [stop for stop in ([body.stop] if isinstance(body.stop, str) else body.stop) if stop]
        self.suffix = body.suffix or ""
        self.hold = max(len(self.suffix), *(len(stop) - 1 for stop in self.stops), 0)
        self.held, self.stopped = "", False

    def add(self, text: str) -> str:
        """Return what of a piece and of what was held back can be told."""
        skipped = min(self.skip, len(text))
        self.skip -= skipped
        self.held += text[skipped:]
        return self._tell(self.hold)

    def end(self, ended: bool) -> tuple[str, str]:
        """Return the rest, and OpenAI's word for why it ended: by itself or at a stop, or for want of room."""
        if not self.stopped and self.suffix:
            self.held = self.held.removesuffix(self.suffix)
        return self._tell(0), "stop" if self.stopped or ended else "length"

    def _tell(self, hold: int) -> str:
        if self.stopped:
            return ""
        found = [place for stop in self.stops if (place := self.held.find(stop)) >= 0]
        if found:
            told, self.held, self.stopped = self.held[: min(found)], "", True
            return told
        border = len(self.held) - hold
        if border <= 0:
            return ""
        told, self.held = self.held[:border], self.held[border:]
        return told


def choice(index: int, text: str, reason: str | None) -> dict[str, Any]:
    """Return one of an answer's choices."""
    return {"text": text, "index": index, "logprobs": None, "finish_reason": reason}


def bill(given: int, made: int) -> dict[str, int]:
    """Return an answer's usage."""
    return {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}

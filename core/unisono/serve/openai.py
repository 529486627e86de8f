"""OpenAI's shapes: what routes of plugins share that answer OpenAI's clients.

Bodies are read as their pydantic model; keys that it does not have are fields of the model's own request, which refuses
what it does not know. A field's fault is a 400 there, not a 422.
"""

import functools
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from unisono.errors import RequestError, UnisonoError
from unisono.request import sentence_of
from unisono.serve.errors import refusal_of
from unisono.serve.replies import refusal
from unisono.serve.served import Served


class Body(BaseModel):
    """The base of a body: strict, and open to the fields of the model's own request."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


B = TypeVar("B", bound=Body)


def asked(kind: type[B], fields: dict[str, Any]) -> tuple[B, dict[str, Any]]:
    """Return a body and the further keys; raises ``RequestError`` with the sentence of what is wrong.

    A key that is null is as if it were not there, as OpenAI's clients mean it.
    """
    try:
        body = kind(**{name: value for name, value in fields.items() if value is not None})
    except ValidationError as error:
        raise sentence_of(kind, error) from None
    return body, dict(body.model_extra or {})


def openai_body(kind: type[BaseModel]) -> dict[str, Any]:
    """Return the OpenAPI description of a body."""
    schema = kind.model_json_schema()
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def spelled(served: Served, theirs: str, ours: str, value: Any) -> dict[str, Any]:
    """Return a field of OpenAI's under the model's own name; raises ``RequestError`` where the model has none."""
    if ours not in served.model.Request.model_fields:
        raise RequestError(
            f"{theirs}: {served.name} has no {ours} to set: leave it out", code="unsupported", path=theirs, value=value
        )
    return {ours: value}


def told_as_openai(route: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Answer refusals of a field with 400, as OpenAI does."""

    @functools.wraps(route)
    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return await route(*args, **kwargs)
        except UnisonoError as error:
            return refusal(refusal_of(error, of_fields=400))

    return wrapped

"""Refusals: what is answered instead of a medium: a status, one sentence, and which field is at fault."""

from typing import Any

from unisono.errors import UnisonoError

KINDS = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


class Refused(Exception):
    """An answer other than the one that was asked for."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        path: str | None = None,
        headers: dict[str, str] | None = None,
    ):
        super().__init__(message)
        self.status, self.code, self.path, self.headers = status, code, path, headers or {}

    @property
    def body(self) -> dict[str, Any]:
        """The answer's content, in OpenAI's form."""
        kind = KINDS.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": str(self), "type": kind, "param": self.path, "code": self.code}}


class ClientLeft(Exception):
    """Who asked is no longer there: nothing needs an answer."""


class Stopped(BaseException):
    """Raised from ``on_step`` where nobody waits for the result; no model catches it."""


def refusal_of(error: BaseException, of_fields: int = 422) -> Refused:
    """Return what is answered where a request ended in an error; ``of_fields`` is the status of a field's fault.

    Of an error that is not the user's, the kind alone is told: its message may hold anything.
    """
    from unisono.errors import RequestError

    if isinstance(error, Refused):
        return error
    if isinstance(error, RequestError):
        return Refused(of_fields, str(error), code=error.code or "value", path=error.path)
    if isinstance(error, UnisonoError):
        return Refused(500, f"the model cannot serve this: {error}", code=error.code or "failed")
    return Refused(500, f"the model failed ({type(error).__name__}): the server's log has the place", code="failed")

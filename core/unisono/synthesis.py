"""Synthesizer: a loaded model as a user calls it."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from unisono.errors import RequestError
from unisono.fields import Field, fields_of
from unisono.media import Media
from unisono.model import Model, OnStep, choices_of
from unisono.request import Request

if TYPE_CHECKING:
    from unisono.export import Source


class Synthesizer:
    """A model ready to be called: ``synth("Hello world", pace=1.1).save("hello.wav")``.

    ``info`` is what the export's ``unisono.json`` says: plugin, versions, data, licence, metrics. ``source`` is where
    it was loaded from: the folder and, of a hub id or a model package, the commit or version; None for one in memory.
    """

    def __init__(self, model: Model, info: dict[str, Any] | None = None, source: "Source | None" = None):
        self.model = model.eval()
        self.info = info or {}
        self.source = source

    def __repr__(self) -> str:
        return f"Synthesizer({self.info.get('model', type(self.model).__name__)}, {self.model.device})"

    def __getattr__(self, name: str) -> Any:
        """Return a list of names that a field takes, where the model has one: ``classes``, for the field ``label``."""
        model: Any = self.__dict__.get("model")  # not there yet where a copy is being made
        if model is not None:
            for field, fact in model.choices.items():
                if fact == name:
                    return choices_of(type(model), model.facts)[field]
        raise AttributeError(f"a synthesizer of {type(model).__name__} has no {name!r}")

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.model.choices.values()})

    @property
    def fields(self) -> dict[str, Field]:
        """What can be asked, by name: what each field means, its range, its choices and its default."""
        return fields_of(self.model.Request, choices_of(type(self.model), self.model.facts))

    def to(self, device: str | torch.device) -> "Synthesizer":
        """Move the model and its components."""
        self.model.to(device)
        return self

    def request(self, first: Any = None, /, **fields: Any) -> Request:
        """Turn a text, a dict or a request, plus fields, into this model's typed request."""
        kind = self.model.Request
        if isinstance(first, Request):
            if not isinstance(first, kind):
                raise RequestError(
                    f"{type(first).__name__} belongs to another model; this one takes {kind.__qualname__}",
                    code="type",
                    value=type(first).__name__,
                )
            return kind.parse(**{**dict(first), **fields}) if fields else first
        if isinstance(first, dict):
            return kind.parse(**{**first, **fields})
        if first is not None:
            fields = {self.model.text_field: first, **fields}
        return kind.parse(**fields)

    def __call__(
        self,
        first: Any = None,
        /,
        *,
        generator: torch.Generator | None = None,
        on_step: OnStep | None = None,
        **fields: Any,
    ) -> Any:
        """Synthesize one request, or a list (any sequence or iterator) of them together; fields apply to all."""
        many = isinstance(first, Sequence | Iterator) and not isinstance(first, str | bytes)
        requests = [self.request(item, **fields) for item in (first if many else [first])]
        with torch.inference_mode():
            made = self.model.synthesize(requests, generator, on_step) if requests else []
        return made if many else made[0]

    def stream(self, first: Any = None, /, *, generator: torch.Generator | None = None, **fields: Any) -> Iterator[Any]:
        """Yield the output piece by piece, the first long before the last; a piece of sound has its ``offset``."""
        previous = None
        for piece in _inferred(self.model.stream(self.request(first, **fields), generator)):
            previous = piece.following(previous) if isinstance(piece, Media) else piece
            yield previous

    def snapshots(
        self, first: Any = None, /, *, generator: torch.Generator | None = None, **fields: Any
    ) -> Iterator[Any]:
        """Yield what the output looks like while it is made, and the output last: for live views."""
        yield from _inferred(self.model.snapshots(self.request(first, **fields), generator))


def _inferred(pieces: Iterator[Any]) -> Iterator[Any]:
    """The pieces, made in inference mode, which a generator must not leave to its consumer."""
    while True:
        with torch.inference_mode():
            piece = next(pieces, None)
        if piece is None:
            return
        yield piece

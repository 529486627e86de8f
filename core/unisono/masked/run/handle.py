"""Handle: the model, counted; evaluations (NFE) and positions are measured.

A model is any callable ``(tokens [b, l], known [b, l], query [b, k] | None) -> logits [b, l or k, v]``.
Tokens are 0 where nothing is known: embed ``known``, do not compare ids. With a query, the logits of
just those positions are returned; a model that cannot do so cheaply may gather them.

Two things a model may have beside the call:

- ``attend(canvas, query)``, used instead of the call by what reads more of the canvas: rows' lengths
  (``canvas.padding``; known includes padding), or ages (`unisono.masked.run.cache`); it may set ``computed``,
  the positions that its last call computed.
- ``rows(index)``: the same model conditioned on some rows of the batch, which `compact` needs.

A stage may call more than once per step, or other models (guidance, critics): every call counts.

Letters: b batch, l positions, k queried positions, v vocabulary.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unisono.errors import UnisonoError
from unisono.masked.canvas import Canvas


class Model(Protocol):
    """What predicts the masked tokens."""

    def __call__(
        self, tokens: Int[Tensor, "b l"], known: Bool[Tensor, "b l"], query: Int[Tensor, "b k"] | None
    ) -> Float[Tensor, "b k v"]: ...


class Handle:
    """A model and its bill: `nfe` batched evaluations, `positions` computed in them over all rows."""

    def __init__(self, model: Any):
        self.model = model
        self.nfe = 0
        self.positions = 0

    def __call__(
        self, canvas: Canvas, query: Int[Tensor, "b k"] | None = None, model: Any = None, width: int | None = None
    ) -> Float[Tensor, "b k v"]:
        """Logits of every position, or of `query`, by the handle's model or by another one.

        `width` is how many numbers per position are expected, if not the vocabulary's size.

        Raises:
            UnisonoError: if what the model returns is not [rows, positions, vocabulary].
        """
        model = self.model if model is None else model
        if hasattr(model, "attend"):
            logits = model.attend(canvas, query)
        else:
            logits = model(canvas.tokens, canvas.known, query)
        asked = (
            *(canvas.tokens if query is None else query).shape,
            canvas.layout.vocab_size if width is None else width,
        )
        if logits.shape != asked:
            raise UnisonoError(
                f"the model returned logits of shape {tuple(logits.shape)}: "
                f"{asked} [rows, positions, vocabulary] was asked for",
                code="shape",
                path="logits",
                value=tuple(logits.shape),
            )
        if not logits.dtype.is_floating_point:
            raise UnisonoError(
                f"the model returned logits of type {logits.dtype}: give real numbers",
                code="type",
                path="logits",
                value=logits.dtype,
            )
        computed = getattr(model, "computed", None)
        computed = asked[0] * asked[1] if computed is None else computed
        self.nfe += computed > 0  # an answer from memory is no evaluation
        self.positions += computed
        return logits

    def rows(self, index: Int[Tensor, " n"]) -> Handle:
        """A handle on the same model for some rows of the batch, with the same bill.

        Raises:
            UnisonoError: if the model has no ``rows``, so that nobody knows what its rows depend on.
        """
        return _Part(self, select_rows(self.model, index))


class _Part(Handle):
    """A handle that writes on another's bill."""

    def __init__(self, whole: Handle, model: Any):
        self.whole = whole
        self.model = model

    @property
    def nfe(self) -> int:
        return self.whole.nfe

    @nfe.setter
    def nfe(self, value: int) -> None:
        self.whole.nfe = value

    @property
    def positions(self) -> int:
        return self.whole.positions

    @positions.setter
    def positions(self, value: int) -> None:
        self.whole.positions = value

    def rows(self, index: Int[Tensor, " n"]) -> Handle:
        return _Part(self.whole, select_rows(self.model, index))


def select_rows(model: Any, index: Int[Tensor, " n"]) -> Any:
    """The model conditioned on rows `index`; raises if it has no ``rows``."""
    if not hasattr(model, "rows"):
        raise UnisonoError(
            f"{type(model).__name__} has no rows(index): add it, "
            "or wrap a model that treats every row alike in Unconditional",
            code="unsupported",
            path="model",
            value=type(model).__name__,
        )
    return model.rows(index)


class Unconditional:
    """A model that treats every row alike, said so: its rows can be selected."""

    def __init__(self, model: Model):
        self.model = model

    def __call__(self, tokens: Tensor, known: Tensor, query: Tensor | None) -> Tensor:
        return self.model(tokens, known, query)

    def rows(self, index: Int[Tensor, " n"]) -> Unconditional:
        return self


def at_sites(values: torch.Tensor, query: Int[Tensor, "b k"] | None) -> torch.Tensor:
    """What a model may use to honour `query`: gather [b, l, …] at [b, k]."""
    if query is None:
        return values
    return values[torch.arange(len(query), device=query.device)[:, None], query]

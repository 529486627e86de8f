"""OnFrozenModel: what is trained on a frozen text/ar, to draw several tokens from one evaluation of it.

The base is a component: it lies in the export, keeps its own weights, and decides on every token. So the texts, their
likelihood and their tokenizer are the base's.

Shapes: b batch, t tokens, d channels. Masks: True = keep.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from unisono import Text
from unisono.errors import RecipeError
from unisono.model import OnStep
from unisono.verify import KVCache

from unisono_text.lossless.request import ContinueRequest
from unisono_text.lossless.serve import continue_texts, stream_text
from unisono_text.models.ar import Autoregressive
from unisono_text.models.language import LanguageModel
from unisono_text.models.sizes import TransformerSizes


class OnFrozenModel(LanguageModel):
    """The base of ``text/medusa``, ``text/pass``, ``text/parallelspec`` and ``text/hidden-transfer``.

    Args:
        dim: channels of the base, which must be the same.
    """

    Request: ClassVar[type[ContinueRequest]] = ContinueRequest
    exact: ClassVar[bool] = True
    flat: ClassVar[dict[str, str]] = {}
    roles: ClassVar[dict[str, str]] = {
        "base": "the text/ar whose texts are made in fewer evaluations",
        "draft": "a text/ar of the same tokenizer that proposes",
        "drafter": "a text/mdlm or text/block of the same tokenizer that proposes",
        "judge": "a text/ar that reads what was made; evaluation needs it",
    }
    component_kinds: ClassVar[dict[str, Any]] = {
        "base": Autoregressive,
        "draft": Autoregressive,
        "drafter": LanguageModel,
        "judge": Autoregressive,
    }
    builtin_components: ClassVar[dict[str, str]] = {"untrained": "unisono_text.models.untrained:base"}

    def __init__(self, dim: int = 768):
        super().__init__(network=TransformerSizes(dim=dim, num_layers=1, num_heads=1))
        self.dim, self.attention, self.remembers = dim, "causal", False

    @property
    def base(self) -> Any:
        """The frozen model."""
        return self.component("base")

    @property
    def block_size(self) -> int:
        return 1

    @property
    def kv_shape(self) -> tuple[int, int, int]:
        return self.base.kv_shape

    def attach(self, role: str, component: Any) -> None:
        """Take a component; raises ``RecipeError`` where the base is of another size, kind or tokenizer."""
        if role == "base":
            if getattr(component, "attention", None) != "causal" or not hasattr(component, "shifted"):
                raise RecipeError(
                    f"the base is a {type(component).__name__}: give a text/ar",
                    code="unsupported",
                    path="components.base",
                    value=type(component).__name__,
                )
            if component.net.dim != self.dim:
                raise RecipeError(
                    f"model.dim={self.dim}, the base has {component.net.dim}: set it to that",
                    code="conflict",
                    path="model.dim",
                    value=self.dim,
                )
            if component.tokenizer.digest != self.tokenizer.digest:
                raise RecipeError(
                    f"the base has another tokenizer ({component.vocabulary} tokens) than the data "
                    f"({self.vocabulary}): prepare the data with the settings that the base was trained with",
                    code="conflict",
                    path="components.base",
                )
        super().attach(role, component)

    def target_network(self, decoding: str) -> Any:
        """Return the network that texts are made with."""
        return self.causal

    def causal(
        self,
        tokens: Int[Tensor, "b n"],
        positions: Int[Tensor, "b n"],
        visible: Bool[Tensor, "b n n"],
        cache: KVCache | None,
    ) -> Float[Tensor, "b n ..."]:
        """Return the base's logits of what follows each token."""
        return self.base.causal(tokens, positions, visible, cache)

    def hidden(self, batch: dict[str, Any]) -> Float[Tensor, "b t d"]:
        """Return the base's states from which it predicts each token of a batch, without gradients."""
        mask = self.base.attention_mask(batch) if batch.get("documents") is not None else None
        with torch.no_grad():
            return self.base.net(self.base.shifted(batch), mask, hidden=True)

    def predict(self, tokens: Tensor, sees: Any = None, positions: Any = None, cache: Any = None) -> Tensor:
        """Return the base's logits of what follows each token."""
        return self.base.predict(tokens, sees, positions, cache)

    def bound(self, batch: dict[str, Any], num_samples: int = 1, seed: int = 0) -> Float[Tensor, " b"]:
        """Return the base's negative log-likelihood of each row's learnt tokens, in nats."""
        return self.base.bound(batch, num_samples, seed)

    def synthesize(
        self,
        requests: Sequence[Any],
        generator: torch.Generator | None = None,
        on_step: OnStep | None = None,
    ) -> list[Text]:
        return continue_texts(self, requests, generator, on_step)

    def stream(self, request: Any, generator: torch.Generator | None = None) -> Iterator[Text]:
        """Yield what is made as it is committed."""
        return stream_text(self, request, generator)

    def snapshots(self, request: Any, generator: torch.Generator | None = None) -> Iterator[Text]:
        """Yield the text alone: it is read from left to right, so a stream shows how it grows."""
        yield from self.synthesize([request], generator)

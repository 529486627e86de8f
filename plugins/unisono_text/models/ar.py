"""text/ar: the same transformer, causal: baseline, draft, guide, judge, and target of lossless decoding.

Each token is predicted from those before it; the first from the tokenizer's ``bos``, or, where it has none, from the
row of the embedding that stands for a mask in the other models. So texts of every model are measured over the same
tokens, and a model of masks can begin with these weights (``run.init_from``): Dimple's two phases (Yu et al.,
arXiv:2505.16990), autoregressive first, then diffusion. Differences from Dimple: the outputs are not read one
position further on after the change; the mask's row is untrained when diffusion begins.

With ``noise`` it is tuned to say the right tokens behind wrong ones (`unisono_text.lossless.noise`): another law, of
which Jacobi iteration needs fewer rounds.

Shapes: b batch, t tokens, v vocabulary. Masks: True = keep.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F
from unisono import Text
from unisono.errors import RecipeError
from unisono.model import OnStep
from unisono.verify import KVCache

from unisono_text.lossless.networks import mask_of
from unisono_text.lossless.noise import NoiseSpec, noised
from unisono_text.lossless.request import ContinueRequest
from unisono_text.lossless.serve import continue_texts, stream_text
from unisono_text.models.language import LanguageModel
from unisono_text.models.sizes import TransformerSizes


class Autoregressive(LanguageModel):
    """A causal transformer that predicts the next token.

    Args:
        network: sizes of the transformer.
        noise: what of a text is noised in training.
    """

    Request: ClassVar[type[ContinueRequest]] = ContinueRequest
    salt: ClassVar[str] = "ar"
    exact: ClassVar[bool] = True
    roles: ClassVar[dict[str, str]] = {
        "draft": "a text/ar of the same tokenizer that proposes",
        "drafter": "a text/mdlm or text/block of the same tokenizer that proposes",
        "judge": "a text/ar that reads what was made; evaluation needs it",
    }

    def __init__(
        self,
        *,
        network: TransformerSizes = TransformerSizes(),  # noqa: B008
        noise: NoiseSpec = NoiseSpec(),  # noqa: B008
    ):
        super().__init__(network=network)
        self.attention, self.noise = "causal", noise

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build for the data; raises ``RecipeError`` for spans of noise that no row has room for."""
        super().build(facts)
        if self.noise.span >= self.context:
            raise RecipeError(
                f"model.noise.span={self.noise.span}, but a row has {self.context} tokens at most: give fewer",
                code="range",
                path="model.noise.span",
                value=self.noise.span,
            )
        if self.noise.span:
            self.tuned("noise")

    def tuned(self, objective: str) -> None:
        """Note in the facts what the weights are tuned by beside the likelihood: their law is their own."""
        known = self.facts.tuned or ()
        if objective not in known:
            self.facts = replace(self.facts, tuned=(*known, objective))

    def shifted(self, batch: dict[str, Any]) -> Int[Tensor, "b t"]:
        """Return what stands before each token: the one before it, or the start at the head of each document."""
        tokens = batch["tokens"].clamp(0, self.vocabulary - 1)
        before = F.pad(tokens[:, :-1], (1, 0), value=self.start_id)
        documents = batch.get("documents")
        if documents is not None:
            heads = F.pad(documents[:, 1:] != documents[:, :-1], (1, 0), value=True)
            before = before.masked_fill(heads, self.start_id)
        return before

    def cost(self, batch: dict[str, Any], read: Int[Tensor, "b t"] | None = None) -> Float[Tensor, "b t"]:
        """Return the negative log-likelihood of each token in nats, 0 for what is padding or given.

        ``read`` are tokens that are read in the place of the batch's own.
        """
        # A causal network never sees padding behind it: only documents need a mask.
        mask = self.attention_mask(batch) if batch.get("documents") is not None else None
        logits = self.predict(self.shifted(batch if read is None else {**batch, "tokens": read}), mask)
        return self.price(logits, batch)

    def price(self, logits: Float[Tensor, "b t v"], batch: dict[str, Any]) -> Float[Tensor, "b t"]:
        """Return what each token of a batch costs by the logits of its place, 0 for what is padding or given."""
        targets = batch["tokens"].masked_fill(~self.learnt(batch), -100)
        losses = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="none")
        return losses.view_as(targets)

    def token_losses(
        self, batch: dict[str, Any], seeds: Sequence[int]
    ) -> tuple[dict[str, Float[Tensor, "b t"]], Bool[Tensor, "b t"]]:
        learnt = self.learnt(batch)
        read = noised(batch["tokens"], learnt, batch.get("documents"), seeds, self.noise) if self.training else None
        return {"loss": self.cost(batch, read)}, learnt

    @torch.no_grad()
    def bound(self, batch: dict[str, Any], num_samples: int = 1, seed: int = 0) -> Float[Tensor, " b"]:
        """Return the negative log-likelihood of each row's learnt tokens, in nats; the other arguments do nothing."""
        return self.cost(batch).double().sum(1)

    def target_network(self, decoding: str) -> Any:
        """Return the network that texts are made with, by any method."""
        return self.causal

    def causal(
        self,
        tokens: Int[Tensor, "b n"],
        positions: Int[Tensor, "b n"],
        visible: Bool[Tensor, "b n n"],
        cache: KVCache | None,
    ) -> Float[Tensor, "b n v"]:
        """Return the logits of what follows each token, as `unisono.verify.Target` asks for them."""
        return self.predict(tokens, mask_of(visible, cache), positions, cache)

    @property
    def head_weight(self) -> Float[Tensor, "v d"]:
        """What makes logits of states."""
        return self.net.head.weight

    def say(self, hidden: Float[Tensor, "b n d"]) -> Float[Tensor, "b n v"]:
        """Return the logits of normalised states."""
        return self.net.head(hidden)

    def read_vectors(
        self,
        x: Float[Tensor, "b n d"],
        sees: Bool[Tensor, "b n m"] | None = None,
        positions: Int[Tensor, "b n"] | None = None,
        cache: KVCache | None = None,
    ) -> Float[Tensor, "b n v"]:
        """Return what `predict` does, of vectors in the place of tokens."""
        return self.net.trunk(x, sees, positions, cache)

    def synthesize(
        self,
        requests: Sequence[Any],
        generator: torch.Generator | None = None,
        on_step: OnStep | None = None,
    ) -> list[Text]:
        return continue_texts(self, requests, generator, on_step)

    def stream(self, request: Any, generator: torch.Generator | None = None) -> Iterator[Text]:
        """Yield what each round adds, the first with the prompt."""
        return stream_text(self, request, generator)

    def snapshots(self, request: Any, generator: torch.Generator | None = None) -> Iterator[Text]:
        """Yield the text alone: it is read from left to right, so a stream shows how it grows."""
        yield from self.synthesize([request], generator)


Autoregressive.component_kinds = {"draft": Autoregressive, "drafter": LanguageModel, "judge": Autoregressive}

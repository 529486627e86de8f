"""text/parallelspec: a one-call draft that reads a frozen text/ar's own states (ParallelSpec).

Xiao et al., "ParallelSpec: Parallel Drafter for Efficient Speculative Decoding" (arXiv:2410.05589), on the features of
EAGLE (Li et al., 2024, arXiv:2401.15077)::

    text/ar, frozen    states  h_1 … h_{c−1}
                                │       │
    draft              x_1  x_2+W h_1 … x_c+W h_{c−1}  [M] [M] … [M]      one call, K − 1 masks
                                         │              │       │
                                       x_{c+1}        x_{c+2} … x_{c+K}

Beside each token the draft reads the state that the base predicted it from; a mask has none, for its token is not
known yet. So a small draft knows what the base knows. It is trained to say what the base would (cross-entropy with
the base's law, token by token), over the chains of ``mask_chains``, and serves this one base: text/pard is the draft
that needs none (its ``features`` are none).

Differs: W h is added to the embedding, where EAGLE's layer reads both side by side; no loss on the states themselves;
chains are dropped as PARD drops them. The base's states are not there before its first evaluation, so that the first
round proposes nothing.

Shapes: b batch, t tokens, m masks, d channels, v vocabulary. Masks of attention: True = keep.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.verify import KVCache

from unisono_text.lossless.frozen_base import OnFrozenModel
from unisono_text.lossless.mask_chains import ChainSpec, MaskChains
from unisono_text.lossless.pard import asked, columns, hits, with_mask_rows
from unisono_text.lossless.request import ContinueRequest
from unisono_text.models.sizes import TransformerSizes
from unisono_text.models.transformer import TextTransformer

DRAFT = TransformerSizes(num_layers=1, dropout=0.0)


class ParallelSpec(OnFrozenModel):
    """A parallel draft on the states of a text/ar (component ``base``), trained while that is frozen.

    Args:
        dim: channels of the base, which must be the same.
        network: sizes of the draft.
        chain: how many tokens a call predicts, and what of that is trained.
    """

    salt: ClassVar[str] = "parallelspec"

    def __init__(
        self,
        *,
        dim: int = 768,
        network: TransformerSizes = DRAFT,
        chain: ChainSpec = ChainSpec(),  # noqa: B008
    ):
        super().__init__(dim)
        self.draft_sizes, self.chain = network, chain

    def make_net(self) -> nn.Module:
        rows = self.vocabulary + 1 + self.chain.num_masks
        return FeatureTransformer(rows, self.vocabulary, self.draft_sizes, self.dim)

    @property
    def mask_ids(self) -> tuple[int, ...]:
        """The ids that the draft knows the masks by, step by step: behind all tokens."""
        return self.chain.mask_ids(self.vocabulary + 1)

    def read_source(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Begin with a text/ar or a text/pard: its weights, and what it lacks as it is drawn."""
        return with_mask_rows(self, state)

    def shifted(self, batch: dict[str, Any]) -> Int[Tensor, "b t"]:
        """Return what stands before each token, as the base reads it."""
        return self.base.shifted(batch)

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        hidden, documents = self.hidden(batch), batch.get("documents")
        chains = MaskChains.draw(self.chain, batch["lengths"], self.row_seeds(batch))
        reading, positions, visible = columns(self, batch, chains)
        states = F.pad(hidden[:, :-1], (0, 0, 1, 0))
        if documents is not None:
            heads = F.pad(documents[:, 1:] != documents[:, :-1], (1, 0), value=True)
            states = states.masked_fill(heads[:, :, None], 0)
        states = F.pad(states, (0, 0, 0, chains.step.shape[1]))
        logits = self.net.with_states(reading, states, visible, positions)
        with torch.no_grad():
            law = self.base.net.head(hidden)[..., : self.vocabulary].float().softmax(-1)
            at = chains.asked[:, :, None].expand(-1, -1, law.shape[-1])
            law = torch.cat([law, law.gather(1, at)], 1)
        wanted, there = asked(self, batch, chains)
        cost = -(law * logits.float().log_softmax(-1)).sum(-1)
        return {"loss": self.global_mean(cost, there), **hits(self, logits, wanted, there, chains)}

    def target_network(self, decoding: str) -> Any:
        """Return the base; for this model's own method, one that leaves its states behind, new for each call."""
        return WithStates(self) if decoding == "parallelspec" else self.base.causal

    def preview_requests(self) -> list[ContinueRequest]:
        prompts = ["", *self.facts.sample_texts[:1]]
        return [ContinueRequest(text=text, length=16, decoding="parallelspec") for text in prompts]


class FeatureTransformer(TextTransformer):
    """A causal transformer that reads a state beside each token."""

    def __init__(self, vocabulary_in: int, vocabulary_out: int, sizes: TransformerSizes, base_dim: int):
        super().__init__(vocabulary_in, vocabulary_out, sizes, "causal")
        self.state_in = nn.Linear(base_dim, sizes.dim, bias=False)
        nn.init.normal_(self.state_in.weight, std=0.02)

    def with_states(
        self,
        tokens: Int[Tensor, "b n"],
        states: Float[Tensor, "b n d"],
        mask: Bool[Tensor, "b n m"],
        positions: Int[Tensor, "b n"],
        cache: KVCache | None = None,
    ) -> Float[Tensor, "b n v"]:
        """Return logits; a state of 0 is none."""
        return self(tokens, mask, positions, cache, extra=self.state_in(states.to(self.state_in.weight.dtype)))


class WithStates:
    """A base as a network of `unisono.verify`, and its draft as another, which reads what the base left behind.

    States are kept by position. Those of refused tokens are overwritten when their position is read again, before
    the draft asks for it: the draft reads, at a committed token, the state of the one before it. For chains, since
    the nodes of a tree share positions. Make one for each call of ``decode``.
    """

    def __init__(self, model: ParallelSpec):
        self.model = model
        self.states: Tensor | None = None

    def __call__(
        self, tokens: Int[Tensor, "b n"], positions: Int[Tensor, "b n"], visible: Bool[Tensor, "b n n"], cache: Any
    ) -> Float[Tensor, "b n v"]:
        """The base's logits; its states are kept."""
        net = self.model.base.net
        hidden = net(tokens, visible if cache is None else cache.mask(visible), positions, cache, hidden=True)
        states, need = self.states, int(positions.max()) + 1
        have = 0 if states is None else states.shape[1]
        if states is None or have < need:
            bigger = hidden.new_zeros(len(hidden), max(need, 2 * have), hidden.shape[2])
            if states is not None:
                bigger[:, :have] = states
            states = self.states = bigger
        states.scatter_(1, positions[:, :, None].expand_as(hidden), hidden)
        return net.head(hidden)[..., : self.model.vocabulary]

    def draft(
        self, tokens: Int[Tensor, "b n"], positions: Int[Tensor, "b n"], visible: Bool[Tensor, "b n n"], cache: Any
    ) -> Float[Tensor, "b n v"]:
        """The draft's logits, of tokens and masks."""
        assert self.states is not None  # the base is evaluated first
        before = (positions - 1).clamp(0, self.states.shape[1] - 1)
        states = self.states.gather(1, before[:, :, None].expand(*before.shape, self.states.shape[2]))
        none = (positions == 0) | (tokens > self.model.vocabulary)
        states = states.masked_fill(none[:, :, None], 0)
        mask = visible if cache is None else cache.mask(visible)
        return self.model.net.with_states(tokens, states, mask, positions, cache)

"""text/pard: a text/ar that also reads masks, and so drafts K tokens in one call (PARD).

An et al., "PARD: Accelerating LLM Inference with Low-Cost Parallel Draft Model Adaptation" (arXiv:2504.18583)::

    x_1 … x_c  [M] [M] … [M]      one call, K − 1 masks at the positions of the tokens that nobody knows yet
         │      │   │      │
      x_{c+1}  …          x_{c+K}

Training adapts a small text/ar (``run.init_from``): see ``mask_chains``. It does not look at the target, so that one
draft serves every target of its tokenizer, as component ``draft``. Masks are rows of the embedding behind all
tokens, and are never said. Without masks it is a text/ar like any other.

Differs: the paper reuses ids that its tokenizer has left over. Published: K 8, r .7, r_min .2, learning rate 3e-5.

Shapes: b batch, t tokens, m masks, v vocabulary. Masks of attention: True = keep.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from unisono_text.lossless.mask_chains import ChainSpec, MaskChains
from unisono_text.models.ar import Autoregressive
from unisono_text.models.sizes import TransformerSizes
from unisono_text.models.transformer import TextTransformer


class PARD(Autoregressive):
    """A causal transformer that predicts the next token, and those behind it where it reads masks.

    Args:
        network: sizes of the transformer.
        chain: how many tokens a call predicts, and what of that is trained.
    """

    salt: ClassVar[str] = "pard"

    def __init__(
        self,
        *,
        network: TransformerSizes = TransformerSizes(),  # noqa: B008
        chain: ChainSpec = ChainSpec(),  # noqa: B008
    ):
        super().__init__(network=network)
        self.chain = chain

    def make_net(self) -> nn.Module:
        rows = self.vocabulary + 1 + self.chain.num_masks
        return TextTransformer(rows, self.vocabulary, self.sizes, self.attention)

    @property
    def mask_ids(self) -> tuple[int, ...]:
        """The ids that the network knows the masks by, step by step: behind all tokens."""
        return self.chain.mask_ids(self.vocabulary + 1)

    def read_source(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Begin with a text/ar: its weights, and the masks' rows as they are drawn."""
        return with_mask_rows(self, state)

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        chains = MaskChains.draw(self.chain, batch["lengths"], self.row_seeds(batch))
        reading, positions, visible = columns(self, batch, chains)
        logits = self.predict(reading, visible, positions)
        wanted, there = asked(self, batch, chains)
        cost = F.cross_entropy(logits.float().transpose(1, 2), wanted, reduction="none")
        parts = {"loss": self.global_mean(cost, there), **hits(self, logits, wanted, there, chains)}
        if self.facts.characters_per_token:
            t = batch["tokens"].shape[1]
            nats = self.global_mean(cost[:, :t].detach(), there[:, :t])
            parts["bits_per_character"] = nats / (math.log(2) * self.facts.characters_per_token)
        return parts


def columns(
    model: Any, batch: dict[str, Any], chains: MaskChains
) -> tuple[Int[Tensor, "b t+m"], Int[Tensor, "b t+m"], Bool[Tensor, "b t+m t+m"]]:
    """Return what the columns of a batch read, their positions, and what each sees: the text's, then the masks'.

    ``model`` has ``mask_ids``, ``shifted`` and ``device``.
    """
    text = model.shifted(batch)
    b, t = text.shape
    masks = torch.tensor(model.mask_ids, device=text.device)[chains.step - 1]
    positions = torch.cat([torch.arange(t, device=text.device).expand(b, t), chains.asked], 1)
    return torch.cat([text, masks], 1), positions, chains.visible(t, batch.get("documents"))


def asked(model: Any, batch: dict[str, Any], chains: MaskChains) -> tuple[Int[Tensor, "b t+m"], Bool[Tensor, "b t+m"]]:
    """Return the token that each column predicts, and which of them are learnt."""
    learnt = model.learnt(batch)
    there = chains.inside(batch.get("documents")) & learnt.gather(1, chains.asked)
    tokens = batch["tokens"].clamp_min(0)
    return torch.cat([tokens, tokens.gather(1, chains.asked)], 1), torch.cat([learnt, there], 1)


def hits(
    model: Any,
    logits: Float[Tensor, "b t+m v"],
    wanted: Int[Tensor, "b t+m"],
    there: Bool[Tensor, "b t+m"],
    chains: MaskChains,
) -> dict[str, Float[Tensor, ""]]:
    """Return how often the likeliest token of each sub-task is right, as ``top1_1`` …"""
    hit = (logits.detach().argmax(-1) == wanted).float()
    task = F.pad(chains.step, (wanted.shape[1] - chains.step.shape[1], 0))
    return {f"top1_{k + 1}": model.global_mean(hit, there & (task == k)) for k in range(model.chain.num_draft)}


def with_mask_rows(model: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights in which an embedding without masks has those of ``model`` behind its own rows."""
    name, own = "net.embedding.weight", model.net.embedding.weight
    its = state.get(name)
    if its is None or its.shape != (len(own) - model.chain.num_masks, own.shape[1]):
        return state
    return {**state, name: torch.cat([its, own[len(its) :].detach().to(its)])}

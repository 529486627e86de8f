"""text/llama-pard: a Llama or Qwen2 of published size that drafts K tokens in one call (PARD, arXiv:2504.18583).

As ``text/pard``, on the transformer of the large open models. Masks are the first rows of the embedding that no token
has, as in the published drafts: a small model of a family is adapted (``run.init_from``) and drafts for all of it.

Shapes: b batch, n tokens, m keys, v vocabulary. Masks of attention: True = keep.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from unisono.errors import DataError
from unisono.verify import KVCache

from unisono_text.lossless.mask_chains import ChainSpec
from unisono_text.lossless.pard import PARD
from unisono_text.models.large import Large, LargeSizes, LargeTransformer, spoken
from unisono_text.models.transformer import Keep

QWEN_05B = LargeSizes(896, 24, 14, 2, 4864, rope_base=1e6, norm_eps=1e-6, biased=True, tied=True)


class LlamaPARD(Large, PARD):
    """A causal Llama or Qwen2 that predicts the next token, and those behind it where it reads masks.

    Args:
        network: its sizes.
        chain: how many tokens a call predicts, and what of that is trained.
    """

    salt: ClassVar[str] = "llama-pard"
    flat: ClassVar[dict[str, str]] = {}

    def __init__(
        self,
        *,
        network: LargeSizes = QWEN_05B,
        chain: ChainSpec = ChainSpec(),  # noqa: B008
    ):
        super().__init__(network=network.transformer, chain=chain)
        self.network = network

    @property
    def mask_ids(self) -> tuple[int, ...]:
        """The ids that the network knows the masks by, step by step: the first that no token has."""
        return self.chain.mask_ids(max(self.vocabulary, self.start_id + 1))

    def make_net(self) -> nn.Module:
        """Return the network once the vocabulary is known; raises ``DataError`` where it has too few rows."""
        sizes, least = self.network, max(self.mask_ids) + 1
        if 0 < sizes.rows < least:
            raise DataError(
                f"model.network.rows={sizes.rows}, but the tokenizer has {self.vocabulary} tokens, and masks are "
                f"behind them: at least {least}, or 0 for as many as are needed",
                code="range",
                path="model.network.rows",
                value=sizes.rows,
            )
        return LargeTransformer(sizes, sizes.rows or least, self.attention).to(getattr(torch, sizes.kind))

    def predict(
        self,
        tokens: Int[Tensor, "b n"],
        sees: Bool[Tensor, "b n m"] | Bool[Tensor, "b n"] | None = None,
        positions: Int[Tensor, "b n"] | None = None,
        cache: Keep | None = None,
    ) -> Float[Tensor, "b n v"]:
        """Return the logits of what follows each token; never of a mask."""
        return spoken(self, self.net(tokens, sees, positions, cache))

    def causal(
        self,
        tokens: Int[Tensor, "b n"],
        positions: Int[Tensor, "b n"],
        visible: Bool[Tensor, "b n n"],
        cache: KVCache | None,
    ) -> Float[Tensor, "b n v"]:
        """Return the logits of what follows each token, as `unisono.verify.Target` asks for them."""
        return self.predict(tokens, visible if cache is None else cache.mask(visible), positions, cache)

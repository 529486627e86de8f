"""text/llama-pard: a Llama or Qwen2 of published size that drafts K tokens in one call (PARD, arXiv:2504.18583).

As ``text/pard``, on the transformer of the large open models. Masks are the first rows of the embedding that no token
has, as in the published drafts: a small model of a family is adapted (``run.init_from``) and drafts for all of it.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn
from unisono.errors import DataError

from unisono_text.lossless.mask_chains import ChainSpec
from unisono_text.lossless.pard import PARD
from unisono_text.models.large import LargeSizes, LargeTransformer
from unisono_text.models.llama import QWEN_05B, LargeCausal


class LlamaPARD(LargeCausal, PARD):
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

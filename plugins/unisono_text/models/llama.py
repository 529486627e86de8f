"""text/llama: the large open autoregressive models, Llama's and Qwen2's, as text/ar and text/space are.

``published`` reads their weights from folders in Hugging Face's layout. They go on from prompts with every decoding of
``text/ar``, are a base of ``text/pass``, and are tuned by the same recipes, with adapters or without: ``noise`` (Make
Some Noise) by ``text/llama``, masks (SPACE) and lexical units (LUD) by ``text/llama-space``.

A text begins behind the tokenizer's ``bos``; Qwen2's published code puts none before a prompt, here it stands there.
Rows of the embedding that no token has are never said.

Shapes: b batch, n tokens, m keys, v vocabulary. Masks: True = keep.
"""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Bool, Float, Int
from torch import Tensor

from unisono_text.lossless.noise import NoiseSpec
from unisono_text.lossless.space import MaskSpec, Space
from unisono_text.models.ar import Autoregressive
from unisono_text.models.large import Large, LargeSizes, spoken
from unisono_text.models.transformer import Keep

QWEN_05B = LargeSizes(896, 24, 14, 2, 4864, rope_base=1e6, norm_eps=1e-6, biased=True, tied=True)


class LargeCausal(Large, Autoregressive):
    """What the two share: a causal network of published sizes, of which the vocabulary's rows are said."""

    @property
    def last_id(self) -> int:
        return max(self.vocabulary - 1, self.start_id)

    def predict(
        self,
        tokens: Int[Tensor, "b n"],
        sees: Bool[Tensor, "b n m"] | Bool[Tensor, "b n"] | None = None,
        positions: Int[Tensor, "b n"] | None = None,
        cache: Keep | None = None,
    ) -> Float[Tensor, "b n v"]:
        """Return the logits of what follows each token."""
        return spoken(self, self.net(tokens, sees, positions, cache))

    @property
    def head_weight(self) -> Float[Tensor, "v d"]:
        """What makes logits of states."""
        head = self.net.embedding if self.net.own_head is None else self.net.own_head
        return head.weight[: self.vocabulary]

    def say(self, hidden: Float[Tensor, "b n d"]) -> Float[Tensor, "b n v"]:
        """Return the logits of normalised states."""
        return spoken(self, self.net.head(hidden))

    def read_vectors(
        self,
        x: Float[Tensor, "b n d"],
        sees: Bool[Tensor, "b n m"] | None = None,
        positions: Int[Tensor, "b n"] | None = None,
        cache: Keep | None = None,
    ) -> Float[Tensor, "b n v"]:
        """Return what `predict` does, of vectors in the place of tokens."""
        return spoken(self, self.net.trunk(x, sees, positions, cache))


class Llama(LargeCausal):
    """A causal Llama or Qwen2.

    Args:
        network: its sizes.
        noise: what of a text is noised in training.
    """

    salt: ClassVar[str] = "llama"
    flat: ClassVar[dict[str, str]] = {}

    def __init__(
        self,
        *,
        network: LargeSizes = QWEN_05B,
        noise: NoiseSpec = NoiseSpec(),  # noqa: B008
    ):
        super().__init__(network=network.transformer, noise=noise)
        self.network = network


class LlamaSpace(LargeCausal, Space):
    """A causal Llama or Qwen2 that says several tokens behind masks.

    Args:
        network: its sizes.
        masks: what is asked behind them in training.
    """

    salt: ClassVar[str] = "llama-space"
    flat: ClassVar[dict[str, str]] = {}

    def __init__(
        self,
        *,
        network: LargeSizes = QWEN_05B,
        masks: MaskSpec = MaskSpec(),  # noqa: B008
    ):
        super().__init__(network=network.transformer, masks=masks)
        self.network = network

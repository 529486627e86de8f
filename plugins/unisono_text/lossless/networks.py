"""Causal networks: as `unisono.verify` reads them; text/ar's own, and any causal one of ``transformers``.

Verification asks for the logits of tokens at given positions under a given mask, with keys and values that can be
forgotten again. A transformer needs three things for that: a mask of what each new token sees, the tokens' positions,
and a cache that it appends to. ``CausalNetwork`` hands them to this plugin's transformer; ``TransformersNetwork`` to a
model of the ``transformers`` library, whose cache it replaces by one with rollback (`unisono.verify.KVCache`).

Whether a model of that library honours masks and positions is not taken on trust: when it is wrapped, three tokens go
through it twice, once as they are and once with a stranger between them that nobody may see, and the logits must agree.
Models with sliding windows, linear attention or biases by distance of slots are refused by that.

Letters: b batch, n new tokens, m keys, v vocabulary. Masks: True = keep.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from unisono.errors import UnisonoError
from unisono.verify import KVCache


def mask_of(visible: Bool[Tensor, "b n n"], cache: KVCache | None) -> Bool[Tensor, "b n m"] | None:
    """Return what each new token sees of all keys; None where a single one sees all that the cache holds."""
    if cache is None:
        return visible
    return None if cache.sees_all(visible.shape[1]) else cache.mask(visible)


class CausalNetwork:
    """A transformer of this plugin as a network of `verify`, with KV rollback and trees.

    Args:
        transformer: called as (tokens, mask [b, n, m], positions, cache), returns logits. With a cache, no mask is
            given to a single new token that sees all.
        read: what makes logits of its output; extra heads return [b, n, 1 + heads, v]. Default: nothing is done.
    """

    def __init__(self, transformer: Callable[..., Tensor], read: Callable[[Tensor], Tensor] | None = None):
        self.transformer, self.read = transformer, read

    def __call__(
        self,
        tokens: Int[Tensor, "b n"],
        positions: Int[Tensor, "b n"],
        visible: Bool[Tensor, "b n n"],
        cache: KVCache | None,
    ) -> Float[Tensor, "b n ..."]:
        out = self.transformer(tokens, mask=mask_of(visible, cache), positions=positions, cache=cache)
        return out if self.read is None else self.read(out)


class TransformersNetwork:
    """A causal language model of ``transformers`` as a network of `verify`, with KV rollback and trees.

    Raises:
        UnisonoError: for a model whose logits depend on tokens that its mask hides, see the module's docstring, or
            that has no output of logits.
    """

    def __init__(self, model: nn.Module):
        self.model: Any = model
        self.vocab_size = int(self.model.config.get_text_config().vocab_size)
        names = inspect.signature(model.forward).parameters
        self._cache_name = "cache" if "cache" in names else "past_key_values"
        self._check()

    @property
    def device(self) -> torch.device:
        """Where its tokens must be."""
        return next(self.model.parameters()).device

    def __call__(
        self,
        tokens: Int[Tensor, "b n"],
        positions: Int[Tensor, "b n"],
        visible: Bool[Tensor, "b n n"],
        cache: KVCache | None,
    ) -> Float[Tensor, "b n v"]:
        seen = visible if cache is None else cache.mask(visible)
        dtype = next(self.model.parameters()).dtype
        hidden = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
        hidden.masked_fill_(~seen, torch.finfo(dtype).min)
        given = {} if cache is None else {self._cache_name: _appending(cache)}
        out = self.model(
            input_ids=tokens,
            attention_mask=hidden[:, None],
            position_ids=positions,
            use_cache=cache is not None,
            **given,
        )
        return out.logits

    @torch.no_grad()
    def _check(self) -> None:
        was = self.model.training
        self.model.eval()
        try:
            tokens = torch.arange(3, device=self.device)[None] % self.vocab_size
            plain = self.model(input_ids=tokens, use_cache=False).logits
            # The second of the four is hidden from the rest, and shares its position with the third.
            visible = torch.ones(4, 4, dtype=torch.bool, device=self.device).tril()
            visible[2:, 1] = False
            masked = torch.tensor([[0, 5 % self.vocab_size, 1 % self.vocab_size, 2 % self.vocab_size]])
            positions = torch.tensor([[0, 1, 1, 2]])
            cache = KVCache(1, self.device)
            logits = self(masked.to(self.device), positions.to(self.device), visible[None], cache)[:, [0, 2, 3]]
            entries = len(cache.layers)
        except (TypeError, ValueError, AttributeError, RuntimeError, IndexError, NotImplementedError) as error:
            raise UnisonoError(
                f"{type(self.model).__name__} cannot be read with a mask, positions and a cache of one's own "
                f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}): lossless decoding is "
                "for decoder-only models with full attention; load it with attn_implementation='sdpa' or 'eager'",
                code="unsupported",
                path="model",
                value=type(self.model).__name__,
            ) from None
        finally:
            self.model.train(was)
        scale = float(plain.abs().amax().clamp_min(1))
        allowed = 0.05 if plain.dtype in (torch.float16, torch.bfloat16) else 1e-3
        if not entries or float((logits - plain).abs().amax()) > allowed * scale:
            raise UnisonoError(
                f"{type(self.model).__name__} does not hold to the mask, the positions or the cache that it is given: "
                "lossless decoding is for decoder-only models with full attention",
                code="unsupported",
                path="model",
                value=type(self.model).__name__,
            )


def _appending(cache: KVCache) -> Any:
    """A cache as ``transformers`` calls it, which appends to ours."""
    from transformers.cache_utils import Cache, DynamicLayer

    class Appending(Cache):
        def __init__(self):
            super().__init__(layer_class_to_replicate=DynamicLayer)

        def update(self, key_states, value_states, layer_idx, *args, **kwargs):
            return cache.append(layer_idx, key_states, value_states)

        def get_seq_length(self, layer_idx=0):
            return int(cache.length.max()) if len(cache.length) else 0

    return Appending()

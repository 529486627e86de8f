"""Decoding: one call that continues prompts with any causal model, in fewer evaluations, by a method of the catalogue.

Shapes: b batch, n tokens of the prompts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from unisono.checks import is_whole
from unisono.errors import UnisonoError
from unisono.masked import Nucleus, TopTokens
from unisono.masked.random import row_seeds
from unisono.verify import KVCache, Prefix, Verified, decode

from unisono_text.lossless.catalogue import method_of
from unisono_text.lossless.entry import Means
from unisono_text.lossless.networks import TransformersNetwork


@torch.inference_mode()
def generate(
    model: Any,
    prompts: Int[Tensor, "b n"] | Sequence[Sequence[int]],
    decoding: str = "plain",
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    end: int | None = None,
    draft: Any = None,
    tokenizer: Any = None,
    draft_tokenizer: Any = None,
    cache: bool = True,
    on_round: Callable[[Prefix], None] | None = None,
    **options: Any,
) -> Verified:
    """Continue prompts with a causal model of ``transformers``, or with any network of `unisono.verify`.

    Args:
        model: such as ``AutoModelForCausalLM`` gives, or a network.
        prompts: token ids, each at least one; lists may differ in length.
        max_new_tokens: behind the longest prompt; every row ends at the same length.
        decoding: see the catalogue; ``medusa``, ``pass`` and ``parallel`` are for models of this plugin.
        temperature: 0 is greedy.
        seed: of all rows; row i draws with its own numbers.
        end: the id at which a row ends, such as ``model.config.eos_token_id``.
        draft: another such model, for methods with a ``draft``, such as ``speculative``; it must share the tokenizer.
        tokenizer, draft_tokenizer: where both are given, their vocabularies are compared.
        options: of the method, such as ``num_draft``; ``beams`` of ``arithmetic`` is how many rows share a lattice,
            and their number must be a multiple of it.

    Raises:
        UnisonoError: for an empty prompt, a draft of another vocabulary, a model that cannot be verified with, an
            unknown or unfit method, or an option that it does not take.
    """
    if not is_whole(max_new_tokens, 1):
        raise UnisonoError(
            f"max_new_tokens={max_new_tokens!r} must be a whole number of at least 1",
            code="range",
            path="max_new_tokens",
            value=max_new_tokens,
        )
    network = _network(model)
    device = getattr(network, "device", torch.device("cpu"))
    tokens, lengths = _padded(prompts, device)
    small = None
    if draft is not None:
        small = _network(draft)
        _same_tokens(network, small, tokenizer, draft_tokenizer)
    beams = 1 if options.get("beams") is None else options["beams"]
    if decoding == "arithmetic" and (not is_whole(beams, 1) or len(tokens) % beams):
        raise UnisonoError(
            f"beams={beams} must divide the {len(tokens)} rows: give each prompt that often",
            code="shape",
            path="beams",
            value=beams,
        )
    memory = KVCache if cache else None
    placed = None if memory is None else (lambda rows: KVCache(rows, device))
    method = method_of(decoding, Means(draft=small), cache=placed, **options)
    limit = tokens.shape[1] + max_new_tokens
    rows = row_seeds(seed, len(tokens), device)
    if decoding == "arithmetic":  # row seeds m·n … m·n + n − 1 share a lattice
        rows = seed % (2**62 // max(len(tokens), 1)) * len(tokens) + torch.arange(len(tokens), device=device)
    return decode(
        network,
        tokens,
        method,
        limit,
        seeds=rows,
        lengths=lengths,
        temperature=temperature,
        warp=warp_of(top_k, top_p),
        end=end,
        cache=placed,
        on_step=on_round,
    )


def warp_of(top_k: int | None, top_p: float | None) -> Callable[[Tensor], Tensor] | None:
    """Return what keeps the ``top_k`` likeliest tokens, and of those the likeliest that make up ``top_p``."""
    warps: list[Any] = []
    if top_k is not None:
        warps.append(TopTokens(top_k))
    if top_p is not None and top_p < 1:
        warps.append(Nucleus(top_p))
    return Warps(tuple(warps)) if warps else None


@dataclass(frozen=True)
class Warps:
    """Warps, one after the other; a class, so that another process can be told of it."""

    steps: tuple[Any, ...]

    def __call__(self, logits: Float[Tensor, "... v"]) -> Float[Tensor, "... v"]:
        for step in self.steps:
            logits = step(logits, None)
        return logits


def _network(model: Any) -> Any:
    if isinstance(model, nn.Module) and hasattr(model, "config") and hasattr(model, "get_input_embeddings"):
        return TransformersNetwork(model)
    if callable(model):
        return model
    raise UnisonoError(
        f"a {type(model).__name__} is no causal language model: give one of transformers, or a network",
        code="type",
        path="model",
        value=type(model).__name__,
    )


def _padded(prompts: Any, device: torch.device) -> tuple[Tensor, Tensor]:
    if isinstance(prompts, Tensor):
        rows = prompts.to(device)
        return rows, torch.full((len(rows),), rows.shape[1], dtype=torch.int64, device=device)
    if isinstance(prompts, str) or any(isinstance(row, str) for row in prompts):
        raise UnisonoError(
            "prompts are token ids, not text: encode them with the model's tokenizer first", code="type", path="prompts"
        )
    lengths = [len(row) for row in prompts]
    if not lengths or min(lengths) < 1:
        raise UnisonoError(
            "an empty prompt: give at least a start token, which the first prediction is made from",
            code="empty",
            path="prompts",
        )
    rows = torch.zeros(len(lengths), max(lengths), dtype=torch.int64)
    for i, row in enumerate(prompts):
        rows[i, : len(row)] = torch.as_tensor(row)
    return rows.to(device), torch.tensor(lengths, device=device)


def _same_tokens(network: Any, draft: Any, tokenizer: Any, draft_tokenizer: Any) -> None:
    mine, its = getattr(network, "vocab_size", None), getattr(draft, "vocab_size", None)
    if mine is not None and its is not None and mine != its:
        raise UnisonoError(
            f"the draft has a vocabulary of {its}, the model of {mine}: a draft must share the model's tokenizer",
            code="conflict",
            path="draft",
            value=its,
        )
    if tokenizer is not None and draft_tokenizer is not None and tokenizer.get_vocab() != draft_tokenizer.get_vocab():
        raise UnisonoError(
            "the draft's tokenizer has other tokens than the model's: a draft must share it",
            code="conflict",
            path="draft_tokenizer",
        )

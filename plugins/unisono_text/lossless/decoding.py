"""Lossless methods: by name, and one call for any causal model; fewer evaluations, the same text.

    decoding       proposes                                          the result is that of plain decoding
    plain          nothing                                           –
    jacobi         what was drawn there last round                   token by token
    gauss-seidel   the same, block by block                          token by token
    ngram          what followed these tokens before                 token by token
    speculative    a draft model                                     in law
    coupled        a draft model with the same noise                 token by token
    parallel       a diffusion model, all at once                    in law
    medusa         extra heads, as a tree                            token by token
    pass           the model itself, reading look-ahead tokens       token by token
    arithmetic     nothing; N samples spread evenly                  in law

Token by token includes sampling: noise belongs to (seed, position, token). Greedy decoding is the same for all of them.

Shapes: b batch, n tokens of the prompts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Int
from torch import Tensor, nn
from unisono.checks import is_whole
from unisono.errors import UnisonoError, did_you_mean
from unisono.masked import Nucleus, TopTokens
from unisono.masked.random import row_seeds
from unisono.verify import (
    KVCache,
    Method,
    Network,
    Prefix,
    Verified,
    autoregressive,
    coupled_speculative,
    decode,
    gauss_seidel,
    jacobi,
    look_ahead,
    medusa,
    speculative,
    tree_of,
)

from unisono_text.lossless.arithmetic import arithmetic
from unisono_text.lossless.networks import TransformersNetwork
from unisono_text.lossless.ngram import adaptive_ngram
from unisono_text.lossless.parallel import parallel_speculative

Decoding = Literal[
    "plain",
    "jacobi",
    "gauss-seidel",
    "ngram",
    "speculative",
    "coupled",
    "parallel",
    "medusa",
    "pass",
    "arithmetic",
]
NUM_DRAFT = {"ngram": 8, "speculative": 4, "coupled": 4, "parallel": 4}
"""Tokens of a draft, where a request does not say."""


@dataclass(frozen=True)
class Means:
    """What a method may draw on beside the target.

    Args:
        draft: an autoregressive network, and how an empty cache for it is made.
        drafter: a masked parallel model, as `unisono.masked.Handle` takes it.
        vocab_size: of target and drafter.
        skip: leading tokens that the drafter does not know.
        window: tokens before the draft that the drafter sees at most.
        heads: extra heads of the target.
        look_ahead: ids of the target's look-ahead tokens.
    """

    draft: Network | None = None
    drafter: Any = None
    vocab_size: int = 0
    skip: int = 0
    window: int | None = None
    heads: int = 0
    look_ahead: tuple[int, ...] = ()


def method_of(
    decoding: str,
    means: Means,
    *,
    num_draft: int | None = None,
    block: int = 16,
    tree: Sequence[int] = (3, 2),
    beams: int = 1,
    cache: Callable[[int], KVCache] | None = KVCache,
) -> Method:
    """Return the method of a name.

    Raises:
        UnisonoError: for an unknown name, or where the method needs what is not there.
    """
    if decoding not in get_args(Decoding):
        raise UnisonoError(
            f"unknown decoding {decoding!r}{did_you_mean(str(decoding), get_args(Decoding))}",
            code="unknown",
            path="decoding",
            value=decoding,
        )
    count = num_draft or NUM_DRAFT.get(decoding, 0)
    if decoding in ("speculative", "coupled"):
        if means.draft is None:
            raise UnisonoError(
                f"decoding={decoding!r} needs a draft: a smaller autoregressive model, same tokenizer",
                code="missing",
                path="draft",
            )
        made = speculative if decoding == "speculative" else coupled_speculative
        return made(means.draft, count, cache)
    if decoding == "parallel":
        if means.drafter is None:
            raise UnisonoError(
                "decoding='parallel' needs a drafter: a text/mdlm or text/block of the same tokenizer",
                code="missing",
                path="drafter",
            )
        return parallel_speculative(means.drafter, means.vocab_size, count, means.skip, means.window)
    if decoding == "medusa":
        if len(tree) > means.heads or not tree:
            raise UnisonoError(
                f"decoding='medusa' with a tree of depth {len(tree)}, but the model has {means.heads} extra heads: "
                + ("give a shallower tree" if means.heads else "take a text/medusa"),
                code="shape",
                path="tree",
                value=tree,
            )
        return medusa(tree_of(tree))
    if decoding == "pass":
        if not means.look_ahead:
            raise UnisonoError(
                "decoding='pass' needs look-ahead tokens: take a text/pass",
                code="unsupported",
                path="decoding",
                value=decoding,
            )
        return look_ahead(means.look_ahead[: num_draft or None])
    simple: dict[str, Callable[[], Method]] = {
        "plain": autoregressive,
        "jacobi": jacobi,
        "gauss-seidel": lambda: gauss_seidel(block),
        "ngram": lambda: adaptive_ngram(count),
        "arithmetic": lambda: arithmetic(beams),
    }
    return simple[decoding]()


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
    num_draft: int | None = None,
    block: int = 16,
    beams: int = 1,
    cache: bool = True,
    on_round: Callable[[Prefix], None] | None = None,
) -> Verified:
    """Continue prompts with a causal model of ``transformers``, or with any network of `unisono.verify`.

    Args:
        model: such as ``AutoModelForCausalLM`` gives, or a network.
        prompts: token ids, each at least one; lists may differ in length.
        max_new_tokens: behind the longest prompt; every row ends at the same length.
        decoding: see this module; ``medusa``, ``pass`` and ``parallel`` are for models of this plugin.
        temperature: 0 is greedy.
        seed: of all rows; row i draws with its own numbers.
        end: the id at which a row ends, such as ``model.config.eos_token_id``.
        draft: another such model, for ``speculative`` and ``coupled``; it must share the tokenizer.
        tokenizer, draft_tokenizer: where both are given, their vocabularies are compared.
        beams: for ``arithmetic``, how many rows share a lattice; their number must be a multiple of it.

    Raises:
        UnisonoError: for an empty prompt, a draft of another vocabulary, a model that cannot be verified with, or an
            unknown or unfit method.
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
    if decoding == "arithmetic" and (not is_whole(beams, 1) or len(tokens) % beams):
        raise UnisonoError(
            f"beams={beams} must divide the {len(tokens)} rows: give each prompt that often",
            code="shape",
            path="beams",
            value=beams,
        )
    memory = KVCache if cache else None
    placed = None if memory is None else (lambda rows: KVCache(rows, device))
    method = method_of(decoding, Means(draft=small), num_draft=num_draft, block=block, beams=beams, cache=placed)
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
    if not warps:
        return None

    def warp(logits: Tensor) -> Tensor:
        for step in warps:
            logits = step(logits, None)
        return logits

    return warp


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

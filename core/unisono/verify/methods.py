"""Methods: the published ones, each a proposer and a rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from unisono.masked.canvas import Layout
from unisono.masked.run.handle import Model
from unisono.verify.accept import Matching, Rejection, TopAgree, Typical
from unisono.verify.cache import Cache
from unisono.verify.decode import Method
from unisono.verify.propose import (
    Denoiser,
    DraftModel,
    ExtraHeads,
    LookAhead,
    NGram,
    Nothing,
    PreviousIterate,
    tree_of,
)
from unisono.verify.target import Network


def autoregressive() -> Method:
    """One token per evaluation: what the lossless methods equal."""
    return Method("autoregressive", Nothing(), Matching())


def jacobi() -> Method:
    """All positions at once, again and again, until nothing moves (Song et al., 2021, arXiv:2002.03629).

    Differs: the part that has converged is committed, which the next rounds then need not compute. At most
    as many evaluations as new tokens, the one that notices included.
    """
    return Method("Jacobi", PreviousIterate(), Matching())


def gauss_seidel(block: int) -> Method:
    """Jacobi within blocks, from left to right (Song et al., 2021; Santilli et al., 2023, arXiv:2305.10427)."""
    return Method("Gauss–Seidel", PreviousIterate(block), Matching())


def speculative(network: Network, num_draft: int = 4, cache: Callable[[int], Cache] | None = None) -> Method:
    """A draft network and residual rejection (Leviathan et al., 2022, arXiv:2211.17192; Chen et al., 2023,
    arXiv:2302.01318): the target's law exactly, though not the tokens that it would draw alone."""
    return Method("speculative", DraftModel(network, num_draft, cache), Rejection())


def coupled_speculative(network: Network, num_draft: int = 4, cache: Callable[[int], Cache] | None = None) -> Method:
    """A draft network that shares the target's noise (Daliri et al., 2024, arXiv:2408.07978): the very tokens
    that the target would draw alone, whatever the draft."""
    return Method("coupled speculative", DraftModel(network, num_draft, cache, coupled=True), Matching())


def ngram(num_draft: int = 4, longest: int = 4, shortest: int = 2) -> Method:
    """Adaptive n-grams of the row's own tokens (Ou et al., 2024, ANPD, arXiv:2404.08698); no draft network."""
    return Method("n-gram", NGram(num_draft, longest, shortest), Matching())


def medusa(tree: Sequence[Sequence[int]] = tree_of((3, 2))) -> Method:
    """Extra heads and a tree, verified exactly (Cai et al., 2024, Medusa, arXiv:2401.10774)."""
    return Method("Medusa", ExtraHeads(tuple(map(tuple, tree))), Matching())


def medusa_typical(
    tree: Sequence[Sequence[int]] = tree_of((3, 2)), epsilon: float = 0.09, delta: float = 0.3
) -> Method:
    """Medusa with the paper's typical acceptance: more tokens per evaluation, and no longer the target's law."""
    return Method("Medusa (typical)", ExtraHeads(tuple(map(tuple, tree))), Typical(epsilon, delta))


def look_ahead(tokens: Sequence[int]) -> Method:
    """Look-ahead embeddings (Monea et al., 2023, PaSS, arXiv:2311.13581): two evaluations per round.

    Differs: verified by matching, so that the result is the target's own; the paper rejects as in speculative
    sampling.
    """
    return Method("PaSS", LookAhead(tuple(tokens)), Matching())


def guided_diffusion(model: Model, layout: Layout, num_draft: int = 8, skip: int = 0, top_k: int = 1) -> Method:
    """A masked parallel model drafts, the autoregressive target vetoes (Hu et al., 2025, FlashDLM,
    arXiv:2505.21467).

    `top_k` 1 accepts what the target draws itself and so is lossless; more is lossy, and nearer to the drafter.
    """
    rule = Matching() if top_k == 1 else TopAgree(top_k)
    return Method("guided diffusion", Denoiser(model, layout, num_draft, skip), rule)

"""Methods: the published ones, each made of a proposer and a rule."""

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
    """One token per evaluation; the lossless methods give the same result."""
    return Method("autoregressive", Nothing(), Matching())


def jacobi() -> Method:
    """Jacobi iteration: all positions at once, repeated until no token changes (Song et al., 2021, arXiv:2002.03629).

    Difference: converged tokens are committed, so that later rounds need not compute them. It takes at most as many
    evaluations as there are new tokens, including the last one, which changes nothing.
    """
    return Method("Jacobi", PreviousIterate(), Matching())


def gauss_seidel(block: int) -> Method:
    """Jacobi iteration, block after block (Song et al., 2021; Santilli et al., 2023, arXiv:2305.10427)."""
    return Method("Gauss–Seidel", PreviousIterate(block), Matching())


def speculative(network: Network, num_draft: int = 4, cache: Callable[[int], Cache] | None = None) -> Method:
    """A draft network with rejection (Leviathan et al., 2022, arXiv:2211.17192; Chen et al., 2023).

    The result has exactly the target's distribution, but not the tokens that the target would draw by itself.
    """
    return Method("speculative", DraftModel(network, num_draft, cache), Rejection())


def coupled_speculative(network: Network, num_draft: int = 4, cache: Callable[[int], Cache] | None = None) -> Method:
    """A draft network that draws with the target's noise (Daliri et al., 2024, arXiv:2408.07978).

    The result has the same tokens that the target would draw by itself, whatever the draft proposes.
    """
    return Method("coupled speculative", DraftModel(network, num_draft, cache, coupled=True), Matching())


def ngram(num_draft: int = 4, longest: int = 4, shortest: int = 2) -> Method:
    """N-grams counted in the row's own tokens (Ou et al., 2024, ANPD, arXiv:2404.08698); needs no draft network."""
    return Method("n-gram", NGram(num_draft, longest, shortest), Matching())


def medusa(tree: Sequence[Sequence[int]] = tree_of((3, 2))) -> Method:
    """Extra heads and a tree, verified exactly (Cai et al., 2024, Medusa, arXiv:2401.10774)."""
    return Method("Medusa", ExtraHeads(tuple(map(tuple, tree))), Matching())


def medusa_typical(
    tree: Sequence[Sequence[int]] = tree_of((3, 2)), epsilon: float = 0.09, delta: float = 0.3
) -> Method:
    """Medusa with the paper's typical acceptance: more tokens per evaluation, but not the target's distribution."""
    return Method("Medusa (typical)", ExtraHeads(tuple(map(tuple, tree))), Typical(epsilon, delta))


def look_ahead(tokens: Sequence[int]) -> Method:
    """Look-ahead embeddings (Monea et al., 2023, PaSS, arXiv:2311.13581): two evaluations per round.

    Difference: verified by `Matching`, so the result equals the target's own; the paper uses rejection as in
    speculative sampling.
    """
    return Method("PaSS", LookAhead(tuple(tokens)), Matching())


def guided_diffusion(model: Model, layout: Layout, num_draft: int = 8, skip: int = 0, top_k: int = 1) -> Method:
    """A masked parallel model proposes, an autoregressive one verifies (Hu et al., 2025, FlashDLM, arXiv:2505.21467).

    `top_k` 1 verifies by `Matching` and is lossless. A larger `top_k` is lossy and stays nearer to the proposals.
    """
    rule = Matching() if top_k == 1 else TopAgree(top_k)
    return Method("guided diffusion", Denoiser(model, layout, num_draft, skip), rule)

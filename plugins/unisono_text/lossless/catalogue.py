"""Catalogue: the decoding methods by name.

    decoding       proposes                                          the result is that of plain decoding
    plain          nothing                                           –
    jacobi         what was drawn there last round, in a window      token by token
    gauss-seidel   the same, block by block                          token by token
    ngram          what followed these tokens before                 token by token
    speculative    a draft model                                     in law
    coupled        a draft model with the same noise                 token by token
    pearl          the same, in a process of its own                 token by token
    parallel       a diffusion model, all at once                    in law
    medusa         extra heads, as a tree                            token by token
    pass           the model itself, reading look-ahead tokens       token by token
    arithmetic     nothing; N samples spread evenly                  in law
    space          the model itself, reading masks in its tree       token by token
    tr-jacobi      last round's laws as a tree, and n-grams          token by token
    specexec       a draft model, as a tree                          token by token
    cascade        a draft model, which may have its way             exact for its own law
    ensemble       a draft model that is half of the law             exact for its own law
    lud            the model itself behind masks, unverified         lossy
    pard           a draft that reads masks, in one call             token by token
    pard-speculative  the same, with a noise of its own              in law
    parallelspec   the same on the model's states                    token by token
    hidden-transfer  states guessed in its middle, as a tree         token by token

Token by token includes sampling: noise belongs to (seed, position, token). Greedy decoding is the same
for all but those with a law of their own and the lossy one.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from unisono.errors import UnisonoError, did_you_mean
from unisono.verify import (
    Cache,
    KVCache,
    Method,
    autoregressive,
    coupled_speculative,
    gauss_seidel,
    look_ahead,
    medusa,
    speculative,
    tree_of,
)

from unisono_text.lossless import asynchronous
from unisono_text.lossless.arithmetic import arithmetic
from unisono_text.lossless.cascade import ENTRY as CASCADE
from unisono_text.lossless.ensemble import ENTRY as ENSEMBLE
from unisono_text.lossless.entry import Entry, Means, fill
from unisono_text.lossless.mask_methods import MASK_DRAFTS
from unisono_text.lossless.mask_tree import ENTRY as SPACE
from unisono_text.lossless.ngram import adaptive_ngram
from unisono_text.lossless.parallel import parallel_speculative
from unisono_text.lossless.specexec import ENTRY as SPECEXEC
from unisono_text.lossless.tr_jacobi import ENTRY as TR_JACOBI
from unisono_text.lossless.transfer_tree import HIDDEN_TRANSFER
from unisono_text.lossless.units import LUD
from unisono_text.lossless.window import ENTRY as JACOBI

Decoding = Literal[
    "plain",
    "jacobi",
    "gauss-seidel",
    "ngram",
    "speculative",
    "coupled",
    "pearl",
    "parallel",
    "medusa",
    "pass",
    "arithmetic",
    "space",
    "tr-jacobi",
    "specexec",
    "cascade",
    "ensemble",
    "lud",
    "pard",
    "pard-speculative",
    "parallelspec",
    "hidden-transfer",
]


def method_of(decoding: str, means: Means, *, cache: Callable[[int], Cache] | None = KVCache, **options: Any) -> Method:
    """Return the method of a name; an option that is None has the method's default.

    Raises:
        UnisonoError: for an unknown name, an option that the method does not take, or where it needs what is not there.
    """
    if decoding not in CATALOGUE:
        raise UnisonoError(
            f"unknown decoding {decoding!r}{did_you_mean(str(decoding), tuple(CATALOGUE))}",
            code="unknown",
            path="decoding",
            value=decoding,
        )
    entry = CATALOGUE[decoding]
    return entry.make(means, fill(entry, options), cache)


def _speculative(means: Means, options: Mapping[str, Any], cache: Any) -> Method:
    return speculative(_draft(means, "speculative"), options["num_draft"], cache)


def _coupled(means: Means, options: Mapping[str, Any], cache: Any) -> Method:
    return coupled_speculative(_draft(means, "coupled"), options["num_draft"], cache)


def _draft(means: Means, decoding: str) -> Any:
    if means.draft is None:
        raise UnisonoError(
            f"decoding={decoding!r} needs a draft: a smaller autoregressive model, same tokenizer",
            code="missing",
            path="draft",
        )
    return means.draft


def _parallel(means: Means, options: Mapping[str, Any], cache: Any) -> Method:
    if means.drafter is None:
        raise UnisonoError(
            "decoding='parallel' needs a drafter: a text/mdlm or text/block of the same tokenizer",
            code="missing",
            path="drafter",
        )
    return parallel_speculative(means.drafter, means.vocab_size, options["num_draft"], means.skip, means.window)


def _medusa(means: Means, options: Mapping[str, Any], cache: Any) -> Method:
    tree = options["tree"]
    if len(tree) > means.heads or not tree:
        raise UnisonoError(
            f"decoding='medusa' with a tree of depth {len(tree)}, but the model has {means.heads} extra heads: "
            + ("give a shallower tree" if means.heads else "take a text/medusa"),
            code="shape",
            path="tree",
            value=tree,
        )
    return medusa(tree_of(tree))


def _pass(means: Means, options: Mapping[str, Any], cache: Any) -> Method:
    if not means.look_ahead:
        raise UnisonoError(
            "decoding='pass' needs look-ahead tokens: take a text/pass or a text/space",
            code="unsupported",
            path="decoding",
            value="pass",
        )
    return look_ahead(means.look_ahead[: options["num_draft"]])


ENTRIES = (
    Entry("plain", "token by token", lambda *_: autoregressive()),
    JACOBI,
    Entry("gauss-seidel", "token by token", lambda _, options, __: gauss_seidel(options["block"]), {"block": 16}),
    Entry("ngram", "token by token", lambda _, options, __: adaptive_ngram(options["num_draft"]), {"num_draft": 8}),
    Entry("speculative", "in law", _speculative, {"num_draft": 4}, role="draft"),
    Entry("coupled", "token by token", _coupled, {"num_draft": 4}, role="draft"),
    asynchronous.ENTRY,
    Entry("parallel", "in law", _parallel, {"num_draft": 4}, role="drafter"),
    Entry("medusa", "token by token", _medusa, {"tree": (3, 2)}),
    Entry("pass", "token by token", _pass, {"num_draft": None}),
    Entry("arithmetic", "in law", lambda _, options, __: arithmetic(options["beams"]), {"beams": 1}),
    SPACE,
    TR_JACOBI,
    SPECEXEC,
    CASCADE,
    ENSEMBLE,
    LUD,
    *MASK_DRAFTS,
    HIDDEN_TRANSFER,
)
CATALOGUE = {entry.name: entry for entry in ENTRIES}
OPTIONS = tuple(dict.fromkeys(name for entry in ENTRIES for name in entry.options))
"""Options of all methods, each once: fields of a request."""

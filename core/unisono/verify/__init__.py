"""Verification: propose tokens, verify them, commit a prefix; autoregressive models in fewer evaluations.

decode.py    the loop, as one call or round by round; `Method`, a proposer and a rule; the result with its counts
methods.py   the published methods
propose.py   proposers: previous iterate, n-grams, draft network, extra heads, look-ahead tokens, masked model
accept.py    rules of acceptance: matching, rejection, typical acceptance, agreement
draw.py      the target's distribution and draws from it, greedy or with noise fixed per row and position
target.py    the autoregressive network, with its evaluations counted
cache.py     keys and values that can be rolled back
prefix.py    the data of a round: prefix, proposal, verdict

Unlike masked decoding, the order is causal and each round commits a prefix; there is no plan, score or selection.
Both share the counted handle and the random numbers by counter.
"""

from unisono.verify.accept import Matching, Rejection, Rule, TopAgree, Typical, acceptance, residual
from unisono.verify.cache import Cache, KVCache
from unisono.verify.decode import Method, Verified, decode, rounds
from unisono.verify.draw import Draw, sample
from unisono.verify.methods import (
    autoregressive,
    coupled_speculative,
    gauss_seidel,
    guided_diffusion,
    jacobi,
    look_ahead,
    medusa,
    medusa_typical,
    ngram,
    speculative,
)
from unisono.verify.prefix import Prefix, Proposal, Round, Verdict
from unisono.verify.propose import (
    Denoiser,
    DraftModel,
    ExtraHeads,
    LookAhead,
    NGram,
    Nothing,
    PreviousIterate,
    Proposer,
    check_tree,
    first_head,
    parents_of,
    tree_of,
)
from unisono.verify.target import Causal, Network, Target

__all__ = [
    "Cache",
    "Causal",
    "Denoiser",
    "DraftModel",
    "Draw",
    "ExtraHeads",
    "KVCache",
    "LookAhead",
    "Matching",
    "Method",
    "NGram",
    "Network",
    "Nothing",
    "Prefix",
    "PreviousIterate",
    "Proposal",
    "Proposer",
    "Rejection",
    "Round",
    "Rule",
    "Target",
    "TopAgree",
    "Typical",
    "Verdict",
    "Verified",
    "acceptance",
    "autoregressive",
    "check_tree",
    "coupled_speculative",
    "decode",
    "first_head",
    "gauss_seidel",
    "guided_diffusion",
    "jacobi",
    "look_ahead",
    "medusa",
    "medusa_typical",
    "ngram",
    "parents_of",
    "residual",
    "rounds",
    "sample",
    "speculative",
    "tree_of",
]

"""Verification: propose, verify, commit a prefix; autoregressive models in fewer evaluations.

decode.py    the loop, at once or round by round; Method = proposer + rule; what comes out, and its bill
methods.py   the published methods, each a proposer and a rule
propose.py   previous iterate, n-grams, draft network, extra heads, look-ahead tokens, masked model
accept.py    matching, rejection, typical acceptance, agreement
draw.py      the target's law and its draws: greedy, or with noise fixed per row and position
target.py    the network, counted; a plain causal one wrapped
cache.py     keys and values with rollback
prefix.py    what is passed around: prefix, proposal, verdict

The sibling of masked decoding: order is causal and a commit is a prefix, so that plan, score and select
have no place here; the counted handle and the counter-based randomness are shared.
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
    "coupled_speculative",
    "decode",
    "gauss_seidel",
    "guided_diffusion",
    "jacobi",
    "look_ahead",
    "medusa",
    "medusa_typical",
    "ngram",
    "residual",
    "rounds",
    "sample",
    "speculative",
    "tree_of",
]

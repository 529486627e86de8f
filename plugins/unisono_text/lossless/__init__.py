"""Lossless decoding: autoregressive text in fewer evaluations, not one token changed.

entry.py        what is known of one method; catalogue.py lists them by name
decoding.py     ``generate`` for any causal model of ``transformers``
networks.py     networks as `unisono.verify` reads them, with rollback
ngram.py        look-ahead n-grams with an off-switch (ANPD)
parallel.py     a diffusion model drafts (ParallelSpec)
arithmetic.py   diverse samples side by side
request.py      what can be asked of text/ar; serve.py answers
medusa.py       extra heads on a frozen text/ar; look_ahead.py look-ahead embeddings (PaSS)
mask_tree.py    one evaluation per round on the look-ahead embeddings (SPACE)
tr_jacobi.py    last round's laws as a tree, beside n-grams (TR-Jacobi)
specexec.py     a draft's best-first tree (SpecExec): best_first.py grows it, tree_draft.py reads it

All of it is propose, verify, commit: `unisono.verify`.
"""

from unisono_text.lossless.arithmetic import Coded, arithmetic
from unisono_text.lossless.catalogue import CATALOGUE, Decoding, method_of
from unisono_text.lossless.decoding import generate
from unisono_text.lossless.entry import Entry, Means
from unisono_text.lossless.mask_tree import MaskTree
from unisono_text.lossless.networks import CausalNetwork, TransformersNetwork
from unisono_text.lossless.ngram import AdaptiveNGram, adaptive_ngram
from unisono_text.lossless.parallel import ParallelDraft, parallel_speculative
from unisono_text.lossless.specexec import SpecExec
from unisono_text.lossless.tr_jacobi import TRJacobi

__all__ = [
    "CATALOGUE",
    "AdaptiveNGram",
    "CausalNetwork",
    "Coded",
    "Decoding",
    "Entry",
    "MaskTree",
    "Means",
    "ParallelDraft",
    "SpecExec",
    "TRJacobi",
    "TransformersNetwork",
    "adaptive_ngram",
    "arithmetic",
    "generate",
    "method_of",
    "parallel_speculative",
]

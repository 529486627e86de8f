"""Lossless decoding: autoregressive text in fewer evaluations; a method that changes the law says so.

entry.py        what is known of one method; catalogue.py lists them by name
decoding.py     ``generate`` for any causal model of ``transformers``
networks.py     networks as `unisono.verify` reads them, with rollback
ngram.py        look-ahead n-grams with an off-switch (ANPD)
parallel.py     a diffusion model drafts (ParallelSpec)
asynchronous.py a draft process that never waits (PEARL); draft_process/ is its process
arithmetic.py   diverse samples side by side
window.py       Jacobi iteration in a window that adapts (FastCoT)
pair.py         a draft and a rule for a law of two networks: cascade.py (deferral), ensemble.py (mixtures)
curve.py        what a cascade costs in bits and saves in evaluations
layer_parallel.py  a draft of fuzzy layers (EasySpec), an ablation
request.py      what can be asked of text/ar; serve.py answers
medusa.py       extra heads on a frozen text/ar; look_ahead.py look-ahead embeddings (PaSS)
mask_tree.py    one evaluation per round on the look-ahead embeddings (SPACE)
tr_jacobi.py    last round's laws as a tree, beside n-grams (TR-Jacobi)
specexec.py     a draft's best-first tree (SpecExec): best_first.py grows it, tree_draft.py reads it
noise.py        a text/ar is tuned to read wrong tokens (Make Some Noise)
space.py        a text/ar is tuned to speak behind masks (SPACE, LUD); ahead.py is how masks are asked
units.py        what is confident behind masks is emitted (LUD), which is lossy
mask_chains.py  K predictions from each place in one pass, some dropped: how drafts learn to read masks
pard.py         a text/ar that reads masks (PARD); llama_pard.py at published sizes
parallel_spec.py  the same on the states of a frozen text/ar (ParallelSpec)
mask_draft.py   what drafts with them in one call; mask_methods.py by name
hidden_transfer.py  states of the next tokens, guessed in the middle of a frozen text/ar; transfer_tree.py tries them

All of it is propose, verify, commit: `unisono.verify`.
"""

from unisono_text.lossless.arithmetic import Coded, arithmetic
from unisono_text.lossless.asynchronous import Asynchronous, pearl
from unisono_text.lossless.cascade import DEFERRALS, Cascade, cascade
from unisono_text.lossless.catalogue import CATALOGUE, Decoding, method_of
from unisono_text.lossless.decoding import generate
from unisono_text.lossless.draft_process import DraftProcess, process_of
from unisono_text.lossless.ensemble import Contrastive, Weighted, ensemble
from unisono_text.lossless.entry import Entry, Means
from unisono_text.lossless.mask_draft import MaskDraft, parallel_draft
from unisono_text.lossless.mask_tree import MaskTree
from unisono_text.lossless.networks import CausalNetwork, TransformersNetwork
from unisono_text.lossless.ngram import AdaptiveNGram, adaptive_ngram
from unisono_text.lossless.pair import PairDraft, PairRule
from unisono_text.lossless.parallel import ParallelDraft, parallel_speculative
from unisono_text.lossless.specexec import SpecExec
from unisono_text.lossless.tr_jacobi import TRJacobi
from unisono_text.lossless.transfer_tree import transferred_tree
from unisono_text.lossless.units import Confident, MaskedSpan, lexical_units
from unisono_text.lossless.window import AdaptiveWindow, windowed_jacobi

__all__ = [
    "CATALOGUE",
    "DEFERRALS",
    "AdaptiveNGram",
    "AdaptiveWindow",
    "Asynchronous",
    "Cascade",
    "CausalNetwork",
    "Coded",
    "Confident",
    "Contrastive",
    "Decoding",
    "DraftProcess",
    "Entry",
    "MaskDraft",
    "MaskTree",
    "MaskedSpan",
    "Means",
    "PairDraft",
    "PairRule",
    "ParallelDraft",
    "SpecExec",
    "TRJacobi",
    "TransformersNetwork",
    "Weighted",
    "adaptive_ngram",
    "arithmetic",
    "cascade",
    "ensemble",
    "generate",
    "lexical_units",
    "method_of",
    "parallel_draft",
    "parallel_speculative",
    "pearl",
    "process_of",
    "transferred_tree",
    "windowed_jacobi",
]

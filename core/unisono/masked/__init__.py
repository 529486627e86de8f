"""Masked parallel decoding: fill a canvas of tokens in a few passes of a network.

canvas.py       Layout (what a position is) and Canvas (what is known, frozen, how old)
random.py       randomness by counter: a pure function of row, step, site and purpose
strategy.py     the eight stages composed
stages/         1 plan    which positions are open and how many to commit (schedules, orders)
                2 guide   one evaluation, or several combined
                3 warp    temperature and filters, for the draw only
                4 score   which positions first
                5 select  which to commit
                6 draw    tokens
                7 revise  mask again, or change
                8 stop    when a row is done
                context: what a stage sees of a step; marginals: the network's probabilities
presets/        published samplers; registry: by name, with one set of knobs
run/            handle (the model, counted), step, execute (how steps are run), decode (the calls), cache, windows
training/       corrupt (inputs from the same plan and layout), losses
model.py        MaskedModel: what models that fill a canvas share

`unisono.verify` is the sibling for autoregressive networks: propose, verify, commit a prefix.

Masks are boolean, True = keep. The equations are in docs/masked.md.
"""

from unisono.masked.canvas import Canvas, Layout
from unisono.masked.presets.general import by_rank, choose_then_draw, one_pass, random_order
from unisono.masked.presets.images import arpg, halton, locality, maskgit, token_critic
from unisono.masked.presets.in_time import halton_in_time, mmm, momask
from unisono.masked.presets.registry import PRESETS, Preset, make_strategy, with_draw, with_guidance
from unisono.masked.presets.requested import (
    ChoiceTemperatureField,
    Samplers,
    TemperatureField,
    TopKField,
    TopPField,
    check_sampler,
    knobs_of,
)
from unisono.masked.presets.sound import group_ipd, maskgct, soundstorm, vampnet
from unisono.masked.presets.text import (
    block_diffusion,
    credit,
    dimple,
    dream,
    entropy_bounded,
    fast_dllm,
    first_hitting,
    frechet,
    kl_stable,
    llada,
    mdlm,
    remdm,
)
from unisono.masked.random import row_seeds
from unisono.masked.run.cache import (
    Audit,
    Cached,
    Delayed,
    FreeCache,
    FrozenPerBlock,
    Memory,
    Network,
    Part,
    PrefixExact,
    QueryOnly,
    Recompute,
    ReuseUnchanged,
)
from unisono.masked.run.decode import Decoded, decode, steps
from unisono.masked.run.execute import Compact, rehearse, sync, unrolled
from unisono.masked.run.handle import Handle, Model, Unconditional, at_sites
from unisono.masked.run.windows import cut, in_step
from unisono.masked.stages.context import StepContext
from unisono.masked.stages.draw import ArithmeticCodes, Categorical, FixedNoise, Greedy
from unisono.masked.stages.guide import Autoregressive, ClassifierFree, Plain
from unisono.masked.stages.marginals import Marginals
from unisono.masked.stages.orders import halton_order, left_to_right, locality_aware
from unisono.masked.stages.plan import Even, Everything, Fixed, Plan, Planned, Proportional, Scheduled, Sizes
from unisono.masked.stages.revise import Correct, Edit, KeepBest, Never, Remasking
from unisono.masked.stages.schedules import (
    SCHEDULES,
    arccos,
    cosine,
    cubic,
    exponential,
    linear,
    logarithmic,
    power,
    square,
    square_root,
)
from unisono.masked.stages.score import (
    Credit,
    Critic,
    Drawn,
    HaltonInTime,
    Margin,
    MaxProb,
    NegativeEntropy,
    Perturbed,
    Random,
    RandomOrder,
    Rank,
)
from unisono.masked.stages.select import (
    All,
    AtMost,
    Bernoulli,
    EntropyBound,
    Factor,
    Fallback,
    Frechet,
    KLStable,
    Threshold,
    TopK,
)
from unisono.masked.stages.stop import Complete, EndOfSequence
from unisono.masked.stages.warp import Chain, Keep, MinP, Nucleus, Suppress, Temperature, TopTokens, Typical
from unisono.masked.strategy import Strategy
from unisono.masked.training.corrupt import (
    BlockDiffusion,
    Complementary,
    Corrupted,
    Corruption,
    Counted,
    Diffusion,
    Glancing,
    PlanMasking,
    block_causal,
    corruption_for,
    noised_and_clean,
)
from unisono.masked.training.losses import masked_cross_entropy, negative_elbo, subs

__all__ = [
    "PRESETS",
    "SCHEDULES",
    "All",
    "ArithmeticCodes",
    "AtMost",
    "Audit",
    "Autoregressive",
    "Bernoulli",
    "BlockDiffusion",
    "Cached",
    "Canvas",
    "Categorical",
    "Chain",
    "ChoiceTemperatureField",
    "ClassifierFree",
    "Compact",
    "Complementary",
    "Complete",
    "Correct",
    "Corrupted",
    "Corruption",
    "Counted",
    "Credit",
    "Critic",
    "Decoded",
    "Delayed",
    "Diffusion",
    "Drawn",
    "Edit",
    "EndOfSequence",
    "EntropyBound",
    "Even",
    "Everything",
    "Factor",
    "Fallback",
    "Fixed",
    "FixedNoise",
    "Frechet",
    "FreeCache",
    "FrozenPerBlock",
    "Glancing",
    "Greedy",
    "HaltonInTime",
    "Handle",
    "KLStable",
    "Keep",
    "KeepBest",
    "Layout",
    "Margin",
    "Marginals",
    "MaxProb",
    "Memory",
    "MinP",
    "Model",
    "NegativeEntropy",
    "Network",
    "Never",
    "Nucleus",
    "Part",
    "Perturbed",
    "Plain",
    "Plan",
    "PlanMasking",
    "Planned",
    "PrefixExact",
    "Preset",
    "Proportional",
    "QueryOnly",
    "Random",
    "RandomOrder",
    "Rank",
    "Recompute",
    "Remasking",
    "ReuseUnchanged",
    "Samplers",
    "Scheduled",
    "Sizes",
    "StepContext",
    "Strategy",
    "Suppress",
    "Temperature",
    "TemperatureField",
    "Threshold",
    "TopK",
    "TopKField",
    "TopPField",
    "TopTokens",
    "Typical",
    "Unconditional",
    "arccos",
    "arpg",
    "at_sites",
    "block_causal",
    "block_diffusion",
    "by_rank",
    "check_sampler",
    "choose_then_draw",
    "corruption_for",
    "cosine",
    "credit",
    "cubic",
    "cut",
    "decode",
    "dimple",
    "dream",
    "entropy_bounded",
    "exponential",
    "fast_dllm",
    "first_hitting",
    "frechet",
    "group_ipd",
    "halton",
    "halton_in_time",
    "halton_order",
    "in_step",
    "kl_stable",
    "knobs_of",
    "left_to_right",
    "linear",
    "llada",
    "locality",
    "locality_aware",
    "logarithmic",
    "make_strategy",
    "masked_cross_entropy",
    "maskgct",
    "maskgit",
    "mdlm",
    "mmm",
    "momask",
    "negative_elbo",
    "noised_and_clean",
    "one_pass",
    "power",
    "random_order",
    "rehearse",
    "remdm",
    "row_seeds",
    "soundstorm",
    "square",
    "square_root",
    "steps",
    "subs",
    "sync",
    "token_critic",
    "unrolled",
    "vampnet",
    "with_draw",
    "with_guidance",
]

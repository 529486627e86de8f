"""Presets from text: masked diffusion, and adaptive commits of large models.

Blocks (semi-autoregressive decoding) are the layout's: `Layout.blocks`. See `unisono.masked.presets.general` for what
holds of all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor

from unisono.errors import UnisonoError
from unisono.masked.stages.draw import Categorical, Greedy
from unisono.masked.stages.guide import ClassifierFree, Guide, Plain
from unisono.masked.stages.plan import Even, Everything, Fixed, Plan, Scheduled, Steps
from unisono.masked.stages.revise import Edit, Never, Remasking
from unisono.masked.stages.schedules import linear
from unisono.masked.stages.score import Credit, Drawn, Margin, MaxProb, NegativeEntropy, Perturbed, Random
from unisono.masked.stages.select import Bernoulli, EntropyBound, Factor, Fallback, Frechet, KLStable, Threshold
from unisono.masked.stages.warp import Chain, Keep, Nucleus, Temperature, Warp
from unisono.masked.strategy import Strategy


def mdlm(num_steps: Steps = 64, alpha: Callable[[Tensor], Tensor] | None = None, warp: Warp | None = None) -> Strategy:
    """MDLM (arXiv:2406.07524) and MD4: ancestral sampling of masked diffusion.

    Each masked position is filled with probability (α_s − α_t)/(1 − α_t). Differs: positions and tokens are
    two lotteries, not one joint Gumbel, which in float32 loses rare tokens; time is per row.
    """
    return Strategy(Plan(Everything(num_steps)), Random(), Bernoulli(alpha), warp=warp or Keep(), name="mdlm")


def first_hitting() -> Strategy:
    """First-hitting sampler (arXiv:2409.02908): MDLM's process in continuous time, one token per evaluation.

    The times at which positions are filled are drawn in the paper for denoisers that read them; for one
    that does not, as here, its law is a random order.
    """
    return Strategy(Plan(Fixed(1)), Random(), name="first_hitting")


def remdm(
    num_steps: Steps = 64,
    kind: Literal["cap", "rescale", "conf", "loop"] = "cap",
    eta: float | None = None,
    nucleus: float = 0.9,
    t_on: float = 0.55,
    t_off: float = 0.05,
    alpha_on: float = 0.9,
) -> Strategy:
    """ReMDM (arXiv:2503.00307): MDLM that may mask tokens again; `kind` as in `Remasking`.

    `eta` defaults to the paper's .008 (cap), .015 (rescale), .02 (loop), and 1 (conf). Decodes all groups
    at once, and always for `num_steps`. With a perfect model remasking only costs; it repairs an imperfect one.
    """
    default = {"cap": 0.008, "rescale": 0.015, "loop": 0.02, "conf": 1.0}
    remasking = Remasking(kind, num_steps, default.get(kind, 0.0) if eta is None else eta, t_on, t_off, alpha_on)
    return Strategy(
        Plan(Everything(num_steps), grouped=False),
        Random(),
        Bernoulli(remasking=remasking),
        warp=Nucleus(nucleus) if nucleus < 1 else Keep(),
        revise=remasking,
        name=f"remdm_{kind}",
    )


def llada(num_steps: Steps = 32, temperature: float = 0.0, guidance_scale: float = 1.0) -> Strategy:
    """LLaDA (arXiv:2502.09992): blocks left to right, an even number of tokens per step, the surest draws first.

    `num_steps` is per block. `guidance_scale` above 1 compares with the prompt hidden, and the order follows it, as
    published. At temperature 0 this ranks by top probability. Differs: tokens outside of a position's
    vocabulary (such as the mask's) cannot be drawn.
    """
    guide: Guide = Plain() if guidance_scale == 1 else ClassifierFree(guidance_scale, scores=True)
    draw, warp = (Categorical(), Temperature(temperature)) if temperature else (Greedy(), Keep())
    return Strategy(Plan(Even(num_steps)), Drawn(), draw=draw, warp=warp, guide=guide, name="llada")


def dream(
    num_steps: Steps = 64,
    rule: Literal["max_prob", "margin", "entropy"] = "entropy",
    choice_temperature: float = 0.0,
    temperature: float = 1.0,
    nucleus: float = 1.0,
) -> Strategy:
    """Dream (arXiv:2508.15487): the surest positions by top probability, margin or entropy, evenly over the steps.

    `choice_temperature` draws positions ∝ exp(confidence/temperature) without replacement. Differs: as many
    per row as that row needs, not as the batch does; confidence is of the untempered marginals. (The
    network's shift by one position belongs into the model.)
    """
    scores = {"max_prob": MaxProb(), "margin": Margin(), "entropy": NegativeEntropy()}
    if rule not in scores:
        raise UnisonoError(f"dream rule {rule!r}: max_prob, margin or entropy", code="unknown", path="rule", value=rule)
    warps: list[Warp] = [Temperature(temperature)] if temperature != 1 else []
    warps += [Nucleus(nucleus)] if nucleus < 1 else []
    score = Perturbed(scores[rule], choice_temperature, anneal=False) if choice_temperature else scores[rule]
    return Strategy(
        Plan(Scheduled(num_steps, linear)), score, warp=Chain(*warps) if warps else Keep(), name=f"dream_{rule}"
    )


def dimple(num_steps: Steps = 64, threshold: float = 0.95, temperature: float = 1.0) -> Strategy:
    """Dimple (arXiv:2505.16990): commit everything surer than a threshold, else what the schedule says.

    Structure priors are frozen tokens. Confidence is of the untempered marginals, as published.
    """
    return Strategy(
        Plan(Scheduled(num_steps, linear)),
        MaxProb(),
        Fallback(Threshold(threshold), count=None),
        warp=Keep() if temperature == 1 else Temperature(temperature),
        name="dimple",
    )


def fast_dllm(threshold: float | None = 0.9, factor: float | None = None) -> Strategy:
    """Fast-dLLM (arXiv:2505.22618): greedy tokens above a threshold, or by the factor rule, at least one.

    Give one of the two. Caches are separate: `unisono.masked.run.cache.FrozenPerBlock`.
    """
    if (threshold is None) == (factor is None):
        raise UnisonoError(
            "fast_dllm: give either threshold or factor (the other as None)",
            code="missing" if threshold is None else "conflict",
            path="factor",
            value=factor,
        )
    rule = Threshold(threshold) if threshold is not None else Factor(factor or 0.0)
    return Strategy(Plan(Everything()), MaxProb(), Fallback(rule), Greedy(), name="fast_dllm")


def frechet(slack: float = 0.0) -> Strategy:
    """Fast-dLLM++ (arXiv:2606.02955): greedy tokens that are certified to be jointly the likeliest, at least one."""
    return Strategy(Plan(Everything()), MaxProb(), Fallback(Frechet(slack)), Greedy(), name="frechet")


def entropy_bounded(gamma: float = 0.1) -> Strategy:
    """EB-Sampler (arXiv:2505.24857): as many of the surest positions as a bound on their dependence allows."""
    return Strategy(Plan(Everything()), NegativeEntropy(), Fallback(EntropyBound(gamma)), name="entropy_bounded")


def kl_stable(epsilon: float = 0.01, confidence: float = 0.9, patience: int = 2, fallback: int = 1) -> Strategy:
    """KLASS (arXiv:2511.05664): greedy tokens whose marginals have settled, else the surest `fallback`."""
    return Strategy(
        Plan(Everything()),
        MaxProb(),
        Fallback(KLStable(epsilon, confidence, patience), fallback),
        Greedy(),
        name="kl_stable",
    )


def credit(threshold: float = 0.8, strength: float = 0.7, gamma: float = 0.2, decay: float = 0.8) -> Strategy:
    """dInfer's credit decoding (arXiv:2510.08666): Fast-dLLM's threshold on confidence that persistence raises."""
    return Strategy(
        Plan(Everything()), Credit(strength, gamma, decay), Fallback(Threshold(threshold)), Greedy(), name="credit"
    )


def block_diffusion(num_steps: Steps = 32, nucleus: float = 1.0, edit: float | None = None) -> Strategy:
    """BD3-LM (arXiv:2503.09573): MDLM inside each block, blocks left to right; `num_steps` is per block.

    `edit` exchanges committed tokens where another one is likelier than that (LLaDA 2.1). With a
    block-causal network, `unisono.masked.run.cache.PrefixExact` is exact.
    """
    return Strategy(
        Plan(Everything(num_steps)),
        Random(),
        Bernoulli(),
        warp=Nucleus(nucleus) if nucleus < 1 else Keep(),
        revise=Never() if edit is None else Edit(edit),
        name="block_diffusion",
    )

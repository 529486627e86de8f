"""Sampling: from a request's settings to a strategy of ``unisono.masked``, published or composed here.

::

    sampler                    a preset, and which settings it takes
    order                      which positions first                          score
    num_steps | a rule | both  how many: an even share, as many as the rule   plan, select
                               says, or at least the share (Dimple)
    remask, edit               what is taken back or changed                  revise
    temperature, top_p, top_k  what is drawn                                  draw, warp

Every preset takes the draw's settings: 0 as the temperature takes the likeliest token, as those do whose papers did.
"""

from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Float
from torch import Tensor
from unisono import masked
from unisono.errors import RequestError
from unisono.masked import Layout, StepContext, Strategy
from unisono.masked.presets.registry import DRAW_KNOBS, FILTERS

NUM_STEPS = 64
RULES = ("threshold", "factor", "frechet", "entropy_bound", "kl_stable")
SETTINGS = ("order", "num_steps", *RULES, "remask", "remask_eta", "edit", "choice_temperature")


@dataclass(frozen=True)
class Sampler:
    """A preset of ``unisono.masked`` as a request names it.

    ``takes`` maps those of ``SETTINGS`` that it takes to their names there; ``temperature`` is the published one.
    """

    takes: dict[str, str]
    temperature: float = 1.0


STEPS = {"num_steps": "num_steps"}
PRESETS: dict[str, Sampler] = {
    "mdlm": Sampler(STEPS),
    "first_hitting": Sampler({}),
    "remdm": Sampler({**STEPS, "remask": "kind", "remask_eta": "eta"}),
    "llada": Sampler(STEPS, temperature=0.0),
    "dream": Sampler({**STEPS, "order": "rule", "choice_temperature": "choice_temperature"}),
    "dimple": Sampler({**STEPS, "threshold": "threshold"}),
    "fast_dllm": Sampler({"threshold": "threshold", "factor": "factor"}, temperature=0.0),
    "frechet": Sampler({"frechet": "slack"}, temperature=0.0),
    "entropy_bounded": Sampler({"entropy_bound": "gamma"}),
    "kl_stable": Sampler({"kl_stable": "epsilon", "threshold": "confidence"}, temperature=0.0),
    "credit": Sampler({"threshold": "threshold"}, temperature=0.0),
    "block_diffusion": Sampler({**STEPS, "edit": "edit"}),
}

UNDRAWN = ("random", "max_prob", "margin", "entropy", "left_to_right")
ORDERS_OF = {
    "threshold": ("max_prob", "margin", "credit"),
    "factor": ("max_prob",),
    "frechet": ("max_prob", "margin", "entropy"),
    "entropy_bound": ("entropy", *(order for order in UNDRAWN if order != "entropy")),
    "kl_stable": ("max_prob", *(order for order in UNDRAWN if order != "max_prob")),
}
"""The orders that go with a rule; the first is its own."""


@dataclass(frozen=True)
class LeftToRight:
    """The lowest position first."""

    uses_draw = False
    blind = True

    def __call__(self, at: StepContext) -> Float[Tensor, "b l"]:
        return -at.canvas.sites.double().expand(at.canvas.tokens.shape)


SCORES: dict[str, Any] = {
    "random": masked.Random(),
    "max_prob": masked.MaxProb(),
    "margin": masked.Margin(),
    "entropy": masked.NegativeEntropy(),
    "drawn": masked.Drawn(),
    "credit": masked.Credit(),
    "left_to_right": LeftToRight(),
}


def check_settings(request: Any) -> None:
    """Raise ``ValueError`` for settings that do not go together, so that none is silently ignored."""
    given = [name for name in SETTINGS if getattr(request, name) is not None]
    if request.sampler is not None:
        surplus = [name for name in given if name not in PRESETS[request.sampler].takes]
        if surplus:
            takes = ", ".join(PRESETS[request.sampler].takes) or "no such setting"
            raise RequestError(
                f"sampler {request.sampler} takes {takes}, not {surplus[0]}: leave the sampler out to compose your own",
                code="conflict",
                path=surplus[0],
            )
        if request.sampler == "fast_dllm" and None not in (request.threshold, request.factor):
            raise RequestError("sampler fast_dllm takes either threshold or factor", code="conflict", path="factor")
        if request.sampler == "dream" and request.order not in (None, "max_prob", "margin", "entropy"):
            raise RequestError(
                f"sampler dream orders by max_prob, margin or entropy, not {request.order}",
                code="unsupported",
                path="order",
            )
    else:
        rules = [name for name in RULES if name in given]
        if len(rules) > 1:
            raise RequestError(
                f"{rules[0]} and {rules[1]} both say how much to fill in a step: give one",
                code="conflict",
                path=rules[1],
            )
        if rules and request.order is not None and request.order not in ORDERS_OF[rules[0]]:
            raise RequestError(
                f"{rules[0]} goes with the order {', '.join(ORDERS_OF[rules[0]])}, not {request.order}",
                code="conflict",
                path="order",
            )
        if request.remask_eta is not None and request.remask is None:
            raise RequestError("remask_eta is remasking's: give remask", code="missing", path="remask")
        surplus = [name for name in (*RULES, "order", "edit", "choice_temperature") if name in given]
        if request.remask is not None and surplus:
            raise RequestError(
                f"remask fills at random, at rates of its own; remove {surplus[0]}", code="conflict", path=surplus[0]
            )
    preset = PRESETS.get(request.sampler or "")
    temperature = request.temperature if request.temperature is not None else preset.temperature if preset else 1.0
    for name in FILTERS:
        if temperature == 0 and getattr(request, name) is not None:
            raise RequestError(
                f"{name} filters what is drawn from, and at temperature 0 the likeliest token is taken",
                code="conflict",
                path=name,
            )
    if request.guide_top is not None:
        names = (*SETTINGS, "sampler", *DRAW_KNOBS)
        other = next((name for name in names if getattr(request, name) is not None), None)
        if other:
            raise RequestError(
                f"guide_top decodes greedily as far as the guide agrees; remove {other}", code="conflict", path=other
            )


def strategy_of(request: Any, layout: Layout | None = None) -> Strategy:
    """Return the strategy of a request's settings; guidance is put in by whoever has the models."""
    draw = {name: getattr(request, name) for name in DRAW_KNOBS}
    if request.sampler is None:
        return masked.with_draw(composed(request), **draw)
    settings = {own: getattr(request, name) for name, own in PRESETS[request.sampler].takes.items()}
    if "num_steps" in settings:
        settings["num_steps"] = _steps(request)
    layout = Layout.sequence(1, 2) if layout is None else layout  # no preset of text looks at it
    return masked.make_strategy(request.sampler, layout, **draw, **settings)


def _steps(request: Any) -> int:
    return request.num_steps or NUM_STEPS


def composed(request: Any) -> Strategy:
    """Return the strategy that order, rule and reviser make, without its draw."""
    if request.remask is not None:
        strategy = masked.remdm(_steps(request), request.remask, request.remask_eta, nucleus=1.0)
        return replace(strategy, name="composed")
    rule = next((name for name in RULES if getattr(request, name) is not None), None)
    order = request.order or (ORDERS_OF[rule][0] if rule else "random")
    score = SCORES[order]
    if request.choice_temperature is not None:
        score = masked.Perturbed(score, request.choice_temperature, anneal=False)
    plan, select = masked.Plan(masked.Even(_steps(request))), masked.TopK()
    if rule is not None:
        value = getattr(request, rule)
        inner = {
            "threshold": masked.Threshold,
            "factor": masked.Factor,
            "frechet": masked.Frechet,
            "entropy_bound": masked.EntropyBound,
            "kl_stable": masked.KLStable,
        }[rule](value)
        if request.num_steps is None:
            plan, select = masked.Plan(masked.Everything()), masked.Fallback(inner)
        else:  # what the schedule says where the rule finds nothing, as in Dimple
            plan = masked.Plan(masked.Scheduled(request.num_steps, masked.linear))
            select = masked.Fallback(inner, count=None)
    revise = masked.Never() if request.edit is None else masked.Edit(request.edit)
    return Strategy(plan, score, select, revise=revise, name="composed")

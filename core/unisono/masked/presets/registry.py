"""Preset registry: published samplers by name, with one set of knobs that compose on top of any of them.

    knob                                        what it does                                 taken by
    num_steps                                   evaluations, or one number per group          presets that count steps
    temperature                                 of the tokens' draw; 0 takes the likeliest    all
    top_k, top_p, min_p, typical_p              filters of what is drawn from                 all
    choice_temperature                          noise on the order of positions               presets with such noise
    guidance_scale, unconditional               classifier-free guidance, 1 = none            all
    threshold, slack, gamma, eta, …             a preset's own                                that preset

A knob that is None leaves what was published. A given one replaces the preset's own value of the same kind and leaves
its other filters; one that a preset cannot take is refused by name.

No preset depends on the length of the canvas beyond a row's own, so that a row alone is the row in a batch. The
exceptions say so (`Preset.whole_canvas`): their orders belong to one grid.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from unisono.checks import fault_of, is_real
from unisono.errors import UnisonoError, did_you_mean
from unisono.masked.canvas import Layout
from unisono.masked.presets import general, images, in_time, sound, text
from unisono.masked.stages.draw import Categorical, Draw, Greedy
from unisono.masked.stages.guide import ClassifierFree, Plain
from unisono.masked.stages.orders import left_to_right
from unisono.masked.stages.plan import Steps
from unisono.masked.stages.schedules import linear
from unisono.masked.stages.warp import Chain, Keep, MinP, Nucleus, Temperature, TopTokens, Typical, Warp
from unisono.masked.strategy import Strategy

DRAW_KNOBS = ("temperature", "top_k", "top_p", "min_p", "typical_p")
FILTERS = DRAW_KNOBS[1:]


@dataclass(frozen=True)
class Preset:
    """A published sampler: how it is made for a layout, of which settings.

    `make` takes the layout and, by keyword, the settings that the preset has (`takes`). `by_guided`: its order follows
    guided logits, as published. `ramp`: its guidance grows with the progress. `whole_canvas`: its order belongs to
    one size of canvas, so that rows of a batch must all have it.
    """

    make: Callable[..., Strategy]
    by_guided: bool = False
    ramp: bool = False
    whole_canvas: bool = False

    @property
    def takes(self) -> tuple[str, ...]:
        """The settings of its own; the draw's knobs and guidance go with every preset."""
        return tuple(inspect.signature(self.make).parameters)[1:]

    @property
    def needs(self) -> tuple[str, ...]:
        """The settings that have no default."""
        parameters = list(inspect.signature(self.make).parameters.values())[1:]
        return tuple(p.name for p in parameters if p.default is inspect.Parameter.empty)


def _levels(layout: Layout, num_steps: Steps) -> tuple[int, ...]:
    """One number of steps per group: a single one is the first group's, and all others have one step."""
    if isinstance(num_steps, Sequence):
        return tuple(num_steps)
    return (_first(num_steps), *[1] * (max(len(layout.group_sizes), 1) - 1))


def _first(num_steps: Steps) -> Any:
    return num_steps[0] if isinstance(num_steps, Sequence) else num_steps


def _named(value: str) -> Any:
    """A choice by its name, which the preset itself checks."""
    return value


PRESETS: dict[str, Preset] = {
    # for anything
    "random_order": Preset(lambda layout, tokens_per_step=1: general.random_order(tokens_per_step)),
    "one_pass": Preset(lambda layout: general.one_pass()),
    "choose_then_draw": Preset(
        lambda layout, num_steps=8, choice_temperature=0.0: general.choose_then_draw(
            num_steps, choice_temperature=choice_temperature
        )
    ),
    "left_to_right": Preset(
        lambda layout, num_steps=8: replace(
            general.by_rank(left_to_right(layout.length), num_steps, linear), name="left_to_right"
        )
    ),
    # images
    "maskgit": Preset(
        lambda layout, num_steps=8, choice_temperature=4.5: images.maskgit(
            num_steps, choice_temperature=choice_temperature
        )
    ),
    "token_critic": Preset(
        lambda layout, critic, num_steps=18, choice_temperature=1.0: images.token_critic(
            critic, num_steps, choice_temperature=choice_temperature
        )
    ),
    "halton": Preset(
        lambda layout, height, width, num_steps=32, roll=True: images.halton(height, width, num_steps, roll=roll),
        whole_canvas=True,
    ),
    "arpg": Preset(lambda layout, num_steps=64: images.arpg(num_steps), ramp=True),
    "locality": Preset(
        lambda layout, sizes, start=0: images.locality(layout, sizes, start), ramp=True, whole_canvas=True
    ),
    # sound
    "soundstorm": Preset(
        lambda layout, num_steps=16, choice_temperature=1.0: sound.soundstorm(
            _levels(layout, num_steps), choice_temperature=choice_temperature
        )
    ),
    "group_ipd": Preset(lambda layout, num_steps=6: sound.group_ipd(_levels(layout, num_steps))),
    "vampnet": Preset(
        lambda layout, num_steps=36, choice_temperature=10.5: sound.vampnet(
            num_steps, choice_temperature=choice_temperature
        )
    ),
    "maskgct": Preset(
        lambda layout, num_steps=25, choice_temperature=1.0: sound.maskgct(
            num_steps, choice_temperature=choice_temperature
        )
    ),
    # along time
    "mmm": Preset(lambda layout, num_steps=10: in_time.mmm(_first(num_steps))),
    "momask": Preset(lambda layout, num_steps=10: in_time.momask(_levels(layout, num_steps)), by_guided=True),
    "halton_in_time": Preset(
        lambda layout, num_steps=10: (
            in_time.halton_in_time(num_steps, max(1, int(layout.coord[:, 1].max()) + 1))
            if layout.length
            else in_time.halton_in_time(num_steps)
        )
    ),
    # text
    "mdlm": Preset(lambda layout, num_steps=64: text.mdlm(num_steps)),
    "first_hitting": Preset(lambda layout: text.first_hitting()),
    "remdm": Preset(
        lambda layout, num_steps=64, kind="cap", eta=None: text.remdm(_first(num_steps), _named(kind), eta)
    ),
    "llada": Preset(lambda layout, num_steps=32: text.llada(num_steps), by_guided=True),
    "dream": Preset(
        lambda layout, num_steps=64, rule="entropy", choice_temperature=0.0: text.dream(
            num_steps,
            _named(rule),
            choice_temperature,
        )
    ),
    "dimple": Preset(lambda layout, num_steps=64, threshold=0.95: text.dimple(num_steps, threshold)),
    "fast_dllm": Preset(
        lambda layout, threshold=None, factor=None: text.fast_dllm(
            0.9 if threshold is None and factor is None else threshold, factor
        )
    ),
    "frechet": Preset(lambda layout, slack=0.0: text.frechet(slack)),
    "entropy_bounded": Preset(lambda layout, gamma=0.1: text.entropy_bounded(gamma)),
    "kl_stable": Preset(
        lambda layout, epsilon=0.01, confidence=0.9, patience=2: text.kl_stable(epsilon, confidence, patience)
    ),
    "credit": Preset(lambda layout, threshold=0.8: text.credit(threshold)),
    "block_diffusion": Preset(lambda layout, num_steps=32, edit=None: text.block_diffusion(num_steps, edit=edit)),
}


def make_strategy(
    name: str,
    layout: Layout,
    *,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    typical_p: float | None = None,
    guidance_scale: float = 1.0,
    unconditional: Any = None,
    **settings: Any,
) -> Strategy:
    """Return a preset's strategy for a layout, with these knobs; None leaves what was published.

    `unconditional` is what guidance leads away from, the model itself with its frozen tokens hidden where it is None.

    Raises:
        UnisonoError: for an unknown preset, and for a knob that it cannot take.
    """
    preset = preset_of(name)
    given = {knob: value for knob, value in settings.items() if value is not None}
    check_settings(name, given)
    missing = [knob for knob in preset.needs if knob not in given]
    if missing:
        raise UnisonoError(f"preset {name} needs {missing[0]}: give it", code="missing", path=missing[0])
    strategy = preset.make(layout, **given)
    strategy = with_draw(strategy, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, typical_p=typical_p)
    return with_guidance(strategy, guidance_scale, unconditional, scores=preset.by_guided, ramp=preset.ramp)


def preset_of(name: str) -> Preset:
    """Return a preset by its name; raises ``UnisonoError`` for an unknown one."""
    if name not in PRESETS:
        raise UnisonoError(
            f"unknown preset {name!r}{did_you_mean(str(name), PRESETS)}", code="unknown", path="preset", value=name
        )
    return PRESETS[name]


def check_settings(name: str, settings: Any) -> None:
    """Raise `UnisonoError` for a setting that a preset does not have, naming those that it has."""
    preset = preset_of(name)
    for knob in settings:
        if knob not in preset.takes:
            takes = ", ".join((*preset.takes, *DRAW_KNOBS, "guidance_scale"))
            raise UnisonoError(
                f"preset {name} cannot take {knob}: it takes {takes}",
                code="unsupported",
                path=knob,
                value=settings[knob],
            )


def with_draw(
    strategy: Strategy,
    *,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    typical_p: float | None = None,
) -> Strategy:
    """Return the strategy with another draw: what is given replaces its own of that kind, the rest of it stays.

    The temperature comes before the filters where the strategy has none of its own; filters come last, in the order
    top_k, top_p, min_p, typical_p. A greedy strategy draws where a temperature above 0 is given.

    Raises:
        UnisonoError: for a filter where the likeliest token is taken anyway, and for values out of range.
    """
    filters: dict[str, Warp] = {}
    given = {"top_k": top_k, "top_p": top_p, "min_p": min_p, "typical_p": typical_p}
    makers: dict[str, Callable[[Any], Warp]] = {
        "top_k": TopTokens,
        "top_p": Nucleus,
        "min_p": MinP,
        "typical_p": Typical,
    }
    for knob, value in given.items():
        if value is not None:
            try:
                filters[knob] = makers[knob](value)
            except UnisonoError as error:
                error.path = knob  # as this function's caller knows it
                raise
    if temperature is None and not filters:
        return strategy
    if temperature is not None and not is_real(temperature, 0):
        raise UnisonoError(
            f"temperature {temperature!r}: give a number of at least 0",
            code=fault_of(temperature),
            path="temperature",
            value=temperature,
        )
    greedy = temperature == 0 or (temperature is None and isinstance(strategy.draw, Greedy))
    if greedy and filters:
        raise UnisonoError(
            f"{next(iter(filters))} filters what is drawn from, and at temperature 0 the likeliest token is taken: "
            "give a temperature above 0, or leave it out",
            code="conflict",
            path=next(iter(filters)),
            value=given[next(iter(filters))],
        )
    own = _parts(strategy.warp)
    if greedy:
        kept = [warp for warp in own if not isinstance(warp, Temperature) and _kind(warp) is None]
        return replace(strategy, draw=Greedy(), warp=_chain(kept))
    draw: Draw = Categorical() if isinstance(strategy.draw, Greedy) else strategy.draw
    if temperature is not None:
        if any(isinstance(warp, Temperature) for warp in own):
            own = [warp.at(temperature) if isinstance(warp, Temperature) else warp for warp in own]
        elif temperature != 1:
            own = [Temperature(temperature), *own]
    own = [warp for warp in own if _kind(warp) not in filters]
    return replace(strategy, draw=draw, warp=_chain([*own, *filters.values()]))


def with_guidance(
    strategy: Strategy, guidance_scale: float, unconditional: Any = None, scores: bool = False, ramp: bool = False
) -> Strategy:
    """Return the strategy guided away from `unconditional` (`ClassifierFree`); a scale of 1 changes nothing.

    Raises:
        UnisonoError: for a strategy that has a guide of its own.
    """
    if not is_real(guidance_scale):
        raise UnisonoError(
            f"guidance_scale {guidance_scale!r}: give a number; 1 is no guidance",
            code=fault_of(guidance_scale),
            path="guidance_scale",
            value=guidance_scale,
        )
    if guidance_scale == 1:
        return strategy
    if not isinstance(strategy.guide, Plain):
        raise UnisonoError(
            f"{strategy.name} cannot take guidance_scale: it has a guide of its own",
            code="conflict",
            path="guidance_scale",
            value=guidance_scale,
        )
    return replace(strategy, guide=ClassifierFree(guidance_scale, unconditional, ramp=ramp, scores=scores))


def _kind(warp: Warp) -> str | None:
    """The knob that stands for a filter; None for any other warp, and for a share of the vocabulary."""
    if isinstance(warp, TopTokens):
        return "top_k" if warp.k is not None else "top_share"
    kinds = {Nucleus: "top_p", MinP: "min_p", Typical: "typical_p"}
    return kinds.get(type(warp))


def _parts(warp: Warp) -> list[Warp]:
    if isinstance(warp, Chain):
        return [part for inner in warp.warps for part in _parts(inner)]
    return [] if isinstance(warp, Keep) else [warp]


def _chain(warps: Sequence[Warp]) -> Warp:
    if not warps:
        return Keep()
    return warps[0] if len(warps) == 1 else Chain(*warps)

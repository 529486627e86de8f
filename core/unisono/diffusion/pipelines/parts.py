"""Parts of a pipeline: which of them denoise, whether they can be asked again, and what a run puts back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from unisono.diffusion.chain.replay import copy_state
from unisono.errors import UnisonoError, did_you_mean


def networks_of(pipe: Any, names: Sequence[str] | None) -> dict[str, nn.Module]:
    """Return the parts that denoise, by name: ``unet…`` and ``transformer…`` where no names are given."""
    if not hasattr(pipe, "components") or not hasattr(pipe, "scheduler"):
        raise UnisonoError(
            f"a {type(pipe).__name__} is no diffusers pipeline with a scheduler: give a DiffusionPipeline, or use "
            "solve() with a SchedulerRecurrence",
            code="type",
            path="pipe",
            value=type(pipe).__name__,
        )
    if isinstance(names, str):
        raise UnisonoError(
            f"networks={names!r} is one text: give a list of names, networks=[{names!r}]",
            code="type",
            path="networks",
            value=names,
        )
    modules = {name: part for name, part in pipe.components.items() if isinstance(part, nn.Module)}
    if names is None:
        names = [name for name in modules if name.startswith(("unet", "transformer"))]
    for name in names:
        if name not in modules:
            raise UnisonoError(
                f"the pipeline has no component {name!r}{did_you_mean(name, modules)}",
                code="unknown",
                path="networks",
                value=name,
            )
    if not names:
        raise UnisonoError(
            f"{type(pipe).__name__} has no unet or transformer, only {', '.join(modules)}: name the component that "
            "denoises with networks=",
            code="missing",
            path="networks",
        )
    return {name: modules[name] for name in names}


def check_module(where: str, module: nn.Module) -> None:
    """Refuse hooks that keep something, and forwards that somebody has replaced."""
    registry = getattr(module, "_diffusers_hook", None)
    for name, hook in getattr(registry, "hooks", {}).items():
        if getattr(hook, "_is_stateful", False):
            raise UnisonoError(
                f"{where} has the hook {name!r} ({type(hook).__name__}), which keeps results from call to call: "
                "disable that cache first",
                code="state",
                path=f"{where}.hooks.{name}",
                value=type(hook).__name__,
            )
    drops = getattr(module, "dropout_prob", 0)
    if module.training and isinstance(drops, float) and drops > 0:
        root = ".".join(where.split(".")[:2])
        raise UnisonoError(
            f"{where} ({type(module).__name__}) drops {drops:g} of its inputs at random: call {root}.eval() first",
            code="state",
            path=where,
            value=drops,
        )
    wrapped = "forward" in vars(module) and registry is None and not hasattr(module, "_hf_hook")
    if wrapped and not hasattr(module, "_orig_mod"):
        raise UnisonoError(
            f"{where} ({type(module).__name__}) has a forward that something else replaced (DeepCache does so), and "
            "that may depend on earlier calls: take it off first",
            code="state",
            path=where,
            value=type(module).__name__,
        )


@contextmanager
def restored(pipe: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Callable[[], None]]:
    """Gives what takes scheduler, generators and global randomness back to now; done too when a run raises."""
    given = [v for value in (*args, *kwargs.values()) for v in (value if isinstance(value, list) else [value])]
    generators = [(g, g.get_state()) for g in given if isinstance(g, torch.Generator)]
    scheduler = copy_state(pipe.scheduler)
    attributes = dict(vars(pipe))
    cuda = torch.cuda.is_initialized()
    random = torch.get_rng_state(), torch.cuda.get_rng_state_all() if cuda else []

    def rewind() -> None:
        for generator, state in generators:
            generator.set_state(state)
        torch.set_rng_state(random[0])
        if cuda:
            torch.cuda.set_rng_state_all(random[1])
        now = vars(pipe.scheduler)
        now.clear()
        now.update(vars(copy_state(scheduler)))

    try:
        pipe._progress_bar_config = {**getattr(pipe, "_progress_bar_config", {}), "disable": True}
        yield rewind
    except BaseException:
        rewind()
        vars(pipe).clear()
        vars(pipe).update(attributes)
        raise
    if "_progress_bar_config" in attributes:
        pipe._progress_bar_config = attributes["_progress_bar_config"]
    else:
        del pipe._progress_bar_config

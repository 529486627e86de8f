"""Promises of a model about its runs: they train, resume, and are the same in one process or two."""

from typing import Any

import numpy as np
import torch

from unisono.errors import RecipeError
from unisono.testing.check import CheckFailed, Skipped, ensure
from unisono.testing.model_under_test import DOUBLE, STEPS, UNVALIDATED, Subject, raw_weights

PROCESS_TOLERANCE = 3e-3
"""One process against two, relative to the largest movement of a weight tensor; and the rounding of the weights
themselves. Steps are proportional to gradients in these runs, so a gradient that is not that of
the whole batch shows at full size."""


def tiny_recipe_trains(subject: Subject) -> None:
    """The recipe <model>-tiny takes two steps on data made on the spot, and losses are finite."""
    if not subject.target.learns:
        return nothing_to_learn(subject)
    recipe = subject.recipe()
    steps = recipe.trainer["max_steps"]
    ensure(steps == 2, f"{subject.recipe_name} has max_steps {steps}, not 2", "tiny-steps", max_steps=steps)
    trained = recipe.model["name"]
    ensure(trained == subject.model_name, f"{subject.recipe_name} trains {trained}", "tiny-model", model=trained)
    metrics = {k: v for k, v in subject.short.metrics.items() if k.startswith("train/")}
    ensure(bool(metrics), "no loss was logged", "no-loss")
    bad = [name for name, value in metrics.items() if not np.isfinite(value)]
    ensure(not bad, f"{', '.join(bad)} not finite after two steps", "loss-not-finite", losses=bad)
    ensure(subject.short.audit.kept > 0, "the audit says that no data was kept", "no-data")


def gradient_reaches_every_parameter(subject: Subject) -> None:
    """Every trainable parameter moves within a few steps, with an optimiser that moves none by itself."""
    if not subject.target.learns:
        return nothing_to_learn(subject)
    state, start, trainable = subject.straight
    moved = raw_weights(state)
    reached = {name for name in trainable if not torch.equal(start[name], moved[name])}
    # A bias counts with its layer's weight: a hinge loss pulls it up and down by exactly the same.
    layers = {
        name.partition(".parametrizations.")[0] if ".parametrizations." in name else name.rpartition(".")[0]
        for name in reached
    }
    still = sorted(n for n in set(trainable) - reached if not (n.endswith(".bias") and n[:-5] in layers))
    ensure(bool(trainable), "no parameter is trainable", "no-parameter")
    ensure(
        not still,
        f"{len(still)} of {len(trainable)} parameters get no gradient: {', '.join(still[:5])}",
        "no-gradient",
        parameters=still,
    )
    broken = sorted(name for name, value in moved.items() if value.is_floating_point() and not value.isfinite().all())
    ensure(
        not broken,
        f"not finite after {STEPS} steps: {', '.join(broken[:5])}",
        "weights-not-finite",
        parameters=broken,
    )


def resumed_equals_uninterrupted(subject: Subject) -> None:
    """A run that is killed and resumed has the weights, and their average, of one that is not, bit by bit."""
    if not subject.target.learns:
        return nothing_to_learn(subject)
    straight, resumed = subject.straight[0], subject.resumed
    steps = straight["global_step"], resumed["global_step"]
    ensure(
        steps == (STEPS, STEPS),
        f"steps counted: {steps[0]} and, resumed, {steps[1]}, not {STEPS}",
        "resumed-steps",
        steps=steps,
    )
    for what in ("state_dict", "current_model_state"):
        if what in straight:
            other = [k for k, v in straight[what].items() if not torch.equal(v, resumed[what][k])]
            count = f"{len(other)} of {len(straight[what])}"
            ensure(
                not other,
                f"{what}: {count} differ after resuming: {', '.join(other[:5])}",
                "resumed-differs",
                parameters=other,
            )


def two_processes_equal_one(subject: Subject) -> None:
    """Two processes on the same global batch end with the weights of one."""
    if not subject.target.learns:
        return nothing_to_learn(subject)
    _needs_gloo()
    fix = "use global_mean for every mean"
    ensure_processes(subject, subject.two_processes, 2, "ddp", "processes-differ", fix)


def two_shards_equal_one(subject: Subject) -> None:
    """Two processes that each hold half of the weights (fsdp2) end with the weights of one."""
    if not subject.target.learns:
        return nothing_to_learn(subject)
    _needs_gloo()
    fix = "name what is written to, or read outside of losses, in kept_whole, reads_weights or shard_units"
    ensure_processes(subject, subject.two_shards, 2, "fsdp2", "shards-differ", fix)


def ensure_processes(subject: Subject, several: dict[str, Any], count: int, strategy: str, code: str, fix: str) -> None:
    """Raise ``CheckFailed`` unless ``several``, the last state of so many processes, has the weights of one.

    A gradient jumps where a rectifier or an absolute value has its kink, and rounding may cross it on one side alone:
    what differs in float32 counts if it differs in float64 too. Shards, which have no float64, are then held to ddp on
    as many processes, which rounds alike.
    """
    try:
        ensure_equal(*subject.one_process, several, code, fix)
    except CheckFailed as differs:
        try:
            one, start = subject.one_in_double
            double = subject.on_processes(count, "ddp", DOUBLE, UNVALIDATED, run=f"{count}-in-double")
            ensure_equal(one, start, double, code, fix)
            if strategy != "ddp":
                alike = (
                    subject.two_processes
                    if count == 2
                    else subject.on_processes(count, "ddp", UNVALIDATED, run="alike")
                )
                ensure_equal(alike, subject.one_process[1], several, code, fix)
        except Exception as error:  # a model that does not train in float64 has float32 to answer for
            raise differs from error


def nothing_to_learn(subject: Subject) -> None:
    """A model that says it learns nothing has no weights, is assembled from its tiny recipe, and is not trained."""
    model, target = subject.short.model, subject.target
    held = [*dict(model.named_parameters()), *model.state_dict()]
    ensure(not held, f"learns is False, but there is {', '.join(held[:3])}", "learns-wrong", target, names=held)
    ensure(subject.short.audit.kept > 0, "the audit says that no data was kept", "no-data")
    try:
        subject.train(subject.recipe(run="refused"))
    except RecipeError as error:
        ensure(error.code == "unsupported", f"training is refused for another reason: {error}", "learns-wrong", target)
    else:
        raise CheckFailed("learns is False, but it can be trained", "learns-wrong", target)


def ensure_equal(
    one: dict[str, Any], start: dict[str, torch.Tensor], several: dict[str, Any], code: str, fix: str
) -> float:
    """Raise ``CheckFailed`` unless several processes end with the weights of one; return the largest difference,
    relative to what is allowed."""
    ensure(one["global_step"] == several["global_step"], "several processes count other steps than one", code)
    largest = 0.0
    for kind in ("state_dict", "current_model_state"):
        for name, left in one.get(kind, {}).items():
            if not left.is_floating_point():
                continue
            moved = (left - start[name]).abs().max()
            allowed = PROCESS_TOLERANCE * moved + 4 * torch.finfo(left.dtype).eps * left.abs().max()
            far = (left - several[kind][name]).abs().max()
            ensure(
                bool(far <= allowed),
                f"{name} moved by {moved:.1e} in one process and by {far:.1e} more or less in several; at most "
                f"{allowed:.1e} is rounding: {fix}",
                code,
                parameter=name,
            )
            largest = max(largest, float(far / allowed) if allowed else 0.0)
    return largest


def _needs_gloo() -> None:
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        raise Skipped("this torch has no gloo")

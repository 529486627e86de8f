"""The checks. Each is a promise in its first line, and raises where the promise is not kept."""

import copy
import inspect
import json
import random
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from unisono import plugin as plugins
from unisono.arguments import REQUIRED
from unisono.data import DataModule
from unisono.errors import RecipeError, RequestError
from unisono.export import ALLOWED_SUFFIXES, WEIGHTS
from unisono.media import Media
from unisono.model import Model
from unisono.plugin import Plugin
from unisono.recipe import Recipe
from unisono.request import Request
from unisono.testing.compare import distance, ensure, numbers
from unisono.testing.kit import Skipped
from unisono.testing.model_under_test import STEPS, Subject, raw_weights
from unisono.testing.processes import other_process

BATCH_TOLERANCE = 1e-4
"""Alone against in a batch, relative to the peak: products of another size are summed in another order. A
model that magnifies rounding (Griffin-Lim does) is allowed ten times what rounding its weights does to it, up
to ``BATCH_LIMIT``: padding that leaks does more."""

BATCH_LIMIT = 0.05

PROCESS_TOLERANCE = 3e-3
"""One process against two, relative to the largest movement of a weight tensor; and the float32 rounding of
the weights themselves. Steps are proportional to gradients in these runs, so a gradient that is not that of
the whole batch shows at full size."""


# ---- of a plugin -------------------------------------------------------------------------------


def manifest_is_light(plugin: Plugin) -> None:
    """The manifest loads without torch."""
    code = (
        "import sys, unisono.plugin as p; p.get(sys.argv[1]); "
        "print([m for m in ('torch', 'lightning', 'librosa', 'matplotlib') if m in sys.modules])"
    )
    heavy = other_process(code, plugin.name).strip()
    ensure(heavy == "[]", f"importing the manifest imports {heavy}: name modules as strings, import them on use")


def targets_import(plugin: Plugin) -> None:
    """Every name of the manifest imports as what it says it is."""
    for short in plugin.models:
        model = plugins.resolve(f"{plugin.name}/{short}", "models")
        ensure(isinstance(model, type) and issubclass(model, Model), f"model {short!r} is no unisono.Model")
        ensure(issubclass(model.Request, Request), f"{short!r}: Request is no unisono.Request")
        ensure(issubclass(model.Media, Media), f"{short!r}: Media is no unisono.Media")
        ensure(
            model.text_field in model.Request.model_fields,
            f"{short!r}: text_field {model.text_field!r} is no field of its Request",
        )
        for name, target in model.builtin_components.items():
            ensure(callable(plugins.import_string(target)), f"{short!r}: component {name!r} is not callable")
    for short in plugin.data:
        data = plugins.resolve(f"{plugin.name}/{short}", "data")
        ensure(issubclass(data, DataModule), f"data {short!r} is no unisono.DataModule")
    for role, shorts in (("evaluators", plugin.evaluators), ("sweeps", plugin.sweeps)):
        for short in shorts:
            ensure(short in plugin.models, f"{role}: {short!r} is no model of the plugin")
            function = plugins.resolve(f"{plugin.name}/{short}", role)  # type: ignore[arg-type]
            ensure(callable(function), f"{role}: what {short!r} names is not callable")
    for verb in plugin.verbs:
        module = plugins.verb_module(verb)
        for name in ("add_arguments", "run"):
            ensure(callable(getattr(module, name, None)), f"verb {verb!r}: its module has no {name}()")


def constructors_are_typed(plugin: Plugin) -> None:
    """Constructors have typed arguments, each by name; they are the recipe's keys."""
    for role, shorts in (("models", plugin.models), ("data", plugin.data)):
        for short in shorts:
            target = plugins.resolve(f"{plugin.name}/{short}", role)  # type: ignore[arg-type]
            for name, parameter in inspect.signature(target).parameters.items():
                where = f"{target.__name__}.__init__: {name}"
                ensure(
                    parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD),
                    f"{where} takes anything, so that no typo can be refused: name each argument",
                )
                ensure(parameter.annotation is not parameter.empty, f"{where} has no type")


def recipes_parse(plugin: Plugin) -> None:
    """Every shipped recipe parses strictly, says what it is, and survives being written and read."""
    recipes = plugins.recipe_names(plugin)
    ensure(bool(recipes), "the plugin ships no recipe")
    for name, resource in recipes.items():
        text = resource.read_text(encoding="utf-8")
        ensure(text.startswith("# "), f"recipe {name} does not say what it is in a comment on its first line")
        missing = [f"--{path}=placeholder" for path in _required(yaml.safe_load(text))]
        recipe = Recipe.read(name, missing)
        again = Recipe.from_dict(yaml.safe_load(recipe.to_yaml()), name=recipe.name)
        ensure(again == recipe, f"recipe {name} changes when it is written and read")


# ---- of a model --------------------------------------------------------------------------------


def tiny_recipe_trains(subject: Subject) -> None:
    """The recipe <model>-tiny takes two steps on data made on the spot, and losses are finite."""
    recipe = subject.recipe()
    steps = recipe.trainer["max_steps"]
    ensure(steps == 2, f"{subject.recipe_name} has max_steps {steps}, not 2")
    ensure(recipe.model["name"] == subject.model_name, f"{subject.recipe_name} trains {recipe.model['name']}")
    metrics = {k: v for k, v in subject.short.metrics.items() if k.startswith("train/")}
    ensure(bool(metrics), "no loss was logged")
    bad = [name for name, value in metrics.items() if not np.isfinite(value)]
    ensure(not bad, f"{', '.join(bad)} not finite after two steps")
    ensure(subject.short.audit.kept > 0, "the audit says that no data was kept")


def gradient_reaches_every_parameter(subject: Subject) -> None:
    """Every trainable parameter moves within a few steps, with an optimiser that moves none by itself."""
    state, start, trainable = subject.straight
    moved = raw_weights(state)
    reached = {name for name in trainable if not torch.equal(start[name], moved[name])}
    # A bias counts with its layer's weight: a hinge loss pulls it up and down by exactly the same.
    layers = {
        name.partition(".parametrizations.")[0] if ".parametrizations." in name else name.rpartition(".")[0]
        for name in reached
    }
    still = sorted(n for n in set(trainable) - reached if not (n.endswith(".bias") and n[:-5] in layers))
    ensure(bool(trainable), "no parameter is trainable")
    ensure(not still, f"{len(still)} of {len(trainable)} parameters get no gradient: {', '.join(still[:5])}")
    broken = sorted(name for name, value in moved.items() if value.is_floating_point() and not value.isfinite().all())
    ensure(not broken, f"not finite after {STEPS} steps: {', '.join(broken[:5])}")


def resumed_equals_uninterrupted(subject: Subject) -> None:
    """A run that is killed and resumed has the weights, and their average, of one that is not, bit by bit."""
    straight, resumed = subject.straight[0], subject.resumed
    steps = straight["global_step"], resumed["global_step"]
    ensure(steps == (STEPS, STEPS), f"steps counted: {steps[0]} and, resumed, {steps[1]}, not {STEPS}")
    for what in ("state_dict", "current_model_state"):
        if what in straight:
            other = [k for k, v in straight[what].items() if not torch.equal(v, resumed[what][k])]
            count = f"{len(other)} of {len(straight[what])}"
            ensure(not other, f"{what}: {count} differ after resuming: {', '.join(other[:5])}")


def two_processes_equal_one(subject: Subject) -> None:
    """Two processes on the same global batch end with the weights of one."""
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        raise Skipped("this torch has no gloo")
    (one, start), two = subject.one_process, subject.two_processes
    ensure(one["global_step"] == two["global_step"], "two processes count other steps than one")
    for kind in ("state_dict", "current_model_state"):
        for name, left in one.get(kind, {}).items():
            if not left.is_floating_point():
                continue
            moved = (left - start[name]).abs().max()
            allowed = PROCESS_TOLERANCE * moved + 4 * torch.finfo(left.dtype).eps * left.abs().max()
            far = (left - two[kind][name]).abs().max()
            ensure(
                bool(far <= allowed),
                f"{name} moved by {moved:.1e} in one process and by {far:.1e} more or less in two; at most "
                f"{allowed:.1e} is rounding: use global_mean for every mean over items of unequal length",
            )


def output_is_what_it_says(subject: Subject) -> None:
    """Outputs are of the declared kind, finite, and can be saved; a stream yields the same kind."""
    kind = subject.target.Media
    made = subject.synthesizer(list(subject.requests))
    ensure(len(made) == len(subject.requests), f"{len(subject.requests)} requests gave {len(made)} outputs")
    for item in [*made, *subject.synthesizer.stream(subject.requests[0])]:
        ensure(isinstance(item, kind), f"a {type(item).__name__} came out, not a {kind.__name__}")
    for name, array in numbers(made[0]).items():
        ensure(array.dtype.kind not in "f" or not np.isinf(array).any(), f"{name} is not finite")
    path = made[0].save(subject.folder / f"output{kind.suffixes[0]}")
    ensure(path.stat().st_size > 0, f"{path.name} is empty")
    ensure(subject.synthesizer([]) == [], "no requests must give no outputs")


def alone_equals_in_a_batch(subject: Subject) -> None:
    """Padding, batch size and order change nothing: an item alone is the item in any batch."""
    requests, together = subject.requests, subject.outputs
    several = (requests * 3)[: max(3, len(requests))]
    backwards = subject.synthesize(several[::-1])[::-1]
    for index, request in enumerate(requests):
        (alone,) = subject.synthesize([request])
        allowed = max(BATCH_TOLERANCE, min(BATCH_LIMIT, 10 * subject.rounding(request)))
        for what, other in (("in a batch", together), ("in a permuted batch", backwards)):
            far, where = distance(alone, other[index])
            ensure(
                far <= allowed,
                f"request {index} alone and {what} differ by {far:.1e} of the peak in {where}; "
                f"at most {allowed:.0e} is rounding",
            )


def same_seed_same_output(subject: Subject) -> None:
    """The same requests give the same outputs, bit by bit."""
    far, where = _farthest(subject.outputs, subject.synthesize(subject.requests))
    ensure(far == 0, f"the same requests again differ by {far:.1e} of the peak in {where}")


def global_randomness_is_left_alone(subject: Subject) -> None:
    """Building, reading data and synthesizing neither read nor change a global random state."""
    recipe, facts = subject.recipe(), subject.short.model.facts

    def weights() -> dict[str, np.ndarray]:
        return numbers(dict(recipe.build_model(copy.deepcopy(facts)).state_dict()))

    def items() -> list[dict[str, np.ndarray]]:
        data = recipe.build_data()
        data.prepare(progress=False)
        return [numbers(data.train_set.item(0, torch.Generator().manual_seed(0)))]

    for what, make in (
        ("building the model", lambda: [weights()]),
        ("reading the data", items),
        ("synthesizing", lambda: subject.synthesize(subject.requests)),
    ):
        results = [_undisturbed(what, make, seed) for seed in (1, 2)]
        far, where = _farthest(*results)
        ensure(far == 0, f"{what} depends on the global random state: {where} differs")


def fresh_process_gives_the_same(subject: Subject) -> None:
    """The export, loaded by another process, gives the same outputs."""
    here, there = numbers(subject.synthesizer(list(subject.requests))), subject.fresh()
    far, where = distance(here, there)
    ensure(far <= BATCH_TOLERANCE, f"another process differs by {far:.1e} of the peak in {where}")


def nothing_executable_is_kept(subject: Subject) -> None:
    """Training state opens weights-only; an export holds numbers and text, and no path of this machine."""
    _ = subject.straight  # its state was read weights-only
    private = {str(subject.folder), str(Path.home()), str(Path.cwd()), sys.prefix} - {"/"}
    for file in sorted(p for p in subject.export.rglob("*") if p.is_file()):
        ensure(file.suffix in ALLOWED_SUFFIXES, f"the export holds {file.name!r}")
        if file.name != WEIGHTS:
            text = file.read_text(encoding="utf-8")
            found = [path for path in private if path in text]
            ensure(not found, f"{file.name} of the export names a folder of this machine, {found[:1]}")


def unknown_names_are_refused(subject: Subject) -> None:
    """A request field or recipe key that does not exist is an error that names the nearest one."""
    kind = subject.target.Request
    json.dumps(kind.model_json_schema())
    valid = subject.requests[0].model_dump()
    for field in kind.model_fields:
        _refuses(RequestError, field, lambda name: kind.parse(**valid, **{name: 1}))
    raw = subject.recipe().to_dict()
    for section in ("model", "data"):
        for key in [key for key in raw[section] if key != "name"]:

            def attempt(name: str, section: str = section) -> None:
                Recipe.from_dict({**raw, section: {**raw[section], name: 1}})

            _refuses(RecipeError, key, attempt)


def steps_are_told(subject: Subject) -> None:
    """Progress is told as (done, total) up to the end; any number of steps serves where it can be chosen."""
    calls: list[tuple[int, int]] = []
    subject.synthesizer(list(subject.requests), on_step=lambda done, total: calls.append((done, total)))
    ensure(bool(calls), "on_step was never called")
    done = [call[0] for call in calls]
    told = f"on_step told {', '.join(map(str, calls[:5]))} … {calls[-1]}"
    ensure(len({total for _, total in calls}) == 1, f"{told}: total is the same at each call")
    ensure(done == sorted(set(done)), f"{told}: done only grows")
    ensure(done[0] >= 0 and calls[-1][0] == calls[-1][1], f"{told}: done is at least 0, and total at the end")
    if "num_steps" in subject.target.Request.model_fields:
        for num_steps in (1, 2):
            subject.synthesizer(subject.requests[0], num_steps=num_steps)


OF_PLUGIN: tuple[Callable[[Plugin], None], ...] = (
    manifest_is_light,
    targets_import,
    constructors_are_typed,
    recipes_parse,
)
OF_MODEL: tuple[Callable[[Subject], None], ...] = (
    tiny_recipe_trains,
    gradient_reaches_every_parameter,
    resumed_equals_uninterrupted,
    two_processes_equal_one,
    output_is_what_it_says,
    alone_equals_in_a_batch,
    same_seed_same_output,
    global_randomness_is_left_alone,
    fresh_process_gives_the_same,
    nothing_executable_is_kept,
    unknown_names_are_refused,
    steps_are_told,
)


def _required(tree: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _required(value, f"{prefix}{key}.")
        elif value == REQUIRED:
            yield f"{prefix}{key}"


def _farthest(one: list[dict[str, np.ndarray]], other: list[dict[str, np.ndarray]]) -> tuple[float, str]:
    return max((distance(left, right) for left, right in zip(one, other, strict=True)), default=(0.0, ""))


def _refuses(error: type[Exception], name: str, attempt: Callable[[str], Any]) -> None:
    typo = f"{name}x"
    try:
        attempt(typo)
    except error as raised:
        near = re.search(rf"\b{re.escape(name)}\b", str(raised).replace(typo, ""))
        ensure(near is not None, f"{typo!r} is refused, but nothing says {name!r}: {raised}")
    else:
        ensure(False, f"{typo!r} is accepted silently")


def _undisturbed(what: str, make: Callable[[], Any], seed: int) -> Any:
    with _global_seed(seed):
        before = _global_state()
        made = make()
        ensure(_global_state() == before, f"{what} changes the global random state: use a torch.Generator")
    return made


def _global_state() -> tuple[Any, ...]:
    return torch.random.get_rng_state().numpy().tobytes(), repr(np.random.get_state()), random.getstate()


@contextmanager
def _global_seed(seed: int) -> Iterator[None]:
    kept = torch.random.get_rng_state(), np.random.get_state(), random.getstate()
    torch.random.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        torch.random.set_rng_state(kept[0])
        np.random.set_state(kept[1])
        random.setstate(kept[2])

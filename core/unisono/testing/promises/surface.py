"""Promises of a model about its surface: the base's names, fields, keys, progress and counters."""

import inspect
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from lightning.pytorch import LightningModule

from unisono import plugin as plugins
from unisono.data import DataModule
from unisono.errors import RecipeError, RequestError
from unisono.media import Media
from unisono.model import Model
from unisono.recipe import Recipe
from unisono.request import Request
from unisono.testing.check import CheckFailed, ensure
from unisono.testing.model_under_test import Subject

METHODS = (type(lambda: None), classmethod, staticmethod)


def base_names_are_kept(subject: Subject) -> None:
    """No name of a base class (Model, DataModule, Media, Request) means something else in the plugin's own class."""
    target = subject.target
    data = plugins.resolve(subject.recipe().data["name"], "data")
    pairs: tuple[tuple[type, type], ...] = ((target, Model), (target.Media, Media), (data, DataModule))
    for kind, base in (*pairs, (target, LightningModule)):
        for name, why, at in _shadowed(kind, base):
            _fail(kind, base, name, why, at)
    for name in target.Request.model_fields:
        if name not in Request.model_fields and hasattr(Request, name):
            _fail(target.Request, Request, name, "is a field", target.Request)
    model = subject.short.model
    own = {*vars(model), *model._parameters, *model._buffers, *model._modules}
    for name in sorted(own):
        if not name.startswith("_") and isinstance(inspect.getattr_static(Model, name, None), METHODS):
            _fail(target, Model, name, "is an attribute of the instance", target)


def unknown_names_are_refused(subject: Subject) -> None:
    """A request field or recipe key that does not exist is an error that names the nearest one."""
    kind = subject.target.Request
    json.dumps(kind.model_json_schema())
    valid = subject.requests[0].model_dump()
    for field in kind.model_fields:
        _refuses(RequestError, field, lambda name: kind.parse(**valid, **{name: 1}), kind)
    raw = subject.recipe().to_dict()
    for section in ("model", "data"):
        for key in [key for key in raw[section] if key != "name"]:

            def attempt(name: str, section: str = section) -> None:
                Recipe.from_dict({**raw, section: {**raw[section], name: 1}})

            _refuses(RecipeError, key, attempt, subject.target)


def steps_are_told(subject: Subject) -> None:
    """Progress is told as (done, total) up to the end; any number of steps serves where it can be chosen."""
    calls: list[tuple[int, int]] = []
    subject.synthesizer(list(subject.requests), on_step=lambda done, total: calls.append((done, total)))
    at = subject.target.synthesize
    ensure(bool(calls), "on_step was never called", "steps-silent", at)
    done = [call[0] for call in calls]
    told = f"on_step told {', '.join(map(str, calls[:5]))} … {calls[-1]}"
    ensure(len({total for _, total in calls}) == 1, f"{told}: total is the same at each call", "steps-total", at)
    ensure(done == sorted(set(done)), f"{told}: done only grows", "steps-order", at)
    whole = done[0] >= 0 and calls[-1][0] == calls[-1][1]
    ensure(whole, f"{told}: done is at least 0, and total at the end", "steps-end", at)
    if "num_steps" in subject.target.Request.model_fields:
        for num_steps in (1, 2):
            subject.synthesizer(subject.requests[0], num_steps=num_steps)


def evaluations_are_counted(subject: Subject) -> None:
    """A model that makes its output in steps counts its network's evaluations, more for more steps."""
    model, target = subject.synthesizer.model, subject.target
    in_steps = "num_steps" in target.Request.model_fields

    def cost(**fields: Any) -> int:
        before = model.evaluations
        subject.synthesizer(list(subject.requests[:1]), **fields)
        return model.evaluations - before

    if model.evaluations is None:
        ensure(
            not in_steps,
            "the request has num_steps, but evaluations is None: set it to 0 and add each evaluation of the network",
            "evaluations-uncounted",
            target,
        )
        return
    plain = cost()
    ensure(plain > 0, "evaluations did not grow with an output", "evaluations-uncounted", target.synthesize)
    if in_steps:
        one, four = cost(num_steps=1), cost(num_steps=4)
        ensure(
            0 < one < four,
            f"num_steps=1 counts {one} evaluations, num_steps=4 counts {four}: each evaluation counts",
            "evaluations-uncounted",
            target.synthesize,
            one=one,
            four=four,
        )


def _shadowed(kind: type, base: type) -> Iterator[tuple[str, str, Any]]:
    """Yield each public name of a base that a class gives another meaning: its name, how, and where."""
    for name in dir(base):
        if name.startswith("_"):
            continue
        old, new = inspect.getattr_static(base, name), inspect.getattr_static(kind, name)
        if new is old or isinstance(old, type):
            continue
        if isinstance(old, METHODS):
            if not isinstance(new, METHODS):
                yield name, f"is a {type(new).__name__}", kind
            elif base.__module__.partition(".")[0] == "unisono" and name in vars(base):
                if problem := _unlike(getattr(base, name), getattr(kind, name)):
                    yield name, problem, getattr(kind, name)
        elif isinstance(new, METHODS):
            yield name, "is a method", getattr(kind, name)


def _unlike(old: Callable[..., Any], new: Callable[..., Any]) -> str:
    """How a method cannot be called as its base's is; empty where it can."""
    expected, signature = inspect.signature(old), inspect.signature(new)
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    named = [p for p in expected.parameters.values() if p.kind not in kinds]
    positional = [p for p in named if p.kind is not p.KEYWORD_ONLY]
    required = [p for p in positional if p.default is p.empty]
    for arguments in (required, positional):
        try:
            signature.bind(*arguments, **{p.name: p.default for p in named if p.kind is p.KEYWORD_ONLY})
        except TypeError as error:
            return f"is {new.__name__}{signature}, unlike {old.__name__}{expected}: {error}"
    return ""


def _fail(kind: type, base: type, name: str, why: str, at: Any) -> None:
    sentence = f"{kind.__name__}.{name} {why}; unisono.{base.__name__} uses that name itself: choose another"
    raise CheckFailed(sentence, "name-shadowed", at, name=name)


def _refuses(error: type[Exception], name: str, attempt: Callable[[str], Any], at: Any) -> None:
    typo = f"{name}x"
    try:
        attempt(typo)
    except error as raised:
        near = re.search(rf"\b{re.escape(name)}\b", str(raised).replace(typo, ""))
        said = f"{typo!r} is refused, but nothing says {name!r}: {raised}"
        ensure(near is not None, said, "no-hint", at, name=name)
    else:
        raise CheckFailed(f"{typo!r} is accepted silently", "name-accepted", at, name=name)

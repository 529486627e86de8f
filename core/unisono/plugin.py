"""Plugins: the manifest, discovery by entry point, isolation of broken ones, API version.

A distribution offers a plugin by one entry point in the group ``unisono.plugins`` that points at one
``Plugin`` object. Discovery reads metadata only; a manifest is imported when it is asked for, a model when
it is used. A plugin that is broken, too new or claimed twice stops nothing: it is listed with its reason,
and naming it raises ``PluginError``.
"""

import os
import re
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module, resources
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from unisono.errors import PluginError, did_you_mean
from unisono.verbs import VERBS

Role = Literal["models", "data", "evaluators", "sweeps"]
"""What a manifest names by its own short names."""

GROUP = "unisono.plugins"
PLUGIN_API = "1.4"
ALLOW_LIST = "UNISONO_PLUGINS"


@dataclass(frozen=True)
class Verb:
    """A plugin's own verb on the command line: ``module`` has ``add_arguments(parser)`` and ``run(args, rest)``, as
    core's verbs have; ``help`` is its line in ``unisono --help``, which imports no module of a verb."""

    module: str
    help: str


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """One plugin's manifest: names and import strings, nothing heavy.

    ``models`` and ``data`` map a short name to ``"module:attribute"``; ``recipes`` is a package whose YAML
    files are this plugin's recipes. ``evaluators`` maps a model name to the function that measures it, ``sweeps``
    to the one that says what ``unisono sweep`` measures of it. ``verbs`` (since API 1.1) are verbs of the plugin's own.
    ``importers`` (since API 1.2) maps a ``model_type``, as ``config.json`` of a folder in Hugging Face's layout has it,
    or the class of a diffusers pipeline, as ``model_index.json`` has it, to the function that makes a model of such a
    folder, running no code from it: ``unisono.load`` calls it.
    ``routes`` (since API 1.3) are functions that ``unisono serve`` calls with its ``unisono.serve.Server``; each
    returns a FastAPI router. What several plugins name is taken once.
    ``times`` (since API 1.4) maps a suffix, such as ``".srt"``, to a ``unisono.media.TimesFormat``, in which the times
    of any medium that has some are written. What several plugins name alike is taken once.
    ``api`` is the plugin API it was written for: the major must equal the core's, the minor may not exceed it.
    """

    name: str
    api: str
    summary: str
    models: dict[str, str] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)
    evaluators: dict[str, str] = field(default_factory=dict)
    sweeps: dict[str, str] = field(default_factory=dict)
    verbs: dict[str, Verb] = field(default_factory=dict)
    importers: dict[str, str] = field(default_factory=dict)
    routes: tuple[str, ...] = ()
    times: dict[str, str] = field(default_factory=dict)
    recipes: str | None = None
    extra: str | None = None


@dataclass(frozen=True)
class Found:
    """A plugin as its entry point declares it, before any of its code has run."""

    name: str
    distribution: str
    version: str
    entry_points: tuple[EntryPoint, ...]

    @property
    def origin(self) -> str:
        return f"plugin {self.name!r} ({self.distribution} {self.version})"

    @property
    def identity(self) -> tuple[str, str, str]:
        """What every rank of a distributed run must agree on."""
        return (self.name, self.distribution, self.version)


@dataclass(frozen=True)
class State:
    """One row of ``unisono plugins``."""

    found: Found
    plugin: Plugin | None
    reason: str

    @property
    def ok(self) -> bool:
        return self.plugin is not None


@cache
def discover() -> dict[str, Found]:
    """Return every installed plugin by name, from metadata alone.

    ``UNISONO_PLUGINS=tts,codec`` limits the list; empty means none.
    """
    allowed = os.environ.get(ALLOW_LIST)
    names = None if allowed is None else {name.strip() for name in allowed.split(",") if name.strip()}
    grouped: dict[str, dict[tuple[str, str], EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        if names is None or point.name in names:
            origin = (point.dist.name if point.dist else "?", point.value)
            grouped.setdefault(point.name, {})[origin] = point
    found = {}
    for name, by_origin in sorted(grouped.items()):
        points = tuple(by_origin.values())
        distributions = sorted({point.dist.name if point.dist else "?" for point in points})
        versions = sorted({point.dist.version if point.dist else "?" for point in points})
        found[name] = Found(name, " and ".join(distributions), ", ".join(versions), points)
    return found


def get(name: str) -> Plugin:
    """Import and return the manifest of one plugin, or raise ``PluginError`` with cause and remedy."""
    found = discover().get(name)
    if found is None:
        raise PluginError(
            f"no plugin {name!r} is installed{did_you_mean(name, discover())}; "
            f"install the package that offers it, and check {ALLOW_LIST} if that is set",
            code="unknown",
            path=name,
        )
    return _load_manifest(found)


def resolve(reference: str, role: Role) -> Any:
    """Import what ``"plugin/name"`` stands for in a role: a model class, a data module, an evaluator or a probe."""
    plugin_name, slash, short = reference.partition("/")
    if not slash:
        raise PluginError(
            f"{reference!r} is not of the form plugin/name, such as 'tts/fastpitch'", code="format", value=reference
        )
    plugin = get(plugin_name)
    targets: dict[str, str] = getattr(plugin, role)
    if short not in targets:
        kinds = {"models": "model", "data": "data set", "evaluators": "evaluator", "sweeps": "measure to sweep for"}
        what = kinds[role]
        raise PluginError(
            f"plugin {plugin_name!r} has no {what} {short!r}{did_you_mean(short, targets)}",
            code="unknown",
            path=f"{plugin_name}.{role}",
            value=short,
        )
    return _import(plugin, targets[short])


def verbs() -> dict[str, dict[str, Verb]]:
    """Return verb → plugin → ``Verb`` of every plugin that is well; a verb of two plugins is neither's."""
    offered: dict[str, dict[str, Verb]] = {}
    for state in states():
        for name, verb in state.plugin.verbs.items() if state.plugin else ():
            offered.setdefault(name, {})[state.found.name] = verb
    return dict(sorted(offered.items()))


def verb_module(name: str) -> Any:
    """Import the module of a plugin's verb; raises ``PluginError`` where two plugins claim it, or it is broken."""
    (first, verb), *others = verbs()[name].items()
    if others:
        origins = " and ".join(discover()[plugin].origin for plugin in (first, *(other for other, _ in others)))
        raise PluginError(
            f"the verb {name!r} is claimed by {origins}: uninstall one, or leave one out of {ALLOW_LIST}",
            code="conflict",
            path="verbs",
            value=name,
        )
    return _import(get(first), verb.module)


def importer(model_type: str) -> Any:
    """Import what makes a model of a folder in Hugging Face's layout; raises ``PluginError`` where none or two do."""
    offered = {
        state.found.name: state.plugin.importers
        for state in states()
        if state.plugin is not None and state.plugin.importers
    }
    able = sorted(name for name, importers in offered.items() if model_type in importers)
    if not able:
        known = [kind for importers in offered.values() for kind in importers]
        raise PluginError(
            f"no plugin reads models of type {model_type!r}{did_you_mean(model_type, known)}",
            code="unknown",
            path="model_type",
            value=model_type,
        )
    if len(able) > 1:
        origins = " and ".join(discover()[name].origin for name in able)
        raise PluginError(
            f"models of type {model_type!r} are read by {origins}: uninstall one, or leave one out of {ALLOW_LIST}",
            code="conflict",
            path="model_type",
            value=model_type,
        )
    return _import(get(able[0]), offered[able[0]][model_type])


def routes() -> tuple[list[Any], list[PluginError]]:
    """Import the functions that make routes, of every plugin that is well; those that cannot be come as errors."""
    named = {target: state.plugin for state in states() if state.plugin is not None for target in state.plugin.routes}
    found, broken = [], []
    for target, plugin in named.items():
        try:
            found.append(_import(plugin, target))
        except PluginError as error:
            broken.append(error)
    return found, broken


def times_suffixes() -> tuple[str, ...]:
    """Return the suffixes of the formats of times that plugins offer, in their order."""
    return tuple(dict.fromkeys(suffix for state in states() if state.plugin for suffix in state.plugin.times))


def times_format(suffix: str) -> Any:
    """Import the format of times of a suffix that ``times_suffixes`` lists; raises ``PluginError`` where two plugins
    name different ones, or it is broken."""
    offered = {
        state.plugin.times[suffix]: state.plugin for state in states() if state.plugin and suffix in state.plugin.times
    }
    (target, plugin), *others = offered.items()
    if others:
        origins = " and ".join(discover()[each.name].origin for each in offered.values())
        raise PluginError(
            f"times as {suffix} are written by {origins}, each in its own way: uninstall one, or leave one out of "
            f"{ALLOW_LIST}",
            code="conflict",
            path="times",
            value=suffix,
        )
    return _import(plugin, target)


def import_string(target: str) -> Any:
    """Import ``"package.module:attribute"``."""
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)


def _import(plugin: Plugin, target: str) -> Any:
    """Import ``"package.module"`` or ``"package.module:attribute"``, or raise ``PluginError`` that says whose it is."""
    try:
        return import_string(target) if ":" in target else import_module(target)
    except (ImportError, AttributeError) as error:
        origin = discover()[plugin.name].origin
        install = f'; if a package is missing: pip install "unisono[{plugin.extra}]"' if plugin.extra else ""
        raise PluginError(
            f"{origin}: {target!r} cannot be imported: {type(error).__name__}: {error}{install}",
            code="dependency" if isinstance(error, ModuleNotFoundError) else "failed",
            path=plugin.name,
            value=target,
        ) from error


def states() -> list[State]:
    """Try every manifest and report each with ``ok`` or its reason; never raises."""
    rows = []
    for found in discover().values():
        try:
            rows.append(State(found, _load_manifest(found), "ok"))
        except PluginError as error:
            rows.append(State(found, None, str(error)))
    return rows


def recipe_names(plugin: Plugin) -> dict[str, Any]:
    """Return ``plugin/recipe`` → readable resource for every recipe that a plugin ships."""
    if plugin.recipes is None:
        return {}
    folder = resources.files(plugin.recipes)
    return {
        f"{plugin.name}/{entry.name.removesuffix('.yaml')}": entry
        for entry in sorted(folder.iterdir(), key=lambda e: e.name)
        if entry.name.endswith(".yaml")
    }


def _load_manifest(found: Found) -> Plugin:
    point, *others = found.entry_points
    if others:
        offers = (f"{p.dist.name} {p.dist.version}" if p.dist else p.value for p in found.entry_points)
        raise PluginError(
            f"plugin {found.name!r} is offered by {' and '.join(sorted(offers))}: uninstall one of them",
            code="conflict",
            path=found.name,
        )
    try:
        plugin = point.load()
    except Exception as error:  # whatever a stranger's module raises, the tool goes on
        raise PluginError(
            f"{found.origin} failed to import: {type(error).__name__}: {error}; repair or uninstall it",
            code="failed",
            path=found.name,
        ) from error
    if not isinstance(plugin, Plugin):
        raise PluginError(
            f"{found.origin}: {point.value!r} is a {type(plugin).__name__}, not a unisono.Plugin",
            code="type",
            path=found.name,
            value=point.value,
        )
    if plugin.name != found.name:
        raise PluginError(
            f"{found.origin} calls itself {plugin.name!r}: entry point and manifest must agree",
            code="conflict",
            path=found.name,
            value=plugin.name,
        )
    check_api(plugin.api, found.origin)
    for name in plugin.verbs:
        if name in VERBS or not re.fullmatch("[a-z][a-z0-9-]*", name):
            why = "is unisono's own" if name in VERBS else "is not of small letters, digits and dashes"
            raise PluginError(
                f"{found.origin} offers the verb {name!r}, which {why}: give it another name",
                code="exists" if name in VERBS else "format",
                path=f"{found.name}.verbs",
                value=name,
            )
    return plugin


def check_api(api: str, origin: str) -> None:
    """Refuse another major, or a newer minor, than ``PLUGIN_API``."""
    try:
        major, minor = (int(part) for part in api.split("."))
    except ValueError:
        raise PluginError(
            f"{origin}: api {api!r} is not of the form '1.0'", code="format", path="api", value=api
        ) from None
    core_major, core_minor = (int(part) for part in PLUGIN_API.split("."))
    if major != core_major or minor > core_minor:
        newer = (major, minor) > (core_major, core_minor)
        remedy = "upgrade unisono" if newer else "upgrade the plugin"
        raise PluginError(
            f"{origin} needs plugin API {api}, this is {PLUGIN_API}: {remedy}", code="version", path="api", value=api
        )

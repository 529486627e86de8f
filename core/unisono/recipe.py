"""Recipe: one run, as typed objects and as one YAML file.

Sections: ``model`` and ``data`` (``name:`` chooses a registered class, the rest are its constructor's
arguments), ``optim`` (OptimSpec), ``trainer`` (Lightning's Trainer), ``run`` (RunSpec), ``components``
(role → export folder or built-in name) and ``seed``. jsonargparse checks every value against the typed
signatures; an unknown key is an error with its path and the nearest name. ``???`` marks a value that the
user must give. No interpolation: a value has one owner, and derived numbers live in code.
"""

import copy
import inspect
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from unisono import plugin as plugins
from unisono.errors import RecipeError, UnisonoError, did_you_mean

REQUIRED = "???"
SECTIONS = ("model", "data", "optim", "trainer", "run", "components", "seed")


@dataclass(frozen=True)
class RunSpec:
    """How a run is kept and shown, as in a recipe's ``run:`` section.

    dir: parent of the numbered run folders.
    ema_decay: exponential moving average of the weights; 0 switches it off.
    checkpoint_every: optimiser steps between resumable checkpoints.
    preview_seconds: time budget of the previews at each validation, per rank; 0 switches them off.
    init_from: a run, ``.ckpt`` or export whose weights to start from, as far as names and shapes agree.
    """

    dir: str = "runs"
    ema_decay: float = 0.999
    checkpoint_every: int = 1000
    preview_seconds: float = 20.0
    init_from: str | None = None

    def __post_init__(self):
        if not 0 <= self.ema_decay < 1:
            raise RecipeError(f"run.ema_decay={self.ema_decay} must be from 0 up to, not including, 1")
        if self.checkpoint_every < 1:
            raise RecipeError(f"run.checkpoint_every={self.checkpoint_every} must be at least 1")


@dataclass
class Recipe:
    """A complete, checked run; ``Recipe.read`` makes one from a name or file, ``Recipe.from_dict`` from Python."""

    model: dict[str, Any]
    data: dict[str, Any]
    optim: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)
    components: dict[str, str] = field(default_factory=dict)
    seed: int = 1
    name: str = "recipe"

    @classmethod
    def read(cls, name_or_path: str | Path, overrides: list[str] | None = None) -> "Recipe":
        """Read a shipped recipe by name or a file by path, apply ``--a.b=c`` overrides, and check it all."""
        source, name = find_recipe(name_or_path)
        raw = _load_yaml(source.read_text(encoding="utf-8"), str(name_or_path))
        for path, value in parse_overrides(overrides or []).items():
            _set(raw, path, value)
        return cls.from_dict(raw, name=name)

    @classmethod
    def from_dict(cls, raw: dict[str, Any], name: str = "recipe") -> "Recipe":
        """Check a nested dict and return the resolved recipe, defaults filled in."""
        if not isinstance(raw, dict):
            raise RecipeError(f"{name}: a recipe is a mapping with the sections {', '.join(SECTIONS)}")
        for key in raw:
            if key not in SECTIONS:
                raise RecipeError(f"{name}: unknown section {key!r}{did_you_mean(str(key), SECTIONS)}")
        for section in ("model", "data"):
            given = raw.get(section)
            if not isinstance(given, dict) or "name" not in given:
                raise RecipeError(f"{name}: {section}.name is required, such as {section}: {{name: tts/…}}")
        for section in set(SECTIONS) - {"seed"}:
            if not isinstance(raw.get(section) or {}, dict):
                raise RecipeError(f"{name}: {section}={raw[section]!r} must be a mapping of names to values")
        resolved: dict[str, Any] = {}
        for section in ("model", "data", "optim", "trainer", "run"):
            given = dict(raw.get(section) or {})
            target = _target(section, given)
            short = given.pop("name", None) if section in ("model", "data") else None
            values = check_arguments(target, given, section, name)
            resolved[section] = {"name": short, **values} if short is not None else values
        for section in ("optim", "run"):
            build(_target(section, {}), resolved[section], section, name)  # the values fit their limits
        components = raw.get("components") or {}
        known = _target("model", raw["model"]).roles
        for role, value in components.items():
            if role not in known:
                raise RecipeError(f"{name}: unknown component {role!r}{did_you_mean(role, known)}")
            if value == REQUIRED or not isinstance(value, str):
                raise RecipeError(f"{name}: components.{role} is required: add --components.{role}=FOLDER")
        seed = raw.get("seed", 1)
        if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
            raise RecipeError(f"{name}: seed={seed!r} must be a whole number ≥ 0")
        return cls(**resolved, components=dict(components), seed=seed, name=name)

    def to_dict(self) -> dict[str, Any]:
        """Return the resolved recipe as plain values, ready for YAML or JSON."""
        return copy.deepcopy({section: getattr(self, section) for section in SECTIONS})

    def to_yaml(self) -> str:
        """Return the resolved recipe as YAML."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)

    def build_data(self):
        """Make the data module, with the components that it uses (no data is read yet).

        A built-in component is made for it without the facts, which it is there to help finding.
        """
        from unisono.checkpoint import load_component

        data = build(plugins.resolve(self.data["name"], "data"), self.data, "data", self.name)
        data.seed = self.seed
        owner = plugins.resolve(self.model["name"], "models")
        for role in data.uses:
            if role in self.components:
                data.attach(role, load_component(owner, role, self.components[role], {}))
        return data

    def build_model(self, facts: dict[str, Any]):
        """Make the model, with weights drawn from the recipe's seed; the global generator is left as it was."""
        import torch

        model = build(plugins.resolve(self.model["name"], "models"), self.model, "model", self.name)
        with torch.random.fork_rng(devices=[]):
            torch.random.manual_seed(self.seed)
            try:
                model.build(facts)
            except UnisonoError:
                raise
            except (ValueError, TypeError, RuntimeError, AssertionError, ZeroDivisionError) as error:
                raise RecipeError(
                    f"{self.name}: {self.model['name']} cannot be built from the model section ({error}): "
                    "check its sizes"
                ) from error
        model.optim = build(_target("optim", {}), self.optim, "optim", self.name)
        model.recipe = self.to_dict()
        return model

    @property
    def run_spec(self) -> RunSpec:
        """The ``run`` section as an object."""
        return RunSpec(**self.run)


def find_recipe(name_or_path: str | Path) -> tuple[Any, str]:
    """Return the resource and the name of a recipe given by name (``tts/quickstart``) or by path."""
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise RecipeError(f"recipe file {str(path)!r} does not exist")
        return path, path.stem
    known = all_recipes()
    name = str(name_or_path)
    if name in known:
        return known[name], name.replace("/", "-")
    plugin_name = name.partition("/")[0]
    if plugin_name in plugins.discover():
        plugins.get(plugin_name)  # a broken plugin says why it has no recipes
    raise RecipeError(f"no recipe {name!r}{did_you_mean(name, known)}; unisono recipes lists them")


def all_recipes() -> dict[str, Any]:
    """Return every recipe of every working plugin by name."""
    return {
        name: resource
        for state in plugins.states()
        if state.plugin is not None
        for name, resource in plugins.recipe_names(state.plugin).items()
    }


def parse_overrides(arguments: list[str]) -> dict[str, Any]:
    """Turn ``--a.b=c`` and ``--a.b c`` into ``{"a.b": value}``, values read as YAML."""
    overrides: dict[str, Any] = {}
    rest = list(arguments)
    while rest:
        item = rest.pop(0)
        if not item.startswith("--"):
            raise RecipeError(f"{item!r} is not an override: write --section.key=value")
        key, equals, value = item[2:].partition("=")
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise RecipeError(f"--{key} has no value: write --{key}=value")
            value = rest.pop(0)
        overrides[key] = _load_yaml(value, f"--{key}") if value else ""
    return overrides


def check_arguments(target: Any, given: dict[str, Any], section: str, origin: str) -> dict[str, Any]:
    """Check values against a class's typed constructor; return all of them, defaults included, as plain data."""
    parser = _parser(target)
    known = {action.dest for action in parser._actions if action.dest not in ("help", "==SUPPRESS==")}
    _refuse_unknown(given, known, section, origin)
    signature = inspect.signature(target)
    for path, value in _leaves(given):
        if value == REQUIRED:
            raise RecipeError(f"{origin}: {section}.{path} is required: add --{section}.{path}=VALUE")
    for parameter in signature.parameters.values():
        if parameter.default is parameter.empty and parameter.name in known and parameter.name not in given:
            key = f"{section}.{parameter.name}"
            raise RecipeError(f"{origin}: {key} is required: add --{key}=VALUE")
    try:
        namespace = parser.parse_object(given)
    except Exception as error:  # jsonargparse raises many kinds; each means that a value does not fit
        raise RecipeError(f"{origin}: {_misfit(section, error)}") from None
    return _plain(namespace.as_dict())


def build(target: Any, values: dict[str, Any], section: str, origin: str) -> Any:
    """Instantiate a class from a checked section."""
    parser = _parser(target)
    given = {key: value for key, value in values.items() if key != "name" or "name" in _names(target)}
    try:
        namespace = parser.instantiate(parser.parse_object(given))
    except RecipeError:
        raise
    except Exception as error:
        raise RecipeError(f"{origin}: {section}: {_first_reason(error)}") from error
    return target(**vars(namespace))


@cache
def _parser(target: Any):
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(target, as_group=False, fail_untyped=True)
    return parser


def _names(target: Any) -> set[str]:
    return set(inspect.signature(target).parameters)


def _target(section: str, given: dict[str, Any]) -> Any:
    if section in ("model", "data"):
        return plugins.resolve(str(given["name"]), "models" if section == "model" else "data")
    if section == "run":
        return RunSpec
    if section == "optim":
        from unisono.model import OptimSpec

        return OptimSpec
    from lightning.pytorch import Trainer

    return Trainer


def _refuse_unknown(given: dict[str, Any], known: set[str], section: str, origin: str, prefix: str = "") -> None:
    for key, value in given.items():
        path = f"{prefix}{key}"
        inside = {name for name in known if name.startswith(path + ".")}
        if inside and isinstance(value, dict):
            _refuse_unknown(value, known, section, origin, path + ".")
            continue
        if path in known:
            continue
        level = {name[len(prefix) :].split(".")[0] for name in known if name.startswith(prefix)}
        raise RecipeError(f"{origin}: unknown key {section}.{path}{did_you_mean(str(key), level)}")


def _leaves(tree: dict[str, Any], prefix: str = ""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value


def _misfit(section: str, error: Exception) -> str:
    """Say in one sentence which value is of which wrong type."""
    text = " ".join(str(error).split())
    found = re.match(r'Parser key "([^"]+)": Expected an? (.*?)\. Got value: (.*)', text)
    if found:
        key, wanted, value = found.groups()
        wanted = re.sub(r"^typing\.Literal\[(.*)\]$", r"one of \1", _type_name(wanted)).replace("typing.", "")
        return f"{section}.{key}={value} must be {wanted if wanted.startswith('one of') else f'of type {wanted}'}"
    found = re.match(r'Parser key "([^"]+)": .* Subtypes: \[(.*)\] Errors: .* Given value: (.*)', text)
    if found:
        key, wanted, value = found.groups()
        wanted = re.sub(r"typing\.Literal\[(.*?)\]", r"\1", _type_name(wanted)).replace("NoneType", "null")
        return f"{section}.{key}={value} must be one of: {wanted.replace('typing.', '')}"
    return f"{section}: {_first_reason(error)}"


def _type_name(text: str) -> str:
    return re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", text)


def _first_reason(error: Exception) -> str:
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip()]
    return " ".join(lines)[:400] if lines else type(error).__name__


def _set(tree: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for part in parents:
        node = tree.get(part)
        if node is None:
            node = tree[part] = {}
        if not isinstance(node, dict):
            raise RecipeError(f"--{path}: {part} is a value, not a section")
        tree = node
    tree[last] = value


class _StrictLoader(yaml.SafeLoader):
    """YAML that refuses a key given twice, which PyYAML would settle silently, and reads 1e-3 as a number."""


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)
        if key in seen:
            raise RecipeError(f"key {key!r} is given twice (line {key_node.start_mark.line + 1})")
        seen.add(key)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_StrictLoader.add_constructor("tag:yaml.org,2002:map", _mapping)
_StrictLoader.yaml_implicit_resolvers = {
    first: list(resolvers) for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _load_yaml(text: str, origin: str) -> Any:
    try:
        return yaml.load(text, Loader=_StrictLoader)
    except RecipeError as error:
        raise RecipeError(f"{origin}: {error}") from None
    except yaml.YAMLError as error:
        raise RecipeError(f"{origin} is not valid YAML: {_first_reason(error)}") from None

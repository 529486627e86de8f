"""Recipe: one run, as checked values and as one YAML file.

Sections: ``model`` and ``data`` (``name:`` chooses a registered class, the rest are its constructor's
arguments), ``optim`` (OptimSpec), ``adapters`` (AdapterSpec; none without), ``trainer`` (Lightning's Trainer), ``run``
(RunSpec), ``components`` (role → export folder or built-in name), ``seed`` and ``format``. Every value is checked
against the typed signatures; an unknown key is an error with its path and the nearest name. ``???`` marks a value that
the user must give. No interpolation: a value has one owner, and derived numbers live in code.

Format 2 groups sizes and options (``model.network.dim``). Format 1, which a file without ``format`` may have, has them
side by side (``model.dim``); a class's table ``flat`` says where they are now. Adapters were an argument of text
models before they were a section: ``model.adapters`` is read as that.
"""

import copy
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from unisono import plugin as plugins
from unisono.arguments import REQUIRED, build, check_arguments, is_group, nested, old_names
from unisono.errors import RecipeError, did_you_mean, shown
from unisono.plain_yaml import MAX_CHARACTERS, read_yaml, write_yaml
from unisono.seeds import MAX_SEED
from unisono.switches import ActivationCheckpointing, Compile, EarlyStopping, KeepBest, check_loggers

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

FORMAT = 2
CHOSEN = ("strategy", "profiler")
"""Arguments of the trainer that are a name, a name with options, or a class."""
MOVED = {"checkpoint_every": "checkpoint.every"}
"""Keys of ``run`` that are read under their old names too, in either format."""
SECTIONS = ("model", "data", "optim", "adapters", "trainer", "run", "components", "seed", "format")


@dataclass(frozen=True)
class CheckpointSpec:
    """When and how a run's states are kept, as in ``run.checkpoint``.

    every: optimiser steps between two states.
    keep: how many of the newest are kept.
    asynchronous: write while training goes on, from a copy in the host's memory; ``auto`` where that saves time (from
        64 MB on) and the copy has room.
    layout: ``file`` is one ``.ckpt``, ``sharded`` a folder that all processes write their part of; ``auto`` is
        ``sharded`` where the strategy shards weights.
    """

    every: int = 1000
    keep: int = 1
    asynchronous: Literal["auto"] | bool = "auto"
    layout: Literal["auto", "file", "sharded"] = "auto"

    def __post_init__(self):
        for name, value in (("every", self.every), ("keep", self.keep)):
            if value < 1:
                raise RecipeError(
                    f"run.checkpoint.{name}={value} must be at least 1",
                    code="range",
                    path=f"run.checkpoint.{name}",
                    value=value,
                )


@dataclass(frozen=True)
class RunSpec:
    """How a run is kept and shown, as in a recipe's ``run:`` section.

    dir: parent of the numbered run folders.
    ema_decay: exponential moving average of the weights; 0 switches it off.
    checkpoint: when and how its states are kept, to resume from.
    preview_seconds: time budget of the previews at each validation, per rank; 0 switches them off.
    init_from: a run, ``.ckpt`` or export whose weights to start from, as far as names and shapes agree.
    skip_nonfinite: leave out steps whose loss or gradient is NaN or infinite, and count them; else the run stops.
    stop_seconds: what SIGTERM or Ctrl-C leave the step in progress to end and the state to be written.
    mixing: a weight for each group of training items (a class, a corpus: what the audit lists), or points
        ``[[step, weight], …]`` for one that changes; empty shows every item as often.
    keep_best: the best states by a logged value are kept beside the newest.
    early_stopping: the run ends when a logged value improves no more.
    logger: ``tensorboard``, ``csv``, ``wandb``, ``mlflow``, ``none``, ``{class_path, init_args}``, or a list of these.
    compile: ``torch.compile`` for the blocks that the model repeats, or for other regions.
    activation_checkpointing: compute the activations of blocks again in the backward pass: less memory, more time.
    """

    dir: str = "runs"
    ema_decay: float = 0.999
    checkpoint: CheckpointSpec = CheckpointSpec()
    preview_seconds: float = 20.0
    init_from: str | None = None
    skip_nonfinite: bool = False
    stop_seconds: float = 30.0
    mixing: dict[str, float | list[list[float]]] = field(default_factory=dict)
    keep_best: KeepBest | None = None
    early_stopping: EarlyStopping | None = None
    logger: str | list[Any] | dict[str, Any] = "tensorboard"
    compile: bool | Compile = False
    activation_checkpointing: bool | ActivationCheckpointing = False

    def __post_init__(self):
        if not 0 <= self.ema_decay < 1:
            raise RecipeError(
                f"run.ema_decay={self.ema_decay} must be in [0, 1)",
                code="range",
                path="run.ema_decay",
                value=self.ema_decay,
            )
        if not 0 < self.stop_seconds < 1e6:
            raise RecipeError(
                f"run.stop_seconds={self.stop_seconds} must be above 0 and below 1000000",
                code="range",
                path="run.stop_seconds",
                value=self.stop_seconds,
            )
        check_loggers(self.logger)


@dataclass
class Recipe:
    """A complete, checked run; ``Recipe.read`` makes one from a name or file, ``Recipe.from_dict`` from Python."""

    model: dict[str, Any]
    data: dict[str, Any]
    optim: dict[str, Any] = field(default_factory=dict)
    adapters: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)
    components: dict[str, str] = field(default_factory=dict)
    seed: int = 1
    name: str = "recipe"

    @classmethod
    def read(cls, name_or_path: str | Path, overrides: list[str] | None = None) -> "Recipe":
        """Read a shipped recipe by name or a file by path, apply ``--a.b=c`` overrides, and check it all."""
        source, name = find_recipe(name_or_path)
        raw = read_yaml(_text(source), f"{name_or_path!s:.200}")
        raw = {**raw, "run": nested(raw["run"], MOVED, "run", name)} if _has_run(raw) else raw
        given = {_moved_in_run(path): value for path, value in parse_overrides(overrides or []).items()}
        chosen = {path: given.pop(path) for path in ("model", "model.name", "data", "data.name") if path in given}
        for path, value in chosen.items():
            _set(_sections(raw, name), path, value)
        for section, values in _named(raw).items() if given else ():
            raw[section] = nested(values, _target(section, values).flat, section, name)
        for path, value in given.items():
            _set(_sections(raw, name), _moved(raw, path, value), value)
        return cls.from_dict(raw, name=name)

    @classmethod
    def from_dict(cls, raw: Any, name: str = "recipe") -> "Recipe":
        """Check a nested dict and return the resolved recipe, defaults filled in."""
        raw = _sections(raw, name)
        for section in ("model", "data"):
            given = raw.get(section)
            if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
                raise RecipeError(
                    f"{name}: {section}.name is required, such as {section}: {{name: tts/…}}",
                    path=f"{section}.name",
                    code="missing",
                )
        for section in SECTIONS[:-2]:
            if not isinstance(raw.get(section) or {}, Mapping):
                raise RecipeError(
                    f"{name}: {section}={shown(raw[section])} must be a mapping of names to values",
                    path=section,
                    value=raw[section],
                    code="type",
                )
        version = raw.get("format", 1)
        if version not in range(1, FORMAT + 1) or isinstance(version, bool):
            raise RecipeError(
                f"{name}: format={shown(version)} must be 1 or {FORMAT}: upgrade unisono, or correct it",
                path="format",
                value=version,
                code="version",
            )
        raw = with_adapters(raw, name)
        resolved: dict[str, Any] = {}
        for section in ("model", "data", "optim", "trainer", "run", *(["adapters"] if raw.get("adapters") else [])):
            given = dict(raw.get(section) or {})
            chosen = _choices(given, name) if section == "trainer" else {}
            target = _target(section, given)
            short = given.pop("name", None) if section in ("model", "data") else None
            flat = target.flat if short is not None else {}
            if version == FORMAT:
                for key in old_names(given, flat):
                    raise RecipeError(
                        f"{name}: unknown key {section}.{key}: since recipe format 2 it is {section}.{flat[key]}",
                        path=f"{section}.{key}",
                        code="unknown",
                    )
            values = check_arguments(target, given, section, name, MOVED if section == "run" else flat) | chosen
            resolved[section] = {"name": short, **values} if short is not None else values
        for section in {"optim", "adapters", "run"} & resolved.keys():
            build(_target(section, {}), resolved[section], section, name)  # the values fit their limits
        components = _components(raw.get("components") or {}, _target("model", raw["model"]).roles, name)
        seed = raw.get("seed", 1)
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed <= MAX_SEED:
            raise RecipeError(
                f"{name}: seed={shown(seed)} must be a whole number ≥ 0 and < 2^63",
                path="seed",
                value=seed,
                code="range" if type(seed) is int else "type",
            )
        return cls(**resolved, components=components, seed=seed, name=name)

    def to_dict(self) -> dict[str, Any]:
        """Return the resolved recipe as plain values, ready for YAML or JSON."""
        sections = [section for section in SECTIONS[:-1] if section != "adapters" or self.adapters]
        return copy.deepcopy({section: getattr(self, section) for section in sections}) | {"format": FORMAT}

    def with_values(self, values: Mapping[str, Any]) -> "Recipe":
        """Return this recipe with other values, by dotted path: ``{"optim.lr": 1e-3}``; all of it is checked again."""
        raw = self.to_dict()
        for path, value in values.items():
            _set(_sections(raw, self.name), path, value)
        return Recipe.from_dict(raw, name=self.name)

    def to_yaml(self) -> str:
        """Return the resolved recipe as YAML."""
        return write_yaml(self.to_dict())

    def build_data(self):
        """Make the data module, with the components that it uses; no data is read yet."""
        from unisono import assemble

        return assemble.build_data(self)

    def build_model(self, facts: Mapping[str, Any]):
        """Make the model, with weights drawn from the recipe's seed; the global generator is left as it was."""
        from unisono import assemble

        return assemble.build_model(self, facts)

    @property
    def run_spec(self) -> RunSpec:
        """The ``run`` section as an object."""
        return build(RunSpec, self.run, "run", self.name)


def find_recipe(name_or_path: str | Path) -> "tuple[Traversable, str]":
    """Return the resource and the name of a recipe given by name (``tts/quickstart``) or by path."""
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        _check_file(path)
        return path, path.stem
    known = all_recipes()
    name = str(name_or_path)
    if name in known:
        return known[name], name.replace("/", "-")
    plugin_name = name.partition("/")[0]
    if plugin_name in plugins.discover():
        plugins.get(plugin_name)  # a broken plugin says why it has no recipes
    raise RecipeError(
        f"no recipe {shown(name)}{did_you_mean(name, known)}; unisono recipes lists them",
        code="unknown",
        path="recipe",
        value=name,
    )


def all_recipes() -> "dict[str, Traversable]":
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
            raise RecipeError(f"{shown(item)} is not an override: write --section.key=value", code="format", value=item)
        key, equals, value = item[2:].partition("=")
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise RecipeError(f"--{key:.80} has no value: write --{key:.80}=value", code="missing", path=key)
            value = rest.pop(0)
        overrides[key] = read_yaml(value, f"--{key:.80}") if value else ""
    return overrides


def _check_file(path: Path) -> None:
    try:
        if path.is_file():
            return
        there = path.exists()
        what, code = ("is not a regular file", "format") if there else ("does not exist", "missing")
    except OSError as error:  # a name too long, a folder without rights, a loop of links
        what, code = f"cannot be opened ({error.strerror})", "missing"
    raise RecipeError(f"recipe file {shown(str(path), 300)} {what}: give the path of a YAML file", code=code, path=path)


def _text(source: "Traversable") -> str:
    """Read a recipe's file as UTF-8, with or without a byte order mark."""
    name = shown(str(source))
    try:
        with source.open("rb") as file:
            data = file.read(4 * MAX_CHARACTERS + 1)
    except OSError as error:
        raise RecipeError(
            f"recipe file {name} cannot be read: {error.strerror}", code="missing", path=str(source)
        ) from None
    if len(data) > 4 * MAX_CHARACTERS:
        raise RecipeError(
            f"recipe file {name} is larger than {4 * MAX_CHARACTERS:,} bytes: it is no recipe",
            code="limit",
            path=str(source),
        )
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise RecipeError(
            f"recipe file {name} is UTF-16 text: save it as UTF-8", code="format", path=str(source), value="UTF-16"
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise RecipeError(
            f"recipe file {name} is not UTF-8 text (line {line}): save it as UTF-8",
            code="format",
            path=str(source),
            value=line,
        ) from None


def _sections(raw: Any, name: str) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise RecipeError(f"{name}: a recipe is a mapping with the sections {', '.join(SECTIONS)}", code="type")
    for key in raw:
        if key not in SECTIONS:
            raise RecipeError(
                f"{name}: unknown section {shown(key)}{did_you_mean(str(key), SECTIONS)}", path=str(key), code="unknown"
            )
    return raw


def _components(given: Mapping[str, Any], known: dict[str, str], name: str) -> dict[str, str]:
    for role, value in given.items():
        path = f"components.{role}"
        if role not in known:
            raise RecipeError(
                f"{name}: unknown component {shown(role)}{did_you_mean(str(role), known)}", path=path, code="unknown"
            )
        if value == REQUIRED or not isinstance(value, str):
            raise RecipeError(
                f"{name}: {path} is required: add --{path}=FOLDER", path=path, value=value, code="missing"
            )
    return dict(given)


def with_adapters(raw: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a recipe with the section ``adapters`` where it had ``model.adapters``, of which rank 0 is none.

    Raises ``RecipeError`` where it has both.
    """
    model = raw["model"]
    if "adapters" not in model or "adapters" in inspect.signature(_target("model", model)).parameters:
        return dict(raw)
    given = model["adapters"]
    rest = {**raw, "model": {key: value for key, value in model.items() if key != "adapters"}}
    if not isinstance(given, Mapping | None) or (given and raw.get("adapters")):
        why = "and both are given: remove one" if raw.get("adapters") else "a mapping: write it there"
        raise RecipeError(
            f"{name}: model.adapters is a section of its own, adapters, {why}",
            path="model.adapters",
            value=given,
            code="conflict" if raw.get("adapters") else "type",
        )
    if not given or not given.get("rank", "kind" in given):
        return rest  # rank 0, which was the default
    return {**rest, "adapters": dict(given)}


def _choices(trainer: dict[str, Any], name: str) -> dict[str, Any]:
    """Take what is chosen with options or by class out of a trainer's section, and return it checked."""
    given = {key: trainer.pop(key) for key in CHOSEN if isinstance(trainer.get(key), Mapping)}
    if not given:
        return {}
    from unisono.train.strategies.choose import check_choice

    return {key: check_choice(key, value, name) for key, value in given.items()}


def data_of(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``data`` section of a model's recipe as format 2 has it; empty where it has none."""
    section = dict(recipe.get("data") or {})
    return nested(section, _target("data", section).flat, "data", "the model's recipe") if "name" in section else {}


def _target(section: str, given: Mapping[str, Any]) -> Any:
    if section in ("model", "data"):
        return plugins.resolve(given["name"], "models" if section == "model" else "data")
    if section == "run":
        return RunSpec
    if section == "optim":
        from unisono.optim import OptimSpec

        return OptimSpec
    if section == "adapters":
        from unisono.nn.adapters import AdapterSpec

        return AdapterSpec
    from lightning.pytorch import Trainer

    return Trainer


def _named(raw: Any) -> dict[str, dict[str, Any]]:
    """Return the sections that name a class."""
    known = {section: raw.get(section) for section in ("model", "data")} if isinstance(raw, dict) else {}
    return {k: given for k, given in known.items() if isinstance(given, dict) and isinstance(given.get("name"), str)}


def _moved(raw: Any, path: str, value: Any) -> str:
    """Return where an override of format 1, ``model.dim``, is in format 2."""
    section, _, rest = path.partition(".")
    key, dot, inner = rest.partition(".")
    named = _named(raw)
    if section not in named:
        return path
    flat = _target(section, named[section]).flat
    if key not in flat or (is_group(key, flat) and (dot or isinstance(value, Mapping))):
        return path
    return f"{section}.{flat[key]}{dot}{inner}"


def _has_run(raw: Any) -> bool:
    return isinstance(raw, dict) and isinstance(raw.get("run"), dict)


def _moved_in_run(path: str) -> str:
    """Return where an override of ``run`` belongs now."""
    section, _, key = path.partition(".")
    return f"run.{MOVED[key]}" if section == "run" and key in MOVED else path


def _set(tree: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for part in parents:
        node = tree.get(part)
        if node is None:
            node = tree[part] = {}
        elif isinstance(node, str) and part in CHOSEN and parents == ["trainer", part]:
            node = tree[part] = {"name": node}  # a name that is given options
        if not isinstance(node, dict):
            raise RecipeError(f"--{path:.80}: {part:.80} is a value, not a section", path=path, code="type")
        tree = node
    tree[last] = value

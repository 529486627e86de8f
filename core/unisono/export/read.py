"""Reading: an export, or a folder in Hugging Face's layout, becomes a model, and no code of it runs."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from unisono import plugin as plugins
from unisono.arguments import build, check_arguments
from unisono.errors import CheckpointError, MissingExtra, RequestError, UnisonoError, did_you_mean
from unisono.export import adapters
from unisono.export.layout import (
    COMPONENTS,
    CONFIG,
    FORMAT,
    INDEX,
    INFO,
    RECIPE,
    check_files_are_plain,
    check_tree,
    kind_of,
    shown,
)
from unisono.export.names import Source, find, locate
from unisono.export.weights import load_weights, read_header, within
from unisono.nn.adapters import add_adapters
from unisono.plain_yaml import read_yaml
from unisono.recipe import with_adapters

_JSON_NAMES = {str: "a string", dict: "an object"}


def load(
    name: str | Path,
    *,
    device: str = "cpu",
    components: dict[str, str] | None = None,
    base: str | Path | None = None,
):
    """Load an export by folder, model name or hub id and return a ``Synthesizer``.

    A name is looked for as a folder, then among installed model packages, then in ``./checkpoints``; a name with a
    slash that is no folder is a hub id, ``owner/name`` or ``owner/name@revision``.
    A folder in Hugging Face's layout is read by the plugin that names its ``model_type`` among its ``importers``.
    ``components`` replaces or adds components: role → export, by any such name, or built-in name. ``base`` is the
    export that adapters were trained on, where the folder holds them alone. Runs no code from it and opens no pickle.
    Raises ``CheckpointError`` that names what is wrong and the fix.
    """
    from unisono.synthesis import Synthesizer

    source = locate(name)
    with naming(source):
        model, info = load_model(source.folder, None if base is None else find(base))
    for role, where in (components or {}).items():
        model.attach(role, load_component(type(model), role, where, model.facts))
    try:
        model = model.to(device)
    except (RuntimeError, AssertionError) as error:  # torch says so in either way
        reason = str(error).partition("\n")[0]
        message = f"device {device!r} cannot be used: {reason}; take 'cpu', or see unisono doctor"
        raise RequestError(message, code="device", path="device", value=device) from None
    return Synthesizer(model, info, source)


@contextmanager
def naming(source: Source) -> Iterator[None]:
    """Say of an error in what was not given as a folder which package, or which revision, it is of."""
    try:
        yield
    except CheckpointError as error:
        if source.kind == "folder":
            raise
        what = "model package" if source.kind == "package" else "hub model"
        named = CheckpointError(f"{what} {source}: {error}", code=error.code, path=error.path, value=error.value)
        raise named from error


STATES = ("*.ckpt", "checkpoints/*.ckpt", "state.json", "checkpoints/*/state.json")
"""What tells the folder of a run, or of a state, from that of an export."""


def read_info(folder: Path) -> dict[str, Any]:
    """Read and check ``unisono.json``: format, plugin, API, and that only numbers and text lie beside it."""
    path = folder / INFO
    if kind_of(folder) != "folder" or kind_of(path) != "file":
        hint = ""
        states = [path for pattern in STATES for path in folder.glob(pattern)]
        if states or folder.suffix in (".ckpt", ".pt", ".pth", ".bin"):
            hint = "; a training run becomes an export by  unisono export RUN DEST"
        code = "missing" if kind_of(folder) == "missing" else "format"
        raise CheckpointError(f"{shown(folder)} is not an export: it has no {INFO}{hint}", code=code, path=folder)
    check_tree(folder)
    info = _read_json(path)
    if not isinstance(info, dict):
        raise CheckpointError(
            f"{shown(path)} holds a {type(info).__name__}, not an object: fetch the export again",
            code="format",
            path=path,
            value=type(info).__name__,
        )
    version = info.get("format")
    if type(version) is not int or version != FORMAT:  # true and 1.0 equal 1
        newer = isinstance(version, int) and version > FORMAT
        raise CheckpointError(
            f"{shown(folder)} has export format {version!r}, this version reads {FORMAT}: "
            + ("upgrade unisono" if newer else "export it again"),
            code="version",
            path=path,
            value=version,
        )
    for key, kind in (("plugin", str), ("api", str), ("model", str), ("facts", dict)):
        if not isinstance(info.get(key), kind):
            raise CheckpointError(
                f"{shown(path)} needs {key!r} as {_JSON_NAMES[kind]}, it has {info.get(key)!r:.60}: export it again",
                code="type" if key in info else "missing",
                path=path,
                value=info.get(key),
            )
    if info["model"].partition("/")[0] != info["plugin"]:
        raise CheckpointError(
            f"{shown(path)} names the plugin {info['plugin']!r} and the model {info['model']!r}: export it again",
            code="conflict",
            path=path,
            value=info["model"],
        )
    try:
        plugins.check_api(info["api"], "it")
        plugins.get(info["plugin"])
    except UnisonoError as error:
        raise CheckpointError(
            f"{shown(folder)} was made by plugin {info['plugin']!r}: {error}",
            code=error.code,
            path=path,
            value=info["plugin"] if error.code != "version" else info["api"],
        ) from error
    return info


def load_model(folder: Path, base: Path | None = None) -> tuple[Any, dict[str, Any]]:
    """Build a model from an export folder, with the components that travel in it; or from one in another layout.

    ``base`` is the export that adapters were trained on, where the folder holds them alone.
    """
    if kind_of(folder / INFO) != "file" and "file" in (kind_of(folder / CONFIG), kind_of(folder / INDEX)):
        return _import_model(folder)
    info = read_info(folder)
    if base is None and adapters.BASE in info:
        raise adapters.needs_base(folder, info)
    if base is not None and adapters.BASE not in info:
        raise CheckpointError(
            f"{shown(folder)} is a whole model: leave out the base", code="conflict", path="base", value=str(base)
        )
    recipe = _read_recipe(folder)
    header = read_header(folder)
    try:
        recipe = with_adapters(recipe, RECIPE)
        target = plugins.resolve(info["model"], "models")
        section = recipe["model"]
        values = check_arguments(
            target, {k: v for k, v in section.items() if k != "name"}, "model", RECIPE, target.flat
        )
    except UnisonoError as error:
        raise _of_folder(folder, error) from error
    # The weights are drawn and then replaced: the global generator is left as it was.
    size = header if base is None else {**adapters.base_header(base), **header}
    with torch.random.fork_rng(devices=[]), within(size, folder):
        try:
            model = build(target, values, "model", RECIPE)
        except CheckpointError:
            raise
        except UnisonoError as error:
            raise _of_folder(folder, error) from error
        try:
            model.build(info["facts"])
        except CheckpointError:
            raise
        except Exception as error:  # facts are a stranger's: whatever they lead to, they do not fit
            reason = " ".join(str(error).split())
            raise CheckpointError(
                f"{shown(folder)}: the facts in {INFO} do not describe a {info['model']} "
                f"({type(error).__name__}: {reason:.200}): export it again",
                code=(error.code if isinstance(error, UnisonoError) else None) or "value",
                path=folder / INFO,
            ) from error
        try:
            if recipe.get("adapters"):
                add_adapters(model, recipe["adapters"], RECIPE)
        except (CheckpointError, MissingExtra):
            raise
        except UnisonoError as error:
            code: Any = error.code
            raise CheckpointError(f"{shown(folder)}: {error}", code=code, path=error.path, value=error.value) from error
    model.recipe = recipe
    if base is not None:
        adapters.join(model, folder, info, base)
    load_weights(model, folder, info.get("dtype"), None if base is None else adapters.alone(model))
    for role, where in _travelling(model, info, folder).items():
        model.attach(role, load_component(type(model), role, where, model.facts))
    return model.eval(), info


def _import_model(folder: Path) -> tuple[Any, dict[str, Any]]:
    """Have a plugin make a model of a folder in Hugging Face's layout."""
    check_files_are_plain(folder)
    path, key = (folder / CONFIG, "model_type")
    if kind_of(path) != "file":  # a pipeline
        path, key = (folder / INDEX, "_class_name")
        for part in sorted(p for p in folder.iterdir() if p.is_dir()):
            check_files_are_plain(part)
    config = _read_json(path)
    kind = config.get(key) if isinstance(config, dict) else None
    if not isinstance(kind, str):
        raise CheckpointError(
            f"{shown(folder)} has no {INFO}, and its {path.name} names no {key}: it is no export",
            code="format",
            path=path,
            value=kind,
        )
    try:
        make = plugins.importer(kind)
    except UnisonoError as error:
        raise CheckpointError(
            f"{shown(folder)} has no {INFO}, and {error}", code=error.code, path=path, value=kind
        ) from error
    model = make(folder).eval()
    return model, {"model": model.recipe["model"]["name"], "facts": model.facts, "imported": kind}


def _of_folder(folder: Path, error: UnisonoError) -> CheckpointError:
    """Return an error about what an export says, as one of that export."""
    return CheckpointError(f"{shown(folder)}: {error}", code=error.code, path=error.path or folder, value=error.value)


def _travelling(model: Any, info: dict[str, Any], folder: Path) -> dict[str, str | Path]:
    """Return the components of an export by role: folders inside it, or built-in names; nothing from elsewhere."""
    inside: dict[str, str | Path] = {
        part.name: part for part in sorted(folder.glob(f"{COMPONENTS}/*")) if part.is_dir()
    }
    named = info.get("builtin_components") or {}
    if not isinstance(named, dict):
        raise CheckpointError(
            f"{shown(folder)}: builtin_components={named!r} must be an object: export it again",
            code="type",
            path=folder / INFO,
            value=named,
        )
    for role, where in {**inside, **named}.items():
        if role not in model.roles:
            raise CheckpointError(
                f"{shown(folder)} holds a component {role!r}, which {info['model']} does not have"
                f"{did_you_mean(role, model.roles)}: export it again",
                code="unknown",
                path=f"components.{role}",
                value=role,
            )
        if role in named and (not isinstance(where, str) or where not in model.builtin_components):
            hint = did_you_mean(str(where), model.builtin_components)
            raise CheckpointError(
                f"{shown(folder)} names {where!r} as its {role}, which is none of the built-in ones{hint}: "
                f"export it again, so that the {role} lies inside",
                code="unknown",
                path=f"components.{role}",
                value=where,
            )
    return {**inside, **named}


def load_component(owner: Any, role: str, where: str | Path, facts: dict[str, Any]) -> Any:
    """Make a component from a built-in name or an export.

    A built-in is called with the owner's facts: ``factory(facts)``.
    """
    if str(where) in owner.builtin_components:
        component = plugins.import_string(owner.builtin_components[str(where)])(facts)
        component.builtin_name = str(where)
        return component
    source = locate(where)
    with naming(source):
        component, _ = load_model(source.folder)
    component.origin = source.folder
    return component


def parse_components(items: Sequence[str]) -> dict[str, str]:
    """Read ``role=where`` as given on the command line."""
    components = {}
    for item in items:
        role, _, where = item.partition("=")
        if not role or not where:
            raise RequestError(
                f"--component {item!r} is not ROLE=WHERE, such as vocoder=checkpoints/vocoder",
                code="format",
                path="component",
                value=item,
            )
        components[role] = where
    return components


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise CheckpointError(
            f"{shown(path)} is not valid JSON: fetch the export again ({error})", code="format", path=path
        ) from None


def _read_recipe(folder: Path) -> dict[str, Any]:
    path = folder / RECIPE
    try:
        recipe = read_yaml(path.read_text(encoding="utf-8"), "it", CheckpointError)
    except FileNotFoundError:
        raise CheckpointError(
            f"{shown(folder)} has no {RECIPE}: fetch the export again", code="missing", path=path
        ) from None
    except (OSError, ValueError) as error:  # UnicodeDecodeError and CheckpointError are among them
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"{shown(path)} is not plain YAML ({reason:.200}): fetch the export again", code="format", path=path
        ) from None
    if not isinstance(recipe, dict) or not isinstance(recipe.get("model"), dict):
        raise CheckpointError(
            f"{shown(path)} is not a recipe with a section 'model': fetch the export again", code="format", path=path
        )
    return recipe

"""Checkpoints: the export folder, which holds numbers and text and nothing that can run.

::

    my-voice/
        unisono.json         format, plugin, API and package version, facts, data, licence, metrics
        recipe.yaml          the resolved recipe
        model.safetensors    weights
        README.md            the card
        components/<role>/   exports of the components, in the same form

Training state (``*.ckpt``) is Lightning's and serves to resume; it is read weights-only.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any, Literal

import yaml

import unisono
from unisono import plugin as plugins
from unisono.arguments import build, check_arguments
from unisono.data import to_plain
from unisono.errors import CheckpointError, RequestError, UnisonoError, did_you_mean, writing
from unisono.recipe import Recipe

FORMAT = 1
INFO = "unisono.json"
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
RECIPE = "recipe.yaml"
CARD = "README.md"
ALLOWED_SUFFIXES = {".json", ".yaml", ".safetensors", ".md", ".txt", ".png", ".wav", ".ogg", ".flac", ".gif", ".mp4"}
_JSON_NAMES = {str: "a string", dict: "an object"}
_DTYPES = {"float32": "float32", "float16": "float16", "bfloat16": "bfloat16"}


@dataclass
class Card:
    """What a reader of an export must know; every field lands in the card and in ``unisono.json``."""

    title: str = ""
    data: str = ""
    licence: str = ""
    command: str = ""
    hardware: str = ""
    time: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)
    notes: str = ""


def load(folder_or_hub_id: str | Path, *, device: str = "cpu", components: dict[str, str] | None = None):
    """Load an export from a folder or a hub id and return a ``Synthesizer``.

    A folder in Hugging Face's layout is read by the plugin that names its ``model_type`` among its ``importers``.
    ``components`` replaces or adds components: role → export folder, hub id or built-in name. Runs no code
    from the folder and opens no pickle. Raises ``CheckpointError`` that names what is wrong and the fix.
    """
    from unisono.synthesis import Synthesizer

    folder = find(folder_or_hub_id)
    model, info = load_model(folder)
    for role, where in (components or {}).items():
        model.attach(role, load_component(type(model), role, where, model.facts))
    try:
        model = model.to(device)
    except (RuntimeError, AssertionError) as error:  # torch says so in either way
        reason = str(error).partition("\n")[0]
        raise RequestError(f"device {device!r} cannot be used: {reason}; take 'cpu', or see unisono doctor") from None
    return Synthesizer(model, info)


def find(folder_or_hub_id: str | Path) -> Path:
    """Return the local folder of an export, downloading a hub id through ``huggingface_hub``."""
    folder = Path(folder_or_hub_id)
    if folder.exists():
        return folder
    name = str(folder_or_hub_id)
    parts = name.split("/")
    if len(parts) != 2 or not all(parts) or name.startswith((".", "/", "~")) or parts[0] in ("checkpoints", "runs"):
        raise CheckpointError(f"no export at {name!r}: the folder does not exist")
    import huggingface_hub

    try:
        return Path(
            huggingface_hub.snapshot_download(
                name, allow_patterns=[f"**/*{s}" for s in ALLOWED_SUFFIXES] + [f"*{s}" for s in ALLOWED_SUFFIXES]
            )
        )
    except Exception as error:
        raise CheckpointError(
            f"{name!r} is neither a folder nor a hub id that can be fetched: {type(error).__name__}"
        ) from error


def read_info(folder: Path) -> dict[str, Any]:
    """Read and check ``unisono.json``: format, plugin, API, and that nothing executable lies beside it."""
    path = folder / INFO
    if folder.is_file() or not path.is_file():
        hint = ""
        states = [*folder.glob("*.ckpt"), *folder.glob("checkpoints/*.ckpt")]
        if states or folder.suffix in (".ckpt", ".pt", ".pth", ".bin"):
            hint = "; a training run becomes an export by  unisono export RUN DEST"
        raise CheckpointError(f"{str(folder)!r} is not an export: it has no {INFO}{hint}")
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{str(path)!r} is not valid JSON: fetch the export again ({error})") from None
    if not isinstance(info, dict):
        raise CheckpointError(f"{str(path)!r} holds a {type(info).__name__}, not an object: fetch the export again")
    version = info.get("format")
    if version != FORMAT:
        newer = isinstance(version, int) and version > FORMAT
        raise CheckpointError(
            f"{str(folder)!r} has export format {version!r}, this version reads {FORMAT}: "
            + ("upgrade unisono" if newer else "export it again")
        )
    for key, kind in (("plugin", str), ("api", str), ("model", str), ("facts", dict)):
        if not isinstance(info.get(key), kind):
            raise CheckpointError(
                f"{str(path)!r} needs {key!r} as {_JSON_NAMES[kind]}, it has {info.get(key)!r:.60}: export it again"
            )
    if info["model"].partition("/")[0] != info["plugin"]:
        raise CheckpointError(
            f"{str(path)!r} names the plugin {info['plugin']!r} and the model {info['model']!r}: export it again"
        )
    for file in folder.iterdir():
        if file.is_file() and file.suffix and file.suffix not in ALLOWED_SUFFIXES:
            raise CheckpointError(
                f"{str(folder)!r} holds {file.name!r}; an export holds only numbers and text: remove that file"
            )
    try:
        plugins.check_api(info["api"], "it")
        plugins.get(info["plugin"])
    except UnisonoError as error:
        raise CheckpointError(f"{str(folder)!r} was made by plugin {info['plugin']!r}: {error}") from error
    return info


def load_model(folder: Path) -> tuple[Any, dict[str, Any]]:
    """Build a model from an export folder, with the components that travel in it; or from one in another layout."""
    if not (folder / INFO).is_file() and (folder / CONFIG).is_file():
        return _import_model(folder)
    info = read_info(folder)
    recipe = _read_recipe(folder)
    try:
        target = plugins.resolve(info["model"], "models")
        section = recipe["model"]
        values = check_arguments(target, {k: v for k, v in section.items() if k != "name"}, "model", RECIPE)
        model = build(target, values, "model", RECIPE)
    except UnisonoError as error:
        raise CheckpointError(f"{str(folder)!r}: {error}") from error
    try:
        model.build(info["facts"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{str(folder)!r}: the facts in {INFO} do not describe a {info['model']} "
            f"({type(error).__name__}: {error}): export it again"
        ) from error
    model.recipe = recipe
    _load_weights(model, folder)
    for role, where in _travelling(model, info, folder).items():
        model.attach(role, load_component(type(model), role, where, model.facts))
    return model.eval(), info


def _import_model(folder: Path) -> tuple[Any, dict[str, Any]]:
    """Have a plugin make a model of a folder in Hugging Face's layout."""
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{str(path)!r} cannot be read as JSON: fetch it again ({error})") from None
    kind = config.get("model_type") if isinstance(config, dict) else None
    if not isinstance(kind, str):
        raise CheckpointError(f"{str(folder)!r} has no {INFO}, and its {CONFIG} names no model_type: it is no export")
    try:
        make = plugins.importer(kind)
    except UnisonoError as error:
        raise CheckpointError(f"{str(folder)!r} has no {INFO}, and {error}") from error
    model = make(folder).eval()
    return model, {"model": model.recipe["model"]["name"], "facts": model.facts, "imported": kind}


def _travelling(model: Any, info: dict[str, Any], folder: Path) -> dict[str, str | Path]:
    """Return the components of an export by role: folders inside it, or built-in names; nothing from elsewhere."""
    inside: dict[str, str | Path] = {part.name: part for part in sorted(folder.glob("components/*")) if part.is_dir()}
    named = info.get("builtin_components") or {}
    if not isinstance(named, dict):
        raise CheckpointError(f"{str(folder)!r}: builtin_components={named!r} must be an object: export it again")
    for role, where in {**inside, **named}.items():
        if role not in model.roles:
            raise CheckpointError(
                f"{str(folder)!r} holds a component {role!r}, which {info['model']} does not have"
                f"{did_you_mean(role, model.roles)}: export it again"
            )
        if role in named and where not in model.builtin_components:
            raise CheckpointError(
                f"{str(folder)!r} names {where!r} as its {role}, which is none of the built-in ones"
                f"{did_you_mean(str(where), model.builtin_components)}: export it again, so that the {role} lies inside"
            )
    for part in [folder / "components", *inside.values()]:
        if Path(part).is_symlink():
            raise CheckpointError(
                f"{str(part)!r} is a link: an export holds its components itself; copy the folder there"
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
    folder = find(where)
    component, _ = load_model(folder)
    component.origin = folder
    return component


def parse_components(items: Sequence[str]) -> dict[str, str]:
    """Read ``role=where`` as given on the command line."""
    components = {}
    for item in items:
        role, _, where = item.partition("=")
        if not role or not where:
            raise RequestError(f"--component {item!r} is not ROLE=WHERE, such as vocoder=checkpoints/vocoder")
        components[role] = where
    return components


def save_export(
    model: Any,
    dest: str | Path,
    *,
    card: Card | None = None,
    dtype: Literal["float32", "float16", "bfloat16"] = "float32",
    state: dict[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write an export folder for a model (and its components), atomically; returns the folder.

    ``state`` replaces the model's own weights (an EMA, say). ``dtype`` is how the weights lie on disk; they
    are read back as float32.
    """
    from safetensors.torch import save_file

    dest = Path(dest)
    if dtype not in _DTYPES:
        raise CheckpointError(f"dtype={dtype!r} must be one of {', '.join(_DTYPES)}")
    if dest.is_file():
        raise CheckpointError(f"{str(dest)!r} is a file: an export is a folder, choose another name")
    if dest.exists() and any(dest.iterdir()):
        if not overwrite:
            raise CheckpointError(f"{str(dest)!r} exists and is not empty: choose another folder or add --overwrite")
        if not (dest / INFO).is_file():
            raise CheckpointError(f"{str(dest)!r} is not an export, so it is not overwritten: choose another folder")
    card = card or Card()
    name = model.recipe["model"]["name"]
    plugin = plugins.get(name.partition("/")[0])
    found = plugins.discover()[plugin.name]
    stage = dest.with_name(f".{dest.name}.part")
    with writing(dest):
        shutil.rmtree(stage, ignore_errors=True)
        stage.mkdir(parents=True)
    builtins = {r: c.builtin_name for r, c in model.components.items() if hasattr(c, "builtin_name")}
    info = {
        "format": FORMAT,
        "plugin": plugin.name,
        "model": name,
        "api": plugin.api,
        "distribution": f"{found.distribution} {found.version}",
        "unisono": unisono.__version__,
        "dtype": dtype,
        "parameters": sum(p.numel() for p in model.parameters()),
        "facts": to_plain(model.facts, "facts"),
        "builtin_components": builtins,
        "card": vars(card),
    }
    (stage / INFO).write_text(json.dumps(info, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    recipe = portable(model.recipe, tuple(builtins))
    (stage / RECIPE).write_text(yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True), encoding="utf-8")
    save_file(_on_disk(export_state(model, state), dtype), stage / WEIGHTS)
    (stage / CARD).write_text(render_card(name, info, card), encoding="utf-8")
    for role, component in model.components.items():
        if role in builtins:
            continue
        origin = getattr(component, "origin", None)
        if origin is not None:
            shutil.copytree(origin, stage / "components" / role)
        else:
            save_export(component, stage / "components" / role, dtype=dtype)
    if dest.exists():
        shutil.rmtree(dest)
    dest.parent.mkdir(parents=True, exist_ok=True)
    stage.rename(dest)
    return dest


def portable(recipe: dict[str, Any], builtins: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return a recipe without what only the training machine knows.

    Absolute paths keep their last name, components are named as they lie in the export, and where the run
    was kept and what it started from are left out.
    """

    def bare(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: bare(item) for key, item in value.items()}
        if isinstance(value, list):
            return [bare(item) for item in value]
        if isinstance(value, str) and (value[:1] in ("/", "~") or PureWindowsPath(value).is_absolute()):
            return PureWindowsPath(value).name
        return value

    kept = {**recipe, "run": {**recipe.get("run", {}), "dir": "runs", "init_from": None}}
    kept["components"] = {
        role: where if role in builtins else f"components/{role}"
        for role, where in recipe.get("components", {}).items()
    }
    return bare(kept)


def export_state(model: Any, state: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the weights that belong in an export: all but what the model names as training-only."""
    training_only = tuple(getattr(model, "training_only", ()))
    weights: dict[str, Any] = dict(model.state_dict() if state is None else state)
    return {k: v for k, v in weights.items() if not training_only or not k.startswith(training_only)}


def read_training_state(path: Path) -> dict[str, Any]:
    """Read a Lightning checkpoint weights-only, so that no code in it can run."""
    import torch

    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(
            f"{str(path)!r} cannot be read weights-only (truncated, or it holds a pickle): {type(error).__name__}"
        ) from error
    if not isinstance(checkpoint, dict) or "unisono" not in checkpoint:
        raise CheckpointError(f"{str(path)!r} is not a training checkpoint of unisono")
    return checkpoint


def export_run(
    run: str | Path,
    dest: str | Path,
    *,
    card: Card | None = None,
    dtype: Literal["float32", "float16", "bfloat16"] = "float32",
    components: dict[str, str] | None = None,
    overwrite: bool = False,
) -> Path:
    """Turn a training run (its folder or one ``.ckpt``) into an export folder."""
    checkpoint = read_training_state(find_training_state(run))
    kept = checkpoint["unisono"]
    recipe = Recipe.from_dict(kept["recipe"], name="recipe")
    model = recipe.build_model(kept["facts"])
    model.load_state_dict(checkpoint["state_dict"])
    for role, where in {**recipe.components, **(components or {})}.items():
        model.attach(role, load_component(type(model), role, where, model.facts))
    return save_export(model, dest, card=card, dtype=dtype, overwrite=overwrite)


def newest_run(folder: str | Path, holding: str) -> Path:
    """Return the newest numbered run in a folder that has files of the pattern ``holding``; else the folder itself."""
    numbered = [path for path in Path(folder).glob("*") if path.name.isdigit() and list(path.glob(holding))]
    return max(numbered, default=Path(folder))


def find_training_state(run: str | Path) -> Path:
    """Return the newest checkpoint of a run folder (or of a recipe's newest run), or the file itself."""
    run = Path(run)
    if run.is_file():
        return run
    run = newest_run(run, "checkpoints/*.ckpt")
    last = run / "checkpoints" / "last.ckpt"
    if last.is_file():
        return last
    newest = sorted(run.glob("checkpoints/*.ckpt"), key=lambda p: p.stat().st_mtime)
    if newest:
        return newest[-1]
    raise CheckpointError(f"no training checkpoint under {str(run)!r}: give a run folder or a .ckpt file")


def render_card(name: str, info: dict[str, Any], card: Card) -> str:
    """Return the card as Markdown."""
    rows = [
        ("Model", f"`{name}`, {info['parameters'] / 1e6:.2f} M parameters, weights as {info['dtype']}"),
        ("Data", card.data or "not stated"),
        ("Licence of the weights", card.licence or "not stated"),
        ("Command", f"`{card.command}`" if card.command else "see `recipe.yaml`"),
        ("Hardware", card.hardware or "not stated"),
        ("Time", card.time or "not stated"),
        ("Made with", f"unisono {info['unisono']} ({info['distribution']}), plugin API {info['api']}"),
    ]
    lines = [f"# {card.title or name}", "", "| | |", "|---|---|"]
    lines += [f"| {key} | {value} |" for key, value in rows]
    if card.metrics:
        lines += ["", "## Measured", "", "| | |", "|---|---|"]
        lines += [f"| {key} | {value} |" for key, value in card.metrics.items()]
    if card.notes:
        lines += ["", card.notes]
    return "\n".join([*lines, ""])


def _on_disk(state: dict[str, Any], dtype: str) -> dict[str, Any]:
    import torch

    target = getattr(torch, dtype)
    return {k: (v.to(target) if v.is_floating_point() else v).contiguous().clone() for k, v in state.items()}


def _read_recipe(folder: Path) -> dict[str, Any]:
    path = folder / RECIPE
    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{str(folder)!r} has no {RECIPE}: fetch the export again") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{str(path)!r} is not plain YAML ({reason}): fetch the export again") from None
    if not isinstance(recipe, dict) or not isinstance(recipe.get("model"), dict):
        raise CheckpointError(f"{str(path)!r} is not a recipe with a section 'model': fetch the export again")
    return recipe


def read_weights(source: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the facts and the weights (the average, where one was kept) of an export, a run or a ``.ckpt``."""
    path = Path(source)
    if path.exists() and not (path / INFO).is_file():
        checkpoint = read_training_state(find_training_state(path))
        return checkpoint["unisono"]["facts"], checkpoint["state_dict"]
    folder = find(source)
    weights = _read_safetensors(folder).items()
    return read_info(folder)["facts"], {k: v.float() if v.is_floating_point() else v for k, v in weights}


def _read_safetensors(folder: Path) -> dict[str, Any]:
    """Weights in the type in which they lie on disk; a model takes them over in its own."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / WEIGHTS
    try:
        state = load_file(path)
    except FileNotFoundError:
        raise CheckpointError(f"{str(folder)!r} has no {WEIGHTS}: fetch the export again") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{str(path)!r} is truncated or not safetensors: fetch the export again ({error})"
        ) from None
    return state


def _load_weights(model: Any, folder: Path) -> None:
    path = folder / WEIGHTS
    state = _read_safetensors(folder)
    expected = export_state(model)
    missing, surplus = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    shapes = [k for k in expected.keys() & state.keys() if expected[k].shape != state[k].shape]
    if missing or surplus or shapes:
        first = (missing or surplus or shapes)[0]
        raise CheckpointError(
            f"{str(path)!r} does not fit {RECIPE}: {len(missing)} weights missing, {len(surplus)} unknown, "
            f"{len(shapes)} of another shape (first: {first!r}); the files belong to different exports: "
            "fetch the export again"
        )
    model.load_state_dict(state, strict=False)

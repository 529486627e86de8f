"""Writing: an export is written beside its place, read back, and only then moved there."""

import hashlib
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath
from typing import Any, Literal
from uuid import uuid4

import unisono
from unisono import plugin as plugins
from unisono.data import to_plain
from unisono.errors import CheckpointError
from unisono.export import adapters
from unisono.export.card import Card, render_card
from unisono.export.layout import (
    ALLOWED_NAMES,
    ALLOWED_SUFFIXES,
    CARD,
    COMPONENTS,
    FORMAT,
    INDEX,
    INFO,
    RECIPE,
    TOOL_FOLDERS,
    WEIGHTS,
    check_tree,
    kind_of,
    shown,
)
from unisono.export.weights import check_finite, export_state, on_disk, read_header
from unisono.files import why_not_written
from unisono.plain_yaml import write_yaml

_DTYPES = ("float32", "float16", "bfloat16")


def save_export(
    model: Any,
    dest: str | Path,
    *,
    card: Card | None = None,
    dtype: Literal["float32", "float16", "bfloat16"] = "float32",
    state: dict[str, Any] | None = None,
    overwrite: bool = False,
    adapters_alone: bool = False,
) -> Path:
    """Write an export folder for a model (and its components), all or nothing; returns the folder.

    A model with adapters is written with both side by side, or as ``adapters_alone``, with the frozen weights named by
    their digest; ``unisono.nn.adapters.merge`` makes a plain model of it.

    ``state`` replaces the model's own weights (an EMA, say). ``dtype`` is how the weights lie on disk; they
    are read back as float32. An export that lay there before is deleted last, when the new one is in its place.
    """
    dest = Path(dest)
    if dtype not in _DTYPES:
        raise CheckpointError(
            f"dtype={dtype!r} must be one of {', '.join(_DTYPES)}", code="unknown", path="dtype", value=dtype
        )
    kind = kind_of(dest)
    if kind in ("file", "special"):
        raise CheckpointError(
            f"{shown(dest)} is a file: an export is a folder, choose another name", code="exists", path=dest
        )
    _recover(dest)
    if kind_of(dest) == "folder" and any(dest.iterdir()):
        if not overwrite:
            raise CheckpointError(
                f"{shown(dest)} exists and is not empty: choose another folder or add --overwrite",
                code="exists",
                path=dest,
            )
        if kind_of(dest / INFO) != "file":
            raise CheckpointError(
                f"{shown(dest)} is not an export, so it is not overwritten: choose another folder",
                code="exists",
                path=dest,
            )
    stage = _aside(dest, "part")
    try:
        with _written(dest):
            stage.mkdir(parents=True)
            _write(model, stage, card or Card(), dtype, state, adapters_alone)
            _move(stage, dest)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return dest


def _write(
    model: Any, stage: Path, card: Card, dtype: Any, state: dict[str, Any] | None, adapters_alone: bool = False
) -> None:
    """Write all files of an export into an empty folder, and read back what could be cut."""
    from safetensors.torch import save_file

    name = model.recipe["model"]["name"]
    plugin = plugins.get(name.partition("/")[0])
    found = plugins.discover()[plugin.name]
    builtins = {r: c.builtin_name for r, c in model.components.items() if hasattr(c, "builtin_name")}
    info = {
        "format": FORMAT,
        "plugin": plugin.name,
        "model": name,
        "output": type(model).Media.__name__,
        "api": plugin.api,
        "distribution": f"{found.distribution} {found.version}",
        "unisono": unisono.__version__,
        "dtype": dtype,
        "parameters": sum(p.numel() for p in model.parameters()),
        "facts": to_plain(model.facts, "facts"),
        "builtin_components": builtins,
        "card": vars(card),
    }
    kept = adapters.alone(model, state) if adapters_alone else export_state(model, state)
    if adapters_alone:
        source = model.recipe.get("run", {}).get("init_from")
        info[adapters.BASE] = {
            "digest": adapters.digest(model, model.state_dict() if state is None else state),
            "name": PureWindowsPath(source).name if source else None,
        }
    recipe = write_yaml(portable(model.recipe, tuple(builtins)))
    _write_text(stage / INFO, _json(info) + "\n")
    _write_text(stage / RECIPE, recipe)
    _write_text(stage / CARD, render_card(name, info, card))
    weights = on_disk(kept, dtype)
    check_finite(weights, {name for name, _ in model.named_parameters()}, dtype)
    save_file(weights, stage / WEIGHTS)
    header = read_header(stage)
    if {k: tuple(v.shape) for k, v in weights.items()} != {k: entry.shape for k, entry in header.items()}:
        raise CheckpointError(
            f"{shown(stage / WEIGHTS)} was not written whole: export it again", code="write", path=stage / WEIGHTS
        )
    for role, component in model.components.items():
        if role in builtins:
            continue
        origin = getattr(component, "origin", None)
        if origin is not None:
            _copy(origin, stage / COMPONENTS / role)
        else:
            (stage / COMPONENTS / role).mkdir(parents=True)
            _write(component, stage / COMPONENTS / role, Card(), dtype, None)


def _json(info: dict[str, Any]) -> str:
    """JSON that is read by people; with escapes where a text holds half of a surrogate pair, which has no UTF-8."""
    try:
        text = json.dumps(info, indent=1, ensure_ascii=False)
    except TypeError as error:
        raise CheckpointError(
            f"the card of this {info['model']} is not plain JSON: {error}", code="type", path="card"
        ) from None
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        text = json.dumps(info, indent=1)
    return text


def _write_text(path: Path, text: str) -> None:
    path.write_bytes(text.encode("utf-8", "backslashreplace"))


def _copy(origin: Path, dest: Path) -> None:
    """Copy the export that a component was loaded from: its own files, and nothing that came to lie beside them.

    From a folder in another layout, only numbers and text are taken over.
    """
    if kind_of(origin / INFO) == "file":
        files = check_tree(origin)
    else:  # the parts of a pipeline lie in folders
        found = origin.glob("*/*") if kind_of(origin / INDEX) == "file" else ()
        every = [p for p in sorted([*origin.iterdir(), *found]) if p.parent.name not in TOOL_FOLDERS]
        files = [p.relative_to(origin) for p in every if p.is_file() and _is_plain(p)]
    for file in files:
        (dest / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(origin / file, dest / file)
        if (dest / file).stat().st_size != (origin / file).stat().st_size:
            raise CheckpointError(
                f"{shown(dest / file)} was not written whole: export it again", code="write", path=dest / file
            )


def _is_plain(path: Path) -> bool:
    return path.suffix.lower() in ALLOWED_SUFFIXES or path.name in ALLOWED_NAMES


@contextmanager
def _written(dest: Path) -> Iterator[None]:
    """Turn what a full disk or missing rights raise, by whatever library, into one sentence."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = why_not_written(error, dest)
        fix = "free some, or choose another place" if "space" in reason else "choose another place"
        message = f"cannot write {shown(dest)}: {reason}; {fix}"
        raise CheckpointError(message, code="write", path=dest, value=reason) from None


def _aside(dest: Path, what: str) -> Path:
    """A hidden name beside a folder that nothing else has: neither another machine nor another thread."""
    return dest.with_name(f".{dest.name}.{os.getpid()}.{_machine()}{uuid4().hex[:8]}.{what}")


def _machine() -> str:
    """Eight letters that tell this machine from others that write to the same disk."""
    return hashlib.blake2b(socket.gethostname().encode(), digest_size=4).hexdigest()


def _move(stage: Path, dest: Path) -> None:
    """Put a whole export in its place: the old one is renamed away, and deleted when the new one is there."""
    if kind_of(dest) == "missing":
        stage.rename(dest)
        return
    old = _aside(dest, "old")
    dest.rename(old)
    try:
        stage.rename(dest)
    except BaseException:
        old.rename(dest)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _recover(dest: Path) -> None:
    """Clear what killed exports to this place left: half-written ones go; an old one returns if its place is empty."""
    for path in _left_behind(dest):
        if path.suffix == ".old" and kind_of(dest) == "missing":
            path.rename(dest)
        else:
            shutil.rmtree(path, ignore_errors=True)


def _left_behind(dest: Path) -> list[Path]:
    """The folders of exports to this place whose processes, on this machine, are no more; newest first.

    Names of version 0.1.0 have the process alone.
    """
    pattern = re.compile(rf"\.{re.escape(dest.name)}\.(\d+)\.(?:{_machine()}[0-9a-f]{{8}}\.)?(?:part|old)")
    try:
        beside = [path for path in dest.parent.iterdir() if path.name.startswith(f".{dest.name}.")]
    except OSError:
        return []
    found = [(path, match) for path in beside if (match := pattern.fullmatch(path.name))]
    dead = [path for path, match in found if not _runs(int(match[1]))]
    return sorted(dead, key=lambda path: path.stat().st_mtime, reverse=True)


def _runs(process: int) -> bool:
    """Whether a process of this number runs; where that cannot be asked, it may."""
    if os.name == "nt":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


_NAMED_PATH = re.compile(r"((?:^|,)[^=,/\\]+=)((?:[/~]|[A-Za-z]:[/\\])[^,]*)")
"""An absolute path behind a name, as in ``name=PATH,name=PATH``."""


def portable(recipe: dict[str, Any], builtins: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return a recipe without what only the training machine knows.

    Absolute paths, those of ``name=PATH,name=PATH`` too, keep their last name, components are named as they lie in the
    export, and where the run was kept and logged and what it started from are left out.
    """

    def bare(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: bare(item) for key, item in value.items()}
        if isinstance(value, list):
            return [bare(item) for item in value]
        if isinstance(value, str) and (value[:1] in ("/", "~") or PureWindowsPath(value).is_absolute()):
            return PureWindowsPath(value).name
        if isinstance(value, str):
            return _NAMED_PATH.sub(lambda found: found[1] + PureWindowsPath(found[2]).name, value)
        return value

    run = {**recipe.get("run", {}), "dir": "runs", "init_from": None}
    if "logger" in run:  # its arguments may name servers and accounts
        run["logger"] = "tensorboard"
    kept = {**recipe, "run": run}
    kept["components"] = {
        role: where if role in builtins else f"components/{role}"
        for role, where in recipe.get("components", {}).items()
    }
    return bare(kept)

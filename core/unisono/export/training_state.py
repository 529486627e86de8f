"""Training state: what a run goes on from, found, read without running code, and turned into an export.

A state is one file (``.ckpt``, as Lightning writes it) or a folder of shards (``unisono.export.state_folder``).
"""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Literal

from unisono.errors import CheckpointError, UnisonoError
from unisono.export.adapters import BASE, needs_base
from unisono.export.card import Card
from unisono.export.layout import INFO, kind_of, shown
from unisono.export.names import find
from unisono.export.read import load_component, load_model, read_info
from unisono.export.state_folder import STATE, is_state_folder, read_state_folder
from unisono.export.weights import read_safetensors
from unisono.export.write import save_export
from unisono.nn.adapters import merge
from unisono.recipe import Recipe

HOLDING = ("checkpoints/*.ckpt", "hpc_ckpt_*.ckpt", f"checkpoints/*/{STATE}")
"""Where a run's states lie: its own in files, Lightning's of a job that SLURM starts again, its own in folders."""
LAST_FILE, LAST_FOLDER = "last.ckpt", "last"
"""In ``checkpoints``: another name of the newest file, and a line of text with the name of the newest folder."""
STATES_FORMAT = 1
"""What a ``.ckpt`` says of itself; one of before says nothing."""


def export_run(
    run: str | Path,
    dest: str | Path,
    *,
    card: Card | None = None,
    dtype: Literal["float32", "float16", "bfloat16"] = "float32",
    components: dict[str, str] | None = None,
    overwrite: bool = False,
    adapters: Literal["merge", "keep", "alone"] = "merge",
    base: str | Path | None = None,
) -> Path:
    """Turn a training run (its folder or one state of it) into an export folder.

    ``adapters`` says what becomes of them where the run had any: merged into a plain model, kept beside the weights, or
    written alone. ``run`` may also be an export of adapters alone, with the export that they were trained on as
    ``base``; both are merged.
    """
    if base is not None:
        return _export_joined(find(run), dest, base, card, dtype, components, overwrite)
    path = find_training_state(run)
    checkpoint = read_training_state(path, only=("unisono", "state_dict"))
    kept = checkpoint["unisono"]
    recipe = Recipe.from_dict(kept["recipe"], name="recipe")
    model = recipe.build_model(kept["facts"])
    try:
        model.load_state_dict(checkpoint["state_dict"])
    except UnisonoError:
        raise
    except (RuntimeError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"{shown(path)}: its weights do not fit its own recipe ({reason:.200}): take another state of the run",
            code="conflict",
            path=path,
        ) from error
    for role, where in {**recipe.components, **(components or {})}.items():
        model.attach(role, load_component(type(model), role, where, model.facts))
    if adapters == "merge" and model.adapted:
        merge(model)
    return save_export(model, dest, card=card, dtype=dtype, overwrite=overwrite, adapters_alone=adapters == "alone")


def _export_joined(
    folder: Path, dest: Any, base: str | Path, card: Any, dtype: Any, components: Any, overwrite: bool
) -> Path:
    """Merge an export of adapters alone with the export that they were trained on."""
    if kind_of(folder / INFO) != "file":
        raise CheckpointError(
            f"{shown(folder)} is no export of adapters alone, which --base goes with: leave it out, the run has both",
            code="conflict",
            path="base",
            value=str(base),
        )
    model, _ = load_model(folder, find(base))
    for role, where in (components or {}).items():
        model.attach(role, load_component(type(model), role, where, model.facts))
    return save_export(merge(model), dest, card=card, dtype=dtype, overwrite=overwrite)


def newest_run(folder: str | Path, holding: str | tuple[str, ...]) -> Path:
    """Return the newest numbered run in a folder that has files of a pattern ``holding``; else the folder itself."""
    patterns = (holding,) if isinstance(holding, str) else holding
    folder = Path(folder)
    if kind_of(folder) != "folder":
        return folder
    numbered = [
        path for path in folder.glob("*") if path.name.isdecimal() and any(list(path.glob(p)) for p in patterns)
    ]
    return max(numbered, key=lambda path: int(path.name), default=folder)


def find_training_state(run: str | Path) -> Path:
    """Return the newest state of a run folder (or of a recipe's newest run), or the state itself, file or folder."""
    run = Path(run)
    kind = kind_of(run)
    if kind == "file":
        return _pointed(run) or run
    if kind == "special":
        raise CheckpointError(
            f"{shown(run)} is no regular file: give a run folder or a .ckpt file", code="unsafe", path=run
        )
    if kind == "folder" and (is_state_folder(run) or any(run.glob("*.distcp"))):
        return run
    if (numbered := newest_run(run, HOLDING)) != run or has_training_state(run):
        return _newest_state(numbered)
    raise CheckpointError(
        f"no training checkpoint under {shown(run)}: give a run folder or a .ckpt file", code="missing", path=run
    )


def has_training_state(folder: Path) -> bool:
    """Whether a run's folder holds a state to go on from."""
    return any(path.is_file() for pattern in HOLDING for path in folder.glob(pattern))


def newest_state(folder: Path) -> Path | None:
    """Return the newest state of a run's folder, None where there is none."""
    return _newest_state(folder) if has_training_state(folder) else None


def run_of_state(state: Path) -> Path | None:
    """Return the run's folder that a state lies in; None for one that lies elsewhere."""
    state = state.absolute()
    if state.parent.name == "checkpoints":
        return state.parent.parent
    return state.parent if state.name.startswith("hpc_ckpt_") else None


def _newest_state(folder: Path) -> Path:
    """Return the state that was written last: Lightning's of a requeued job (``hpc_ckpt_1.ckpt``), or the run's own."""
    states = [path for path in folder.glob(HOLDING[0]) if path.is_file()]
    states += [path.parent for path in folder.glob(HOLDING[2]) if not path.parent.name.startswith(".")]
    pointers = [folder / "checkpoints" / name for name in (LAST_FILE, LAST_FOLDER)]
    newest = max(states, key=_age, default=None)
    for pointer in sorted((path for path in pointers if path.is_file()), key=_written):
        pointed = _pointed(pointer) if pointer.name == LAST_FOLDER else pointer
        newest = pointed or newest
    requeued = [path for path in folder.glob(HOLDING[1]) if path.is_file()]
    if newest is not None:
        requeued = [path for path in requeued if _written(path) > _written(newest)]
    if requeued:
        return max(requeued, key=_written)
    assert newest is not None  # the folder holds a state
    return newest


def _pointed(pointer: Path) -> Path | None:
    """The folder that ``last`` names, if it is there; None for any other file."""
    if pointer.name != LAST_FOLDER or pointer.stat().st_size > 256:
        return None
    name = pointer.read_text(encoding="utf-8", errors="replace").strip()
    if not name or name.startswith(".") or "\0" in name or Path(name).name != name:
        return None
    return pointer.with_name(name) if is_state_folder(pointer.with_name(name)) else None


def _written(path: Path) -> float:
    return (path / STATE if path.is_dir() else path).stat().st_mtime


def _age(path: Path) -> tuple[int, float]:
    """States by their step, which is their name; others by when they were written, before all of these."""
    return (int(path.stem) if path.stem.isdecimal() else -1, _written(path))


def read_training_state(
    path: Path,
    *,
    only: Collection[str] | None = None,
    like: Callable[..., Any] | None = None,
    mmap: bool = False,
    meta: bool = False,
) -> dict[str, Any]:
    """Read a state, a file or a folder, so that no code in it can run.

    Args:
        only: the keys that are needed; a folder's other tensors are not read.
        like: for a folder, as of ``read_state_folder``.
        mmap: for a file: leave its tensors on the disk until they are used.
        meta: for a folder: read no tensors, only their shapes and types.
    """
    if kind_of(path) == "folder":
        checkpoint = read_state_folder(path, only=only, meta=meta, **({} if like is None else {"like": like}))
    else:
        checkpoint = _read_file(path, mmap)
    if not isinstance(checkpoint, dict) or "unisono" not in checkpoint:
        raise CheckpointError(f"{shown(path)} is not a training checkpoint of unisono", code="format", path=path)
    kept = checkpoint["unisono"]
    for name, value in (
        ("unisono", kept),
        ("unisono.recipe", kept.get("recipe") if isinstance(kept, dict) else {}),
        ("unisono.facts", kept.get("facts") if isinstance(kept, dict) else {}),
        ("state_dict", checkpoint.get("state_dict")),
    ):
        if not isinstance(value, dict):
            raise CheckpointError(
                f"{shown(path)} is damaged: its {name} is of type {type(value).__name__}, not dict; "
                "take another state of the run",
                code="damaged",
                path=path,
                value=name,
            )
    version = kept.get("format", STATES_FORMAT)
    if version != STATES_FORMAT:
        raise CheckpointError(
            f"{shown(path)} has state format {version!r:.40}, this version reads {STATES_FORMAT}: upgrade unisono",
            code="version",
            path=path,
            value=version,
        )
    return checkpoint


def _read_file(path: Path, mmap: bool) -> Any:
    import torch

    if kind_of(path) != "file":
        code = "missing" if kind_of(path) == "missing" else "unsafe"
        raise CheckpointError(
            f"{shown(path)} is no regular file: give a run folder or a .ckpt file", code=code, path=path
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:
        raise CheckpointError(
            f"{shown(path)} cannot be read weights-only (truncated, or it holds a pickle): {type(error).__name__}",
            code="damaged",
            path=path,
        ) from error


def read_weights(source: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the facts and the weights (the average, where one was kept) of an export, a run or a state."""
    path = Path(source)
    if kind_of(path) != "missing" and kind_of(path / INFO) != "file":
        checkpoint = read_training_state(find_training_state(path), only=("unisono", "state_dict"))
        return checkpoint["unisono"]["facts"], checkpoint["state_dict"]
    folder = find(source)
    info = read_info(folder)
    if BASE in info:
        raise needs_base(folder, info)
    facts = info["facts"]
    weights = read_safetensors(folder).items()
    return facts, {k: v.float() if v.is_floating_point() else v for k, v in weights}

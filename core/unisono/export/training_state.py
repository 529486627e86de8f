"""Training state: what Lightning keeps of a run, found, read weights-only, and turned into an export."""

from pathlib import Path
from typing import Any, Literal

from unisono.errors import CheckpointError, UnisonoError
from unisono.export.adapters import BASE, needs_base
from unisono.export.card import Card
from unisono.export.layout import INFO, kind_of, shown
from unisono.export.read import find, load_component, load_model, read_info
from unisono.export.weights import read_safetensors
from unisono.export.write import save_export
from unisono.nn.adapters import merge
from unisono.recipe import Recipe

HOLDING = ("checkpoints/*.ckpt", "hpc_ckpt_*.ckpt")
"""Where a run's states lie: its own, and Lightning's of a job that SLURM starts again."""


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
    """Turn a training run (its folder or one ``.ckpt``) into an export folder.

    ``adapters`` says what becomes of them where the run had any: merged into a plain model, kept beside the weights, or
    written alone. ``run`` may also be an export of adapters alone, with the export that they were trained on as
    ``base``; both are merged.
    """
    if base is not None:
        return _export_joined(Path(run), dest, base, card, dtype, components, overwrite)
    path = find_training_state(run)
    checkpoint = read_training_state(path)
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
    """Return the newest checkpoint of a run folder (or of a recipe's newest run), or the file itself."""
    run = Path(run)
    kind = kind_of(run)
    if kind == "file":
        return run
    if kind == "special":
        raise CheckpointError(
            f"{shown(run)} is no regular file: give a run folder or a .ckpt file", code="unsafe", path=run
        )
    if (numbered := newest_run(run, HOLDING)) != run or has_training_state(run):
        return _newest_state(numbered)
    raise CheckpointError(
        f"no training checkpoint under {shown(run)}: give a run folder or a .ckpt file", code="missing", path=run
    )


def has_training_state(folder: Path) -> bool:
    """Whether a run's folder holds a state to go on from."""
    return any(path.is_file() for pattern in HOLDING for path in folder.glob(pattern))


def run_of_state(state: Path) -> Path | None:
    """Return the run's folder that a state lies in; None for one that lies elsewhere."""
    state = state.absolute()
    if state.parent.name == "checkpoints":
        return state.parent.parent
    return state.parent if state.name.startswith("hpc_ckpt_") else None


def _newest_state(folder: Path) -> Path:
    """Return the state that was written last: Lightning's of a requeued job (``hpc_ckpt_1.ckpt``), or ``last.ckpt``."""
    states = [path for path in folder.glob(HOLDING[0]) if path.is_file()]
    last = folder / "checkpoints" / "last.ckpt"
    newest = last if last in states else max(states, key=_age, default=None)
    requeued = [path for path in folder.glob(HOLDING[1]) if path.is_file()]
    if newest is not None:
        requeued = [path for path in requeued if path.stat().st_mtime > newest.stat().st_mtime]
    if requeued:
        return max(requeued, key=lambda path: path.stat().st_mtime)
    assert newest is not None  # the folder holds a state
    return newest


def _age(path: Path) -> tuple[int, float]:
    """States by their step, which is their name; others by when they were written, before all of these."""
    return (int(path.stem) if path.stem.isdecimal() else -1, path.stat().st_mtime)


def read_training_state(path: Path) -> dict[str, Any]:
    """Read a Lightning checkpoint weights-only, so that no code in it can run."""
    import torch

    if kind_of(path) != "file":
        code = "missing" if kind_of(path) == "missing" else "unsafe"
        raise CheckpointError(
            f"{shown(path)} is no regular file: give a run folder or a .ckpt file", code=code, path=path
        )
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(
            f"{shown(path)} cannot be read weights-only (truncated, or it holds a pickle): {type(error).__name__}",
            code="damaged",
            path=path,
        ) from error
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
    return checkpoint


def read_weights(source: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the facts and the weights (the average, where one was kept) of an export, a run or a ``.ckpt``."""
    path = Path(source)
    if kind_of(path) != "missing" and kind_of(path / INFO) != "file":
        checkpoint = read_training_state(find_training_state(path))
        return checkpoint["unisono"]["facts"], checkpoint["state_dict"]
    folder = find(source)
    info = read_info(folder)
    if BASE in info:
        raise needs_base(folder, info)
    facts = info["facts"]
    weights = read_safetensors(folder).items()
    return facts, {k: v.float() if v.is_floating_point() else v for k, v in weights}

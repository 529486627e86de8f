"""Warm start: the weights of another run or export, as far as they fit (``run.init_from``)."""

from dataclasses import asdict, dataclass
from typing import Any

from unisono.errors import CheckpointError
from unisono.export import read_weights
from unisono.nn.adapters import beneath_adapters


@dataclass(frozen=True)
class WarmStart:
    """What was taken over; the rest by name.

    taken: weights of the same name and shape.
    fresh: weights of the model that the source lacks.
    other_shape: weights that both have, in another shape here; drawn afresh.
    unused: weights that only the source has.
    """

    source: str
    taken: list[str]
    fresh: list[str]
    other_shape: list[str]
    unused: list[str]

    def __str__(self) -> str:
        total = len(self.taken) + len(self.fresh) + len(self.other_shape)
        lines = [f"init_from {self.source}: {len(self.taken)} of {total} weights taken"]
        for what in ("fresh", "other_shape", "unused"):
            if names := getattr(self, what):
                lines.append(f"  {len(names)} {what.replace('_', ' ')}: {', '.join(names)}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def warm_start(model: Any, source: str) -> WarmStart:
    """Copy what fits, by name and shape, from a run, a ``.ckpt`` or an export into a built model.

    Raises ``CheckpointError`` if nothing fits, or if the model refuses the source's facts.
    """
    facts, state = read_weights(source)
    model.check_source(facts)
    state = model.read_source(state)
    model.configure_model()  # weights that only training needs can be taken over too
    own = model.state_dict()
    state = beneath_adapters(own, state)
    shared = own.keys() & state.keys()
    taken = {k: state[k] for k in own if k in shared and own[k].shape == state[k].shape}
    if not taken:
        raise CheckpointError(
            f"run.init_from={source!r}: none of its {len(state)} weights has the name and shape of one of the "
            f"{len(own)} of {type(model).__name__}: give a run or export of the same model and sizes",
            code="shape",
            path="run.init_from",
            value=str(source),
        )
    if model.adapted:
        _refuse_frozen_at_random(model, source, taken)
    model.load_state_dict(taken, strict=False)
    return WarmStart(
        source=source,
        taken=list(taken),
        fresh=[k for k in own if k not in shared],
        other_shape=[k for k in own if k in shared and k not in taken],
        unused=[k for k in state if k not in shared],
    )


def _refuse_frozen_at_random(model: Any, source: str, taken: dict[str, Any]) -> None:
    """Raise ``CheckpointError`` where a weight would stay as it was drawn, since adapters freeze all but themselves."""
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    drawn = [name.replace(".base_layer.", ".") for name in frozen if name not in taken]
    if drawn:
        raise CheckpointError(
            f"run.init_from={source!r} has no {drawn[0]} of this shape ({len(drawn)} such weights), which would stay "
            f"random, frozen beneath the adapters: train it with adapters.train=[{drawn[0]}], or start from a model "
            "that fits",
            code="shape",
            path="run.init_from",
            value=source,
        )

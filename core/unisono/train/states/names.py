"""Names: an optimiser's state by the names of its parameters, and back.

torch counts parameters from 0, in the order in which this process gave them to the optimiser; a name means the same
parameter under every strategy and in every version of a model that has it.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from unisono.errors import CheckpointError

WRAPPERS = ("_orig_mod.", "_checkpoint_wrapped_module.")
"""What wrappers around a module put into the names of its parameters."""


def parameter_names(module: nn.Module, optimizer: Any) -> list[str]:
    """Return the names of an optimiser's parameters in its own order; ``parameter 3`` for one that the module lacks."""
    known = {id(parameter): name for name, parameter in module.named_parameters()}
    ordered = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return [_bare(known.get(id(parameter), f"parameter {number}")) for number, parameter in enumerate(ordered)]


def by_name(state: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return an optimiser's ``state_dict()`` with names for numbers; one that has names already is left as it is."""
    ids = [number for group in state["param_groups"] for number in group["params"]]
    if all(isinstance(number, str) for number in ids):
        return state
    if len(ids) != len(names):
        raise CheckpointError(
            f"the state to resume has {len(ids)} parameters in an optimiser, this model {len(names)}: it is of another "
            "model",
            code="shape",
            path="optimizer_states",
            value=len(ids),
        )
    named = dict(zip(ids, names, strict=True))
    return {
        **state,
        "state": {named.get(number, number): value for number, value in state["state"].items()},
        "param_groups": [
            {**group, "params": [named[number] for number in group["params"]]} for group in state["param_groups"]
        ],
    }


def load_by_name(optimizer: Any, state: dict[str, Any], names: Sequence[str]) -> None:
    """Give an optimiser a state with names, whatever order the parameters had when it was saved.

    Settings of a group (rate, decay) are those of the saved group that its first known parameter was in. What the state
    has of parameters that are frozen now is left out, and a parameter that was frozen begins afresh; an optimiser
    without any parameter of the state is refused.
    """
    groups = state["param_groups"]
    owner = {name: group for group in groups for name in group["params"]}
    if missing := sorted(set(names) ^ owner.keys()) if not set(names) & owner.keys() else []:
        raise CheckpointError(
            f"the state to resume and this model differ in {len(missing)} parameters of an optimiser, such as "
            f"{missing[0]}: restore what was trained, or start a new run with --run.init_from",
            code="conflict",
            path=f"optimizer_states.{missing[0]}",
            value=len(missing),
        )
    own = optimizer.state_dict()
    numbers = [number for group in own["param_groups"] for number in group["params"]]
    numbered = dict(zip(names, numbers, strict=True))
    of_number = {number: name for name, number in numbered.items()}
    known = [
        next((owner[name] for number in group["params"] if (name := of_number[number]) in owner), {})
        for group in own["param_groups"]
    ]
    own["param_groups"] = [
        {**group, **{key: value for key, value in saved.items() if key not in ("params", "param_names")}}
        for group, saved in zip(own["param_groups"], known, strict=True)
    ]
    kept = {name: value for name, value in state["state"].items() if name in numbered or name not in owner}
    own["state"] = {numbered.get(name, name): value for name, value in kept.items()}
    optimizer.load_state_dict({**{k: v for k, v in state.items() if k not in own}, **own})


def check_pieces(state: dict[str, Any], module: nn.Module) -> None:
    """Raise ``CheckpointError`` where an optimiser holds what only this process knows of a parameter that is shared."""
    parameters = {_bare(name): parameter for name, parameter in module.named_parameters()}
    for name, values in state["state"].items():
        if not isinstance(values, dict) or not isinstance(parameters.get(name), DTensor):
            continue
        for key, value in values.items():
            if isinstance(value, Tensor) and not isinstance(value, DTensor) and value.numel() > 1:
                raise CheckpointError(
                    f"the optimiser's {key} of {name} is no part of a whole: it cannot be saved where a strategy "
                    "shards parameters; take optim.name=adamw, or trainer.strategy=ddp",
                    code="unsupported",
                    path=f"optimizer_states.{name}.{key}",
                )


def _bare(name: str) -> str:
    for wrapper in WRAPPERS:
        name = name.replace(wrapper, "")
    return name

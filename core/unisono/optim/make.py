"""Make: the optimisers by name, over parts of a model's parameters; their states are resumed by parameters' names."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.utils._foreach_utils import _get_fused_kernels_supported_devices

from unisono.errors import CheckpointError, RecipeError
from unisono.extras import optional
from unisono.optim.groups import Part

if TYPE_CHECKING:
    from unisono.optim.spec import OptimSpec

EXTRA = "optimizers"


def make(spec: "OptimSpec", parts: Sequence[Part], scaled: bool = False) -> torch.optim.Optimizer:
    """Make the optimiser that a recipe names; see `OptimSpec.make`."""
    parameters = [parameter for part in parts for _, parameter in part.named]
    if spec.optimizer in ("adamw8bit", "galore_adamw") and any(isinstance(p, DTensor) for p in parameters):
        raise RecipeError(
            f"optim.optimizer={spec.optimizer} knows no sharded parameters: take adamw or muon, or strategy ddp",
            code="unsupported",
            path="optim.optimizer",
            value=spec.optimizer,
        )
    groups = [{"params": part.named, "lr": spec.lr * part.lr, "weight_decay": part.weight_decay} for part in parts]
    common: Any = {"lr": spec.lr, "betas": spec.betas, "eps": spec.eps}
    if spec.optimizer == "adamw8bit":
        return _eight_bit(groups, common)
    if spec.optimizer == "galore_adamw":
        return _galore(spec, parts, groups, common)
    if spec.optimizer == "muon" and any(part.hidden for part in parts):  # discriminators may have none
        from unisono.optim.muon import MuonAdamW

        muon = spec.muon
        settings = {"momentum": muon.momentum, "nesterov": muon.nesterov, "ns_steps": muon.ns_steps}
        hidden = [group for part, group in zip(parts, groups, strict=True) if part.hidden]
        rest = [group for part, group in zip(parts, groups, strict=True) if not part.hidden]
        fused = fused_step(spec, [p for part in parts if not part.hidden for _, p in part.named], scaled)
        made = MuonAdamW(
            hidden, rest, {"lr": spec.lr, "adjust_lr_fn": muon.adjust, **settings}, {**common, "fused": fused}
        )
    else:
        made = torch.optim.AdamW(groups, **common, fused=fused_step(spec, parameters, scaled))
    made.register_load_state_dict_pre_hook(by_name)
    return made


def fused_step(spec: "OptimSpec", parameters: Sequence[Tensor], scaled: bool) -> bool | None:
    """Return what torch's AdamW is told: True for one kernel, None for its own choice among the others.

    Raises ``RecipeError`` where it was asked for and cannot be.
    """
    devices = {parameter.device.type for parameter in parameters}
    if spec.fused == "auto":
        return True if devices == {"cuda"} and not scaled else None
    if not spec.fused:
        return None
    if scaled and spec.clip_norm:
        raise RecipeError(
            "optim.fused=true does not go with trainer.precision=16-mixed and clipping, since it takes the scale back "
            "within the step: use bf16-mixed, optim.clip_norm=0 or optim.fused=auto",
            code="conflict",
            path="optim.fused",
            value=True,
        )
    known = set(_get_fused_kernels_supported_devices())
    if not devices <= known:
        raise RecipeError(
            f"optim.fused=true: there is no fused step on {', '.join(sorted(devices - known))}: leave it at auto",
            code="device",
            path="optim.fused",
            value=True,
        )
    return True


def by_name(optimizer: torch.optim.Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
    """Before a state is restored: give each parameter what was kept under its name, whatever group it was in.

    Parameters that the state does not have begin afresh; what it has of others, which are frozen now, is left out.
    States that have no names (of version 0.1.0) are restored by order; raises ``CheckpointError`` where that cannot be.
    """
    own = [group["param_names"] for group in optimizer.param_groups]
    groups = state_dict["param_groups"]
    if len(groups) == len(own):  # which kernel is this machine's business
        groups = [
            {**group, **{kernel: here[kernel] for kernel in ("fused", "foreach") if kernel in here and kernel in group}}
            for group, here in zip(groups, optimizer.param_groups, strict=True)
        ]
        state_dict = {**state_dict, "param_groups": groups}
    if any("param_names" not in group for group in groups):
        if [len(group["params"]) for group in groups] != [len(names) for names in own]:
            raise CheckpointError(
                "the state to resume is of a version that kept no names of parameters, and its groups are others: "
                "restore optim.groups as they were, or start a new run with --run.init_from",
                code="version",
                path="optim.groups",
            )
        return state_dict
    if [group["param_names"] for group in groups] == own:
        return state_dict
    numbers = {
        name: number for group in groups for name, number in zip(group["param_names"], group["params"], strict=True)
    }
    state, renewed, count = {}, [], 0
    for group in optimizer.param_groups:
        members = list(range(count, count + len(group["params"])))
        count += len(members)
        for number, name in zip(members, group["param_names"], strict=True):
            if name in numbers and numbers[name] in state_dict["state"]:
                state[number] = state_dict["state"][numbers[name]]
        renewed.append({**group, "params": members})
    return {**state_dict, "state": state, "param_groups": renewed}


def _eight_bit(groups: list[dict[str, Any]], common: dict[str, Any]) -> Any:
    """Make AdamW whose two averages are kept in 8 bits, for tensors of 4,096 numbers and more."""
    package = optional("bitsandbytes", "bitsandbytes.optim", EXTRA)

    class AdamW8bit(package.AdamW8bit):
        def load_state_dict(self, state_dict: dict[str, Any], *args: Any, **kwargs: Any) -> None:
            super().load_state_dict(by_name(self, state_dict), *args, **kwargs)  # it calls no hooks

    return AdamW8bit(groups, **common)


def _galore(spec: "OptimSpec", parts: Sequence[Part], groups: list[dict[str, Any]], common: dict[str, Any]) -> Any:
    """Make GaLore's AdamW, whose projectors are kept as plain values: a state may hold no objects."""
    package = optional("pytorch-optimizer", "pytorch_optimizer.optimizer.galore", EXTRA)
    for part, group in zip(parts, groups, strict=True):
        if part.hidden:
            group |= {
                "rank": spec.galore.rank,
                "update_proj_gap": spec.galore.update_every,
                "scale": spec.galore.scale,
                "projection_type": "std",
            }

    class GaLoreAdamW(package.GaLore):
        def state_dict(self) -> dict[str, Any]:
            told = super().state_dict()
            kept = {
                number: {key: dict(vars(value)) if key == "projector" else value for key, value in values.items()}
                for number, values in told["state"].items()
            }
            return {**told, "state": kept}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            super().load_state_dict(by_name(self, state_dict))
            for values in self.state.values():
                if isinstance(values.get("projector"), dict):
                    projector = package.GaLoreProjector()
                    vars(projector).update(values["projector"])
                    values["projector"] = projector

    return GaLoreAdamW(groups, **common)

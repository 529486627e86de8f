"""Attaching: what Lightning asks its strategy for when it saves and restores, answered alike for every strategy.

Weights are those that each process holds, an optimiser's state is by parameter name, and a state of either layout, of
any number of processes, becomes what this process holds of it. Strategies with formats of their own (FSDP 1,
DeepSpeed) are left alone.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy, ModelParallelStrategy, SingleDeviceStrategy
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Replicate

from unisono.export.state_folder import At, Box
from unisono.export.training_state import read_training_state
from unisono.train.states.names import by_name, check_pieces, load_by_name, parameter_names
from unisono.train.states.parts import parts_of
from unisono.train.strategies.whole import reshard


def is_attachable(strategy: Any) -> bool:
    """Whether a strategy's states are kept as ``unisono.train.states`` keeps them."""
    kinds = SingleDeviceStrategy | DDPStrategy | ModelParallelStrategy
    return isinstance(strategy, kinds) and not isinstance(strategy, DeepSpeedStrategy)


def is_sharded(module: nn.Module) -> bool:
    """Whether this process holds pieces of a module's parameters."""
    return any(isinstance(parameter, DTensor) for parameter in module.parameters())


def attach(trainer: Trainer) -> None:
    """Have a trainer's strategy save and restore as above; before it restores anything."""
    strategy: Any = trainer.strategy
    if is_attachable(strategy):
        answers = _Answers(trainer)
        strategy.load_checkpoint = answers.load_checkpoint
        strategy.load_model_state_dict = answers.load_model_state_dict
        strategy.load_optimizer_state_dict = answers.load_optimizer_state_dict
        strategy.lightning_module_state_dict = answers.lightning_module_state_dict
        strategy.optimizer_state = answers.optimizer_state


class _Answers:
    """The methods of a strategy that states are about."""

    def __init__(self, trainer: Trainer):
        self.trainer = trainer

    def lightning_module_state_dict(self) -> dict[str, Any]:
        reshard(self.trainer.lightning_module)
        return self.trainer.lightning_module.state_dict()

    def optimizer_state(self, optimizer: Any) -> dict[str, Any]:
        optimizer = getattr(optimizer, "_optimizer", optimizer)
        module = self.trainer.lightning_module
        state = by_name(optimizer.state_dict(), parameter_names(module, optimizer))
        check_pieces(state, module)
        return state

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        path, module = Path(checkpoint_path), self.trainer.lightning_module
        if not is_sharded(module):
            return read_training_state(path)
        if path.is_dir():
            return read_training_state(path, like=_Like(module))
        state = read_training_state(path, mmap=True)
        states = state.get("optimizer_states", [])
        state["optimizer_states"] = [by_name(s, n) for s, n in zip(states, self._names(), strict=False)]
        return _placed(state, _Like(module))

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        reshard(self.trainer.lightning_module)
        self.trainer.lightning_module.load_state_dict(checkpoint["state_dict"], strict=strict)
        if not self.trainer.strategy.lightning_restore_optimizer and "optimizer_states" in checkpoint:
            self.load_optimizer_state_dict(checkpoint)  # Lightning leaves it to the strategy

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        # a state of before counts its parameters, in the order that they still have
        states = zip(self.trainer.strategy.optimizers, checkpoint["optimizer_states"], self._names(), strict=False)
        for optimizer, state, names in states:
            load_by_name(optimizer, by_name(state, names), names)

    def _names(self) -> list[list[str]]:
        module = self.trainer.lightning_module
        return [parameter_names(module, optimizer) for optimizer in self.trainer.strategy.optimizers]


class _Like:
    """Finds, for a tensor of a state, the parameter that it is spread like, and makes room for this process's part."""

    def __init__(self, module: nn.Module):
        self.own = {name: value for name, value in module.state_dict().items() if isinstance(value, DTensor)}

    def __call__(self, at: At, shape: torch.Size, dtype: torch.dtype) -> tuple[Tensor, list[Box]] | None:
        model = self.of(at, shape)
        if model is None:
            return None
        room = torch.empty_like(model, dtype=dtype, requires_grad=False)
        assert isinstance(room, DTensor)
        local = room.to_local()
        return room, [(begin, local[inside]) for begin, inside in parts_of(room)]

    def of(self, at: At, shape: torch.Size) -> DTensor | None:
        for key in at[:0:-1]:  # a weight by its name, or an optimiser's value beside it
            found = self.own.get(key) if isinstance(key, str) else None
            if found is not None and found.shape == shape:
                return found
        return None


def _placed(value: Any, like: _Like, at: At = ()) -> Any:
    """Return a state with this process's parts of its tensors."""
    if isinstance(value, Tensor):
        model = like.of(at, value.shape)
        if model is None:
            return value.clone()
        mesh = model.device_mesh
        same = DTensor.from_local(value.to(model.device), mesh, [Replicate()] * mesh.ndim, run_check=False)
        return same.redistribute(placements=model.placements)
    if isinstance(value, dict):
        return {key: _placed(inner, like, (*at, key)) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_placed(inner, like, (*at, number)) for number, inner in enumerate(value))
    return value

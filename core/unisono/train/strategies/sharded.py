"""Sharded: Lightning's strategy for weights that lie in parts on several processes (FSDP2, HSDP, tensor parallelism).

Zhao et al., PyTorch FSDP (arXiv:2304.11277), in torch's second form: ``fully_shard``, a ``DTensor`` per parameter.
HSDP shards among the processes of a row of the mesh and replicates over rows. It differs from Lightning's
``ModelParallelStrategy``, which it extends, in that

- the model says its units, and the strategy shards them; Lightning leaves both to ``configure_model``;
- the root's weights are gathered around ``Model.losses``, which is no ``forward``;
- a state is whole, in the form that one process writes, so that it goes on under any strategy;
- what cannot be sharded is kept whole on every rank, and its gradients are averaged.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Literal

import torch
from lightning.fabric.utilities.optimizer import _optimizers_to_device
from lightning.pytorch import Trainer
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy
from lightning.pytorch.trainer.states import TrainerFn
from lightning_utilities.core.rank_zero import rank_zero_info
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, Shard
from torch.distributed.tensor.placement_types import _StridedShard
from torch.optim import Optimizer

from unisono.errors import RecipeError
from unisono.model import Model
from unisono.optim.make import by_name
from unisono.peers import set_peers
from unisono.train.strategies.mesh import Sizes
from unisono.train.strategies.norm import clip_by_norm, clip_by_value
from unisono.train.strategies.tensor import add_up, parallelize
from unisono.train.strategies.units import kept_whole
from unisono.train.strategies.whole import kinds, load_whole, reshard, shard_like, whole_state

DEVICES = ("cuda", "cpu")


class Sharded(ModelParallelStrategy):
    """FSDP2, HSDP and tensor parallelism: what ``sizes`` say.

    Args:
        sizes: of the mesh, ``replicate × shard × tensor``.
        reshard_after_forward: free a unit's weights after its forward pass, and gather them again for the backward
            pass: less memory, more traffic.
        gather: what weights are gathered in. ``bfloat16`` halves the traffic of units, and rounds their weights as
            ``bf16-mixed`` rounds them inside of products, norms included.
        process_group_backend: ``nccl`` or ``gloo``; by default what fits the device.
        timeout: of a collective operation.

    Attributes:
        kept: names of the parameters that every rank holds whole.
    """

    strategy_name = "sharded"

    def __init__(
        self,
        sizes: Sizes = Sizes(),  # noqa: B008
        reshard_after_forward: bool = True,
        gather: Literal["float32", "bfloat16"] = "float32",
        process_group_backend: str | None = None,
        timeout: timedelta = timedelta(minutes=30),
    ):
        super().__init__(
            save_distributed_checkpoint=False, process_group_backend=process_group_backend, timeout=timeout
        )
        self.sizes = sizes
        self.reshard_after_forward = reshard_after_forward
        self.gather = gather
        self.kept: dict[str, nn.Parameter] = {}
        self._summed: list[nn.Parameter] = []
        self._syncs = True

    # ---- processes -----------------------------------------------------------------------------

    def setup_environment(self) -> None:
        assert self.accelerator is not None and self.lightning_module is not None
        self.accelerator.setup_device(self.root_device)
        self._setup_distributed()
        self.sizes = self.sizes.fitted(self.world_size, self.num_nodes)
        sizes = (self.sizes.replicate, self.sizes.shard, self.sizes.tensor)
        assert None not in sizes
        names = ("replicate", "shard", "tensor")
        self._device_mesh = init_device_mesh(self.root_device.type, sizes, mesh_dim_names=names)  # type: ignore
        self.lightning_module._device_mesh = self._device_mesh
        if self.sizes.tensor > 1:
            set_peers(self._device_mesh["replicate", "shard"]._flatten("data").get_group())

    @property
    def data_ranks(self) -> tuple[int, int]:
        """This process' number among those that work on different items, and how many they are."""
        return self.global_rank // self.sizes.tensor, self.world_size // self.sizes.tensor

    @property
    def distributed_sampler_kwargs(self) -> dict[str, Any]:
        rank, size = self.data_ranks
        return {"num_replicas": size, "rank": rank}

    def teardown(self) -> None:
        set_peers(None)
        super().teardown()

    # ---- the model -----------------------------------------------------------------------------

    def setup(self, trainer: Trainer) -> None:
        assert self.model is not None and self.accelerator is not None
        model = self.lightning_module
        assert model is not None
        self.accelerator.setup(trainer)
        self.model = self.precision_plugin.convert_module(model)
        self.model_to_device()
        if not isinstance(model, Model):
            raise RecipeError(
                f"trainer.strategy: {type(model).__name__} is no unisono.Model, and says no units to shard: use ddp",
                path="trainer.strategy",
                code="unsupported",
            )
        self._shard(model)
        self.barrier()
        fitting = trainer.state.fn == TrainerFn.FITTING
        if fitting:
            self.setup_optimizers(trainer)
        self.setup_precision_plugin()
        if fitting:
            _optimizers_to_device(self.optimizers, self.root_device)

    def _shard(self, model: Model) -> None:
        for value in (*model.parameters(), *model.buffers()):  # as DDP does; all begin with the first one's
            torch.distributed.broadcast(value.data, 0)
        mesh = self.device_mesh
        summed = parallelize(model, mesh["tensor"]) if self.sizes.tensor > 1 else []
        self.kept = kept_whole(model)
        if self.sizes.tensor > 1 and self.sizes.replicate == self.sizes.shard == 1:
            self.kept = {}  # every other rank works on the same items
            self._summed = [model.get_parameter(name) for name in summed]
            return
        options: dict[str, Any] = {
            "mesh": mesh["replicate", "shard"] if (self.sizes.replicate or 1) > 1 else mesh["shard"],
            "ignored_params": set(self.kept.values()),
        }
        if self.sizes.tensor > 1:
            options["shard_placement_fn"] = _across
        low = torch.bfloat16 if self.gather == "bfloat16" else None
        for unit in model.shard_units():
            policy = MixedPrecisionPolicy(low, torch.float32, cast_forward_inputs=False)
            fully_shard(unit, **options, mp_policy=policy, reshard_after_forward=self.reshard_after_forward)
            for method in getattr(unit, "reads_weights", ()):
                register_fsdp_forward_method(unit, method)
        policy = MixedPrecisionPolicy(None, torch.float32, cast_forward_inputs=False)
        fully_shard(model, **options, mp_policy=policy)
        for method in model.reads_weights:
            register_fsdp_forward_method(model, method)
        self._summed = [model.get_parameter(name) for name in summed]
        if self.kept and self.is_global_zero:
            names = ", ".join(list(self.kept)[:4]) + (", …" if len(self.kept) > 4 else "")
            rank_zero_info(f"{len(self.kept)} parameters are kept whole on every rank: {names}")

    def setup_optimizers(self, trainer: Trainer) -> None:
        super().setup_optimizers(trainer)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                if len(kinds(group["params"])) > 1:  # fused and foreach operations take one kind
                    group["foreach"], group["fused"] = False, None

    # ---- steps ---------------------------------------------------------------------------------

    @contextmanager
    def block_backward_sync(self) -> Generator:
        """Leave gradients as each rank has them until the end of the block: batches are accumulated."""
        model: Any = self.model
        fully = hasattr(model, "set_requires_gradient_sync")
        self._syncs = False
        if fully:
            model.set_requires_gradient_sync(False)
        try:
            yield None
        finally:
            self._syncs = True
            if fully:
                model.set_requires_gradient_sync(True)

    def post_backward(self, closure_loss: Tensor) -> None:
        super().post_backward(closure_loss)
        if not self._syncs:
            return
        if self._summed:
            add_up(self._summed, self.device_mesh["tensor"].get_group())
        if self.kept and self.world_size > 1:
            add_up([p for p in self.kept.values() if p.requires_grad], None, self.world_size)

    def clip_gradients(self, optimizer: Any, value: float, algorithm: str) -> None:
        """Clip over all ranks."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if algorithm == "value":
            clip_by_value(parameters, value)
        else:
            clip_by_norm(parameters, value)

    # ---- states --------------------------------------------------------------------------------

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return the whole state on rank 0, and an empty one elsewhere."""
        assert self.lightning_module is not None
        reshard(self.lightning_module)
        return whole_state(self.lightning_module.state_dict(), self.is_global_zero)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Return the whole state on rank 0, as an optimiser of one process has it."""
        state = (optimizer._optimizer if isinstance(optimizer, LightningOptimizer) else optimizer).state_dict()
        made = {index: whole_state(values, self.is_global_zero) for index, values in state["state"].items()}
        return {**state, "state": made if self.is_global_zero else {}}

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        Strategy.save_checkpoint(self, checkpoint, filepath, storage_options)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        return Strategy.load_checkpoint(self, checkpoint_path, weights_only=True)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        assert self.lightning_module is not None
        load_whole(self.lightning_module, checkpoint["state_dict"], strict)

    @property
    def lightning_restore_optimizer(self) -> bool:
        return True

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            state = by_name(optimizer, state)  # its groups may be others
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            sharded = {i: _sharded(values, parameters[i]) for i, values in state["state"].items()}
            optimizer.load_state_dict({**state, "state": sharded})


def check_fit(strategy: Strategy, device: str, processes: int, nodes: int = 1) -> None:
    """Raise ``RecipeError`` for a device that cannot send parts of weights, and a mesh that processes do not fill."""
    if not isinstance(strategy, Sharded):
        return
    if device not in DEVICES:
        raise RecipeError(
            f"trainer.strategy: weights cannot be sharded over devices of kind {device}, only {', '.join(DEVICES)}: "
            "take trainer.strategy=auto and one device",
            path="trainer.strategy",
            value=device,
            code="device",
        )
    strategy.sizes.fitted(processes, nodes)


def _sharded(values: Mapping[str, Any], like: Any) -> dict[str, Any]:
    """Shard what an optimiser keeps of a parameter: tensors of its shape."""
    return {
        name: shard_like(value, like) if isinstance(value, Tensor) and value.shape == like.shape else value
        for name, value in values.items()
    }


def _across(parameter: Any) -> Shard | None:
    """Shard what tensor parallelism has cut within parts along the other dimension: along the same one, torch would
    put it together in another order."""
    parted = isinstance(parameter, DTensor) and any(isinstance(p, _StridedShard) for p in parameter.placements)
    return Shard(1) if parted else None


def data_ranks(trainer: Trainer) -> tuple[int, int]:
    """Return this process' number among those that work on different items, and how many they are."""
    strategy = trainer.strategy
    return strategy.data_ranks if isinstance(strategy, Sharded) else (trainer.global_rank, trainer.world_size)

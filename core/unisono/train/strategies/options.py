"""Options: what may be said of a strategy or profiler that a recipe names; ``make`` returns Lightning's object.

Nothing heavy is imported before ``make``: recipes are read in a moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from unisono.errors import RecipeError

Backend = Literal["nccl", "gloo"]
Hook = Literal["fp16_compress", "bf16_compress", "power_sgd"]


@dataclass(frozen=True)
class DDP:
    """Every process has the whole model; gradients are averaged while they are made.

    find_unused_parameters: look in each step for parameters that took no part.
    static_graph: promise that all steps use the same parameters in the same way; saves that search.
    gradient_as_bucket_view: gradients lie in the buffers that are sent: less memory.
    bucket_cap_mb: how much is sent at once.
    comm_hook: how gradients are sent: as float16 or bfloat16, or in low rank (arXiv:1905.13727).
    process_group_backend: by default what fits the device.
    timeout_seconds: of a collective operation.
    """

    find_unused_parameters: bool = False
    static_graph: bool = False
    gradient_as_bucket_view: bool = False
    bucket_cap_mb: int = 25
    comm_hook: Hook | None = None
    process_group_backend: Backend | None = None
    timeout_seconds: float = 1800.0

    def __post_init__(self):
        _positive("bucket_cap_mb", self.bucket_cap_mb)
        _positive("timeout_seconds", self.timeout_seconds)

    def make(self) -> Any:
        from lightning.pytorch.strategies import DDPStrategy
        from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook

        hooks = {
            "fp16_compress": default_hooks.fp16_compress_hook,
            "bf16_compress": default_hooks.bf16_compress_hook,
            "power_sgd": powerSGD_hook.powerSGD_hook,
        }
        low_rank = self.comm_hook == "power_sgd"
        return DDPStrategy(
            process_group_backend=self.process_group_backend,
            timeout=timedelta(seconds=self.timeout_seconds),
            ddp_comm_hook=None if self.comm_hook is None else hooks[self.comm_hook],
            ddp_comm_state=powerSGD_hook.PowerSGDState(None) if low_rank else None,
            find_unused_parameters=self.find_unused_parameters,
            static_graph=self.static_graph,
            gradient_as_bucket_view=self.gradient_as_bucket_view,
            bucket_cap_mb=self.bucket_cap_mb,
        )


@dataclass(frozen=True)
class FSDP2:
    """Weights, gradients and the optimiser's state are sharded over all processes.

    reshard_after_forward: free a block's weights after its forward pass: less memory, more traffic.
    gather: what the blocks' weights are gathered in; ``bfloat16`` halves the traffic, and rounds norms too.
    process_group_backend, timeout_seconds: as of ddp.
    """

    reshard_after_forward: bool = True
    gather: Literal["float32", "bfloat16"] = "float32"
    process_group_backend: Backend | None = None
    timeout_seconds: float = 1800.0

    def __post_init__(self):
        _positive("timeout_seconds", self.timeout_seconds)

    def make(self) -> Any:
        from unisono.train.strategies.mesh import Sizes

        return self._make(Sizes())

    def _make(self, sizes: Any) -> Any:
        from unisono.train.strategies.sharded import Sharded

        return Sharded(
            sizes,
            self.reshard_after_forward,
            self.gather,
            self.process_group_backend,
            timedelta(seconds=self.timeout_seconds),
        )


@dataclass(frozen=True)
class HSDP(FSDP2):
    """Weights are sharded within groups of processes, and each group has all of them.

    replicate: groups; by default the number of nodes.
    shard: processes of a group; by default what is left.
    """

    replicate: int | None = None
    shard: int | None = None

    def make(self) -> Any:
        from unisono.train.strategies.mesh import Sizes

        return self._make(Sizes(self.replicate, self.shard))


@dataclass(frozen=True)
class TensorParallel(FSDP2):
    """Each block of a transformer is shared by ``size`` processes; what is left of them shards as fsdp2 does.

    size: processes that work on one item together; it must divide the heads of each block.
    """

    size: int = 2

    def make(self) -> Any:
        from unisono.train.strategies.mesh import Sizes

        return self._make(Sizes(1, None, self.size))


@dataclass(frozen=True)
class SimpleProfiler:
    """How often and for how long each of Lightning's hooks ran; a table at the end, and ``profile`` in the run."""

    extended: bool = True

    def make(self) -> Any:
        from lightning.pytorch.profilers import SimpleProfiler

        return SimpleProfiler(extended=self.extended)


@dataclass(frozen=True)
class AdvancedProfiler:
    """Python's own profile of each hook.

    line_count_restriction: the share of the lines of each table that is printed, in (0, 1].
    """

    line_count_restriction: float = 1.0

    def __post_init__(self):
        if not 0 < self.line_count_restriction <= 1:
            raise RecipeError(
                f"trainer.profiler: line_count_restriction={self.line_count_restriction} must be in (0, 1]",
                path="trainer.profiler.line_count_restriction",
                value=self.line_count_restriction,
                code="range",
            )

    def make(self) -> Any:
        from lightning.pytorch.profilers import AdvancedProfiler

        return AdvancedProfiler(line_count_restriction=self.line_count_restriction)


@dataclass(frozen=True)
class PyTorchProfiler:
    """Torch's profile of operations and kernels.

    sort_by: the table's order, such as ``cpu_time_total`` or ``cuda_time_total``.
    row_limit: rows of the table.
    export_to_chrome: write a trace for chrome://tracing.
    """

    sort_by: str = "cpu_time_total"
    row_limit: int = 20
    export_to_chrome: bool = True

    def __post_init__(self):
        _positive("row_limit", self.row_limit, "profiler")

    def make(self) -> Any:
        from lightning.pytorch.profilers import PyTorchProfiler

        return PyTorchProfiler(
            sort_by_key=self.sort_by, row_limit=self.row_limit, export_to_chrome=self.export_to_chrome
        )


STRATEGIES: dict[str, Any] = {"ddp": DDP, "fsdp2": FSDP2, "hsdp": HSDP, "tensor": TensorParallel}
PROFILERS: dict[str, Any] = {"simple": SimpleProfiler, "advanced": AdvancedProfiler, "pytorch": PyTorchProfiler}


def _positive(name: str, value: float, kind: str = "strategy") -> None:
    if not value > 0:
        raise RecipeError(
            f"trainer.{kind}: {name}={value} must be above 0",
            path=f"trainer.{kind}.{name}",
            value=value,
            code="range",
        )

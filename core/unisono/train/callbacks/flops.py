"""FLOPs: operations of a training step, counted as it runs, and what share of the device's peak that is (MFU).

Chowdhery et al., PaLM (arXiv:2204.02311, appendix B): model FLOPs utilisation counts the operations of the model's
forward and backward pass, without those that activation checkpointing repeats. Counted are multiplications of matrices,
convolutions and attention (the table of ``torch.utils.flop_counter``), of one step for each size of batch; a step that
is counted computes what it would without.
"""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

from unisono.train.speed import counted

MOST_COUNTED = 12
"""Steps that are counted; a batch of another size is taken to cost what its elements do in the nearest of these."""
SIZES_PER_OCTAVE = 4
"""Sizes of batches, by their elements, that are told apart between one and its double."""

PEAKS: dict[str, dict[str, float]] = {
    "B200": {"bf16": 2250e12, "fp16": 2250e12},
    "H200 NVL": {"bf16": 836e12, "fp16": 836e12},
    "H200": {"bf16": 989e12, "fp16": 989e12, "tf32": 494e12, "fp32": 67e12},
    "H100 PCIe": {"bf16": 756e12, "fp16": 756e12, "tf32": 378e12, "fp32": 51e12},
    "H100 NVL": {"bf16": 835e12, "fp16": 835e12, "tf32": 417e12, "fp32": 60e12},
    "H100": {"bf16": 989e12, "fp16": 989e12, "tf32": 494e12, "fp32": 67e12},
    "A100": {"bf16": 312e12, "fp16": 312e12, "tf32": 156e12, "fp32": 19.5e12},
    "L40S": {"bf16": 362e12, "fp16": 362e12, "tf32": 183e12, "fp32": 91.6e12},
    "L4": {"bf16": 121e12, "fp16": 121e12, "tf32": 60e12, "fp32": 30.3e12},
    "V100": {"fp16": 125e12, "fp32": 15.7e12},
    "T4": {"fp16": 65e12, "fp32": 8.1e12},
}
"""Peak operations per second by the words of a device's name, dense: where a data sheet gives the rate with sparsity,
half of it stands here. Sources: NVIDIA's data sheets of B200, H200 (SXM, NVL), H100 (SXM, PCIe, NVL), A100, L40S, L4,
V100 (SXM2) and T4; those for bf16 agree with torchtitan's table (``torchtitan/tools/utils.py``). A device or a
precision that is not here has no percentage."""


def peak_rate(device_name: str, dtype: str) -> float | None:
    """Return a device's peak operations per second for ``bf16``, ``fp16``, ``tf32`` or ``fp32``; None if unknown."""
    words = device_name.replace("-", " ").split()
    for name, rates in PEAKS.items():  # the more special names come first
        if all(word in words for word in name.split()):
            return rates.get(dtype)
    return None


def arithmetic(precision: str) -> str:
    """Return the arithmetic that a Trainer's precision makes matrices be multiplied in: a key of ``PEAKS``."""
    if precision.startswith("bf16"):
        return "bf16"
    if precision.startswith("16"):
        return "fp16"
    if precision.startswith("64"):
        return "fp64"
    return "fp32" if torch.get_float32_matmul_precision() == "highest" else "tf32"


class CountFlops(TorchDispatchMode):
    """Add up the operations of what runs within; ``total`` so far, without what ran in ``paused``."""

    def __init__(self):
        super().__init__()
        self.total = 0
        self.formulas = _formulas()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = self.formulas.get(func._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=out)
        return out

    @contextmanager
    def paused(self) -> Iterator[None]:
        before = self.total
        try:
            yield
        finally:
            self.total = before


def _formulas() -> dict[Any, Any]:
    """The table of torch, with the attention of CPUs, which it lacks."""
    aten = torch.ops.aten
    own = {
        aten._scaled_dot_product_flash_attention_for_cpu: _attention_on_cpu,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_on_cpu_backward,
    }
    return {**own, **flop_registry}


def _attention_on_cpu(query: Any, key: Any, value: Any, *args: Any, out_val: Any = None, **kwargs: Any) -> int:
    return sdpa_flop_count(query.shape, key.shape, value.shape)


def _attention_on_cpu_backward(
    gradient: Any, query: Any, key: Any, value: Any, *args: Any, out_val: Any = None, **kwargs: Any
) -> int:
    return sdpa_backward_flop_count(gradient.shape, query.shape, key.shape, value.shape)


class Flops(Callback):
    """Count steps; ``of(batch)`` is what a step on a batch takes on this rank, None before one was counted."""

    def __init__(self):
        self.counts: dict[int, tuple[int, int]] = {}  # size → (elements, operations)
        self.counting = False
        self._mode: CountFlops | None = None
        self._stack: ExitStack | None = None
        self._peak: float | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        device = trainer.strategy.root_device
        self._peak = None
        if device.type == "cuda":
            self._peak = peak_rate(torch.cuda.get_device_name(device), arithmetic(str(trainer.precision)))

    @property
    def peak(self) -> float | None:
        """The device's peak rate in this run's precision, operations per second; None if unknown."""
        return self._peak

    def of(self, batch: Any) -> float | None:
        """Return the operations of a step on a batch, on this rank."""
        if not self.counts:
            return None
        elements = _elements(batch)
        known, flops = self.counts.get(_size(elements)) or min(
            self.counts.values(), key=lambda each: abs(math.log(each[0] / elements))
        )
        return flops * elements / known

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        elements = _elements(batch)
        self.counting = bool(elements) and _size(elements) not in self.counts and len(self.counts) < MOST_COUNTED
        if self.counting:
            self._mode, self._stack = CountFlops(), ExitStack()
            self._stack.enter_context(counted(self._mode.paused))
            self._stack.enter_context(self._mode)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._mode is not None and self.counting:
            elements = _elements(batch)
            self.counts[_size(elements)] = (elements, self._mode.total)
            self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._close()

    def _close(self) -> None:
        if self._stack is not None:
            self._stack.close()
        self._mode = self._stack = None


def _elements(batch: Any) -> int:
    """The elements of a batch's tensors."""
    if isinstance(batch, torch.Tensor):
        return batch.numel()
    if isinstance(batch, dict):
        return sum(_elements(value) for value in batch.values())
    return sum(_elements(value) for value in batch) if isinstance(batch, list | tuple) else 0


def _size(elements: int) -> int:
    return round(SIZES_PER_OCTAVE * math.log2(elements))

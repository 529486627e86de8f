"""Boundary: the end of the last step that was taken, which a run can be put back to before it takes the next.

Weights change with a step only; what the batches since then have changed is how far the loops are, and buffers that a
forward pass writes: running means, codebooks.
"""

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loops.progress import _ProcessedTracker as ProcessedTracker
from torch import Tensor, nn


class Boundary:
    """Remembers how a run was at the end of a step; asked at the start of each batch."""

    def __init__(self):
        self._step = -1
        self._batches = (0, 0)
        self._places: list[tuple[nn.Module, str]] | None = None
        self._kept: list[Tensor] = []

    def mark(self, trainer: Trainer, module: LightningModule) -> None:
        """Remember this place, if a step was taken since the last call."""
        if trainer.global_step == self._step:
            return
        if self._places is None:
            self._places = _saved_buffers(module)
        self._step = trainer.global_step
        total, current = _counts(trainer)
        self._batches = (total.completed, current.completed)
        live = [getattr(part, name).detach() for part, name in self._places]
        if [buffer.shape for buffer in live] != [buffer.shape for buffer in self._kept]:
            self._kept = [buffer.clone() for buffer in live]
        for kept, buffer in zip(self._kept, live, strict=True):
            kept.copy_(buffer)

    def restore_buffers(self) -> None:
        """Put buffers back to what they were."""
        for (part, name), kept in zip(self._places or [], self._kept, strict=True):
            getattr(part, name).detach().copy_(kept)

    def restore(self, trainer: Trainer) -> None:
        """Put buffers and loops back to what they were."""
        self.restore_buffers()
        for counts, done in zip(_counts(trainer), self._batches, strict=True):
            counts.ready = counts.started = counts.processed = counts.completed = done


def _counts(trainer: Trainer) -> list[ProcessedTracker]:
    progress = trainer.fit_loop.epoch_loop.batch_progress
    return [counts for counts in (progress.total, progress.current) if isinstance(counts, ProcessedTracker)]


def _saved_buffers(module: nn.Module) -> list[tuple[nn.Module, str]]:
    """The buffers that a state holds."""
    return [
        (part, name)
        for part in module.modules()
        for name, _ in part.named_buffers(recurse=False)
        if name not in part._non_persistent_buffers_set
    ]

"""Host copies: tensors as they are now, in memory that training does not touch."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class HostCopies:
    """Copies of tensors in the host's memory, made anew in the same place at each call.

    Where a tensor lies on a graphics card the memory is pinned and the copies overlap; the call returns when all are
    made. Tensors that share memory share their copy.
    """

    def __init__(self):
        self._buffers: dict[str, Tensor] = {}

    @property
    def nbytes(self) -> int:
        """Bytes that are held."""
        return sum(buffer.nbytes for buffer in self._buffers.values())

    def take(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Copy tensors; what was taken before is overwritten."""
        self._buffers = {name: buffer for name, buffer in self._buffers.items() if name in tensors}
        taken: dict[str, Tensor] = {}
        same: dict[Any, Tensor] = {}
        devices = set()
        for name, tensor in tensors.items():
            source = tensor.detach()
            if type(source) is not Tensor:  # of a kind of its own, such as numbers of 8 bits, which copies itself
                taken[name] = source.clone().cpu()
                continue
            place = (source.device, source.data_ptr(), source.shape, source.stride(), source.dtype)
            if source.numel() and place in same:
                taken[name] = same[place]
                self._buffers.pop(name, None)
                continue
            pinned = source.device.type == "cuda"
            buffer = self._buffers.get(name)
            if buffer is None or buffer.shape != source.shape or buffer.dtype != source.dtype:
                buffer = torch.empty(source.shape, dtype=source.dtype, pin_memory=pinned)
                self._buffers[name] = buffer
            buffer.copy_(source, non_blocking=pinned)
            if pinned:
                devices.add(source.device)
            taken[name] = same[place] = buffer
        for device in devices:
            torch.cuda.current_stream(device).synchronize()
        return taken

    def clear(self) -> None:
        """Give the memory back."""
        self._buffers = {}

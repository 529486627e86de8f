"""Stand-ins for a target and its draft: logits by a table, delays and faults; importable in a draft process."""

import os
import random
import signal
import time

import torch
from torch import Tensor

VOCAB, PERIOD = 7, 13


class Table:
    """Logits that depend on a token and its position; with `error`, those of a draft that is wrong now and then.

    Args:
        error: weight of another table; 0 is the target itself.
        delay: seconds of an evaluation at most, drawn anew each time; (low, high) of a range.
    """

    def __init__(self, error: float = 0.0, delay: float | tuple[float, float] = 0.0, vocab: int = VOCAB):
        generator = torch.Generator().manual_seed(0)
        tables = torch.randn(2, PERIOD, vocab, vocab, generator=generator, dtype=torch.float64)
        self.table, self.delay, self.calls = 3 * (tables[0] + error * tables[1]), delay, 0

    def __call__(self, tokens: Tensor, positions: Tensor, visible: Tensor, cache: object) -> Tensor:
        self.calls += 1
        low, high = self.delay if isinstance(self.delay, tuple) else (0.0, self.delay)
        if high:
            time.sleep(random.SystemRandom().uniform(low, high))
        return self.table[positions % PERIOD, tokens]


class Faulty(Table):
    """A draft that ends badly in its evaluation of this number."""

    def __init__(self, fault: str, at: int):
        super().__init__(0.3)
        self.fault, self.at = fault, at

    def __call__(self, tokens: Tensor, positions: Tensor, visible: Tensor, cache: object) -> Tensor:
        if self.calls + 1 == self.at:
            if self.fault == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.fault == "hangs":
                time.sleep(3600)
            if self.fault == "raises":
                raise RuntimeError("on purpose")
        return super().__call__(tokens, positions, visible, cache)

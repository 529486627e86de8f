"""Memory: hands back to the system what the C library's allocator holds free.

Batches of many sizes leave gaps in glibc's heap: a server's memory rises by half a megabyte a batch at first, nearly
none of which is in use. Where the C library is another one, nothing is done.
"""

import ctypes
import time
from collections.abc import Callable
from functools import cache

EVERY_SECONDS = 20.0
"""How long a server that works keeps what is free; handing it back takes some milliseconds."""


class Trimmer:
    """Called after each batch, hands memory back every ``EVERY_SECONDS``; ``trim`` is what does so."""

    def __init__(self, trim: Callable[[], None] | None = None):
        self._trim = trim or _malloc_trim
        self._last = time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self._last >= EVERY_SECONDS:
            self._trim()
            self._last = time.monotonic()


def _malloc_trim() -> None:
    if (trim := _found()) is not None:
        trim(0)


@cache
def _found() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return None

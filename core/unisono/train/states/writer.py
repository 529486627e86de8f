"""Writer: one state is written at a time, before training goes on or beside it."""

import threading
from collections.abc import Callable


class Writer:
    """Runs one write at a time; what went wrong is raised by ``wait``, once."""

    def __init__(self):
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    @property
    def failed(self) -> bool:
        """Whether a write has ended badly, and nobody has been told yet."""
        return self._error is not None

    @property
    def busy(self) -> bool:
        """Whether a write is going on."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, write: Callable[[], None], beside: bool) -> None:
        """Write, ``beside`` what the caller does next; a write that goes on is waited for."""
        self.join()
        if not beside:
            self._run(write)
            return
        # no daemon: an interpreter that ends lets it finish
        self._thread = threading.Thread(target=self._run, args=(write,), name="unisono-state")
        self._thread.start()

    def join(self) -> None:
        """Wait for the write that goes on, if one does."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def wait(self) -> BaseException | None:
        """Wait for the write that goes on, and return what was wrong with it, once."""
        self.join()
        error, self._error = self._error, None
        return error

    def _run(self, write: Callable[[], None]) -> None:
        try:
            write()
        except BaseException as error:
            self._error = error

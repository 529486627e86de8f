"""Spool: shards that are fetched or unpacked, kept on disk up to a bound; the ones used longest ago go first.

A shard is written aside and renamed, so that several processes of a machine may share one spool: two that want the same
shard at once make the same file. A file that another process has open stays readable to it when it goes.
"""

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from unisono.data.folder import cache_root, written_aside
from unisono.data.stream.parts import Shard
from unisono.errors import DataError


class Spool:
    """Files of shards by source and stamp.

    Args:
        source: names the source, with all that its files depend on.
        gigabytes: most that all spools of this cache hold together; one shard may be larger.
    """

    def __init__(self, source: str, gigabytes: float):
        if not gigabytes > 0:
            raise DataError(
                f"data.stream.spool_gb={gigabytes} must be above 0",
                code="range",
                path="data.stream.spool_gb",
                value=gigabytes,
            )
        self.source = source
        self.most = gigabytes * 1e9

    @property
    def root(self) -> Path:
        """The folder of all spools."""
        return cache_root() / "spool"

    def get(self, shard: Shard, make: Callable[[Path], None]) -> Path:
        """Return a shard's file, made by ``make`` where it is not there; raises ``CacheError`` where it cannot be."""
        name = hashlib.blake2b(repr((self.source, shard.id, shard.stamp)).encode(), digest_size=20).hexdigest()
        path = self.root / f"{name}.tar"
        with contextlib.suppress(OSError):
            os.utime(path)  # used just now
            return path
        with written_aside(path) as aside:
            make(aside)
        self._make_room(path)
        return path

    def _make_room(self, newest: Path) -> None:
        files = []
        for path in self.root.glob("*.tar"):
            with contextlib.suppress(OSError):  # another process was faster
                found = path.stat()
                files.append((found.st_mtime, found.st_size, path))
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= self.most:
                break
            if path != newest:
                path.unlink(missing_ok=True)
                total -= size

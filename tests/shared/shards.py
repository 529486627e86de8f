"""Shards: tar files in WebDataset's layout, written for tests."""

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path


def write_shard(path: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    """Write members in their order."""
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path

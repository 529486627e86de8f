"""Fixtures of the motion tests."""

from pathlib import Path

import pytest

@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> Path:
    """A figure of 2.5 to 3 seconds as a BVH file. Read-only."""
    from unisono_motion.figures import make_figure

    motion = next(m for m in map(make_figure, range(100)) if 2.5 <= m.seconds <= 2.9)
    return motion.save(tmp_path_factory.mktemp("clips") / "figure.bvh")

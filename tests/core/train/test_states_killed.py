"""Kills: a training that is killed at random moments, while it writes a state too, ends as one that was not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "shared" / "killing.py"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are forks")
@pytest.mark.parametrize(
    ("kills", "processes", "most"),
    [
        (4, 1, 0.0),
        pytest.param(50, 1, 0.0, marks=pytest.mark.slow),
        pytest.param(50, 2, 1e-6, marks=pytest.mark.slow),
    ],
)
def test_a_killed_training_loses_no_state(tmp_path, kills, processes, most):
    """To the bit on one process; on two, where sums are taken in another order, to 1e-6."""
    command = [sys.executable, SCRIPT, tmp_path, f"--kills={kills}", f"--processes={processes}"]
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environ)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["in time"] + told["in writing"] == kills and told["in writing"] >= kills // 2, told
    assert told["states lost"] == 0 and told["largest difference"] <= most, told

"""Start-up: what only looks at files loads neither Lightning nor what that brings."""

import subprocess
import sys

SLOW = ("lightning", "torchmetrics", "transformers", "matplotlib.pyplot", "torch._dynamo", "scipy")


def test_curves_and_exports_load_no_lightning():
    """And names that are Lightning's come by their first use."""
    code = f"""
import sys
import unisono.cli.curves, unisono.cli.export
from unisono.export import find_training_state, newest_run
from unisono.train.curves import read_curves, select_curves
from unisono.data import Audit, hold_out
import unisono.train
loaded = [name for name in {SLOW!r} if name in sys.modules]
assert not loaded, loaded
assert sorted(unisono.train.__all__) == ["RunResult", "train"]
from unisono.data import DataModule
from unisono.train import train
assert "lightning" in sys.modules and DataModule.__module__ == "unisono.data.module" and callable(train)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

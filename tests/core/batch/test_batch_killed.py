"""Killed batches: at any line of the package and at any moment, and started again."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

KILLING = Path(__file__).parents[2] / "shared" / "batch_killing.py"


def killed(folder: Path, kills: int, workers: int, timeout: float, *more: str) -> dict[str, int]:
    command = [sys.executable, str(KILLING), str(folder), f"--kills={kills}", f"--workers={workers}", *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_a_batch_that_is_killed_ends_as_one_that_was_not(tmp_path):
    told = killed(tmp_path, 10, 1, 280)
    assert told["kills"] == 10 and told["with shards"] > 2 and told["changed lines"] > 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("kills", "workers"), [(50, 1), (10, 2)])
def test_fifty_kills(tmp_path, kills, workers):
    told = killed(tmp_path, kills, workers, 3500)
    assert told["kills"] == kills and told["with shards"] > kills // 4


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_thirty_kills_of_a_corpus_in_shards(tmp_path):
    told = killed(tmp_path, 30, 1, 3500, "--stored")
    assert told["kills"] == 30 and told["with shards"] > 8

"""Memory of a batch: it does not grow with the input."""

import subprocess
import sys

import pytest

CODE = """
import resource, sys
from pathlib import Path
from unisono.batch import Options, index, run_batch
from toy import open_toy
rows, folder = int(sys.argv[1]), Path(sys.argv[2])
index.CACHE_KIB = 1024
with (folder / "lines.txt").open("w") as file:
    file.writelines(f"Row {n} of many.\\n" for n in range(rows))
for _ in range(2):  # the second start finds all of them made
    done = run_batch(open_toy, str(folder / "lines.txt"), folder / "out", Options(shard_size=500))
assert done.kept == rows
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_memory_does_not_grow_with_the_input(tmp_path):
    peaks = []
    for rows in (6_000, 18_000):
        (tmp_path / str(rows)).mkdir()
        command = [sys.executable, "-c", CODE, str(rows), str(tmp_path / str(rows))]
        done = subprocess.run(command, capture_output=True, text=True, timeout=1000)
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout))
    # 12,000 rows more: their keys and entries, held in memory, would be 7 MiB
    assert peaks[1] - peaks[0] < 4096, peaks

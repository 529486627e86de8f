"""Ray: the same bytes as in one process, where Ray is installed."""

import os
import sys

import pytest
from refused import refused
from toy import open_toy
from unisono.batch import Options, run_batch
from unisono.batch.on_ray import TELEMETRY
from unisono.errors import UnisonoError


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_ray_makes_the_same_bytes(tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # where Ray puts a token
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(os.path.abspath, sys.path)))
    (tmp_path / "lines.txt").write_text("".join(f"Row {n}.\n" for n in range(12)) + "bad one\nRow 3.\n")
    options = {"shard_size": 4, "batch_size": 3}
    one = run_batch(open_toy, "lines.txt", "one", Options(**options))
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)  # as many actors as processors do not starve it
    try:
        two = run_batch(open_toy, "lines.txt", "two", Options(**options, workers=2, engine="ray"))
        assert os.environ[TELEMETRY] == "0"
        again = run_batch(open_toy, "lines.txt", "two", Options(**options, workers=2, engine="ray"))
        with refused(UnisonoError, "value", names="no model here"):
            run_batch(_Once(tmp_path / "opened"), "lines.txt", "three", Options(**options, engine="ray"))
    finally:
        ray.shutdown()
    assert (one.made, one.failed, one.repeated) == (two.made, two.failed, two.repeated) == (12, 1, 1)
    assert (again.made, again.kept) == (0, 12)

    def content(name):
        return {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in (tmp_path / name).rglob("*")
            if path.is_file() and path.name != ".lock"
        }

    assert content("one") == content("two")


class _Once:
    """Opens the model here, and refuses to in an actor."""

    def __init__(self, mark):
        self.mark = mark

    def __call__(self):
        if self.mark.exists():
            raise UnisonoError("no model here", code="value")
        self.mark.touch()
        return open_toy()

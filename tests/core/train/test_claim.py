"""Claims: no two runs have one folder, at the same time or one after the other."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from run_commands import arguments, start, stop, wait_for_steps
from unisono.errors import CheckpointError
from unisono.export import find_training_state
from unisono.export.write import _aside
from unisono.recipe import Recipe
from unisono.train import train
from unisono.train.claim import claim_new, current_job, find_job


def test_runs_that_begin_together_have_folders_of_their_own(tmp_path):
    with ThreadPoolExecutor(16) as threads:
        claims = list(threads.map(lambda _: claim_new(tmp_path / "runs" / "x"), range(64)))
    assert sorted(claim.folder.name for claim in claims) == [f"{n:04d}" for n in range(1, 65)]


def test_claims_and_releases_side_by_side_lose_nothing(tmp_path):
    """A refused run removes its folder, and those above, while others begin."""

    def work(keep: bool):
        for _ in range(30):
            claim = claim_new(tmp_path / "runs" / "x")
            if not keep:
                claim.release()
        return claim.folder

    with ThreadPoolExecutor(8) as threads:
        kept = list(threads.map(work, [True, False] * 4))
    numbers = [path.name for path in (tmp_path / "runs" / "x").iterdir()]
    assert len(numbers) == 4 * 30 and all(folder.is_dir() for folder in kept[::2])


def test_what_was_there_before_stays(tmp_path):
    (tmp_path / "runs").mkdir()
    claim_new(tmp_path / "runs" / "x").release()
    assert not list((tmp_path / "runs").iterdir())


def wait_for_state(folder: Path, seconds: float = 120) -> None:
    """A step is told before its state is written."""
    end = time.monotonic() + seconds
    while True:
        try:
            find_training_state(folder)
            return
        except CheckpointError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def test_two_trainings_started_together(tmp_path):
    """And a run that goes on cannot be resumed beside itself; when it is killed, it can."""
    processes = [start(arguments(tmp_path, "--run.checkpoint.every=1")) for _ in range(2)]
    for process in processes:
        wait_for_steps(process)
    folders = sorted((tmp_path / "codec-vocos-tiny").iterdir())
    assert [folder.name for folder in folders] == ["0001", "0002"]
    assert all((folder / "recipe.yaml").is_file() for folder in folders)
    mine = Recipe.read("codec/vocos-tiny", [f"--run.dir={tmp_path}", "--run.preview_seconds=0"])
    wait_for_state(folders[0])
    with pytest.raises(CheckpointError, match="another process trains in"):
        train(mine, resume=folders[0], progress=False)
    for process in processes:
        assert stop(process, 9)[0] == -9
    with pytest.raises(CheckpointError, match=r"model\.name"):  # the folder is free; this run is another
        other = Recipe.read("codec/vocos-gan-tiny", [f"--run.dir={tmp_path}"])
        train(other, resume=folders[0], progress=False)


def test_a_job_is_known_by_its_number_and_recipe(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    job, again = current_job({"seed": 1})
    assert job is not None and not again
    first, _ = claim_new(tmp_path, job), claim_new(tmp_path, {**job, "recipe": {"seed": 2}})
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert current_job({"seed": 1}) == (job, True)
    assert find_job(tmp_path, job) == first.folder
    assert find_job(tmp_path, {**job, "job": "slurm 13"}) is None
    (tmp_path / "0009").mkdir()
    (tmp_path / "0009" / "job.json").write_text("[" * 10**5)
    assert find_job(tmp_path, job) == first.folder
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "11")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    task, _ = current_job({})
    assert task is not None and json.dumps(task["job"]) == '"slurm 11_3"'


def test_names_beside_an_export_are_of_one_writer(tmp_path):
    """Two threads of one process, or two machines whose processes have one number, write the same export."""
    assert _aside(tmp_path / "voice", "part") != _aside(tmp_path / "voice", "part")

"""Signals: the state is saved, said, and the exit code is what schedulers read."""

import os
import signal
import socket
import time

import pytest
import torch
from run_commands import arguments, start, stop, wait_for_steps

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")


def state(folder):
    return torch.load(folder / "codec-vocos-tiny/0001/checkpoints/last.ckpt", weights_only=True)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_a_stopped_run_saves_its_state_and_says_so(tmp_path, number, code):
    process = start(arguments(tmp_path))
    wait_for_steps(process)
    returned, said, seconds = stop(process, number)
    assert returned == code, said
    assert "last.ckpt" in said and "--resume" in said and "Traceback" not in said
    assert state(tmp_path)["global_step"] >= 1
    assert seconds < 30


@pytest.mark.slow
def test_a_validation_is_not_waited_for(tmp_path):
    given = ("--trainer.val_check_interval=2", "--data.num_items=40", "--data.val_size=16")
    process = start(arguments(tmp_path, *given), {"VALIDATION_STEP": "5"})
    assert process.stderr is not None
    assert any("validating" in line for line in process.stderr)
    returned, said, seconds = stop(process, signal.SIGTERM)
    assert returned == 143 and seconds < 15, said  # of four batches
    assert state(tmp_path)["global_step"] == 3


def test_a_validation_of_several_processes_is_not_waited_for(tmp_path):
    """One of them is told; both end the validation at the same batch, and the next step saves."""
    given = ("--trainer.val_check_interval=2", "--data.num_items=40", "--data.val_size=16")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    ranks = [
        start(arguments(tmp_path, *given), {**common, "RANK": rank, "LOCAL_RANK": rank, "VALIDATION_STEP": "3"})
        for rank in "01"
    ]
    assert ranks[1].stderr is not None
    assert any("validating" in line for line in ranks[1].stderr)
    returned, said, _ = stop(ranks[1], signal.SIGTERM)
    told = ranks[0].communicate(timeout=120)
    assert returned == ranks[0].returncode == 143, said + "".join(told)
    assert told[1].count("validating") < 4  # batches
    assert state(tmp_path)["global_step"] == 3


@pytest.mark.slow
def test_a_second_ctrl_c_stops_at_once(tmp_path):
    process = start(arguments(tmp_path), {"STEP": "40"})
    wait_for_steps(process)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    time.sleep(0.6)
    assert process.poll() is None
    returned, said, seconds = stop(process, signal.SIGINT)
    assert returned == 130 and seconds < 5, said
    assert "at once" in said


def test_a_step_that_takes_too_long_is_not_waited_for(tmp_path):
    process = start(arguments(tmp_path, "--run.stop_seconds=1"), {"STEP": "40"})
    wait_for_steps(process)
    time.sleep(0.5)
    returned, said, seconds = stop(process, signal.SIGTERM)
    assert returned == 143 and 1 <= seconds < 6, said
    assert "run.stop_seconds=1" in said


def test_a_requeued_job_goes_on_in_its_own_folder(tmp_path):
    """SIGUSR1 saves, has the job requeued and ends; the same command, started again, goes on."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    (tools / "scontrol").chmod(0o755)
    job = {"SLURM_JOB_ID": "4711", "PATH": f"{tools}:{os.environ['PATH']}"}
    runs = tmp_path / "runs"
    process = start(arguments(runs), job)
    wait_for_steps(process)
    returned, said, _ = stop(process, signal.SIGUSR1)
    assert (returned, (tmp_path / "asked").read_text()) == (138, "requeue 4711\n"), said
    saved = state(runs)["global_step"]
    process = start(arguments(runs), {**job, "SLURM_RESTART_COUNT": "1"})
    wait_for_steps(process)
    returned, said, _ = stop(process, signal.SIGTERM)
    assert f"resumed at step {saved}" in said
    assert state(runs)["global_step"] > saved
    assert [path.name for path in (runs / "codec-vocos-tiny").iterdir()] == ["0001"]

"""``unisono serve``: what it refuses before it begins, and a process that is ended by a signal."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from refused import refused
from serving import SOON
from unisono.cli import main
from unisono.cli.serve import KEY, read_key, served_as
from unisono.errors import RequestError, UnisonoError
from unisono.serve.running import bound

LONG = 120.0
"""Seconds in which a process has loaded torch and a model, however many others do."""


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["nowhere/at-all"], "nowhere/at-all"),
        (["x", "--host", "0.0.0.0"], "--key-file"),
        (["x", "--host", "0.0.0.0", "--key-file", "no-such-file"], "no-such-file"),
        (["a/x", "b/x"], "x-2=b/x"),
        (["x", "--workers", "0"], "--workers 0"),
        (["x", "--batch-size", "0"], "--batch-size 0"),
        (["x", "--max-requests", "0"], "requests=0"),
        (["x", "--timeout", "nan"], "seconds=nan"),
        (["x", "--host", "no.such.host.invalid", "--key-file", "KEY"], "no.such.host.invalid"),
    ],
)
def test_what_cannot_be_served_is_one_sentence(arguments, names, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "KEY").write_text("sixteen-letters-and-more\n")
    assert main(["serve", *arguments, "--port", "0"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("unisono: ") and names in told and told.count("\n") == 1


def test_names_and_keys(tmp_path, monkeypatch):
    assert served_as(["checkpoints/tts-en", "hum=org/name@v1", "org/other@v2"]) == {
        "tts-en": "checkpoints/tts-en",
        "hum": "org/name@v1",
        "other": "org/other@v2",
    }
    monkeypatch.delenv(KEY, raising=False)
    assert read_key(None) is None
    monkeypatch.setenv(KEY, "from-the-environment")
    assert read_key(None) == "from-the-environment"
    path = tmp_path / "key"
    path.write_text("  a-key-that-is-long\n")
    assert read_key(str(path)) == "a-key-that-is-long"
    for bad in ("short", "with a space in it", "größer-als-sechzehn", ""):
        path.write_text(bad)
        with refused(RequestError, "value", path):
            read_key(str(path))


def test_a_port_is_one_servers_alone():
    with bound("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with refused(UnisonoError, "exists", "port", value=port, names=str(port)):
            bound("127.0.0.1", port)
    for port in (-1, 70_000):
        with refused(UnisonoError, "range", "port", value=port):
            bound("127.0.0.1", port)


def started(*arguments: str) -> tuple["subprocess.Popen[str]", str]:
    """Start a server and return it with its address, when it listens."""
    command = [sys.executable, "-m", "unisono", "serve", *arguments, "--port", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert " at http://" in line, line + (process.communicate()[1] if process.poll() is not None else "")
    return process, line.split(" at ")[1].strip()


def wait_until_ready(url: str) -> None:
    end = time.monotonic() + LONG
    while time.monotonic() < end:
        try:
            if httpx.get(f"{url}/ready", timeout=SOON).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError("not ready")


@pytest.mark.timeout(300)
def test_a_process_answers_what_it_took_and_ends(voice_export):
    process, url = started(f"voice={voice_export}")
    try:
        wait_until_ready(url)
        assert main(["serve", "x", "--port", url.rpartition(":")[2]]) == 2  # another one on the same port
        text = "A sentence that is spoken. " * 40
        with ThreadPoolExecutor() as pool:
            asked = [pool.submit(httpx.post, f"{url}/v1/models/voice", json={"text": text}, timeout=LONG) for _ in "12"]
            while 'unisono_open_requests{model="voice"} 2.0' not in httpx.get(f"{url}/metrics", timeout=SOON).text:
                assert not any(answer.done() for answer in asked)
                time.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            assert [answer.result().status_code for answer in asked] == [200, 200]
        output, log = process.communicate(timeout=LONG)
        assert process.returncode == 0, log
        assert "sentence" not in output + log and "POST /v1/models/voice 200" in log
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_workers_share_a_port_and_are_started_again(voice_export):
    process, url = started(f"voice={voice_export}", "--workers", "2")
    try:
        wait_until_ready(url)
        children = [
            int(line)
            for line in subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
        ]
        assert len(children) == 2
        time.sleep(12)  # one that fell at once would be a server that cannot start
        os.kill(children[0], signal.SIGKILL)
        end = time.monotonic() + LONG
        while time.monotonic() < end:
            now = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
            if len(now) == 2 and str(children[0]) not in now:
                break
            time.sleep(0.2)
        wait_until_ready(url)
        assert httpx.post(f"{url}/v1/models/voice", json={"text": "Hi."}, timeout=LONG).status_code == 200
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=LONG)
        assert process.returncode == 0
        assert all(not os.path.exists(f"/proc/{number}") for number in map(int, now))
    finally:
        process.kill()
        process.communicate()

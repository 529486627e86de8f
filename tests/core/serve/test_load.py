"""Load: a hundred clients for ten minutes; and Ray Serve with the application of the docs."""

import http.client
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
import unisono

SECONDS = float(os.environ.get("UNISONO_LOAD_SECONDS", "600"))
CLIENTS = 100
TEXTS = [f"Sentence number {number}. {'It goes on. ' * (number % 4)}" for number in range(10)]


def resident(pid: int) -> float:
    """Memory of a process that is in use, in MiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hundred_clients_for_ten_minutes(voice_export):
    synthesizer = unisono.load(voice_export)
    expected = [synthesizer(text).encoded(".wav") for text in TEXTS]
    streamed: dict[int, bytes] = {}
    command = [sys.executable, "-m", "unisono", "serve", f"voice={voice_export}", "--port", "0", "--quiet"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline().rpartition(":")[2])
        end = time.monotonic() + SECONDS
        statuses: dict[int, int] = {}
        wrong: list[str] = []
        lock = threading.Lock()

        def client(number: int) -> None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
            turn = number
            while time.monotonic() < end:
                turn += 1
                which = turn % len(TEXTS)
                events = turn % 7 == 0
                path = "/v1/models/voice/stream" if events else "/v1/models/voice"
                body = json.dumps({"text": TEXTS[which]})
                connection.request("POST", path, body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                content = answer.read()
                with lock:
                    statuses[answer.status] = statuses.get(answer.status, 0) + 1
                    if answer.status == 200:
                        right = streamed.setdefault(which, content) if events else expected[which]
                        if content != right:
                            wrong.append(path)
                    elif answer.status == 429:
                        assert int(answer.headers["Retry-After"]) >= 1
                if answer.status == 429:
                    time.sleep(0.2)
            connection.close()

        threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        times, sizes = [], []
        while time.monotonic() < end:
            time.sleep(min(5.0, SECONDS / 40))
            times.append(time.monotonic() / 60)
            sizes.append(resident(server.pid))
        for thread in threads:
            thread.join(600)
        assert set(statuses) <= {200, 429} and statuses[200] > 100 and statuses.get(429), statuses
        assert not wrong
        half = len(times) // 2  # pools and caches have filled by then
        slope = np.polyfit(times[half:], sizes[half:], 1)[0]
        print(f"{statuses}, {sizes[0]:.0f} → {sizes[-1]:.0f} MiB, {slope:.2f} MiB a minute")
        if SECONDS >= 300:
            assert slope < 1.0
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as http_client:
            assert 'unisono_open_requests{model="voice"} 0.0' in http_client.get("/metrics").text
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
    finally:
        server.kill()
        server.communicate()


def has_ray_serve() -> bool:
    """Ray alone has no HTTP proxy: ``ray[serve]`` brings what that needs."""
    return all(importlib.util.find_spec(name) for name in ("ray", "aiohttp", "opencensus", "watchfiles"))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not has_ray_serve(), reason='pip install "ray[serve]"')
def test_ray_serve_runs_the_application_of_the_docs(voice_export, tmp_path):
    script = tmp_path / "serve_it.py"
    script.write_text(
        "import sys, time, ray\n"
        "from ray import serve\n"
        "ray.init(num_cpus=2, include_dashboard=False, logging_level='ERROR')\n"
        "serve.start(http_options={'host': '127.0.0.1', 'port': int(sys.argv[1])})\n"
        "from ray_application import application\n"
        "serve.run(application)\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)\n"
    )
    environment = {
        **os.environ,
        "UNISONO_MODELS": str(voice_export),
        "UNISONO_REPLICAS": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
    }
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    going = subprocess.Popen(
        [sys.executable, str(script), str(port)], stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert going.stdout is not None
        assert any(line.startswith("ready") for line in going.stdout)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
            name = voice_export.name
            answer = client.post(f"/v1/models/{name}", json={"text": "Hello."})
            assert answer.content == unisono.load(voice_export)("Hello.").encoded(".wav")
            assert client.post(f"/v1/models/{name}", json={"txt": "Hello."}).status_code == 422
            assert "event: done" in client.post(f"/v1/models/{name}/stream", json={"text": "Hello."}).text
    finally:
        going.terminate()
        going.communicate(timeout=60)

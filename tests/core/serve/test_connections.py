"""Connections that ask for nothing, ask slowly, or ask for what is no HTTP."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest
from serving import SOON, Echo, error_of, running, until
from unisono.serve import Limits, connections
from unisono.serve.connections import MOST_REFUSED, SPARE


def opened(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=SOON)


def closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def test_a_head_that_does_not_come_is_not_waited_for():
    with running({"echo": Echo()}, Limits(head_seconds=0.3, seconds=SOON)) as server, contextlib.ExitStack() as stack:
        silent, slow = (stack.enter_context(opened(server.port)) for _ in range(2))
        begun = time.monotonic()
        while not closed(slow):  # a letter at a time, for ever
            with contextlib.suppress(OSError):
                slow.send(b"G")
            time.sleep(0.02)
            assert time.monotonic() - begun < SOON
        until(lambda: closed(silent))
        assert server.post(text="a").text == "A"


def test_a_slow_second_request_is_not_waited_for_either():
    with running({"echo": Echo()}, Limits(head_seconds=0.3, seconds=SOON)) as server, opened(server.port) as slow:
        slow.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert slow.recv(4000).startswith(b"HTTP/1.1 200")
        slow.sendall(b"GET /hea")
        until(lambda: closed(slow))


def test_what_works_longer_than_a_head_may_take_is_left_alone():
    with running({"echo": Echo()}, Limits(head_seconds=0.2, seconds=SOON)) as server:
        server.model.gate.clear()
        with opened(server.port) as client:
            body = b'{"text": "a"}'
            head = "POST /v1/models/echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            time.sleep(0.6)
            server.model.gate.set()
            assert client.recv(4000).startswith(b"HTTP/1.1 200")


def test_connections_that_are_opened_and_left_keep_nobody_out():
    limits = Limits(connections=20, head_seconds=SOON, seconds=SOON)
    with running({"echo": Echo()}, limits) as server, contextlib.ExitStack() as stack:
        many = [stack.enter_context(opened(server.port)) for _ in range(200)]
        for _ in range(3):
            assert server.post(text="a").text == "A"
        until(lambda: sum(map(closed, many)) >= 180)


def test_whose_request_has_come_is_not_closed_for_others():
    """All of them come at once: the request was sent before the others came, and is read after they were accepted."""
    limits = Limits(connections=20, head_seconds=SOON, seconds=SOON)
    with running({"echo": Echo()}, limits) as server, contextlib.ExitStack() as stack:
        resting = stack.enter_context(opened(server.port))  # it is answered, and then asks for nothing
        resting.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert resting.recv(4000).startswith(b"HTTP/1.1 200")
        held = threading.Event()
        server.loop.call_soon_threadsafe(held.wait, SOON)
        client = stack.enter_context(opened(server.port))
        client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        many = [stack.enter_context(opened(server.port)) for _ in range(60)]
        held.set()
        assert client.recv(4000).startswith(b"HTTP/1.1 200")
        until(lambda: sum(map(closed, many)) >= 40)
        assert not closed(resting)  # those that never asked are closed first


def test_where_all_are_served_one_more_is_not():
    with running({"echo": Echo()}, Limits(connections=2, seconds=SOON)) as server:
        server.model.gate.clear()
        server.http.close()
        with contextlib.ExitStack() as stack:
            for _ in range(2):
                client = stack.enter_context(opened(server.port))
                head = b"POST /v1/models/echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                client.sendall(head + b"Content-Length: 13\r\n\r\n" + b'{"text": "a"}')
            until(lambda: server.batcher.requests == 2)
            answer = httpx.get(f"http://127.0.0.1:{server.port}/health", timeout=SOON)
            assert answer.status_code == 503 and int(answer.headers["retry-after"]) == 1
            assert error_of(answer)["code"] == "limit"
            silent, talker = (stack.enter_context(opened(server.port)) for _ in range(2))
            talker.sendall(head + b"Content-Length: 19\r\n\r\n" + b'{"text": "refused"}')
            for more in (silent, talker):
                assert all_of(more).startswith(b"HTTP/1.1 503") and not all_of(more)
            assert server.batcher.requests == 2
            server.model.gate.set()
            until(lambda: server.batcher.requests == 0)
            assert "refused" not in {text for texts in server.model.calls for text in texts}


def all_of(connection: socket.socket) -> bytes:
    parts = []
    while part := connection.recv(4000):
        parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize(("seconds", "kept"), [(1000.0, MOST_REFUSED), (0.5, 0)])
def test_those_who_are_refused_are_few_and_not_for_long(monkeypatch, seconds, kept):
    monkeypatch.setattr(connections, "REFUSED_SECONDS", seconds)
    with running({"echo": Echo()}, Limits(connections=1, seconds=SOON)) as server, contextlib.ExitStack() as stack:
        server.model.gate.clear()
        server.http.close()
        client = stack.enter_context(opened(server.port))
        head = b"POST /v1/models/echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        client.sendall(head + b"Content-Length: 13\r\n\r\n" + b'{"text": "a"}')
        until(lambda: server.batcher.requests == 1)
        before = descriptors(os.getpid())
        ours = 3 * MOST_REFUSED
        many = [stack.enter_context(opened(server.port)) for _ in range(ours)]  # none of them goes
        assert many[-1].recv(12) == b"HTTP/1.1 503"  # all of them have been accepted
        until(lambda: descriptors(os.getpid()) - before - ours == kept)
        server.model.gate.set()
        assert client.recv(4000).startswith(b"HTTP/1.1 200")


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_a_server_takes_the_descriptors_that_it_needs_or_says_that_it_may_not():
    script = (
        "import resource, sys\n"
        "from unisono.serve.connections import room_for\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (300, 1000))\n"
        "room_for(44); print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])\n"
        "room_for(700); print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])\n"
        "try: room_for(745)\n"
        "except Exception as error: print(error.code, error.path, error.value, '744' in str(error))\n"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert told.stdout.splitlines() == ["300", "956", "limit connections 745 True"]


def test_what_is_no_http_is_answered_so():
    with running({"echo": Echo()}) as server:
        for junk in (bytes(range(256)) * 4, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"GET\r\n\r\n"):
            with opened(server.port) as client:
                client.sendall(junk)
                assert client.recv(4000).startswith(b"HTTP/1.1 400"), junk[:10]
        with opened(server.port) as client:
            with contextlib.suppress(OSError):
                client.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * 2**20)
            with contextlib.suppress(ConnectionError):
                assert client.recv(4000).startswith(b"HTTP/1.1 4")
        assert server.post(text="a").text == "A"


MANY = 10_000
LONG = 100.0
"""Seconds that anything may take beside other work; no measure of speed."""
SERVER = """
import sys
from serving import Echo
from unisono import Synthesizer
from unisono.serve import Limits, app, run
from unisono.serve.running import bound

limits = Limits(connections=int(sys.argv[1]), head_seconds=float(sys.argv[2]))
listening = bound("127.0.0.1", 0)
made = app({"echo": Synthesizer(Echo())}, limits=limits)
run(made, [listening], lambda: print(listening.getsockname()[1], flush=True))
"""
CLIENTS = """
import resource, socket, sys
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
opened = [socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=100) for _ in range(int(sys.argv[2]))]
print("open", flush=True)
sys.stdin.readline()
"""


def may_open(number: int) -> bool:
    """Whether a process may have so many descriptors."""
    try:
        import resource
    except ModuleNotFoundError:
        return False
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return hard == resource.RLIM_INFINITY or hard >= number


@contextlib.contextmanager
def process(script: str, *arguments: object):
    """A Python process with pipes; it is killed at the end."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    going = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield going
    finally:
        going.kill()
        going.communicate()


def resident(pid: int) -> float:
    """Memory of a process that is in use, in MiB."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="descriptors are counted in /proc")
@pytest.mark.skipif(not may_open(MANY + 500), reason=f"the hard limit of open files is below {MANY + 500}: ulimit -Hn")
@pytest.mark.parametrize("limit", [512, MANY + 100])
@pytest.mark.parametrize("leave", ["close", "stay"])
def test_ten_thousand_connections_that_ask_for_nothing(limit, leave):
    """They are closed or held, as the limit has it, and meanwhile, and afterwards, others are served."""
    seconds = 300 if leave == "close" else 60
    with process(SERVER, limit, seconds) as server:
        port, pid = int(server.stdout.readline()), server.pid
        url = f"http://127.0.0.1:{port}"

        def ask() -> float:
            begun = time.monotonic()
            assert httpx.get(f"{url}/health", timeout=LONG).status_code == 200
            assert httpx.post(f"{url}/v1/models/echo", json={"text": "a"}, timeout=LONG).text == "A"
            return time.monotonic() - begun

        ask()
        before, memory = descriptors(pid), resident(pid)
        with process(CLIENTS, port, MANY) as clients, contextlib.ExitStack() as stack:
            slowest, most = 0.0, 0
            kept = stack.enter_context(httpx.Client(base_url=url, timeout=LONG))
            kept.get("/health")
            while not select.select([clients.stdout], [], [], 0)[0]:  # while they are being opened
                slowest, most = max(slowest, ask()), max(most, descriptors(pid) - before)
                assert kept.get("/health").status_code == 200
            # A turn of the loop accepts some, and a later one closes as many: there are descriptors for all of them.
            assert most < limit + SPARE
            held = descriptors(pid) - before
            grown = resident(pid) - memory
            slowest = max(slowest, ask())
            print(f"{limit}: {held} held, {grown:.0f} MiB more, slowest answers {slowest:.2f} s")
            assert limit - 4 <= held <= limit + 2 if limit < MANY else held >= MANY
            assert grown < 0.03 * held + 30  # 30 KiB for each
            if leave == "stay":
                wait = time.monotonic() + seconds + LONG
                while descriptors(pid) - before > 2:
                    assert time.monotonic() < wait, descriptors(pid)
                    time.sleep(0.2)
                ask()
        wait = time.monotonic() + LONG
        while descriptors(pid) > before:
            assert time.monotonic() < wait, descriptors(pid) - before
            time.sleep(0.1)
        ask()
        server.send_signal(signal.SIGTERM)
        assert server.wait(LONG) == 0

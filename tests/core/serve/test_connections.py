"""Connections that ask for nothing, ask slowly, or ask for what is no HTTP."""

import contextlib
import socket
import time

from serving import SOON, Echo, running, until
from unisono.serve import Limits


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
            more = stack.enter_context(opened(server.port))
            until(lambda: closed(more))
            server.model.gate.set()
            until(lambda: server.batcher.requests == 0)


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

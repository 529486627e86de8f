"""Limits of a server: requests, characters, bodies, outputs, time; clients that leave; keys, hosts, content types."""

import asyncio
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from serving import SOON, Echo, Running, Words, error_of, running, until
from starlette.requests import Request
from unisono import Text
from unisono.serve import Client, Limits, Refused
from unisono.stopping import may_stop

KEY = "a-key-of-twenty-letters"


def together(server: Running, number: int, **fields) -> list[httpx.Response]:
    """Send so many requests at a time while the model stands still, and let it go when all have arrived or failed."""
    held = Limits().requests if server.batcher.limits is None else server.batcher.limits.requests
    server.model.gate.clear()
    with ThreadPoolExecutor(number) as pool:
        answers = [
            pool.submit(lambda: httpx.post(f"{server.url}/v1/models/echo", json=fields, timeout=SOON))
            for _ in range(number)
        ]
        refused = number - held
        until(lambda: server.batcher.requests == min(held, number) and sum(a.done() for a in answers) >= refused)
        server.model.gate.set()
        return [answer.result() for answer in answers]


def test_exactly_as_many_as_the_limit_are_taken():
    with running({"echo": Echo()}, Limits(requests=5, seconds=SOON)) as server:
        answers = together(server, 12, text="a")
        assert sorted(answer.status_code for answer in answers) == [200] * 5 + [429] * 7
        busy = next(answer for answer in answers if answer.status_code == 429)
        assert error_of(busy)["type"] == "rate_limit_error" and 1 <= int(busy.headers["retry-after"]) <= 60
        assert all(answer.text == "A" for answer in answers if answer.status_code == 200)
        assert (server.batcher.requests, server.batcher.characters) == (0, 0)
        assert server.post(text="again").status_code == 200


def test_queued_characters_are_bounded_too():
    with running({"echo": Echo()}, Limits(characters=100, request_characters=80, seconds=SOON)) as server:
        answers = together_characters(server, "x" * 45)
        assert sorted(answers) == [200, 200, 429]
        for size, status in ((80 - 2, 200), (81, 413)):  # beside the text, "no" of another field counts
            assert server.post(text="x" * size).status_code == status, size


def together_characters(server: Running, text: str) -> list[int]:
    server.model.gate.clear()
    with ThreadPoolExecutor(3) as pool:
        sent = [pool.submit(server.post, text=text) for _ in range(3)]
        until(lambda: server.batcher.requests == 2 and any(answer.done() for answer in sent))
        server.model.gate.set()
        return [answer.result().status_code for answer in sent]


def test_a_megabyte_of_text_is_too_much():
    with running({"echo": Echo()}, Limits(seconds=SOON)) as server:
        answer = server.post(text="a" * 2**20)
        assert answer.status_code == 413 and "50000" in error_of(answer)["message"]
        assert server.model.calls == []


def test_bodies_are_bounded_before_they_are_read():
    with running({"echo": Echo()}, Limits(body=1000, seconds=SOON)) as server:
        assert server.post(text="a" * 2000).status_code == 413

        def parts():
            for _ in range(50):
                yield b'{"text": "' + b"a" * 100

        head = {"Content-Type": "application/json"}
        assert server.http.post("/v1/models/echo", content=parts(), headers=head).status_code == 413


def test_a_body_in_parts_is_bounded_as_a_whole():
    part = {"type": "http.request", "body": b"x" * 400, "more_body": True}
    parts = iter([part, part, part, {"type": "http.request", "body": b"", "more_body": False}])

    async def receive():
        return next(parts)

    request = Request({"type": "http", "headers": [(b"content-type", b"application/json")]}, receive)
    with pytest.raises(Refused) as caught:
        asyncio.run(Client(request, Limits(body=1000)).fields())
    assert caught.value.status == 413 and next(parts)["body"] == b""  # and no more of it was read than told so


def test_outputs_are_bounded():
    with running({"echo": Echo(), "words": Words()}, Limits(output=600, seconds=SOON)) as server:
        assert server.post(text="a" * 500).status_code == 200
        answer = server.post(text="a" * 601)
        assert answer.status_code == 413 and "601 bytes" in error_of(answer)["message"]
        cut = server.post("words", "/stream", text="word " * 100).text
        assert cut.count("event: piece") < 5 and "event: error" in cut and '"code":"limit"' in cut


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b'{"text": "a"', 400),
        (b"", 400),
        (b"[1]", 400),
        (b'"a"', 400),
        (b'{"text": "a", "text": "b"}', 400),
        (b'{"text": "\xff\xfe"}', 400),
        (bytes(range(256)), 400),
        (b'{"text": "\\ud800"}', 400),
        (b"[" * 100_000, 400),
        (b'{"number": NaN}', 422),
        (b'{"number": Infinity}', 422),
        (b'{"number": 1e999}', 422),
        (b'{"seed": 99999999999999999999}', 422),
        (b'{"seed": ' + b"9" * 5000 + b"}", 400),
        (b'{"text": null}', 422),
        ('{"text": "a"}'.encode("utf-16"), 400),
    ],
    ids=range(16),
)
def test_bodies_that_are_no_request(echo, content, status):
    answer = echo.http.post("/v1/models/echo", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == status and len(error_of(answer)["message"]) < 600
    assert echo.model.calls == []


@pytest.fixture(scope="module")
def echo():
    with running({"echo": Echo()}, Limits(seconds=SOON)) as server:
        yield server


def test_other_kinds_of_content_are_refused(echo):
    """A page of another site may send these without being asked whether it may."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        answer = echo.http.post("/v1/models/echo", content=b'{"text": "a"}', headers={"Content-Type": kind})
        assert answer.status_code == 415, kind
    fine = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert echo.http.post("/v1/models/echo", content=b'{"seed": 1}', headers=fine).status_code == 200
    echo.model.calls.clear()


def test_a_request_that_takes_too_long_is_given_up():
    with running({"echo": Echo()}, Limits(seconds=0.3)) as server:
        server.model.gate.clear()
        answer = server.post(text="slow")
        assert answer.status_code == 504 and "0.3 s" in error_of(answer)["message"]
        until(lambda: server.batcher.requests == 0)  # it was stopped at its next step
        server.model.gate.set()
        assert server.post(text="next").text == "NEXT"


class Deaf(Echo):
    """Never calls ``on_step``: what runs cannot be stopped."""

    def synthesize(self, requests, generator=None, on_step=None):
        self.calls.append([request.text for request in requests])
        self.gate.wait(SOON)
        return [self.say(request) for request in requests]


def test_a_thread_that_cannot_be_stopped_is_told_by_ready():
    with running({"echo": Deaf()}, Limits(seconds=0.3)) as server:
        server.model.gate.clear()
        assert server.post(text="slow").status_code == 504
        until(lambda: server.http.get("/ready").status_code == 503)
        assert "time is over" in error_of(server.http.get("/ready"))["message"]
        assert 'unisono_stuck{model="echo"} 1.0' in server.http.get("/metrics").text
        assert server.http.get("/health").status_code == 200
        server.model.gate.set()
        until(lambda: server.http.get("/ready").status_code == 200)


def raw(server: Running, body: bytes, path: str = "/v1/models/echo", length: int | None = None) -> socket.socket:
    """Open a connection and send a request's head and body."""
    client = socket.create_connection(("127.0.0.1", server.port), timeout=SOON)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    client.sendall(f"{head}Content-Length: {len(body) if length is None else length}\r\n\r\n".encode() + body)
    return client


def test_work_of_clients_that_left_never_begins_and_what_runs_stops():
    with running({"echo": Echo()}, Limits(seconds=SOON), at_once=1) as server:
        server.model.gate.clear()
        clients = [raw(server, json.dumps({"text": f"gone {number}"}).encode()) for number in range(6)]
        until(lambda: server.batcher.requests == 6 and len(server.model.calls) == 1)
        for client in clients:
            client.close()
        until(lambda: server.batcher.requests == 0)
        steps = server.model.steps
        server.model.gate.set()
        assert server.post(text="here").text == "HERE"
        assert len(server.model.calls) == 2 and server.model.calls[1] == ["here"]
        assert server.model.steps <= steps + 1


def test_one_of_a_batch_may_leave():
    with running({"echo": Echo()}, Limits(seconds=SOON)) as server:
        server.model.gate.clear()
        with ThreadPoolExecutor() as pool:
            first = pool.submit(server.post, text="first")
            until(lambda: len(server.model.calls) == 1)
            stays = pool.submit(server.post, text="stays")
            leaves = raw(server, b'{"text": "leaves"}')
            until(lambda: server.batcher.requests == 3)
            leaves.close()
            until(lambda: server.batcher.requests == 2)
            server.model.gate.set()
            assert (first.result().text, stays.result().text) == ("FIRST", "STAYS")
        assert ["leaves"] not in server.model.calls


class Patient(Words):
    """Works on a word until the gate opens, and asks between two steps whether anybody waits; it tells no progress."""

    def stream(self, request, generator=None):
        for word in request.text.split():
            self.work()
            self.pieces += 1
            yield Text(word.upper() + " ")

    def synthesize(self, requests, generator=None, on_step=None):
        self.calls.append([request.text for request in requests])
        self.work()
        return [self.say(request) for request in requests]

    def work(self):
        gate = self.gate
        while not gate.wait(0.01):
            self.steps += 1
            may_stop()


@pytest.mark.parametrize(
    "path", ["/v1/models/patient/stream", "/v1/models/patient/stream?view=snapshots", "/v1/models/patient"]
)
def test_work_that_tells_no_progress_stops_at_its_next_step_too(path):
    with running({"patient": Patient()}, Limits(seconds=SOON)) as server:
        model, served = server.model, server.server.get("patient")
        model.gate.clear()
        client = raw(server, b'{"text": "one two"}', path)
        until(lambda: model.steps > 2)
        client.close()
        until(lambda: not served.worker.running and server.batcher.requests == 0)  # with the gate closed still
        steps = model.steps
        time.sleep(0.1)
        assert model.steps == steps and model.pieces == 0
        model.gate.set()
        assert server.post("patient", text="next").text == "NEXT"


def test_a_piece_that_takes_too_long_is_given_up():
    with running({"patient": Patient()}, Limits(seconds=0.3)) as server:
        server.model.gate.clear()
        assert server.post("patient", "/stream", text="slow").status_code == 504
        until(lambda: not server.server.get("patient").worker.running)
        assert server.http.get("/ready").status_code == 200


def test_a_piece_that_cannot_be_stopped_is_given_up_too():
    with running({"words": Words()}, Limits(seconds=0.3)) as server:
        server.model.gate.clear()  # it waits for it and asks nobody
        assert server.post("words", "/stream", text="slow").status_code == 504
        until(lambda: server.http.get("/ready").status_code == 503)
        server.model.gate.set()
        until(lambda: server.http.get("/ready").status_code == 200)


def test_one_that_left_stops_no_work_that_another_waits_for():
    with running({"patient": Patient()}, Limits(seconds=SOON)) as server:
        model, before = server.model, server.model.gate
        worker = server.server.get("patient").worker
        before.clear()
        with ThreadPoolExecutor() as pool:
            first = pool.submit(server.post, "patient", text="first")
            until(lambda: len(model.calls) == 1)
            stays = pool.submit(server.post, "patient", text="stays")
            leaves = raw(server, b'{"text": "leaves"}', "/v1/models/patient")
            until(lambda: server.batcher.requests == 3)
            model.gate = threading.Event()  # of the batch that follows
            before.set()
            until(lambda: len(model.calls) == 2)
            assert first.result().text == "FIRST" and sorted(model.calls[1]) == ["leaves", "stays"]
            leaves.close()
            until(lambda: any(job.left for job in worker.running))
            steps = model.steps
            until(lambda: model.steps > steps + 2)
            model.gate.set()
            assert stays.result().text == "STAYS"


def test_half_a_body_is_given_up():
    with running({"echo": Echo()}, Limits(body_seconds=0.2, seconds=SOON)) as server:
        with raw(server, b'{"text": "a', length=100) as client:
            assert client.recv(2000).startswith(b"HTTP/1.1 408")
        with raw(server, b'{"text": "a', length=100):
            pass  # and one that leaves half way
        assert server.post(text="a").status_code == 200 and server.model.calls == [["a"]]


class Loud(Words):
    """Streams more than a connection holds that nobody reads."""

    def stream(self, request, generator=None):
        for _ in range(40):
            self.pieces += 1
            yield Text("x" * 2**20)


def test_a_reader_that_stops_reading_holds_its_place_no_longer_than_the_limit():
    with running({"loud": Loud()}, Limits(seconds=0.5, output=2**30)) as server:
        with raw(server, b"{}", "/v1/models/loud/stream"):
            until(lambda: server.model.pieces > 1 and server.batcher.requests == 0)
        assert server.model.pieces < 40


def test_a_key_is_needed_where_there_is_one():
    with running({"echo": Echo()}, key=KEY) as server:
        assert server.http.get("/health").status_code == server.http.get("/ready").status_code == 200
        for path in ("/v1/models", "/metrics", "/openapi.json"):
            assert server.http.get(path).status_code == 401
        for given in (None, "wrong", f"{KEY}x", KEY[:-1], "é"):
            head = {} if given is None else {"Authorization": f"Bearer {given}".encode()}
            answer = server.http.post("/v1/models/echo", json={"text": "a"}, headers=head)
            assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
            assert KEY not in answer.text and error_of(answer)["type"] == "authentication_error"
        assert server.http.get("/v1/models", headers={"Authorization": f"Basic {KEY}"}).status_code == 401
        assert server.http.get("/v1/models", headers={"Authorization": f"bearer {KEY}"}).status_code == 200
        assert server.model.calls == []


def test_without_a_key_only_this_machines_names_are_answered():
    with running({"echo": Echo()}) as server:
        for host, status in (
            ("localhost:8000", 200),
            ("127.0.0.1", 200),
            ("[::1]:80", 200),
            ("attacker.example", 403),
            ("localhost.attacker.example:8000", 403),
        ):
            assert server.http.get("/v1/models", headers={"Host": host}).status_code == status, host


def test_pages_of_other_sites_may_ask_where_they_are_named():
    ask = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
    with running({"echo": Echo()}) as server:
        assert not [name for name in server.http.options("/v1/models/echo", headers=ask).headers if "access" in name]
        assert "access-control-allow-origin" not in server.http.get("/v1/models", headers=ask).headers
    with running({"echo": Echo()}, origins=["https://a.example"], key=KEY) as server:
        allowed = server.http.options("/v1/models/echo", headers=ask)
        assert allowed.headers["access-control-allow-origin"] == "https://a.example"
        other = server.http.options("/v1/models/echo", headers={**ask, "Origin": "https://b.example"})
        assert other.status_code == 400 and "access-control-allow-origin" not in other.headers


def test_a_server_that_goes_down_answers_what_it_took():
    model = Echo()
    with running({"echo": model}, Limits(seconds=SOON)) as server:
        model.gate.clear()
        with ThreadPoolExecutor() as pool:
            answers = [pool.submit(server.post, text=f"last {number}") for number in range(6)]
            until(lambda: server.batcher.requests == 6)
            server.stop()
            until(lambda: refuses(server.port))
            model.gate.set()
            assert sorted(answer.result().text for answer in answers) == [f"LAST {number}" for number in range(6)]


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return True
    return False


def test_batches_mix_clients():
    with running({"echo": Echo()}, Limits(seconds=SOON)) as server:
        server.model.gate.clear()
        with ThreadPoolExecutor() as pool:
            first = pool.submit(server.post, text="first")
            until(lambda: len(server.model.calls) == 1)
            rest = [pool.submit(server.post, text=f"text {number}") for number in range(4)]
            until(lambda: server.batcher.requests == 5)
            server.model.gate.set()
            assert first.result().text == "FIRST"
            assert [answer.result().text for answer in rest] == [f"TEXT {number}" for number in range(4)]
        assert len(server.model.calls) == 2 and sorted(server.model.calls[1]) == [f"text {n}" for n in range(4)]


def test_streams_take_turns():
    with running({"words": Words()}, Limits(seconds=SOON)) as server:
        order: list[str] = []
        barrier = threading.Barrier(2)

        def read(name: str) -> None:
            url = f"{server.url}/v1/models/words/stream"
            text = " ".join([name] * 30)
            with httpx.stream("POST", url, json={"text": text}, timeout=SOON) as answer:
                barrier.wait(SOON)
                for line in answer.iter_lines():
                    if line.startswith("event: piece"):
                        order.append(name)
                        time.sleep(0.001)

        readers = [threading.Thread(target=read, args=(name,)) for name in "ab"]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(SOON)
        assert order.count("a") == order.count("b") == 30
        assert "b" in order[: order.index("a") + 25] and "a" in order[: order.index("b") + 25]

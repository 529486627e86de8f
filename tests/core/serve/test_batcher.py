"""Batcher: order, bounds, batches of like length; and a worker that outlives its model's errors."""

import threading

import pytest
from serving import SOON, until
from unisono.errors import RequestError
from unisono.serve.batcher import Batcher, Job, alike
from unisono.serve.errors import ClientLeft, Refused, Stopped, refusal_of
from unisono.serve.limits import Limits, characters_in
from unisono.serve.worker import Worker

FAR = 1e12


def queued(batcher: Batcher, *sizes: int, turn=None) -> list[Job]:
    jobs = [Job(place, FAR, request=place.size, turn=turn) for place in batcher.admit(list(sizes))]
    for job in jobs:
        batcher.put(job)
    return jobs


def test_batches_are_of_like_length_and_the_oldest_goes_first():
    batcher = Batcher(Limits(), at_once=3)
    long, *short, middle, another = queued(batcher, 1000, 20, 30, 25, 900, 28)
    assert batcher.take() == [long, middle]
    assert batcher.take() == short
    assert batcher.take() == [another]
    assert alike(1, 31) and alike(100, 199) and not alike(100, 200) and not alike(16, 32)


def test_a_turn_is_alone_and_in_its_place():
    batcher = Batcher(Limits(), at_once=8)
    (first,) = queued(batcher, 5)
    (turn,) = queued(batcher, 5, turn=lambda: None)
    (last,) = queued(batcher, 5)
    assert batcher.take() == [first, last]
    assert batcher.take() == [turn]


def test_bounds_are_of_requests_and_of_characters():
    batcher = Batcher(Limits(requests=3, characters=100, request_characters=60))
    places = batcher.admit([50, 40])
    for sizes, status in (([11], 429), ([1, 1], 429), ([61], 413), ([1, 1, 1, 1], 413), ([60, 50], 413)):
        with pytest.raises(Refused) as caught:
            batcher.admit(sizes)
        assert caught.value.status == status, sizes
        assert ("Retry-After" in caught.value.headers) == (status == 429)
    batcher.admit([10])
    assert (batcher.requests, batcher.characters) == (3, 100)
    places[0].release()
    places[0].release()  # once is all it counts
    assert (batcher.requests, batcher.characters) == (2, 50)
    batcher.close()
    with pytest.raises(Refused) as caught:
        batcher.admit([1])
    assert caught.value.status == 503


def test_characters_are_those_of_texts_and_lists():
    asked = {"text": "abc", "seed": 5, "list": [1, 2, 3], "turns": [["a", "bc"]], "none": None}
    assert characters_in(asked) == 3 + 3 + (1 + 2 + 3)
    assert characters_in([0.5] * 1000) == 1000


def test_who_leaves_while_waiting_is_never_served():
    batcher = Batcher(Limits())
    first, second = queued(batcher, 1, 2)
    batcher.leave(first)
    assert (batcher.requests, batcher.characters) == (1, 2) and first.done.cancelled()
    assert batcher.take() == [second]
    batcher.leave(second)  # runs already: told at its next step, its place is held
    assert second.over() and batcher.requests == 1


def test_what_was_admitted_is_handed_out_after_the_close():
    batcher = Batcher(Limits())
    jobs = queued(batcher, 5, 6)
    (place,) = batcher.admit([7])  # and put after the close: who admitted it was in between
    batcher.close()
    assert [batcher.take(), batcher.take()] == [[job] for job in jobs]
    for job in jobs:
        job.place.release()
    last = Job(place, FAR)
    threading.Timer(0.05, lambda: batcher.put(last)).start()
    assert batcher.take() == [last]
    place.release()
    assert batcher.take() == []


def test_limits_are_above_zero():
    for name in ("requests", "seconds"):
        with pytest.raises(RequestError) as caught:
            Limits(**{name: 0})
        assert caught.value.path == name and caught.value.code == "range"


def worker(call, at_once: int = 4) -> tuple[Batcher, list[int]]:
    batcher, ran = Batcher(Limits(), at_once), []
    Worker("test", batcher, call, lambda number, seconds: ran.append(number)).start()
    return batcher, ran


def test_a_bad_row_fails_alone():
    calls = []

    def call(requests, on_step):
        calls.append(list(requests))
        if len(calls) == 1:
            begin.wait(SOON)
        if 13 in requests:
            raise RuntimeError("unlucky")
        return [2 * request for request in requests]

    begin = threading.Event()
    batcher, ran = worker(call)
    jobs = queued(batcher, 1)
    until(lambda: calls)
    jobs += queued(batcher, 12, 13, 14)
    begin.set()
    assert [job.done.result(SOON) for job in jobs[:2]] == [2, 24] and jobs[3].done.result(SOON) == 28
    with pytest.raises(RuntimeError, match="unlucky"):
        jobs[2].done.result(SOON)
    assert calls == [[1], [12, 13, 14], [12], [13], [14]] and ran == [1, 3]
    assert batcher.requests == 0
    batcher.close()


@pytest.mark.parametrize("kind", [SystemExit, MemoryError, KeyboardInterrupt])
def test_the_thread_outlives_whatever_a_model_raises(kind):
    def call(requests, on_step):
        if requests == [13]:
            raise kind
        return requests

    batcher, _ = worker(call)
    bad, good = queued(batcher, 13, 200)
    with pytest.raises(kind):
        bad.done.result(SOON)
    assert good.done.result(SOON) == 200
    batcher.close()


def test_a_batch_stops_only_where_all_have_left():
    calls, going = [], threading.Event()

    def call(requests, on_step):
        calls.append(list(requests))
        for _ in range(10**6):
            on_step(0, 1)
            going.wait(0.001)
            if going.is_set():
                return requests
        raise AssertionError

    batcher, _ = worker(call)
    (held,) = queued(batcher, 1)
    until(lambda: calls)
    one, two = queued(batcher, 20, 21)
    batcher.leave(held)
    with pytest.raises(Stopped):
        held.done.result(SOON)
    until(lambda: len(calls) == 2)
    batcher.leave(one)
    assert not two.done.done()
    going.set()
    assert two.done.result(SOON) == 21
    assert calls == [[1], [20, 21]]
    batcher.close()


def test_what_is_too_late_is_not_begun():
    calls = []
    batcher = Batcher(Limits())
    (place,) = batcher.admit([1])
    late = Job(place, expires=0.0, request=1)
    batcher.put(late)
    Worker("test", batcher, lambda requests, on_step: calls.append(requests), lambda *_: None).start()
    with pytest.raises(ClientLeft):
        late.done.result(SOON)
    assert not calls and batcher.requests == 0
    batcher.close()


def test_what_is_told_of_an_error():
    for error, status, code in (
        (RequestError("pace=9 is too fast: at most 4", code="range", path="pace"), 422, "range"),
        (Refused(429, "busy", code="limit"), 429, "limit"),
        (RuntimeError("the text was my secret"), 500, "failed"),
    ):
        refused = refusal_of(error)
        assert (refused.status, refused.body["error"]["code"]) == (status, code)
        assert "secret" not in str(refused.body)
    assert refusal_of(RequestError("x", code="range"), 400).status == 400

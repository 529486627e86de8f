"""Motions over HTTP: made together with those of others, each is what it is alone."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from serving import running, until
from unisono import Synthesizer
from unisono.serve import Limits


@pytest.mark.parametrize("recipe", ["motion/mmm-tiny", "motion/momask-tiny"])
def test_bytes_do_not_depend_on_who_else_is_there(make_motion, recipe):
    """Promise 4: of several lengths, captions, guidances and seeds, whole or streamed, whatever the others ask."""
    synthesizer = Synthesizer(make_motion(recipe))
    asked = [
        {
            "text": ("a figure walks", "a figure turns and waves", "it jumps")[number % 3],
            "seconds": 0.6 + 0.35 * (number % 4),
            "guidance_scale": (1, 1, 3)[number % 3],
            "num_steps": 3 + number % 2,
            "seed": number,
        }
        for number in range(12)
    ]
    alone = [synthesizer(fields).encoded(".bvh") for fields in asked]
    with running({"move": synthesizer}, Limits(seconds=100)) as server, ThreadPoolExecutor(14) as pool:
        sent = [pool.submit(server.post, "move", **fields) for fields in asked]
        streamed = [pool.submit(server.post, "move", "/stream", **fields) for fields in asked[:2]]
        assert [answer.result().content for answer in sent] == alone
        assert all("event: done" in answer.result().text for answer in streamed)
        until(lambda: count(server, "sum") >= 12)
        assert synthesizer.model.requests_at_once > 1
        assert count(server, "count") < count(server, "sum")  # some were made together


def count(server, what: str) -> float:
    lines = server.http.get("/metrics").text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(f"unisono_batch_size_{what}"))

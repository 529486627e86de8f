"""Texts over HTTP, by the real OpenAI client against a real server: completions, streams, stops, suffixes, batches."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest
import unisono
from serving import events_of, running, until
from unisono.serve import Limits
from unisono_text.serving import CompletionBody, Cutter

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"
pytestmark = pytest.mark.skipif(not CHECKPOINTS.exists(), reason="a source distribution has no checkpoints")


@pytest.fixture(scope="module")
def models():
    return {name: unisono.load(CHECKPOINTS / f"text-{name}-shakespeare") for name in ("ar", "mdlm")}


@pytest.fixture(scope="module")
def server(models):
    with running(models, Limits(seconds=100)) as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=100) as client:
        yield client


def test_a_completion_goes_on_from_its_prompt(client, models):
    made = client.completions.create(model="ar", prompt="To be", max_tokens=12, temperature=0.7, seed=3)
    expected = models["ar"]("To be", length=12, temperature=0.7, seed=3)
    (choice,) = made.choices
    assert "To be" + choice.text == expected.text and choice.finish_reason == "length"
    assert (made.usage.prompt_tokens, made.usage.completion_tokens, made.usage.total_tokens) == (5, 12, 17)
    echoed = client.completions.create(model="ar", prompt="To be", max_tokens=12, temperature=0.7, seed=3, echo=True)
    assert echoed.choices[0].text == expected.text


def test_several_completions_have_seeds_of_their_own(client, models):
    made = client.completions.create(model="ar", prompt=["To be", "O"], max_tokens=6, n=2, seed=8)
    expected = [models["ar"](p, length=6, seed=s).text.removeprefix(p) for p in ("To be", "O") for s in (8, 9)]
    assert [choice.text for choice in made.choices] == expected
    assert [choice.index for choice in made.choices] == [0, 1, 2, 3]


@pytest.mark.parametrize("model", ["ar", "mdlm"])
def test_a_stream_reads_as_the_whole(client, model):
    asked = {"model": model, "prompt": "To be", "max_tokens": 16, "seed": 5}
    if model == "mdlm":
        asked["extra_body"] = {"num_steps": 4, "block": 4}
    whole = client.completions.create(**asked)
    *chunks, last = client.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    assert len(chunks) > 3 and [c.choices[0].finish_reason for c in chunks[-2:]] == [
        None,
        whole.choices[0].finish_reason,
    ]
    assert last.choices == [] and last.usage.prompt_tokens == 5 and last.usage.completion_tokens == 16


def test_a_stream_ends_as_openais_do(server):
    answer = server.http.post("/v1/completions", json={"model": "ar", "prompt": "O", "max_tokens": 2, "stream": True})
    assert events_of(answer.text)[-1] == (None, "[DONE]")


def test_a_completion_is_cut_at_a_stop(client):
    asked = {"model": "ar", "prompt": "To be", "max_tokens": 40, "seed": 3}
    whole = client.completions.create(**asked).choices[0].text
    stop = whole[9:12]
    cut = client.completions.create(**asked, stop=["never there", stop])
    assert cut.choices[0].text == whole[: whole.index(stop)] and cut.choices[0].finish_reason == "stop"
    chunks = list(client.completions.create(**asked, stop=stop, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole[: whole.index(stop)]
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_a_masked_model_fills_in_before_a_suffix(client, models):
    asked = {"model": "mdlm", "prompt": "To be", "suffix": "be.", "max_tokens": 12, "extra_body": {"num_steps": 4}}
    whole = models["mdlm"]("To be", suffix="be.", length=12, num_steps=4).text
    made = client.completions.create(**asked).choices[0].text
    assert "To be" + made + "be." == whole
    assert "".join(chunk.choices[0].text for chunk in client.completions.create(**asked, stream=True)) == made


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"suffix": "be."}, "suffix"),
        ({"temperature": -1}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"n": 99}, "n"),
        ({"n": 2, "stream": True}, "n"),
        ({"prompt": ["a"] * 17}, "prompt"),
        ({"prompt": [1, 2]}, "prompt.str"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"logit_bias": {"50256": -100}}, "logit_bias"),
        ({"extra_body": {"chat": True}}, "chat"),
        ({"prompt": "naïve €"}, None),
    ],
)
def test_what_a_model_cannot_is_a_400(client, fields, param):
    with pytest.raises(openai.BadRequestError) as caught:
        made = client.completions.create(**{"model": "ar", "prompt": "To be", "max_tokens": 4, **fields})
        list(made)
    assert param is None or caught.value.param == param


def test_a_text_in_a_batch_is_the_text_alone(server, models):
    """Promise 4, where requests are made together: many at a time, of several lengths, against each alone."""
    asked = [{"text": "To be or not"[: 2 + number], "length": 8 + number % 3, "seed": number} for number in range(10)]
    batches = 'unisono_batch_size_sum{model="%s"}'
    for name in models:
        more = {"num_steps": 4} if name == "mdlm" else {}
        before = count(server, batches % name)
        with ThreadPoolExecutor(10) as pool:
            sent = [pool.submit(server.post, name, **fields, **more) for fields in asked]
            made = [answer.result().text for answer in sent]
        assert made == [models[name]({**fields, **more}).text for fields in asked]
        until(lambda name=name, before=before: count(server, batches % name) - before >= 10)
        batched = count(server, batches.replace("sum", "count") % name)
        assert batched < count(server, batches % name)  # some were made together


def count(server, name: str) -> float:
    text = server.http.get("/metrics").text
    return next(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))


def test_stops_across_pieces_are_found():
    cutter = Cutter("ab", CompletionBody(model="m", stop=["END", "\n"]))
    assert [cutter.add(piece) for piece in ("a", "bone E", "N", "o E", "ND more")] == ["", "one", " ", "ENo", " "]
    assert cutter.stopped and cutter.end(False) == ("", "stop")
    kept = Cutter("", CompletionBody(model="m", suffix="xyz"))
    assert (kept.add("hello xy"), kept.add("xyz")) == ("hello", " xy") and kept.end(True) == ("", "stop")
    assert Cutter("", CompletionBody(model="m", stop="long stop")).add("short") == ""

"""The numbers of a text report, each worked out beside it with other code."""

import math

import flat
import numpy as np
import pytest
import torch
from unisono_text.corpus.data import ToyData
from unisono_text.measure import evaluate as report
from unisono_text.measure.evaluate import BITS, ENTROPY, MODEL, PERPLEXITY, HeldOut, Writing
from unisono_text.models.ar import Autoregressive

SIZES = {"dim": 16, "num_layers": 1, "num_heads": 2, "filter_dim": 32, "dropout": 0.0}


@pytest.fixture(scope="module")
def facts():
    data = ToyData(num_items=16, val_size=4, tokenizer="bytes")
    data.prepare()
    return data.describe()


def judge_of(facts, context=64):
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(1)
        model = flat.make(Autoregressive, **SIZES)
        model.build({**facts, "context": context})
    model.net.head.weight.data.mul_(30)  # far from equal chances, so that it matters what is read and counted
    return model.eval()


def held(texts, prompts):
    return HeldOut([([0], 0)] * len(texts), texts, prompts, [], prompts, "by hand")


def surprise(judge, given, rest):
    """−log p of `rest` after `given`, token by token."""
    ids, total = list(given), 0.0
    for token in rest:
        read = torch.tensor([[judge.start_id, *ids]])
        total -= float(judge.predict(read)[0, -1].double().log_softmax(-1)[token])
        ids.append(token)
    return total


@torch.no_grad()
def test_a_judge_reads_prompts_and_counts_what_comes_after_them(facts):
    judge = judge_of(facts)
    judge.attach("judge", judge)
    prompts, texts = ["Ada has ", "Ben sees "], ["Ada has ten red eggs.", "Ben sees a dog"]
    found = Writing(judge, held(texts, prompts)).measure(texts, prompts)
    encode = judge.tokenizer.encode
    rests = [text.removeprefix(prompt) for text, prompt in zip(texts, prompts, strict=True)]
    nats = sum(surprise(judge, encode(p), encode(r)) for p, r in zip(prompts, rests, strict=True))
    count, characters = sum(len(encode(rest)) for rest in rests), sum(map(len, rests))
    assert found[PERPLEXITY] == pytest.approx(math.exp(nats / count), rel=1e-4)
    assert found[BITS] == pytest.approx(nats / math.log(2) / characters, rel=1e-4)
    assert found["tokens"] == count / 2
    shares = [np.unique(encode(rest), return_counts=True)[1] / len(encode(rest)) for rest in rests]
    assert found[ENTROPY] == pytest.approx(np.mean([-(p * np.log(p)).sum() for p in shares]))
    without = Writing(judge, held(texts, ["", ""])).measure(rests, ["", ""])
    assert abs(without[PERPLEXITY] - found[PERPLEXITY]) > 0.01 * found[PERPLEXITY], "the prompt was read"


@torch.no_grad()
def test_of_a_long_prompt_a_judge_reads_the_end(facts):
    judge = judge_of(facts, context=10)
    judge.attach("judge", judge)
    prompt, rest = "Ada has seven green birds and ", "one red egg and ten dogs"
    found = Writing(judge, held([rest], [""])).measure([prompt + rest], [prompt])
    encode = judge.tokenizer.encode
    given, ids = encode(prompt)[-5:], encode(rest)
    nats = surprise(judge, given, ids[:5])
    for start in range(5, len(ids), 10):
        nats += surprise(judge, [], ids[start : start + 10])
    assert found[PERPLEXITY] == pytest.approx(math.exp(nats / len(ids)), rel=1e-4)


def test_likelihood_counts_no_prompt_and_tells_the_error_of_the_mean(facts, monkeypatch):
    """Two rows, three drawings each: the mean, and √(Σ s²/3) as the standard error of their sum."""
    model = judge_of(facts)
    model.exact = False
    nats = np.array([[10.0, 11.0, 12.0], [20.0, 26.0, 23.0]])
    asked = []
    monkeypatch.setattr(report, "REPEATS", 3)
    monkeypatch.setattr(report, "nats_of", lambda _, rows, each, repeats, bar: asked.append((each, repeats)) or nats)
    rows = [([1] * 9, 4), ([1] * 12, 6)]
    texts, prompts = ["a b! cd", "ef gh ij k"], ["a ", "ef "]
    section = report._likelihood(model, HeldOut(rows, texts, prompts, [], prompts, "by hand"), 10, {})
    values = [row.values.get(MODEL) for row in section.rows]
    total, error, tokens, characters = 11.0 + 23.0, math.sqrt((1.0 + 9.0) / 3), 5 + 6, len("b! cd") + len("gh ij k")
    assert asked == [(3, 3)] and "9 samples" in section.name
    assert values[0] == pytest.approx(total / math.log(2) / characters)
    assert values[1] == pytest.approx(error / math.log(2) / characters)
    assert values[2] == pytest.approx(math.exp(total / tokens))
    assert values[3] == pytest.approx(math.exp(total / tokens) * error / tokens)
    assert values[4] == pytest.approx(math.exp(total / (2 + 3)))

"""Asynchronous draft (PEARL): the target's own tokens for any timing, counts as published by the clock, and every loss
of the process told."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import deque
from dataclasses import replace
from itertools import cycle
from operator import attrgetter

import flat
import pytest
import torch
from drafting import VOCAB, Faulty, Table
from hypothesis import given, settings
from hypothesis import strategies as st
from refused import refused
from unisono.errors import RequestError, UnisonoError
from unisono.masked import Nucleus
from unisono.verify import Draw, KVCache, Method, Rejection, autoregressive, decode
from unisono_text.corpus.data import ToyData
from unisono_text.lossless import CausalNetwork, DraftProcess, generate, pearl, process_of
from unisono_text.lossless.asynchronous import Asynchronous
from unisono_text.lossless.decoding import Warps
from unisono_text.lossless.draft_process.drafting import Drafting
from unisono_text.lossless.draft_process.messages import Commit, Opened
from unisono_text.lossless.request import ContinueRequest
from unisono_text.models.ar import Autoregressive
from unisono_text.models.sizes import TransformerSizes
from unisono_text.models.transformer import TextTransformer

PROMPTS = torch.tensor([[3, 1, 4, 1], [2, 6, 0, 0], [5, 3, 5, 0]])
LENGTHS = torch.tensor([4, 2, 3])
LIMIT = 30


def run(method, *, target=None, rows=(0, 1, 2), temperature=1.0, **given):
    index = torch.tensor(rows)
    warp = Warps((Nucleus(0.9),)) if temperature else None
    settings = dict(seeds=[7 + row for row in rows], lengths=LENGTHS[index], warp=warp, **given)
    return decode(target or Table(), PROMPTS[index], method, LIMIT, temperature=temperature, **settings)


class Scripted:
    """A draft process in this one, which does what a script says at each look at it.

    The script's entries are (messages to read, steps to make, whether an answer arrives).
    """

    def __init__(self, network, script):
        self.network, self.script, self.sessions = network, cycle([*script, (1, 0, False)]), 0
        self.inbox, self.outbox, self.drafting, self.version = deque(), deque(), None, 0

    def lend(self, deadline):
        return self

    def give_back(self, line):
        pass

    def end(self):
        pass

    def send(self, *message):
        self.inbox.append(message)

    def receive(self, seconds=0.0):
        read, steps, arrives = next(self.script)
        for _ in range(min(read, len(self.inbox))):
            match self.inbox.popleft():
                case "open", _, opened:
                    self.drafting = Drafting(self.network, opened)
                case "commit", _, self.version, commit:
                    self.drafting.commit(commit)
        if self.drafting is not None:
            for _ in range(steps):
                self.drafting.step()
            self.outbox.append(("chain", self.sessions, self.version, self.drafting.chain))
        return self.outbox.popleft() if arrives and self.outbox else None


entry = st.tuples(st.integers(0, 3), st.integers(0, 4), st.booleans())


@settings(max_examples=60, deadline=None)
@given(
    script=st.lists(entry, min_size=1, max_size=12),
    num_draft=st.integers(1, 6),
    error=st.sampled_from([0.0, 0.3, 3.0]),
    temperature=st.sampled_from([0.0, 1.0]),
    end=st.sampled_from([None, 2]),
)
def test_tokens_are_those_of_plain_decoding_whatever_is_late_stale_or_lost(script, num_draft, error, temperature, end):
    plain = run(autoregressive(), temperature=temperature, end=end)
    method = pearl(Scripted(Table(error), script), num_draft)
    made = run(method, temperature=temperature, end=end, cache=KVCache)
    assert torch.equal(made.tokens, plain.tokens) and torch.equal(made.length, plain.length)
    assert made.lossless and int(made.rounds.max()) <= int(plain.rounds.max())


def lockstep(target, draft, prompt, window, gamma):
    """PEARL by hand: both make their part of a round, then look at each other's. Greedy."""
    truth = list(prompt)
    while len(truth) < LIMIT:
        truth.append(int(target.table[(len(truth) - 1) % 13, truth[-1]].argmax()))
    text, ahead, rounds, proposed, accepted = list(prompt), [], 0, 0, 0
    while len(text) < LIMIT:
        chain = ahead[: min(window, LIMIT - 1 - len(text))]
        for _ in range(gamma):  # meanwhile
            if len(ahead) < 2 * window + 1 and len(text) + len(ahead) < LIMIT - 1:
                told = [*text, *ahead]
                ahead = [*ahead, int(draft.table[(len(told) - 1) % 13, told[-1]].argmax())]
        held = 0
        while held < len(chain) and chain[held] == truth[len(text) + held]:
            held += 1
        fresh = truth[len(text) : len(text) + held + 1]
        ahead = ahead[len(fresh) :] if ahead[: len(fresh)] == fresh else []
        text, rounds, proposed, accepted = [*text, *fresh], rounds + 1, proposed + len(chain), accepted + held
    return text, rounds, proposed, accepted


@pytest.fixture(scope="module")
def process():
    return DraftProcess(lambda: Table(0.3))


@pytest.mark.parametrize(("window", "gamma"), [(4, 4), (5, 2), (2, 7)])
def test_by_the_clock_the_counts_are_those_of_the_paper(process, window, gamma):
    made = run(pearl(process, window, clock=gamma), temperature=0.0, cache=KVCache)
    for row, (prompt, length) in enumerate(zip(PROMPTS.tolist(), LENGTHS.tolist(), strict=True)):
        text, rounds, proposed, accepted = lockstep(Table(), Table(0.3), prompt[:length], window, gamma)
        assert made.tokens[row].tolist() == text
        counts = (int(made.rounds[row]), int(made.proposed[row]), int(made.accepted[row]))
        assert counts == (rounds, proposed, accepted)
        assert 0 < accepted < proposed and rounds < LIMIT - length


def test_by_the_clock_a_row_counts_alone_as_in_a_batch(process):
    method = pearl(process, 4, clock=3)
    together, again = run(method), run(method)
    assert torch.equal(together.tokens, run(autoregressive()).tokens)
    assert (together.nfe, together.draft_nfe) == (again.nfe, again.draft_nfe)
    for row in range(3):
        alone = run(method, rows=(row,))
        for name in ("tokens", "rounds", "proposed", "accepted"):
            assert torch.equal(getattr(alone, name)[0], getattr(together, name)[row]), name


def delays(process, runs):
    plain = {(temperature, end): run(autoregressive(), temperature=temperature, end=end) for temperature in (0.0, 1.0)
             for end in (None, 2)}  # fmt: skip
    rounds = set()
    for number in range(runs):
        temperature, end = (0.0, 1.0)[number % 2], (None, 2)[number // 2 % 2]
        target = Table(delay=random.Random(number).choice([0.0, 0.0005, 0.002]))
        made = run(pearl(process, 1 + number % 6), target=target, temperature=temperature, end=end, cache=KVCache)
        wanted = plain[temperature, end]
        assert torch.equal(made.tokens, wanted.tokens) and torch.equal(made.length, wanted.length), number
        rounds.add(made.nfe)
    return rounds


def test_tokens_are_the_same_with_random_delays(process):
    assert len(delays(process, 16)) > 1


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_tokens_are_the_same_in_a_thousand_runs_with_random_delays():
    slow = DraftProcess(lambda: Table(0.3, delay=0.001))
    assert len(delays(slow, 1000)) > 3


def test_batches_at_the_same_time_have_a_process_each(process):
    from unisono.verify import rounds

    def going():
        return rounds(Table(), PROMPTS, pearl(process, 4), LIMIT, seeds=[7, 8, 9], lengths=LENGTHS)

    first, second = going(), going()
    wanted = run(autoregressive(), temperature=0.0).tokens
    for one in (first, second):
        next(one)
    found = []
    for one in (second, first):
        while True:
            try:
                next(one)
            except StopIteration as done:
                found.append(done.value)
                break
    assert all(torch.equal(out.tokens, wanted) for out in found)


# The draft's own text


def transformer():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = TextTransformer(
            VOCAB + 1, VOCAB, TransformerSizes(dim=16, num_layers=2, num_heads=2, dropout=0.0), "causal"
        )
        network.head.weight.data.mul_(30)
    return network.double().eval()


def opened(rows, cache, ahead=5, end=None):
    return Opened(rows, LIMIT, [1 + i for i in range(len(rows))], end, Draw(1.0), ahead, cache, "cpu")


def test_the_draft_after_any_commits_is_that_of_a_fresh_one():
    """Keys and values of refused drafts are gone, whether the commit is behind the draft or ahead of it."""
    network, generator = CausalNetwork(transformer()), random.Random(0)
    rows = [[1, 2, 3], [4]]
    kept = Drafting(network, opened(rows, cache=True))
    for _ in range(12):
        for _ in range(generator.randrange(5)):
            kept.step()
        starts = [len(row) for row in rows]
        fresh = []
        for row, draft in zip(rows, kept.chain.drafts, strict=True):
            right = draft[: generator.randrange(len(draft) + 1)]
            more = [generator.randrange(VOCAB) for _ in range(generator.randrange(3))]
            fresh.append([*right, *more][: LIMIT - 1 - len(row)])
        rows = [row + new for row, new in zip(rows, fresh, strict=True)]
        kept.commit(Commit(starts, fresh, [False, False]))
        for _ in range(5):
            kept.step()
        anew = Drafting(network, opened(rows, cache=False))
        for _ in range(6):
            anew.step()
        assert kept.chain.starts == [len(row) for row in rows]
        assert kept.chain.drafts == anew.chain.drafts


def test_nothing_is_drafted_behind_an_end_a_limit_or_a_row_that_is_done():
    drafting = Drafting(Table(), opened([[1], [2], [3] * (LIMIT - 3)], cache=False, ahead=50))
    drafting.commit(Commit([1, 1, LIMIT - 3], [[], [], []], [True, False, False]))
    while drafting.step():
        pass
    assert [len(draft) for draft in drafting.chain.drafts] == [0, LIMIT - 2, 2]
    ending = Drafting(Table(), replace(opened([[1], [2]], cache=False, ahead=50), end=drafting.chain.drafts[1][3]))
    while ending.step():
        pass
    assert ending.chain.drafts[1] == drafting.chain.drafts[1][: drafting.chain.drafts[1].index(ending.opened.end) + 1]


# Processes that do not answer


@pytest.mark.parametrize(("fault", "deadline", "named"), [("dies", 60.0, "signal 9"), ("hangs", 0.3, "0.3 s")])
def test_without_its_process_decoding_goes_on_plainly_and_says_so(fault, deadline, named):
    faulty, told = DraftProcess(lambda: Faulty(fault, 5)), []
    line = faulty.lend(60.0)  # its start is not what the deadline is about here
    faulty.give_back(line)
    method = pearl(faulty, 3, deadline=deadline, on_loss=told.append)
    made = run(method, target=Table(delay=(0.02, 0.02)))
    assert torch.equal(made.tokens, run(autoregressive()).tokens)
    assert len(told) == 1 and named in told[0] and made.nfe > 10
    assert line.process.returncode is not None


def test_a_lost_process_is_an_error_where_nobody_is_told():
    with refused(UnisonoError, "failed", "draft", names="RuntimeError: on purpose"):
        run(pearl(DraftProcess(lambda: Faulty("raises", 5)), 3, clock=3))


@pytest.mark.parametrize("clock", [None, 2])
def test_a_process_that_answers_too_late_is_lost(clock):
    silent = Scripted(Table(), [(0, 0, False)])
    with refused(UnisonoError, "failed", "draft", names="0.01 s"):
        run(pearl(silent, 3, clock=clock, deadline=0.01), target=Table(delay=(0.005, 0.005)))


def test_a_draft_that_is_slower_than_its_target_is_no_error():
    told, silent = [], Scripted(Table(), [(0, 0, False)])
    made, plain = run(pearl(silent, 4, on_loss=told.append)), run(autoregressive())
    assert torch.equal(made.tokens, plain.tokens) and made.nfe == plain.nfe and not told


def test_a_process_that_died_between_two_batches_is_replaced(process):
    line = process.lend(60.0)
    process.give_back(line)
    line.process.kill()
    line.process.wait()
    made = run(pearl(process, 4))
    assert torch.equal(made.tokens, run(autoregressive()).tokens)


def test_what_cannot_be_sent_to_a_process_is_refused(process):
    table = Table()
    with refused(UnisonoError, "unsupported", "draft", value="function"):
        run(pearl(DraftProcess(lambda: lambda *given: table(*given)), 4))
    with refused(UnisonoError, "unsupported", "warp"):
        decode(table, PROMPTS, pearl(process, 4), LIMIT, seeds=[0, 1, 2], temperature=1.0, warp=lambda logits: logits)


def test_a_draft_of_another_vocabulary_is_refused():
    table = Table(vocab=VOCAB + 1)
    table.table[..., VOCAB] = -torch.inf
    other = Scripted(table, [(2, 3, True)])
    with refused(UnisonoError, "conflict", "vocab_size", value=VOCAB + 1, names=str(VOCAB)):
        run(pearl(other, 4))


@pytest.mark.parametrize(
    ("path", "value", "code"),
    [("num_draft", 0, "range"), ("clock", 0, "range"), ("deadline", 0.0, "range"), ("deadline", "soon", "type")],
)
def test_wrong_settings_are_refused(process, path, value, code):
    with refused(UnisonoError, code, path, value=value, names=repr(value)):
        Asynchronous(process, **{path: value})


def test_rejection_is_refused_by_name(process):
    with refused(UnisonoError, "conflict", "accept", value="Asynchronous", names="Matching"):
        Method("PEARL", Asynchronous(process), Rejection())


ORPHAN = """
import os, signal, sys
sys.path.insert(0, {shared!r})
from drafting import Table
from unisono_text.lossless.draft_process import DraftProcess
line = DraftProcess(lambda: Table({delay})).lend(60.0)
print(line.process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_ends_with_the_one_that_started_it():
    shared = os.path.dirname(sys.modules["drafting"].__file__)
    code = ORPHAN.format(shared=shared, delay=0.0)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == -signal.SIGKILL, done.stderr
    pid, until = int(done.stdout), time.monotonic() + 10
    while time.monotonic() < until:
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":  # ended, and nobody has looked
                    return
        except FileNotFoundError:
            return
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("it outlived its parent")


# By request


@pytest.fixture(scope="module")
def models():
    data = ToyData(num_items=24, context=40, batch_size=8)
    data.prepare(progress=False)
    made = []
    for noise in (0.0, 0.01):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = flat.make(Autoregressive, dim=32, num_layers=2, num_heads=2, filter_dim=48, dropout=0.0)
            model.build(data.describe())
        with torch.no_grad():
            model.net.head.weight.mul_(20)
            for parameter in model.parameters():
                parameter += noise * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
        made.append(model.eval())
    made[0].attach("draft", made[1])
    return made


def ask(model, decoding, **given):
    texts = enumerate(["Ada has 3 ", "", "Ben"])
    return model.synthesize(
        [ContinueRequest(text=text, length=20, decoding=decoding, seed=i, top_p=0.9, **given) for i, text in texts]
    )


def test_texts_of_requests_are_those_of_plain_decoding_also_where_the_process_dies(models):
    plain = [text.text for text in ask(models[0], "plain")]
    made = ask(models[0], "pearl", num_draft=4)
    assert [text.text for text in made] == plain
    assert not any("lost" in text.facts for text in made)
    process = process_of(models[1], attrgetter("causal"))
    line = process.lend(60.0)
    process.give_back(line)

    answers = line.answers

    def dies(deadline):
        there = answers(deadline)
        line.process.kill()
        line.process.wait()
        return there

    line.answers = dies
    made = ask(models[0], "pearl")
    assert [text.text for text in made] == plain
    assert "signal 9" in made[0].facts["lost"] and made[0].facts["accepted"] == 0


def test_a_missing_draft_is_named(models):
    with refused(RequestError, "missing", "draft"):
        ask(models[1], "pearl")


def test_generate_has_the_process_of_a_network(models):
    target, draft = models[0].causal, models[1].causal
    prompts = [[models[0].start_id, 3, 4], [models[0].start_id, 5]]
    plain = generate(target, prompts, max_new_tokens=12)
    made = generate(target, prompts, "pearl", max_new_tokens=12, draft=draft, num_draft=3)
    assert torch.equal(made.tokens, plain.tokens)

"""Stopping: every loop of the core ends between two steps where whoever waits wants it, and not before."""

import pytest
import torch
import unisono.masked as um
import unisono.verify as uv
from chains import noise, scheduler_of
from unisono.batching import Progress
from unisono.diffusion import Picard, SchedulerRecurrence, Serial, solve
from unisono.masked import Canvas, Layout, decode, steps
from unisono.stopping import may_stop, stopped_by

AT = 3
"""Evaluations after which nobody waits any more; every loop below would go on to 8 of them."""


class Left(BaseException):
    """Nobody waits."""


class Counted:
    """A network that counts its evaluations; ``check`` raises as soon as there were ``AT``."""

    def __init__(self, answer):
        self.answer, self.calls = answer, 0

    def __call__(self, *arguments):
        self.calls += 1
        return self.answer(*arguments)

    def rows(self, index):
        return self

    def check(self):
        if self.calls >= AT:
            raise Left


def logits(tokens, known, query):
    return um.at_sites(torch.zeros(*tokens.shape, 5), query)


def fill(executor):
    return lambda net: decode(net, Canvas.blank(Layout.sequence(8, 5), [1, 2]), um.maskgit(8), executor=executor)


def watch(net):
    return list(steps(net, Canvas.blank(Layout.sequence(8, 5), [1]), um.maskgit(8)))


def go_on(net):
    return uv.decode(net, torch.tensor([[1]]), uv.autoregressive(), 9)


def chain(solver):
    def solve_it(net):
        scheduler = scheduler_of("ddim", 8)
        return solve(SchedulerRecurrence(scheduler, net), noise((2, 2), scheduler), solver, window=None)

    return solve_it


LOOPS = {
    "sync": (logits, fill(um.sync)),
    "unrolled": (logits, fill(um.unrolled)),
    "compact": (logits, fill(um.Compact())),
    "steps": (logits, watch),
    "verify": (lambda tokens, *_: torch.zeros(*tokens.shape, 5), go_on),
    "serial": (lambda x, t, *_: 0.1 * x, chain(Serial())),
    "picard": (lambda x, t, *_: (3 * x).sin(), chain(Picard())),
}


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_ends_between_two_steps(name):
    answer, run = LOOPS[name]
    free = Counted(answer)
    run(free)
    assert free.calls > AT  # it goes on where nobody stops it
    held = Counted(answer)
    with stopped_by(held.check), pytest.raises(Left):
        run(held)
    assert held.calls == AT
    run(held)  # nothing is left of the check, nor of what was stopped: a chain is free again
    assert held.calls == AT + free.calls


def test_progress_asks_where_nothing_is_told():
    asked = []
    with stopped_by(lambda: asked.append(1)):
        progress = Progress(None, 3)
        progress.to(0)
        progress.advance()
    assert len(asked) == 2


def test_checks_are_nested_and_end_with_their_block():
    asked = []
    may_stop()
    with stopped_by(lambda: asked.append("outer")):
        with pytest.raises(Left), stopped_by(Counted(logits).check):
            may_stop()  # it has not come to that
            raise Left
        may_stop()
    may_stop()
    assert asked == ["outer"]

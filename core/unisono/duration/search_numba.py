"""Numba search: alignment search on the CPU, compiled on first use and cached.

What makes it fast: scores are read once, in one pass over a row of sums that is updated in place, whole vectors of
tokens at a time, a little beyond the cells that lie on a path. Going backwards in time a cell needs itself and its
right neighbour; the neighbours are shifted in from the next vector, because loading them would wait for the last
row's stores. For the way back one bit is kept of each cell. The vectors are spelled out (``_row``): the loop that
LLVM makes of plain code takes half as long again.

A score that is not finite is found without looking for it: ``x - x`` is 0 for a number and NaN for the rest, NaN
stays in its column, because it is greater than nothing, and a column is looked at once, where it leaves the paths.

The batch is shared out over threads by hand: the kernel releases the GIL, and plain threads, unlike numba's own
threading layers, may be entered from several threads and survive a fork. They wait on a queue, which hands a batch
over in half the time that an executor needs, and that is what counts where the whole search takes 0.2 ms.
"""

import os
from operator import mul
from queue import SimpleQueue
from threading import Lock, Thread
from typing import no_type_check

import numba
import numpy as np
import torch
from jaxtyping import Float, Int
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from torch import Tensor
from torch.nn import functional as F

# Below this many cells, waking a thread takes as long as it saves.
CELLS_PER_THREAD = 1_200_000
# Tokens in a vector; where the processor has shorter ones, LLVM takes several.
LANES = 16

_helpers: list["_Helper"] = []


def search_numba(
    scores: Float[Tensor, "b t s"], src: list[int], tgt: list[int]
) -> tuple[Int[Tensor, "b s"], list[int]]:
    """Durations, and the items that have a non-finite score (see `search`)."""
    width = scores.shape[2]
    if width < LANES:  # the last vector of a row may read on into the next, not beyond it
        scores = F.pad(scores, (0, LANES - width))
        durations, bad = search_numba(scores, src, tgt)
        return durations[:, :width], bad
    rows = scores.cpu().contiguous().numpy()
    durations = np.zeros((len(src), rows.shape[2]), np.int64)
    bad = np.zeros(len(src), np.bool_)
    cells = list(map(mul, src, tgt))
    threads = min(torch.get_num_threads(), len(src), 1 + sum(cells) // CELLS_PER_THREAD)
    lengths = np.array(src), np.array(tgt)
    if threads == 1:
        _kernel(rows, *lengths, np.arange(len(src)), durations, bad)
    else:
        order = sorted(range(len(src)), key=cells.__getitem__, reverse=True)
        _share([(rows, *lengths, np.array(order[i::threads]), durations, bad) for i in range(threads)])
    return torch.from_numpy(durations).to(scores.device), np.flatnonzero(bad).tolist()


def _share(jobs: list[tuple]) -> None:
    """Run the kernel on every job, the first one on this thread."""
    helpers = _borrow(len(jobs) - 1)
    try:
        for helper, job in zip(helpers, jobs[1:], strict=True):
            helper.start(job)
        _kernel(*jobs[0])
    finally:
        for helper in helpers:
            helper.wait()
        _helpers.extend(helpers)


class _Helper:
    """A thread that runs the kernel, one job at a time."""

    def __init__(self):
        self.jobs: SimpleQueue = SimpleQueue()
        self.done = Lock()
        self.done.acquire()
        self.error: BaseException | None = None
        Thread(target=self._serve, daemon=True, name="unisono-search").start()

    def start(self, job: tuple) -> None:
        self.jobs.put(job)

    def wait(self) -> None:
        self.done.acquire()
        if self.error is not None:
            error, self.error = self.error, None
            raise error

    def _serve(self) -> None:
        while True:
            try:
                _kernel(*self.jobs.get())
            except BaseException as error:
                self.error = error
            self.done.release()


def _borrow(number: int) -> list[_Helper]:
    """Take helpers that are idle, or new ones."""
    taken = []
    while len(taken) < number:
        try:
            taken.append(_helpers.pop())
        except IndexError:
            taken.append(_Helper())
    return taken


if hasattr(os, "register_at_fork"):  # a child has none of its parent's threads
    os.register_at_fork(after_in_child=_helpers.clear)


@intrinsic
@no_type_check
def _row(typing, scores, first, best, start, stop, moves, word):
    """``best[j] = max(best[j], best[j + 1]) + scores[first + j]`` for j from ``start`` to ``stop``, vector by vector,
    NaN where the score is not finite; the bits of ``moves``, from ``word`` on, say where the neighbour was greater."""

    def generate(context, builder, signature, args):
        first, start, stop, word = args[1], args[3], args[4], args[6]
        scores, best, moves = (context.make_array(signature.args[n])(context, builder, args[n]).data for n in (0, 2, 5))
        vector, bits = ir.VectorType(ir.FloatType(), LANES), ir.IntType(LANES)
        shift = ir.Constant(ir.VectorType(ir.IntType(32), LANES), list(range(1, LANES + 1)))

        def at(array, index, kind):
            return builder.bitcast(builder.gep(array, [index]), kind.as_pointer())

        before, loop = builder.block, builder.append_basic_block("row")
        opening = builder.load(at(best, start, vector), align=4)
        builder.branch(loop)
        builder.position_at_end(loop)
        j, k, stays = builder.phi(start.type), builder.phi(word.type), builder.phi(vector)
        following = builder.add(j, j.type(LANES))
        ahead = builder.load(at(best, following, vector), align=4)
        moved = builder.shuffle_vector(stays, ahead, shift)
        greater = builder.fcmp_ordered(">", moved, stays)
        score = builder.load(at(scores, builder.add(first, j), vector), align=4)
        total = builder.fadd(builder.select(greater, moved, stays), score)
        builder.store(builder.fadd(total, builder.fsub(score, score)), at(best, j, vector), align=4)
        builder.store(builder.bitcast(greater, bits), at(moves, k, bits), align=LANES // 8)
        j.add_incoming(start, before)
        j.add_incoming(following, loop)
        k.add_incoming(word, before)
        k.add_incoming(builder.add(k, k.type(1)), loop)
        stays.add_incoming(opening, before)
        stays.add_incoming(ahead, loop)
        after = builder.append_basic_block("after")
        builder.cbranch(builder.icmp_signed("<", following, stop), loop, after)
        builder.position_at_end(after)
        return context.get_dummy_value()

    return types.void(scores, first, best, start, stop, moves, word), generate


@no_type_check  # numba compiles the source, and a type checker's wrapper is not it
def _search(scores, src_lengths, tgt_lengths, share, durations, bad):
    num_frames, num_tokens = scores.shape[1], scores.shape[2]
    words = (num_tokens + LANES - 1) // LANES
    flat = scores.reshape(-1)
    moves = np.zeros(num_frames * words, np.uint16)
    best = np.empty((words + 1) * LANES, np.float32)
    for b in share:
        s, last = src_lengths[b], tgt_lengths[b] - 1
        best[:] = -np.inf
        score = scores[b, last, s - 1]
        best[s - 1] = score + (score - score)
        wrong = last < s and np.isnan(best[last])
        for t in range(last - 1, -1, -1):
            # The cells of this row that lie on a path from the first cell to the last, in whole vectors.
            low, high = max(0, s - 1 - last + t), min(s, t + 1)
            start, stop = low // LANES * LANES, -(-high // LANES) * LANES
            _row(flat, (b * num_frames + t) * num_tokens, best, start, stop, moves, t * words + start // LANES)
            if low > 0:  # no path comes from there
                best[low - 1] = -np.inf
            if t < s:
                wrong |= np.isnan(best[t])
        bad[b] = wrong
        if wrong:
            continue
        # The way back, from word to word: within one, no load waits for the step before.
        ends = durations[b]
        t = at = 0
        for word in range(words):
            bit = 0
            while t < last and bit < LANES:
                ends[word * LANES + bit] = t + 1
                bit += (moves[t * words + word] >> bit) & 1
                t += 1
            at = word * LANES + bit
            if t == last:
                break
        ends[at] = last + 1
        for j in range(at, 0, -1):
            ends[j] -= ends[j - 1]


try:
    _kernel = numba.njit(nogil=True, cache=True)(_search)
except RuntimeError:  # no folder that can be written to for the cache
    _kernel = numba.njit(nogil=True)(_search)

"""Alignment search against brute force, an independent dynamic programme, CTC and a peer."""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from refused import refused
from unisono.duration import search
from unisono.errors import UnisonoError

BACKENDS = ["numba", "torch"]
CORE = Path(__file__).resolve().parents[3] / "core"


def ragged(seed, b=4, max_tokens=12, max_frames=30, whole=False):
    g = torch.Generator().manual_seed(seed)
    s = int(torch.randint(1, max_tokens + 1, (), generator=g))
    t = int(torch.randint(s, max_frames + 1, (), generator=g))
    src = torch.randint(1, s + 1, (b,), generator=g)
    tgt = torch.stack([torch.randint(int(n), t + 1, (), generator=g) for n in src])
    if whole:
        return torch.randint(-2, 3, (b, t, s), generator=g).float(), src, tgt
    return torch.randn(b, t, s, generator=g), src, tgt


def path_score(scores, durations):
    index = np.repeat(np.arange(len(durations)), durations)
    return scores[np.arange(len(index)), index].sum()


def compositions(frames, tokens):
    """All C(T-1, S-1) ways to cut T frames into S tokens."""
    for cuts in itertools.combinations(range(1, frames), tokens - 1):
        yield np.diff([0, *cuts, frames])


def dynamic_programme(scores):
    """The best score, forwards in time, in float64."""
    best = np.full(scores.shape[1], -np.inf)
    best[0] = scores[0, 0]
    for row in scores[1:]:
        best = np.maximum(best, np.r_[-np.inf, best[:-1]]) + row
    return best[-1]


@pytest.mark.parametrize("backend", BACKENDS)
def test_equals_enumeration_of_all_paths(backend):
    for seed in range(60):
        scores, src, tgt = ragged(seed, b=2, max_tokens=6, max_frames=9, whole=seed % 2 == 0)
        durations = search(scores, src, tgt, backend=backend)
        for row in range(2):
            s, t = int(src[row]), int(tgt[row])
            cell = scores[row, :t, :s].double().numpy()
            paths = list(compositions(t, s))
            values = np.array([path_score(cell, path) for path in paths])
            found = durations[row].numpy()
            assert found[s:].sum() == 0 and found[:s].min() >= 1 and found.sum() == t
            assert path_score(cell, found[:s]) == pytest.approx(values.max(), abs=1e-5)
            # Of the best paths, the one that stays longest on early tokens.
            best = [path for path, value in zip(paths, values, strict=True) if value == values.max()]
            if seed % 2 == 0:
                assert tuple(found[:s]) == max(map(tuple, best))


@pytest.mark.parametrize("backend", BACKENDS)
def test_score_equals_float64_dynamic_programme_on_long_ragged_batches(backend):
    # float32 may choose another path of nearly the same score, so scores are compared: 300 sums
    # of numbers near 1 are good to about 1e-4. Whole scores are exact.
    for seed in range(10):
        whole = seed % 2 == 0
        scores, src, tgt = ragged(seed, max_tokens=60, max_frames=300, whole=whole)
        durations = search(scores, src, tgt, backend=backend)
        for row in range(len(src)):
            s, t = int(src[row]), int(tgt[row])
            cell = scores[row, :t, :s].double().numpy()
            found = path_score(cell, durations[row, :s].numpy())
            assert found == pytest.approx(dynamic_programme(cell), abs=0 if whole else 1e-3)


def test_backends_return_the_same_path():
    for seed in range(30):
        scores, src, tgt = ragged(seed, max_tokens=40, max_frames=120, whole=seed % 3 == 0)
        first, second = (search(scores, src, tgt, backend=backend) for backend in BACKENDS)
        assert torch.equal(first, second)


@pytest.mark.parametrize("backend", BACKENDS)
def test_ties_stay(backend):
    durations = search(torch.zeros(1, 6, 3), torch.tensor([3]), torch.tensor([6]), backend=backend)
    assert durations.tolist() == [[4, 1, 1]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_edges(backend):
    ones = torch.ones(1, dtype=torch.int64)
    scores = torch.randn(1, 5, 5)
    assert search(scores, ones, 5 * ones, backend=backend).tolist() == [[5, 0, 0, 0, 0]]
    assert search(scores, 5 * ones, 5 * ones, backend=backend).tolist() == [[1] * 5]
    assert search(scores, ones, ones, backend=backend).tolist() == [[1, 0, 0, 0, 0]]
    empty = torch.zeros(0, dtype=torch.int64)
    assert search(torch.zeros(0, 0, 0), empty, empty, backend=backend).shape == (0, 0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_padding_and_company_change_nothing(backend):
    scores, src, tgt = ragged(3, b=5, max_tokens=20, max_frames=50)
    together = search(scores, src, tgt, backend=backend)
    filled = F.pad(scores, (0, 3, 0, 7))
    for row in range(5):
        filled[row, :, src[row] :] = torch.nan
        filled[row, tgt[row] :] = torch.nan
    padded = search(filled, src, tgt, backend=backend)
    assert torch.equal(padded[:, : scores.shape[2]], together)
    for row in range(5):
        alone = scores[row : row + 1, : tgt[row], : src[row]]
        durations = search(alone, src[row : row + 1], tgt[row : row + 1], backend=backend)
        assert torch.equal(durations[0], together[row, : src[row]])


@pytest.mark.parametrize("backend", BACKENDS)
def test_cells_off_every_path_are_not_looked_at(backend):
    scores = torch.randn(1, 6, 4)
    lengths = torch.tensor([4]), torch.tensor([6])
    expected = search(scores, *lengths, backend=backend)
    for t, s in itertools.product(range(6), range(4)):
        if s > t or s < t - 2:
            scores[0, t, s] = torch.nan
    assert torch.equal(search(scores, *lengths, backend=backend), expected)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("backend", BACKENDS)
def test_refuses_scores_that_are_not_finite(backend, value):
    scores = torch.randn(2, 6, 4)
    lengths = torch.tensor([4, 4]), torch.tensor([6, 6])
    for t, s in [(0, 0), (2, 1), (5, 3)]:
        broken = scores.clone()
        broken[1, t, s] = value
        with refused(UnisonoError, "value", "scores", names="LJ-2"):
            search(broken, *lengths, ids=["LJ-1", "LJ-2"], backend=backend)


def test_the_compiled_search_never_leaves_its_arrays(monkeypatch):
    """The kernel as plain Python, where an index beyond an array raises: compiled, it would write over memory."""
    from unisono.duration import search_numba

    lanes = search_numba.LANES

    def vectors(array, first):
        assert 0 <= first <= len(array) - lanes
        return array[first : first + lanes]

    def row(scores, first, best, start, stop, moves, word):
        """What the vectors do, in numpy, bounds checked."""
        assert start % lanes == stop % lanes == 0 and start < stop
        for j in range(start, stop, lanes):
            score, stays = vectors(scores, first + j), vectors(best, j).copy()
            moved = np.append(stays[1:], vectors(best, j + lanes)[0])
            greater = moved > stays
            best[j : j + lanes] = np.where(greater, moved, stays) + score + (score - score)
            moves[word + (j - start) // lanes] = np.packbits(greater, bitorder="little").view(np.uint16)[0]

    monkeypatch.setattr(search_numba, "_row", row)
    rng = np.random.default_rng(0)
    for _ in range(200):
        b, s = 3, int(rng.integers(lanes, 3 * lanes))
        t = int(rng.integers(1, 3 * lanes))
        scores = rng.normal(size=(b, t, s)).astype(np.float32)
        strange = rng.choice([np.nan, np.inf, -np.inf, 3e38, -3e38], size=scores.shape)
        often = rng.choice([0.0, 0.001, 0.3])
        scores = np.where(rng.random(scores.shape) < often, strange, scores).astype(np.float32)
        src = rng.integers(1, min(s, t) + 1, size=b)
        tgt = np.array([int(rng.integers(n, t + 1)) for n in src])
        durations, bad = np.zeros((b, s), np.int64), np.zeros(b, np.bool_)
        with np.errstate(all="ignore"):
            search_numba._search(scores, src, tgt, np.arange(b), durations, bad)
        for n in range(b):
            assert durations[n].sum() == (0 if bad[n] else tgt[n])
            assert (durations[n, src[n] :] == 0).all()
        compiled, also_bad = search_numba.search_numba(torch.from_numpy(scores), src.tolist(), tgt.tolist())
        assert compiled.tolist() == durations.tolist() and also_bad == bad.nonzero()[0].tolist()


def test_refuses_the_impossible_by_name():
    scores, two = torch.zeros(2, 3, 4), torch.tensor([2, 2])
    with refused(UnisonoError, "limit", "tgt_lengths", value=3, names=["'b'", "4 tokens", "3 frames"]):
        search(scores, torch.tensor([2, 4]), torch.tensor([3, 3]), ids=["a", "b"])
    with refused(UnisonoError, "empty", "src_lengths", value=0, names="item 1"):
        search(scores, torch.tensor([2, 0]), two)
    with refused(UnisonoError, "range", "src_lengths", value=5, names=["item 0", "5 tokens"]):
        search(scores, torch.tensor([5, 2]), two)
    with refused(UnisonoError, "unknown", "backend", value="cuda", names="auto"):
        search(scores, two, two, backend="cuda")


def test_scores_are_not_changed_and_any_layout_and_dtype_is_taken():
    scores = torch.randn(2, 9, 5, dtype=torch.float64)
    lengths = torch.tensor([5, 3]), torch.tensor([9, 8])
    before = scores.clone()
    durations = search(scores, *lengths)
    assert torch.equal(scores, before) and durations.dtype == torch.int64
    turned = scores.transpose(1, 2).contiguous().transpose(1, 2).requires_grad_()
    assert torch.equal(search(turned, *lengths), durations)


def test_equals_ctc_forced_alignment_without_blanks():
    """Viterbi through CTC's trellis with targets 1..S and a blank that is never taken."""
    for seed in range(10):
        scores, src, tgt = ragged(seed, b=1, max_tokens=10, max_frames=30)
        s, t = int(src[0]), int(tgt[0])
        log_probs = scores[0, :t, :s].log_softmax(-1).double().numpy()
        states = 2 * s + 1  # blank, 1, blank, 2, ... blank
        emit = np.full((t, states), -1e30)
        emit[:, 1::2] = log_probs
        best, back = np.full(states, -np.inf), np.zeros((t, states), int)
        best[:2] = emit[0, :2]
        for frame in range(1, t):
            options = [best, np.r_[-np.inf, best[:-1]], np.r_[-np.inf, -np.inf, best[:-2]]]
            options[2][::2] = -np.inf  # only a token may be skipped to, past a blank
            back[frame] = np.argmax(options, axis=0)
            best = np.max(options, axis=0) + emit[frame]
        state = 2 * s - 1
        durations = np.zeros(s, int)
        for frame in range(t - 1, -1, -1):
            durations[state // 2] += 1
            state -= back[frame, state]
        found = search(scores[:, :t, :s].log_softmax(-1), src, tgt)
        assert found[0].tolist() == durations.tolist()


def test_equals_the_package_that_others_install():
    peer = pytest.importorskip("monotonic_alignment_search", reason="it has no wheel for this platform")
    scores, src, tgt = ragged(5, b=6, max_tokens=30, max_frames=90)
    mask = torch.zeros_like(scores)
    for row in range(6):
        mask[row, : tgt[row], : src[row]] = 1
    path = peer.maximum_path(scores.transpose(1, 2).contiguous(), mask.transpose(1, 2).contiguous())
    assert torch.equal(search(scores, src, tgt), path.sum(2).long())


def test_several_threads_at_once():
    from unisono.duration.search_numba import CELLS_PER_THREAD

    scores, src, tgt = torch.randn(9, 800, 200), torch.full((9,), 200), torch.full((9,), 800)
    assert scores.numel() > CELLS_PER_THREAD  # each of them has a helper
    scores[4, 300, 100] = torch.nan
    expected = search(scores, src.clone().index_fill_(0, torch.tensor(4), 1), tgt, backend="torch")
    results, refused = [None] * 4, [None] * 4

    def work(i):
        results[i] = search(scores, src.clone().index_fill_(0, torch.tensor(4), 1), tgt, backend="numba")
        try:
            search(scores, src, tgt, backend="numba")
        except UnisonoError as error:
            refused[i] = error

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(result, expected) for result in results)
    assert all(error.path == "scores" and "item 4" in str(error) for error in refused)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_forked_child_has_helpers_of_its_own():
    from unisono.duration.search_numba import CELLS_PER_THREAD, _helpers

    scores, src, tgt = torch.randn(8, 800, 200), torch.full((8,), 200), torch.full((8,), 800)
    assert scores.numel() > CELLS_PER_THREAD  # there are helpers, of whose threads a child has none
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        expected = search(scores, src, tgt, backend="numba")
        assert _helpers
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # that a process which has threads is forked
            child = os.fork()
        if child == 0:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(60)  # ends a child that waits for its parent's threads
            code = 1
            with contextlib.suppress(BaseException):
                code = 0 if torch.equal(search(scores, src, tgt, backend="numba"), expected) else 2
            os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        torch.set_num_threads(before)


INTERPRETED = """
import torch
from unisono.duration import search
g = torch.Generator().manual_seed(0)
for i in range(5):
    s = int(torch.randint(1, 20, (), generator=g)); t = int(torch.randint(s, 30, (), generator=g))
    scores = torch.randn(3, t, s, generator=g) if i % 2 else torch.zeros(3, t, s)
    src = torch.randint(1, s + 1, (3,), generator=g)
    tgt = torch.stack([torch.randint(int(n), t + 1, (), generator=g) for n in src])
    a, b = (search(scores, src, tgt, backend=name) for name in ("triton", "torch"))
    assert torch.equal(a, b), (a, b)
scores[2, 0, 0] = torch.nan
try:
    search(scores, src, tgt, backend="triton")
except ValueError as error:
    print(error)
"""


def test_triton_kernel_in_the_interpreter():
    aside = Path(sys.prefix) / "triton"  # where make puts it if torch brought none
    if not aside.is_dir():
        pytest.importorskip("triton", reason="triton has no wheel for this platform")
    path = os.pathsep.join([str(CORE), str(aside)])
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": path}
    run = subprocess.run([sys.executable, "-c", INTERPRETED], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("item 2 has a score that is NaN or infinite")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("backend", ["triton", "torch"])
def test_on_a_gpu(backend):
    for seed in range(5):
        scores, src, tgt = ragged(seed, max_tokens=300, max_frames=900)
        found = search(scores.cuda(), src.cuda(), tgt.cuda(), backend=backend)
        assert found.is_cuda
        assert torch.equal(found.cpu(), search(scores, src, tgt))

"""Jacobi iteration in a window that adapts: its schedule, plain decoding's tokens, and rows that do not meet."""

import pytest
import torch
from refused import refused
from unisono.errors import UnisonoError
from unisono.verify import Draw, Prefix, Round, Target, Verdict, autoregressive, decode, jacobi
from unisono_text.lossless.catalogue import method_of
from unisono_text.lossless.entry import Means
from unisono_text.lossless.window import AdaptiveWindow, windowed_jacobi

V = 7


def reciting(sequence):
    """After token i of the sequence comes token i + 1, whatever was read."""
    table = torch.tensor(sequence)

    def network(tokens, positions, visible, cache):
        return torch.nn.functional.one_hot(table[(positions + 1) % len(table)], V).double() * 9

    return network


def wavering(tokens, positions, visible, cache):
    """Logits that hang on the last two tokens."""
    before = torch.nn.functional.pad(tokens[:, :-1], (1, 0))
    phase = (tokens * 3 + before * 5 + positions % 2)[..., None] * torch.arange(1, V + 1)
    return 2 * torch.cos(phase.double())


def test_a_window_doubles_on_success_and_halves_on_failure():
    propose, target = AdaptiveWindow(8), Target(reciting([1, 2]))
    prefix = Prefix.of(torch.tensor([[1, 1], [1, 1]]), 40, [0, 0])
    last, widths = None, []
    for accepted in ([1, 0], [3, 0], [1, 0], [0, 1], [0, 0]):
        proposal = propose(prefix, last, target, Draw())
        widths.append(proposal.real.sum(1).tolist())
        n = proposal.tokens.shape[1]
        drawn = torch.zeros(2, n + 1, dtype=torch.int64)
        verdict = Verdict(torch.arange(n).expand(2, n), torch.tensor(accepted), drawn[:, 0], drawn)
        last = Round(proposal, torch.zeros(2, n + 1, V), verdict)
    widths.append(propose(prefix, last, target, Draw()).real.sum(1).tolist())
    # Row 1 begins with nothing to fail with, and so it does when all of its guesses were accepted.
    assert widths == [[4, 4], [8, 4], [8, 2], [8, 1], [4, 2], [2, 2]]


def test_a_window_does_not_leave_the_room():
    propose, target = AdaptiveWindow(8), Target(reciting([1, 2]))
    proposal = propose(Prefix.of(torch.tensor([[1, 1, 1]]), 6, [0]), None, target, Draw())
    assert proposal.real.tolist() == [[True, True]]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_tokens_are_those_of_plain_decoding(temperature):
    prompt, lengths = torch.tensor([[1, 2, 3], [4, 0, 0], [5, 6, 0]]), torch.tensor([3, 1, 2])
    given = dict(seeds=[1, 2, 3], lengths=lengths, temperature=temperature, end=0)
    plain = decode(wavering, prompt, autoregressive(), 40, **given)
    for window in (1, 2, 16, 100):
        out = decode(wavering, prompt, windowed_jacobi(window), 40, **given)
        assert torch.equal(out.tokens, plain.tokens) and out.lossless


def test_a_row_alone_and_in_a_batch_take_the_same_rounds():
    prompt, lengths, seeds = torch.tensor([[1, 2, 3], [4, 0, 0], [5, 6, 0]]), torch.tensor([3, 1, 2]), [1, 2, 3]
    together = decode(wavering, prompt, windowed_jacobi(), 40, seeds=seeds, lengths=lengths, temperature=1.0)
    for row in range(3):
        start = prompt[row : row + 1, : lengths[row]]
        alone = decode(wavering, start, windowed_jacobi(), 40, seeds=[seeds[row]], temperature=1.0)
        assert torch.equal(alone.tokens[0], together.tokens[row])
        assert (alone.rounds[0], alone.proposed[0]) == (together.rounds[row], together.proposed[row])


def test_a_window_is_narrow_where_nothing_converges_and_wide_where_all_does():
    noise = torch.randint(0, V, (200,), generator=torch.Generator().manual_seed(0)).tolist()
    prompt, given = torch.tensor([[1]]), dict(seeds=[0], temperature=1.0)
    whole, narrow = (decode(wavering, prompt, method, 120, **given) for method in (jacobi(), windowed_jacobi()))
    assert narrow.proposed[0] < whole.proposed[0] / 10 and narrow.rounds[0] < 2 * whole.rounds[0]
    easy = decode(reciting(noise), torch.tensor([noise[:1]]), windowed_jacobi(64), 200)
    assert easy.tokens[0].tolist() == noise and easy.nfe < 16


@pytest.mark.parametrize(("code", "value"), [("range", 0), ("range", -3), ("type", 2.5)])
def test_a_window_without_positions_is_refused(code, value):
    with refused(UnisonoError, code, "window", value=value, names=str(value)):
        method_of("jacobi", Means(), window=value)

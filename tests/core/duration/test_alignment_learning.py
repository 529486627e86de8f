"""Prior, forward sum, binarisation and the aligner, against sums over all paths."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from refused import refused
from unisono.duration import (
    Aligner,
    Alignment,
    beta_binomial_prior,
    binarisation_loss,
    estimate_shift,
    forward_sum_loss,
    ramp,
    search,
    shift_boundaries,
)
from unisono.errors import UnisonoError

SRC, TGT = torch.tensor([3, 4, 1]), torch.tensor([6, 4, 5])


def log_scores(seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(3, 6, 4, generator=g, dtype=torch.float64)


def all_paths(frames, tokens):
    for cuts in itertools.combinations(range(1, frames), tokens - 1):
        yield np.repeat(np.arange(tokens), np.diff([0, *cuts, frames]))


def normalised(scores, row):
    s, t = int(SRC[row]), int(TGT[row])
    return scores[row, :t, :s].log_softmax(-1)


def test_exact_forward_sum_is_the_sum_over_all_paths():
    scores = log_scores()
    losses = forward_sum_loss(scores, SRC, TGT, blank_logit=-1e30, reduction="none")
    for row in range(3):
        log_probs = normalised(scores, row)
        t, s = log_probs.shape
        totals = [log_probs[range(t), path].sum() for path in all_paths(t, s)]
        expected = -torch.stack(totals).logsumexp(0) / s
        # The loss is computed in float32.
        assert losses[row].item() == pytest.approx(expected.item(), rel=1e-5)


def test_gradient_of_the_exact_forward_sum_is_the_posterior():
    scores = log_scores().requires_grad_()
    forward_sum_loss(scores, SRC, TGT, blank_logit=-1e30, reduction="none").sum().backward()
    for row in range(3):
        log_probs = normalised(scores.detach(), row)
        t, s = log_probs.shape
        posterior, total = torch.zeros(t, s, dtype=torch.float64), 0.0
        for path in all_paths(t, s):
            p = log_probs[range(t), path].sum().exp()
            posterior[range(t), path] += p
            total += p
        expected = (log_probs.exp() - posterior / total) / s
        torch.testing.assert_close(scores.grad[row, :t, :s], expected, rtol=0, atol=1e-6)


def test_forward_sum_with_a_blank_is_ctc():
    scores = log_scores()
    losses = forward_sum_loss(scores, SRC, TGT, reduction="none")
    for row in range(3):
        s, t = int(SRC[row]), int(TGT[row])
        padded = F.pad(scores[row, :t, :s], (1, 0), value=-1.0).log_softmax(-1)[:, None]
        expected = F.ctc_loss(padded, torch.arange(1, s + 1)[None], torch.tensor([t]), torch.tensor([s]))
        assert losses[row].item() == pytest.approx(expected.item(), rel=1e-5)
    assert forward_sum_loss(scores, SRC, TGT).item() == pytest.approx(losses.mean().item())
    assert forward_sum_loss(scores, SRC, TGT, reduction="sum").item() == pytest.approx(losses.sum().item())


@pytest.mark.parametrize("value", [0.0, 50.0, -1e30])
def test_losses_and_gradients_do_not_see_padding(value):
    scores = log_scores().float()
    dirty = F.pad(scores, (0, 2, 0, 3))
    for row in range(3):
        dirty[row, :, SRC[row] :] = value
        dirty[row, TGT[row] :] = value
    clean, dirty = scores.requires_grad_(), dirty.requires_grad_()
    durations = search(clean, SRC, TGT)
    for a, d in ((clean, durations), (dirty, F.pad(durations, (0, 2)))):
        loss = forward_sum_loss(a, SRC, TGT, reduction="none")
        loss = loss + binarisation_loss(a, d, SRC, TGT, reduction="none")
        loss.sum().backward()
        assert a.grad.isfinite().all()
        for row in range(3):
            assert not a.grad[row, TGT[row] :].any() and not a.grad[row, :, SRC[row] :].any()
    torch.testing.assert_close(dirty.grad[:, :6, :4], clean.grad)


def test_binarisation_is_the_log_probability_of_the_path():
    scores = log_scores()
    durations = search(scores, SRC, TGT)
    losses = binarisation_loss(scores, durations, SRC, TGT, reduction="none")
    for row in range(3):
        log_probs = normalised(scores, row)
        t, s = log_probs.shape
        path = np.repeat(np.arange(s), durations[row, :s])
        expected = -log_probs[range(t), path].mean()
        assert losses[row].item() == pytest.approx(expected.item(), rel=1e-5)
    with refused(UnisonoError, "conflict", "durations", value=[10, 8, 9]):
        binarisation_loss(scores, durations + 1, SRC, TGT)


def test_refusals():
    scores = log_scores()
    with refused(UnisonoError, "limit", "tgt_lengths", value=3, names=["'b'", "4 tokens", "3 frames"]):
        forward_sum_loss(scores, SRC, torch.tensor([6, 3, 5]), ids=["a", "b", "c"])
    with refused(UnisonoError, "unknown", "reduction", value="avg", names="'mean'"):
        forward_sum_loss(scores, SRC, TGT, reduction="avg")
    with refused(UnisonoError, "range", "scaling", value=0.0, names="above 0"):
        beta_binomial_prior(SRC, TGT, scaling=0.0)


@pytest.mark.parametrize("scaling", [1.0, 0.05, 3.0])
def test_prior_is_a_distribution_over_the_tokens_that_exist(scaling):
    src, tgt = torch.tensor([1, 7, 120]), torch.tensor([4, 7, 500])
    prior = beta_binomial_prior(src, tgt, scaling)
    assert prior.shape == (3, 500, 120)
    for row in range(3):
        s, t = int(src[row]), int(tgt[row])
        p = prior[row, :t, :s].double().exp()
        # float32 logarithms near -1000.
        torch.testing.assert_close(p.sum(1), torch.ones(t).double(), rtol=0, atol=1e-4)
        # The mean of a beta-binomial: n α / (α + β), so the prior runs along the diagonal.
        expected = (s - 1) * torch.arange(1, t + 1).double() / (t + 1)
        torch.testing.assert_close(p @ torch.arange(s).double(), expected, rtol=0, atol=1e-2)
        assert not prior[row, t:].any() and not prior[row, :, s:].any()


def test_prior_equals_scipy():
    stats = pytest.importorskip("scipy.stats", reason="scipy comes with librosa")
    prior = beta_binomial_prior(torch.tensor([9]), torch.tensor([20]), 0.7)
    a = 0.7 * np.arange(1, 21)[:, None]
    expected = stats.betabinom(8, a, a[::-1]).logpmf(np.arange(9))
    np.testing.assert_allclose(prior[0], expected, atol=1e-5)


def make_aligner():
    torch.manual_seed(0)
    return Aligner(6, 5, channels=8, scale=0.1)


def test_aligner_distance_and_masks():
    aligner = make_aligner()
    text, mel = torch.randn(3, 4, 6), torch.randn(3, 6, 5)
    prior = beta_binomial_prior(SRC, TGT)
    plain = aligner(text, mel, SRC, TGT)
    together = aligner(text, mel, SRC, TGT, prior)
    for row in range(3):
        s, t = int(SRC[row]), int(TGT[row])
        keys = aligner.key(text[row : row + 1, :s].transpose(1, 2))[0].T
        queries = aligner.query(mel[row : row + 1, :t].transpose(1, 2))[0].T
        distance = (queries[:, None] - keys[None]).square().sum(-1)
        expected = (-0.1 * distance).log_softmax(-1)
        torch.testing.assert_close(plain[row, :t, :s], expected, rtol=1e-5, atol=1e-5)
        alone = aligner(text[row : row + 1, :s], mel[row : row + 1, :t], SRC[row : row + 1], TGT[row : row + 1])
        torch.testing.assert_close(alone[0], plain[row, :t, :s], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(together[row, :t, :s], expected + prior[row, :t, :s], rtol=1e-5, atol=1e-5)
        assert (together[row, :, s:] <= -1e4).all()


def test_aligner_works_in_bfloat16_and_gives_every_parameter_a_gradient():
    aligner = make_aligner()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        log_attn = aligner(torch.randn(3, 4, 6), torch.randn(3, 6, 5), SRC, TGT)
        assert log_attn.dtype == torch.float32
        loss = forward_sum_loss(log_attn, SRC, TGT)
        loss = loss + binarisation_loss(log_attn, search(log_attn, SRC, TGT), SRC, TGT)
    loss.backward()
    for parameter in aligner.parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.abs().sum() > 0


def test_aligner_learns_an_alignment():
    """Every token has a sound; frames are noisy copies of it. Learned from scratch in a second."""
    g = torch.Generator().manual_seed(0)
    sounds = torch.randn(12, 8, generator=g)
    tokens = torch.stack([torch.randperm(12, generator=g)[:7] for _ in range(32)])
    durations = torch.randint(2, 7, (32, 7), generator=g)
    src, tgt = torch.full((32,), 7), durations.sum(1)
    mel = torch.zeros(32, int(tgt.max()), 8)
    for row in range(32):
        mel[row, : tgt[row]] = sounds[tokens[row].repeat_interleave(durations[row])]
    mel = mel + 0.3 * torch.randn(mel.shape, generator=g)
    torch.manual_seed(0)
    embed, aligner = torch.nn.Embedding(12, 16), Aligner(16, 8, channels=16, scale=0.02)
    optimiser = torch.optim.AdamW([*embed.parameters(), *aligner.parameters()], lr=5e-3)
    prior = beta_binomial_prior(src, tgt)
    for step in range(120):
        log_attn = aligner(embed(tokens), mel, src, tgt, prior)
        loss = forward_sum_loss(log_attn, src, tgt)
        found = search(log_attn, src, tgt)
        loss = loss + ramp(step, 60, 20) * binarisation_loss(log_attn, found, src, tgt)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    even = Alignment.uniform(src, tgt).ends
    truth = durations.cumsum(1)
    error, chance = ((ends - truth)[:, :-1].abs().double().mean() for ends in (found.cumsum(1), even))
    # In frames, of which a token has four. A convolution over three frames blurs each boundary.
    assert error < 0.5 < 1.0 < chance


def test_ramp():
    assert [ramp(step, 10, 4) for step in (0, 10, 11, 14, 99)] == [0, 0, 0.25, 1, 1]


def test_shift_is_estimated_and_removed():
    g = torch.Generator().manual_seed(0)
    src = torch.tensor([20, 12])
    truth = torch.randint(5, 12, (2, 20), generator=g)
    truth[1, 12:] = 0
    early = shift_boundaries(truth, src, -3)
    assert torch.equal(early.sum(1), truth.sum(1)) and early[0, 0] == truth[0, 0] - 3
    assert estimate_shift(early, truth, src) == 3
    assert torch.equal(shift_boundaries(early, src, 3), truth)
    far = shift_boundaries(truth, src, -1000, min_frames=2)
    assert (far[0, :-1] == 2).all() and torch.equal(far.sum(1), truth.sum(1))
    # Against either wall every token keeps its minimum, in a shorter item of the batch too.
    ragged, lengths = torch.tensor([[2, 3, 4, 3], [5, 2, 0, 0]]), torch.tensor([4, 2])
    assert shift_boundaries(ragged, lengths, 100).tolist() == [[9, 1, 1, 1], [6, 1, 0, 0]]
    assert shift_boundaries(ragged, lengths, -100, min_frames=2).tolist() == [[2, 2, 2, 6], [2, 5, 0, 0]]
    assert shift_boundaries(ragged, lengths, 2, min_frames=2).tolist() == [[4, 3, 3, 2], [5, 2, 0, 0]]
    with refused(UnisonoError, "range", "durations", value=0, names=["token 3", "item 0", "min_frames=1"]):
        shift_boundaries(torch.tensor([[4, 4, 4, 0]]), torch.tensor([4]), 1)
    with refused(UnisonoError, "empty", "durations"):
        estimate_shift(truth[:, :1], truth[:, :1], torch.tensor([1, 1]))

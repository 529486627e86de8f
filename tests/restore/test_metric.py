"""The discriminator that learns PESQ: what it sees and learns, and what becomes of items that PESQ cannot judge."""

import sys
from types import ModuleType

import pytest
import torch
from unisono.errors import DataError, MissingExtra
from unisono_restore.mp_senet import metric, model
from unisono_restore.mp_senet.facts import NoisyFacts
from unisono_restore.mp_senet.metric import MetricDiscriminator, qualities
from unisono_restore.mp_senet.model import MPSENet
from unisono_restore.mp_senet.sizes import SENetObjective, SENetSizes
from unisono_sound.signal.phase import TransformSizes

SMALL = TransformSizes(n_fft=64, win_length=64, hop_length=24)
RATE = 8000


def pairs(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 2, 2000, generator=torch.Generator().manual_seed(0)) * 0.1


def enhancer(monkeypatch) -> MPSENet:
    monkeypatch.setitem(sys.modules, "pesq", ModuleType("pesq"))
    torch.manual_seed(0)
    made = MPSENet(
        network=SENetSizes(channels=4, num_blocks=1, num_heads=2, depth=2),
        spectrum=SMALL,
        objective=SENetObjective(metric=0.05),
    )
    made.build(NoisyFacts(sample_rate=RATE))
    made.configure_model()
    return made


def test_a_judgement_is_one_number_in_its_bounds_and_hears_which_is_clean():
    judge = MetricDiscriminator(SMALL, 0.3, 4).eval()
    (said,) = judge(pairs())
    assert said.scores.shape == (3, 1) and bool(((said.scores > 0) & (said.scores < 1)).all())
    (other,) = judge(pairs().flip(1))
    assert not torch.equal(said.scores, other.scores)


def test_weights_are_spectrally_normal():
    judge = MetricDiscriminator(SMALL, 0.3, 4)
    for _ in range(30):
        judge(pairs())
    for layer in [*judge.convs, judge.head[0], judge.head[3]]:
        weight = layer.weight.flatten(1)
        assert float(torch.linalg.matrix_norm(weight, 2).detach()) == pytest.approx(1, abs=0.05)


def test_qualities_are_in_their_order_from_0_to_1_and_unknown_ones_are_nan(monkeypatch):
    def told(reference, reference_rate, waveform, sample_rate):
        assert reference_rate == sample_rate == RATE
        if float(reference[0]) == 2:
            raise DataError("no speech")
        return float(waveform[0])

    monkeypatch.setattr(metric, "perceptual_quality", told)
    given = torch.zeros(3, 2, 4)
    given[:, 1, 0] = torch.tensor([1.0, 4.5, 2.0])
    given[2, 0, 0] = 2
    found = qualities(given, RATE)
    assert found[:2].tolist() == [0.0, 1.0] and bool(found[2].isnan())


@pytest.mark.slow  # processes import for seconds
def test_processes_measure_what_one_does():
    pytest.importorskip("pesq")
    given = pairs()
    torch.testing.assert_close(qualities(given, 16000, 2), qualities(given, 16000), equal_nan=True)


def test_the_discriminator_is_told_1_and_the_quality_and_failures_are_counted_aloud(monkeypatch):
    made = enhancer(monkeypatch)
    goal = torch.tensor([0.25, float("nan"), 0.5])
    monkeypatch.setattr(model, "qualities", lambda fake, rate, processes: goal)
    judge = made.discriminators["metric"].eval()
    fake = pairs()
    real = fake[:, :1].expand(-1, 2, -1)
    (true,), (said,) = judge(real), judge(fake)
    with pytest.warns(UserWarning, match="1 of 3"):
        loss = made.discriminator_loss(fake, real)
    kept = (said.scores[[0, 2], 0] - goal[[0, 2]]).square().mean()
    assert float(loss.detach()) == pytest.approx(float(((true.scores - 1).square().mean() + kept).detach()), rel=1e-5)
    assert made.failures == 1


def test_the_metric_moves_the_generator_through_what_is_heard_again(monkeypatch):
    made = enhancer(monkeypatch)
    wave = pairs(2)
    played = made.play({"wave": wave[:, 0], "heard": wave[:, 1]})
    assert played.fake.shape == (2, 2, 2000) and torch.equal(played.real[:, 0], played.real[:, 1])
    assert torch.equal(played.fake[:, 0], played.real[:, 0])
    parts = made._generator_losses(played)
    assert "adversarial" in parts and "features" not in parts
    gradient = torch.autograd.grad(parts["adversarial"], made.net.encoder.first.weight)[0]
    assert bool(gradient.any())


def test_without_its_weight_there_is_no_discriminator_and_no_extra_is_needed():
    made = MPSENet(network=SENetSizes(channels=4, num_blocks=1, num_heads=2, depth=2), spectrum=SMALL)
    made.build(NoisyFacts(sample_rate=RATE))
    assert made.judges() == {}


def test_with_its_weight_the_extra_is_asked_for_at_the_start(monkeypatch):
    made = enhancer(monkeypatch)
    monkeypatch.setitem(sys.modules, "pesq", None)
    with pytest.raises(MissingExtra):
        made.judges()

"""Flows: inverses, determinants against autograd's Jacobians, a closed form, padding, and states."""

import math
import threading

import pytest
import torch
from refused import refused
from torch.distributions import MultivariateNormal
from unisono.errors import UnisonoError
from unisono.nn.flow import (
    ActNorm,
    AffineCoupling,
    FlowSequence,
    GatedNet,
    GatedSizes,
    InvertibleMixing,
    completed,
    squeeze,
    unsqueeze,
)

SIZES = GatedSizes(dim=12, num_layers=2, kernel_size=3, dilation_rate=2, dropout=0.0)
LENGTHS = torch.tensor([6, 3, 1])
MASK = torch.arange(6) < LENGTHS[:, None]


@pytest.fixture(autouse=True)
def seed():
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(0)
        yield


def flow(channels: int = 8, blocks: int = 2, condition_dim: int = 0, drawn: bool = True) -> FlowSequence:
    """A flow in double precision; ``drawn`` gives what begins at 0 random values."""
    layers = []
    for _ in range(blocks):
        net = GatedNet(channels // 2, channels, SIZES, condition_dim)
        if drawn:
            torch.nn.init.normal_(net.last.weight, 0, 0.05)
            torch.nn.init.normal_(net.last.bias, 0, 0.2)
        layers += [ActNorm(channels), InvertibleMixing(channels), AffineCoupling(net)]
    return FlowSequence(layers).double()


def sequences(channels: int = 8, garbage: float = 1e3) -> torch.Tensor:
    x = 3 * torch.randn(3, 6, channels, dtype=torch.float64) - 1
    return torch.where(MASK[..., None], x, garbage)


def begun(net: FlowSequence, x: torch.Tensor, mask: torch.Tensor = MASK, condition=None) -> FlowSequence:
    """Let it see its first batch."""
    net.train()(x, mask, condition)
    return net.eval()


def test_the_inverse_returns_what_came_in():
    x = sequences()
    net = begun(flow(), x)
    z, _ = net(x, MASK)
    back = net.inverse(z, MASK)
    torch.testing.assert_close(back, torch.where(MASK[..., None], x, 0.0), atol=1e-10, rtol=0)
    single = net.float()
    back = single.inverse(single(x.float(), MASK)[0], MASK)
    torch.testing.assert_close(back, torch.where(MASK[..., None], x, 0.0).float(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("length", [1, 4])
def test_log_determinants_are_those_of_the_jacobian(length):
    """4 frames of 8 channels, behind which is padding; autograd's Jacobian, 32 wide, and its determinant."""
    x = torch.randn(1, 6, 8, dtype=torch.float64)
    mask = torch.arange(6)[None] < length
    net = begun(flow(), x, mask)
    jacobian = torch.autograd.functional.jacobian(
        lambda valid: net(torch.cat([valid, x[:, length:]], 1), mask)[0][:, :length], x[:, :length]
    )
    expected = torch.linalg.slogdet(jacobian.reshape(length * 8, length * 8)).logabsdet
    torch.testing.assert_close(net(x, mask)[1][0], expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize("make", [lambda: ActNorm(8), lambda: InvertibleMixing(8)], ids=["norm", "mixing"])
def test_determinants_of_linear_layers_grow_with_the_valid_length_alone(make):
    layer = FlowSequence([make()]).double()
    x = sequences()
    begun(layer, x)
    _, log_det = layer(x, MASK)
    alone = [layer(x[i : i + 1, :n], torch.ones(1, n, dtype=torch.bool))[1] for i, n in enumerate(LENGTHS.tolist())]
    torch.testing.assert_close(log_det, torch.cat(alone), atol=1e-10, rtol=0)
    torch.testing.assert_close(log_det, log_det[2] * LENGTHS, atol=1e-10, rtol=0)


def test_couplings_of_nothing_leave_a_gaussian_of_the_linear_map():
    """With zero couplings z = A x + b for each frame, so that log N(z; 0, 1) + log det is its density."""
    x = sequences()
    net = begun(flow(drawn=False), x)
    z, log_det = net(x, MASK)
    latent = (-0.5 * z.square() - 0.5 * math.log(2 * math.pi)) * MASK[..., None]
    one = torch.ones(1, 1, dtype=torch.bool)
    shift = net(torch.zeros(1, 1, 8, dtype=torch.float64), one)[0][0, 0]
    matrix = torch.stack([net(row[None, None], one)[0][0, 0] - shift for row in torch.eye(8, dtype=torch.float64)], 1)
    mean = -torch.linalg.solve(matrix, shift)
    expected = MultivariateNormal(mean, precision_matrix=matrix.T @ matrix).log_prob(x)
    torch.testing.assert_close(latent.sum((1, 2)) + log_det, (expected * MASK).sum(1), atol=1e-8, rtol=0)


def test_padding_changes_nothing():
    x, condition = sequences(), torch.randn(3, 1, 5, dtype=torch.float64)
    net = begun(flow(condition_dim=5), x, condition=condition)
    z, log_det = net(x, MASK, condition)
    assert not z[~MASK].any()
    for row, length in enumerate(LENGTHS.tolist()):
        inside = torch.ones(1, length, dtype=torch.bool)
        own = condition[row : row + 1]
        alone, its_log_det = net(x[row : row + 1, :length], inside, own)
        torch.testing.assert_close(z[row, :length], alone[0], atol=1e-10, rtol=0)
        torch.testing.assert_close(log_det[row], its_log_det[0], atol=1e-9, rtol=0)
        back = net.inverse(alone, inside, own)
        torch.testing.assert_close(back[0], x[row, :length], atol=1e-9, rtol=0)
    infinite = torch.where(MASK[..., None], x, torch.nan)
    assert torch.equal(net(infinite, MASK, condition)[0], z)


def test_a_condition_is_heard_and_must_fit():
    x, condition = sequences(), torch.randn(3, 1, 5, dtype=torch.float64)
    net = begun(flow(condition_dim=5), x, condition=condition)
    assert not torch.equal(net(x, MASK, condition)[0], net(x, MASK, condition + 1)[0])
    spread = net(x, MASK, condition.expand(-1, 6, -1))
    torch.testing.assert_close(net(x, MASK, condition)[0], spread[0])
    with refused(UnisonoError, "conflict", "condition_dim", value=5):
        net(x, MASK)
    with refused(UnisonoError, "conflict", "condition_dim", value=0):
        flow()(x, MASK, condition)


# ---- ActNorm -----------------------------------------------------------------------------------


def test_the_first_batch_comes_out_standardised_without_its_padding():
    x, layer = sequences(), ActNorm(8).double()
    z, _ = layer.train()(x, MASK)
    torch.testing.assert_close(z[MASK].mean(0), torch.zeros(8, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(z[MASK].std(0, correction=0), torch.ones(8, dtype=torch.float64), atol=1e-10, rtol=0)


def test_the_first_batch_is_that_of_training_and_there_is_one():
    x, layer = sequences(), ActNorm(8).double()
    inside = torch.where(MASK[..., None], x, 0.0)
    assert torch.equal(layer.eval()(inside, MASK)[0], inside), "validation before training passes through"
    z, _ = layer.train()(x, MASK)
    assert torch.equal(layer.train()(x, MASK)[0], z)
    layer.train()(5 * x + 2, MASK)
    assert torch.equal(layer.eval()(x, MASK)[0], z)


def test_a_resumed_or_fine_tuned_norm_keeps_its_start():
    x, first = sequences(), ActNorm(8).double()
    z, _ = first.train()(x, MASK)
    second = ActNorm(8).double()
    second.load_state_dict(first.state_dict())
    second.train()(7 * x - 1, MASK)
    assert torch.equal(second(x, MASK)[0], z)


def test_a_state_of_other_sizes_brings_no_flag():
    """As ``run.init_from`` takes weights over: those of equal name and shape."""
    source = ActNorm(4)
    source.train()(torch.randn(2, 3, 4), torch.ones(2, 3, dtype=torch.bool))
    other = ActNorm(8)
    own = other.state_dict()
    other.load_state_dict({k: v for k, v in source.state_dict().items() if v.shape == own[k].shape}, strict=False)
    z, _ = other.train()(sequences().float(), MASK)
    torch.testing.assert_close(z[MASK].std(0, correction=0), torch.ones(8), atol=1e-4, rtol=0)


def test_a_start_allows_for_what_is_learnt_already():
    x, layer = sequences(), ActNorm(8).double()
    torch.nn.init.normal_(layer.log_scale)
    torch.nn.init.normal_(layer.shift)
    z, _ = layer.train()(x, MASK)
    torch.testing.assert_close(z[MASK].std(0, correction=0), torch.ones(8, dtype=torch.float64), atol=1e-10, rtol=0)


def test_two_processes_start_as_one(monkeypatch):
    """Each of two threads has some of the items, and ``add_up`` adds over both, as it does over processes."""
    whole, parts = ActNorm(8).double(), [ActNorm(8).double() for _ in range(2)]
    x, both, sums = sequences(), threading.Barrier(2), {}
    whole.train()(x, MASK)

    def add_up(value: torch.Tensor) -> torch.Tensor:
        sums[threading.get_ident()] = value
        both.wait(10)
        return sum(sums.values())

    monkeypatch.setattr("unisono.nn.flow.norm.add_up", add_up)
    rows = (slice(0, 1), slice(1, 3))
    threads = [threading.Thread(target=parts[i].train(), args=(x[own], MASK[own])) for i, own in enumerate(rows)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for part in parts:
        for name, value in whole.state_dict().items():
            torch.testing.assert_close(part.state_dict()[name], value, atol=1e-12, rtol=0)


def test_a_channel_that_never_changes_stays_finite():
    x = torch.ones(1, 4, 2)
    z, log_det = ActNorm(2).train()(x, torch.ones(1, 4, dtype=torch.bool))
    assert z.isfinite().all() and log_det.isfinite().all()


# ---- mixing ------------------------------------------------------------------------------------


def test_mixing_begins_as_a_rotation():
    for _ in range(20):
        weight = InvertibleMixing(8).weight.detach()
        torch.testing.assert_close(weight @ weight.T, torch.eye(4), atol=1e-6, rtol=0)
        assert torch.linalg.det(weight) > 0 and weight.is_contiguous()  # sharding asks for it


def test_a_group_has_neighbours_of_both_halves():
    """Of 8 channels in groups of 4, channels 0, 1, 4, 5 are one group and 2, 3, 6, 7 the other."""
    layer = InvertibleMixing(8).double()
    jacobian = torch.autograd.functional.jacobian(
        lambda x: layer(x, torch.ones(1, 1, dtype=torch.bool))[0], torch.randn(1, 1, 8, dtype=torch.float64)
    ).reshape(8, 8)
    first, second = [0, 1, 4, 5], [2, 3, 6, 7]
    assert torch.equal(jacobian[first][:, first], layer.weight.detach())
    assert torch.equal(jacobian[second][:, second], layer.weight.detach())
    assert not jacobian[first][:, second].any() and not jacobian[second][:, first].any()


def test_the_inverse_is_kept_and_follows_the_weight():
    layer = InvertibleMixing(8)
    with torch.no_grad():
        first = layer.inverse_weight()
        assert layer.inverse_weight() is first
        layer.weight.mul_(2)
        torch.testing.assert_close(layer.inverse_weight(), first / 2)
        layer.weight.data[0] += 1  # what no version counter tells
        torch.testing.assert_close(layer.inverse_weight() @ layer.weight, torch.eye(4), atol=1e-5, rtol=0)
    layer.inverse_weight().sum().backward()
    assert layer.weight.grad is not None and layer.weight.grad.any()


def test_mixing_is_exact_under_autocast():
    layer, x = InvertibleMixing(8), torch.randn(2, 5, 8)
    mask = torch.ones(2, 5, dtype=torch.bool)
    z, log_det = layer(x, mask)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(x, mask)[0], z) and torch.equal(layer(x, mask)[1], log_det)


# ---- the whole in 16 bits ----------------------------------------------------------------------


def test_autocast_keeps_inverses_and_determinants():
    x = sequences().float()
    net = begun(flow().float(), x)
    inside = torch.where(MASK[..., None], x, 0.0)
    z, log_det = net(x, MASK)
    with torch.autocast("cpu", torch.bfloat16):
        half, its_log_det = net(x, MASK)
        back = net.inverse(half, MASK)
    assert half.dtype == its_log_det.dtype == back.dtype == torch.float32
    # couplings alone work in 16 bits: what they say differs by 2⁻⁸ of itself, and hardly on the way back
    torch.testing.assert_close(half, z, atol=0.05, rtol=0)
    torch.testing.assert_close(its_log_det, log_det, atol=0.5, rtol=0)
    torch.testing.assert_close(back, inside, atol=0.05, rtol=0)


def test_weights_of_16_bits_train():
    net = flow().bfloat16()
    z, log_det = net.train()(sequences().bfloat16(), MASK)
    (z.square().sum() - log_det.sum()).backward()
    assert z.dtype == torch.float32 and all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


def test_every_parameter_gets_a_gradient():
    net, x = flow(condition_dim=5), sequences()
    z, log_det = net.train()(x, MASK, torch.randn(3, 1, 5, dtype=torch.float64))
    (0.5 * z.square().sum() - log_det.sum()).backward()
    still = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still


def test_what_is_learnt_is_likelier_than_noise_and_than_a_gaussian():
    """Rings, of which a linear map makes none; held-out ones, and the same with noise added."""
    generator = torch.Generator().manual_seed(0)

    def rings(count: int) -> torch.Tensor:
        angle = 2 * math.pi * torch.rand(count, 20, 2, generator=generator)
        rings = torch.cat([angle.cos(), angle.sin()], -1)
        return rings + 0.1 * torch.randn(rings.shape, generator=generator)

    layers = []
    for _ in range(4):
        net = GatedNet(2, 4, GatedSizes(dim=16, num_layers=1, kernel_size=1, dropout=0))
        layers += [ActNorm(4), InvertibleMixing(4), AffineCoupling(net)]
    net = FlowSequence(layers).train()

    def loss(x: torch.Tensor) -> torch.Tensor:
        z, log_det = net(x, torch.ones(x.shape[:2], dtype=torch.bool))
        return (0.5 * z.square().sum((1, 2)) + 40 * math.log(2 * math.pi) - log_det).mean() / 80

    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(80):
        optimizer.zero_grad()
        loss(rings(16)).backward()
        optimizer.step()
    net.eval()
    held_out = rings(64)
    gaussian = 0.5 * math.log(2 * math.pi * math.e * 0.51)  # of a ring's variance, 1/2 + 0.01, in nats a channel
    with torch.no_grad():
        own = loss(held_out).item()
        assert own < gaussian - 0.15
        assert own < loss(held_out + 0.2 * torch.randn(held_out.shape, generator=generator)).item() - 0.1


# ---- squeezing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1, 2, 3])
@pytest.mark.parametrize("time", [1, 5, 6])
def test_squeezing_is_undone(factor, time):
    x, mask = torch.randn(2, time, 3), torch.arange(time) < torch.tensor([[time], [1]])
    y, inside = squeeze(x, mask, factor)
    assert y.shape == (2, -(-time // factor), 3 * factor)
    assert inside.sum(1).tolist() == [-(-time // factor), 1]
    assert torch.equal(unsqueeze(y, time, factor), x)


def test_the_first_frame_is_the_first_half():
    x = torch.arange(8.0).reshape(1, 4, 2)
    assert squeeze(x, torch.ones(1, 4, dtype=torch.bool))[0].tolist() == [[[0, 1, 2, 3], [4, 5, 6, 7]]]


@pytest.mark.parametrize("factor", [2, 3])
def test_incomplete_lengths_are_filled_by_the_last_frame_and_noise(factor):
    x, lengths, noise = torch.randn(3, 5, 2), torch.tensor([5, 3, 1]), torch.randn(3, factor - 1, 2)
    filled, whole = completed(x, lengths, noise)
    for row, length in enumerate(lengths.tolist()):
        end = -(-length // factor) * factor
        fill = x[row, length - 1] + noise[row, : end - length]
        assert int(whole[row]) == end
        assert torch.equal(filled[row, :end], torch.cat([x[row, :length], fill]))
        assert not filled[row, end:].any()


def test_with_factor_one_nothing_is_filled():
    x, lengths = torch.randn(2, 3, 2), torch.tensor([3, 2])
    filled, whole = completed(x, lengths, torch.zeros(2, 0, 2))
    assert torch.equal(whole, lengths) and torch.equal(filled[0], x[0]) and not filled[1, 2:].any()


# ---- refusals ----------------------------------------------------------------------------------


def test_sizes_that_do_not_fit_are_refused():
    for channels, group_size in ((8, 3), (6, 4), (8, 0)):
        with refused(UnisonoError, "range", "group_size", value=group_size):
            InvertibleMixing(channels, group_size)
    with refused(UnisonoError, "value", "kernel_size", value=4):
        GatedSizes(kernel_size=4)
    with refused(UnisonoError, "range", "dilation_rate", value=0):
        GatedSizes(dilation_rate=0)
    with refused(UnisonoError, "range", "factor", value=0):
        squeeze(torch.zeros(1, 2, 2), torch.ones(1, 2, dtype=torch.bool), 0)

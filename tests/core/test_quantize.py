"""Quantisers: against the equations, against brute force, in parts and alone; codebooks of ranks and of padding."""

import copy
import math
import socket

import pytest
import torch
from refused import refused
from torch import nn
from unisono.errors import UnisonoError
from unisono.nn.adapters import AdapterSpec, adapt, merge
from unisono.nn.quantize import (
    BinaryQuantizer,
    FactorisedQuantizer,
    FactorisedResidualQuantizer,
    GroupedQuantizer,
    IndexQuantizer,
    ResidualQuantizer,
    ScalarQuantizer,
    SphericalQuantizer,
    VectorQuantizer,
)


def vectors(b=3, t=7, d=4, seed=0, dtype=torch.float32):
    return torch.randn(b, t, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.fixture(autouse=True)
def seed():
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(0)
        yield


def mask_of(lengths, t=7):
    return torch.arange(t) < torch.tensor(lengths)[:, None]


MAKERS = {
    "vector": lambda: VectorQuantizer(4, 6),
    "residual": lambda: ResidualQuantizer(4, 6, num_levels=3),
    "scalar": lambda: ScalarQuantizer(4, [5, 4, 2]),
    "grouped": lambda: GroupedQuantizer([ResidualQuantizer(2, 6), ResidualQuantizer(2, 6, 2)]),
    "factorised": lambda: FactorisedQuantizer(4, 6, 3),
    "spherical": lambda: SphericalQuantizer(4, 6, 3),
    "binary": lambda: BinaryQuantizer(4, 8),
    "binary without maps": lambda: BinaryQuantizer(4, 16),
    "index": lambda: IndexQuantizer(4, 6),
    "factorised levels": lambda: FactorisedResidualQuantizer(4, 6, 3, code_dim=2),
}


def test_the_nearest_code_is_taken():
    quantizer = VectorQuantizer(4, 6).eval()
    z = vectors()
    made = quantizer(z)
    for i in range(3):
        for j in range(7):
            distances = [float((z[i, j] - code).square().sum()) for code in quantizer.codebook]
            assert int(made.tokens[i, j, 0]) == distances.index(min(distances))
            assert float(made.commitment[i, j]) == pytest.approx(min(distances) / 4, rel=1e-5)


def test_the_codebook_follows_as_the_paper_writes():
    """van den Oord et al., appendix A.1, with a first batch that fills the codebook."""
    quantizer = VectorQuantizer(4, 3, decay=0.9, dead_below=0.0)
    quantizer(vectors(seed=1))
    n = quantizer.counts.clone()
    m = quantizer.codebook * n[:, None]
    for step in range(2, 5):
        z = vectors(seed=step)
        tokens = quantizer(z).tokens[..., 0]
        for code in range(3):
            taken = z[tokens == code]
            n[code] = 0.9 * n[code] + 0.1 * len(taken)
            m[code] = 0.9 * m[code] + 0.1 * taken.sum(0)
        torch.testing.assert_close(quantizer.counts, n)
        torch.testing.assert_close(quantizer.codebook, m / n[:, None])


def test_the_first_batch_fills_the_codebook_with_its_vectors():
    quantizer = VectorQuantizer(4, 6)
    z = vectors()
    quantizer(z)
    for code in quantizer.codebook:
        assert (z - code).abs().sum(-1).min() < 1e-6
    assert len(quantizer.codebook.unique(dim=0)) == 6


def test_more_codes_than_vectors_are_moved_apart():
    quantizer = VectorQuantizer(4, 20)
    quantizer(vectors(1, 3))
    assert len(quantizer.codebook.unique(dim=0)) == 20


def test_dead_codes_come_back_to_life_and_live_ones_stay():
    quantizer = VectorQuantizer(4, 6, dead_below=0.1)
    for _ in range(60):
        quantizer(vectors())
    with torch.no_grad():
        quantizer.codebook[2], quantizer.counts[2] = 1e3, 1e-6
    live = quantizer.counts > 0.5
    z = vectors(seed=1)
    quantizer(z)
    assert (z - quantizer.codebook[2]).abs().sum(-1).min() < 1e-6
    assert live.any() and (quantizer.codebook[live].abs() < 10).all()


def test_zero_never_resets():
    quantizer = VectorQuantizer(4, 6, dead_below=0.0)
    quantizer(vectors())
    with torch.no_grad():
        quantizer.codebook[2], quantizer.counts[2] = 1e3, 1e-9
    quantizer(vectors(seed=1))
    assert (quantizer.codebook[2] == 1e3).all()


def test_nothing_moves_outside_training():
    quantizer = VectorQuantizer(4, 6).eval()
    before = {k: v.clone() for k, v in quantizer.state_dict().items()}
    quantizer(vectors())
    assert all(torch.equal(before[k], v) for k, v in quantizer.state_dict().items())


def test_residual_levels_code_what_is_left_over():
    quantizer = ResidualQuantizer(4, 6, num_levels=3).eval()
    z = vectors()
    made = quantizer(z)
    left = z
    for level, codes in enumerate(quantizer.levels):
        alone = codes(left)
        assert torch.equal(made.tokens[..., level], alone.tokens[..., 0])
        left = left - codes.decode(alone.tokens)
    torch.testing.assert_close(made.vectors, z - left)
    torch.testing.assert_close(quantizer.decode(made.tokens), z - left)
    first = quantizer.decode(made.tokens[..., :1])
    torch.testing.assert_close(first, quantizer.levels[0].decode(made.tokens[..., :1]))


def test_quantiser_dropout_leaves_levels_out_by_item():
    quantizer = ResidualQuantizer(4, 6, num_levels=4, dropout=0.5).train()
    z = vectors(400, 2)
    made = quantizer(z, rows=torch.arange(400))
    depth = quantizer._depth(z, torch.arange(400))
    again = quantizer._depth(z.flip(0), torch.arange(400).flip(0)).flip(0)
    assert torch.equal(depth, again)  # by row, not by place
    full = float((depth == 4).float().mean())
    assert full == pytest.approx(0.5 + 0.5 / 4, abs=0.08)  # 3 standard deviations of 400 draws
    assert {1, 2, 3, 4} == set(depth.tolist())
    assert made.tokens.shape == (400, 2, 4)
    used = torch.stack([usage.sum() for usage in made.usage])
    assert (used[1:] < used[:-1]).all() and used[0] == 800


def test_two_levels_lie_on_both_sides_of_0_where_the_slope_is():
    """Shifted as other even numbers of levels are, one is beyond reach and the gradient of the other is 0."""
    quantizer = ScalarQuantizer(16, [2, 3])
    z = torch.tensor([[[-0.2, 0.0], [0.2, 0.0]]], requires_grad=True)
    bound = quantizer._bound(z)
    assert bound[0, 0, 0].round() + 1 == bound[0, 1, 0].round()
    (slope,) = torch.autograd.grad(bound[..., 0].sum(), z)
    assert slope[..., 0].min() > 0.4


@pytest.mark.parametrize("levels", [[2], [3], [4, 5], [8, 6, 5], [7, 2, 3]])
def test_scalar_codes_are_exactly_the_product(levels):
    quantizer = ScalarQuantizer(16, levels).eval()
    with torch.no_grad():
        quantizer.down.weight.copy_(3 * torch.eye(len(levels), 16))
        quantizer.down.bias.zero_()
    tokens = quantizer(vectors(1, 100_000, 16)).tokens
    assert tokens.min() == 0 and tokens.max() == math.prod(levels) - 1
    assert len(tokens.unique()) == math.prod(levels)
    everything = torch.arange(math.prod(levels))[None, :, None]
    assert len(quantizer.decode(everything)[0].unique(dim=0)) == math.prod(levels)


@pytest.mark.parametrize("name", MAKERS)
def test_tokens_decode_to_the_vectors(name):
    quantizer = MAKERS[name]().eval()
    made = quantizer(vectors())
    assert made.tokens.shape == (3, 7, quantizer.num_codebooks)
    assert made.tokens.min() >= 0 and made.tokens.max() < quantizer.codebook_size
    torch.testing.assert_close(quantizer.decode(made.tokens), made.vectors, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", MAKERS)
def test_padding_changes_nothing(name):
    together, alone = MAKERS[name](), MAKERS[name]()
    alone.load_state_dict(together.state_dict())
    z, mask = vectors(), mask_of([7, 4, 2])
    short = torch.where(mask[..., None], z, 1e3)
    rows = torch.tensor([5, 2, 9])
    for _ in range(3):
        made = together(short, mask, rows)
        order = [2, 0, 1]
        other = alone(torch.cat([short, 0 * short], 1)[order], torch.cat([mask, mask & False], 1)[order], rows[order])
        assert torch.equal(made.tokens[order], other.tokens[:, :7])
        torch.testing.assert_close(made.usage, other.usage)
        assert (made.tokens[~mask] == 0).all() and (made.vectors[~mask] == 0).all()
        for (key, one), two in zip(together.state_dict().items(), alone.state_dict().values(), strict=True):
            torch.testing.assert_close(one, two, msg=key)


@pytest.mark.parametrize("name", MAKERS)
def test_the_gradient_goes_straight_through(name):
    quantizer = MAKERS[name]().eval()
    z = vectors().requires_grad_()
    quantizer(z).vectors.sum().backward()
    if name in ("scalar", "spherical", "binary", "index") or name.startswith("factorised"):
        assert (z.grad.abs().sum(-1) > 0).all()
    else:
        torch.testing.assert_close(z.grad, torch.ones_like(z))


def test_perplexity_and_utilisation_by_hand():
    quantizer = VectorQuantizer(2, 4).eval()
    with torch.no_grad():
        quantizer.codebook.copy_(torch.tensor([[0.0, 0], [1, 0], [0, 1], [9, 9]]))
    z = torch.tensor([[[0.0, 0], [1, 0], [1, 0], [0, 1]]])
    made = quantizer(z)
    entropy = 2 * 0.25 * math.log(4) + 0.5 * math.log(2)
    assert float(made.perplexity) == pytest.approx(math.exp(entropy), rel=1e-6)
    assert float(made.utilisation) == 0.75


def test_half_precision_outside_does_not_reach_the_codebook():
    quantizer = VectorQuantizer(4, 6)
    with torch.autocast("cpu", torch.bfloat16):
        made = quantizer(vectors().bfloat16())
    assert made.vectors.dtype == quantizer.codebook.dtype == torch.float32


def _rank(rank, world, port, folder):
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    quantizer = _steps([rank * 2, rank * 2 + 1] if world == 2 else [0, 1, 2, 3])
    torch.save(quantizer.state_dict(), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def _steps(rows):
    torch.random.manual_seed(0)  # in a process of its own, or within the fixture's fork
    quantizer = ResidualQuantizer(4, 12, num_levels=2, dropout=0.5)
    for step in range(4):
        z = vectors(4, 6, seed=10 + step)
        quantizer(z[rows], mask_of([6, 3, 5, 1], 6)[rows], torch.tensor(rows))
    return quantizer


def test_two_ranks_hold_the_codebook_of_one(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_rank, (2, port, str(tmp_path)), nprocs=2)
    one = _steps([0, 1, 2, 3]).state_dict()
    for rank in range(2):
        other = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for key, value in one.items():
            torch.testing.assert_close(other[key], value, msg=f"{key} of rank {rank}")


@pytest.mark.parametrize(
    ("make", "code", "path", "value"),
    [
        (lambda: VectorQuantizer(4, 1), "range", "codebook_size", 1),
        (lambda: VectorQuantizer(4, 8, decay=1.0), "range", "decay", 1.0),
        (lambda: VectorQuantizer(4, 8, dead_below=1.0), "range", "dead_below", 1.0),
        (lambda: ResidualQuantizer(4, 8, num_levels=0), "range", "num_levels", 0),
        (lambda: ResidualQuantizer(4, 8, dropout=1.5), "range", "dropout", 1.5),
        (lambda: FactorisedQuantizer(4, 8, 5), "range", "code_dim", 5),
        (lambda: FactorisedQuantizer(4, 8, 2, decay=0.0), "range", "decay", 0.0),
        (lambda: ScalarQuantizer(4, []), "range", "levels", []),
        (lambda: ScalarQuantizer(4, [5, 1]), "range", "levels", [5, 1]),
        (
            lambda: GroupedQuantizer([ResidualQuantizer(2, 4), ResidualQuantizer(2, 5)]),
            "conflict",
            "quantizers",
            [4, 5],
        ),
    ],
)
def test_limits_are_named(make, code, path, value):
    with refused(UnisonoError, code, path, value=value, names=str(value)):
        make()


def factorised(levels=3, **options):
    return FactorisedResidualQuantizer(12, 6, levels, code_dim=4, **options)


@torch.no_grad()
def test_factorised_codes_are_the_nearest_by_angle():
    """Brute force over codes, and DAC's equations by hand."""
    quantizer = FactorisedQuantizer(12, 6, 4).eval()
    z = vectors(d=12)
    made = quantizer(z)
    for i in range(3):
        for j in range(7):
            e = quantizer.down.weight @ z[i, j] + quantizer.down.bias
            cosines = [float(e @ c / e.norm() / c.norm()) for c in quantizer.codes.weight]
            best = cosines.index(max(cosines))
            assert int(made.tokens[i, j, 0]) == best
            code = quantizer.codes.weight[best]
            torch.testing.assert_close(made.vectors[i, j], quantizer.up.weight @ code + quantizer.up.bias)
            distance = float((e - code).square().mean())
            assert float(made.commitment[i, j]) == pytest.approx(distance, rel=1e-4)
            assert float(made.codebook[i, j]) == pytest.approx(distance, rel=1e-4)


def test_each_distance_moves_its_own_side():
    quantizer = FactorisedQuantizer(12, 6, 4).eval()
    for name, moved, still in (("commitment", "down", "codes"), ("codebook", "codes", "down")):
        quantizer.zero_grad()
        getattr(quantizer(vectors(d=12)), name).sum().backward()
        assert getattr(quantizer, moved).weight.grad.abs().sum() > 0
        gradient = getattr(quantizer, still).weight.grad
        assert gradient is None or not gradient.any()


@torch.no_grad()
def test_factorised_levels_take_something_away_from_the_first_step_on():
    quantizer = factorised(levels=3)
    z = vectors(8, 30, 12)
    quantizer(z)  # fills the codebooks
    quantizer.eval()
    tokens = quantizer.tokens(z)
    errors = [float((z - quantizer.decode(tokens[..., :k])).square().mean()) for k in (1, 2, 3)]
    assert float(z.square().mean()) > errors[0] > errors[1] > errors[2]


def test_the_gradient_passes_through_the_maps_of_every_level():
    """By finite differences of the sum with tokens held: straight through means that a code follows its vector."""
    quantizer = factorised().double().eval()
    z = vectors(1, 2, 12, dtype=torch.float64).float().double().requires_grad_()

    def straight(z):
        left, total = z, 0.0
        for level in quantizer.levels:
            made = level.up(level.down(left) + offsets[level])
            total, left = total + made, left - made
        return total

    offsets, left = {}, z.detach()
    for level in quantizer.levels:
        e = level.down(left)
        offsets[level] = level.codes(level._nearest(e)) - e
        left = left - level.up(level.codes(level._nearest(e)))
    weight = vectors(1, 2, 12, seed=3).double()
    (expected,) = torch.autograd.grad((straight(z) * weight).sum(), z)
    quantizer.float()
    z32 = z.detach().float().requires_grad_()
    (made,) = torch.autograd.grad((quantizer(z32).vectors * weight.float()).sum(), z32)
    torch.testing.assert_close(made, expected.float(), atol=1e-5, rtol=1e-4)


def test_unused_factorised_codes_come_back_and_used_ones_stay():
    quantizer = FactorisedQuantizer(12, 6, 4, dead_below=0.1)
    for _ in range(3):
        quantizer(vectors(4, 20, 12))
    with torch.no_grad():
        quantizer.codes.weight[2], quantizer.counts[2] = 1e3, 1e-6
    before = quantizer.codes.weight.detach().clone()
    z = vectors(4, 20, 12, seed=1)
    quantizer(z)
    assert (quantizer.down(z) - quantizer.codes.weight[2]).abs().sum(-1).min() < 1e-5
    kept = [0, 1, 3, 4, 5]
    assert torch.equal(quantizer.codes.weight[kept], before[kept])


def test_frozen_factorised_codes_stay():
    quantizer = FactorisedQuantizer(12, 6, 4)
    quantizer.codes.requires_grad_(False)
    before = quantizer.codes.weight.clone()
    for seed in range(3):
        quantizer(vectors(4, 20, 12, seed))
    assert torch.equal(quantizer.codes.weight, before)


@pytest.mark.parametrize("name", MAKERS)
def test_float64_stays_float64(name):
    quantizer = MAKERS[name]().double().train()
    z = vectors(dtype=torch.float64).requires_grad_()
    made = quantizer(z)
    made.vectors.square().sum().backward()
    assert made.vectors.dtype == z.grad.dtype == torch.float64
    if name != "binary without maps":  # which has nothing that says what it decodes to
        assert quantizer.decode(made.tokens).dtype == torch.float64


@pytest.mark.parametrize("name", ["scalar", "factorised", "factorised levels", "spherical", "binary"])
def test_adapters_of_the_maps_count_and_learn(name):
    """Maps are applied in float32, by their weights where they are plain layers; adapted ones by what they are."""
    plain = MAKERS[name]().eval()
    holder = nn.Module()
    holder.quantizer = copy.deepcopy(plain)
    adapt(holder, AdapterSpec(rank=2, targets=("*down", "*up")))
    z = vectors()
    assert torch.equal(holder.quantizer(z).vectors, plain(z).vectors)
    with torch.no_grad():
        for parameter in holder.parameters():
            if parameter.requires_grad:
                parameter += torch.randn_like(parameter)
    said = holder.quantizer(z).vectors
    said.square().sum().backward()
    assert not torch.allclose(said, plain(z).vectors, atol=1e-3)
    assert all(p.grad is not None and p.grad.any() for p in holder.parameters() if p.requires_grad)
    half = copy.deepcopy(holder.quantizer).to(torch.bfloat16)
    assert half.decode(half.tokens(z.bfloat16())).dtype == torch.bfloat16
    holder.recipe = {}
    torch.testing.assert_close(merge(holder).quantizer(z).vectors, said, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", MAKERS)
def test_tokens_alone_are_those_of_the_forward_pass_and_move_nothing(name):
    quantizer = MAKERS[name]().train()
    quantizer(vectors(seed=5))
    before = {k: v.clone() for k, v in quantizer.state_dict().items()}
    mask = mask_of([7, 4, 2])
    tokens = quantizer.tokens(vectors(), mask)
    assert all(torch.equal(before[k], v) for k, v in quantizer.state_dict().items())
    assert torch.equal(tokens, quantizer.eval()(vectors(), mask).tokens)


def test_groups_by_level_stand_level_by_level():
    parts = [ResidualQuantizer(2, 6, 3), ResidualQuantizer(2, 6, 3)]
    grouped = GroupedQuantizer(parts, by_level=True).eval()
    z = vectors()
    made = grouped(z)
    alone = [part(half) for part, half in zip(parts, z.split(2, -1), strict=True)]
    for level in range(3):
        for group in range(2):
            assert torch.equal(made.tokens[..., 2 * level + group], alone[group].tokens[..., level])
            assert torch.equal(made.usage[2 * level + group], alone[group].usage[level])
    coarse = torch.cat([p.decode(a.tokens[..., :2]) for p, a in zip(parts, alone, strict=True)], -1)
    torch.testing.assert_close(grouped.decode(grouped.tokens(z, levels=2)), coarse)
    with refused(UnisonoError, "conflict", "by_level", value=[1, 2]):
        GroupedQuantizer([ResidualQuantizer(2, 6, 1), ResidualQuantizer(2, 6, 2)], by_level=True)


@pytest.mark.parametrize(("dead_below", "reset"), [(0.1, True), (0.02, False)])
def test_a_code_is_dead_by_its_share_of_an_even_use(dead_below, reset):
    """Counts 20, 20, 20 and 0.45: an even use is 15.1, and the last code has 3 % of it."""
    quantizer = VectorQuantizer(2, 4, decay=0.9, dead_below=dead_below).train()
    places = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [99.0, 99.0]])
    quantizer.codebook.copy_(places)
    quantizer.counts.copy_(torch.tensor([20.0, 20.0, 20.0, 0.5]))
    quantizer.updates.fill_(5)
    quantizer(places[:3].repeat(20, 1)[None])
    torch.testing.assert_close(quantizer.codebook[:3], places[:3])
    assert bool((quantizer.codebook[3] == places[:3]).all(1).any()) == reset
    if not reset:
        torch.testing.assert_close(quantizer.codebook[3], places[3])

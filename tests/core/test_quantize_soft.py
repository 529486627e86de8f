"""Quantisers with soft assignments (LFQ, IBQ), and the pitfalls of others: against enumeration, in parts, over
ranks."""

import pytest
import torch
from refused import refused
from torch.nn import functional as F
from unisono.errors import UnisonoError
from unisono.nn.quantize import BinaryQuantizer, IndexQuantizer, ScalarQuantizer, SphericalQuantizer, entropy

HALVES = [torch.float16, torch.bfloat16]


def vectors(b=3, t=7, d=4, seed=0, scale=1.0):
    return scale * torch.randn(b, t, d, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def seed():
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(0)
        yield


def all_codes(quantizer):
    return quantizer.decode(torch.arange(quantizer.codebook_size)[None, :, None])[0]


@pytest.mark.parametrize("bits", [1, 3, 8])
def test_binary_tokens_are_a_bijection(bits):
    quantizer = BinaryQuantizer(bits, 2**bits)
    codes = all_codes(quantizer)
    assert len({tuple(code) for code in codes.tolist()}) == 2**bits and set(codes.flatten().tolist()) == {-1.0, 1.0}
    assert quantizer.tokens(codes[None])[0, :, 0].tolist() == list(range(2**bits))


@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_entropies_of_bits_are_those_of_enumerated_codes(bits, temperature):
    quantizer = BinaryQuantizer(bits, 2**bits, temperature=temperature)
    z, mask = vectors(d=bits, scale=0.3), torch.arange(7) < torch.tensor([7, 2, 5])[:, None]
    made = quantizer(z, mask)
    chances = (2 * z @ all_codes(quantizer).T / temperature).softmax(-1)
    torch.testing.assert_close(made.sample_entropy, torch.special.entr(chances).sum(-1) * mask, atol=1e-5, rtol=1e-5)
    mean = chances[mask].mean(0)
    torch.testing.assert_close(made.batch_entropy, torch.special.entr(mean).sum(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("group_bits", [1, 2, 3, 5])
def test_groups_of_bits_bound_the_entropy_from_above(group_bits):
    whole, parts = BinaryQuantizer(6, 64, 0.5), BinaryQuantizer(6, 64, 0.5, group_bits)
    z = vectors(d=6)
    z[..., 3:] = z[..., :3]  # bits that depend on one another
    assert float(parts(z).batch_entropy) >= float(whole(z).batch_entropy) - 1e-5
    assert float(parts(z).sample_entropy.sum()) == pytest.approx(float(whole(z).sample_entropy.sum()))


@pytest.mark.parametrize("make", [lambda: BinaryQuantizer(4, 16), lambda: IndexQuantizer(4, 16)])
def test_published_temperature_has_finite_gradients_far_out(make):
    """At 0.01 most assignments are 0 to the last bit, where the slope of x · log x has no end."""
    quantizer, z = make(), vectors(scale=30.0).requires_grad_()
    made = quantizer(z)
    (made.sample_entropy.sum() - made.batch_entropy + made.vectors.sum()).backward()
    assert z.grad is not None and torch.isfinite(z.grad).all()


def test_eighteen_bits_need_no_table():
    quantizer = BinaryQuantizer(18, 2**18)
    z = vectors(2, 5, 18).requires_grad_()
    made = quantizer(z)
    assert int(made.tokens.min()) >= 0 and int(made.tokens.max()) < 2**18
    assert torch.equal(quantizer.decode(made.tokens), made.vectors.detach())
    (made.sample_entropy.mean() - made.batch_entropy).backward()
    assert z.grad is not None and torch.isfinite(z.grad).all()


def index_by_hand(quantizer, z):
    codes = quantizer.codes.weight
    soft = (z @ codes.T).softmax(-1)
    hard = F.one_hot(soft.argmax(-1), len(codes)).float()
    return (hard + soft - soft.detach()) @ codes


def test_the_index_quantiser_is_the_straight_through_index():
    """As section 3.2 writes it; all gradients agree, the value is exactly the code's, and every code has a gradient."""
    quantizer, z = IndexQuantizer(4, 40), vectors().requires_grad_()
    torch.nn.init.normal_(quantizer.codes.weight)
    weights = vectors(seed=1)
    made = quantizer(z)
    assert torch.equal(made.vectors, quantizer.codes.weight[made.tokens[..., 0]])
    found = torch.autograd.grad((made.vectors * weights).sum(), [z, quantizer.codes.weight], retain_graph=True)
    wanted = torch.autograd.grad((index_by_hand(quantizer, z) * weights).sum(), [z, quantizer.codes.weight])
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
    assert len(made.tokens.unique()) < 40
    made = quantizer(z)
    entropies = made.sample_entropy.mean() - made.batch_entropy
    (moved,) = torch.autograd.grad(entropies + (made.vectors - z).square().mean(), quantizer.codes.weight)
    assert (moved.abs().sum(1) > 0).all()


def test_index_entropies_are_those_of_the_sharpened_assignment():
    quantizer, z = IndexQuantizer(4, 10, temperature=0.25), vectors()
    torch.nn.init.normal_(quantizer.codes.weight, std=0.3)
    made = quantizer(z)
    chances = (z @ quantizer.codes.weight.T / 0.25).softmax(-1)
    torch.testing.assert_close(made.sample_entropy, torch.special.entr(chances).sum(-1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(made.batch_entropy, torch.special.entr(chances.mean((0, 1))).sum(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("make", [lambda: BinaryQuantizer(4, 16), lambda: IndexQuantizer(4, 16)])
def test_slabs_change_nothing(make, monkeypatch):
    quantizer = make()
    results = []
    for slab in (2**22, 40):
        monkeypatch.setattr(entropy, "SLAB", slab)
        z = vectors().requires_grad_()
        made = quantizer(z)
        loss = made.sample_entropy.sum() - made.batch_entropy + made.vectors.square().sum()
        results.append([made.vectors, made.batch_entropy, *torch.autograd.grad(loss, [z, *quantizer.parameters()])])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_the_batch_entropy_of_two_ranks_is_that_of_one(monkeypatch):
    """Each rank's gradient, averaged as training does, is that of one process on the whole batch."""
    sums, counts = torch.rand(2, 6), [5, 3]
    whole = sums.clone().requires_grad_()
    value = entropy.entropy_of_mean(whole.sum(0), sum(counts), together=False)
    (wanted,) = torch.autograd.grad(value, whole)
    found = []
    for rank in range(2):
        added = iter([sums[1 - rank], torch.tensor(float(counts[1 - rank]))])
        monkeypatch.setattr(entropy, "total", lambda value, added=added: value + next(added).to(value))
        monkeypatch.setattr(entropy, "num_peers", lambda: 2)
        own = sums[rank].clone().requires_grad_()
        mine = entropy.entropy_of_mean(own, counts[rank], together=True)
        torch.testing.assert_close(mine, value)
        found.append(torch.autograd.grad(mine, own)[0] / 2)
    torch.testing.assert_close(torch.stack(found), wanted)


@pytest.mark.parametrize("kind", HALVES)
@pytest.mark.parametrize(
    "make",
    [
        lambda: BinaryQuantizer(18, 2**18),
        lambda: IndexQuantizer(18, 1000),
        lambda: ScalarQuantizer(18, [8, 8, 8]),
        lambda: SphericalQuantizer(18, 512, 8),
    ],
)
def test_half_precision_gives_indices_within(make, kind):
    """Sums of strides in bfloat16 would be rounded, past the last code or to another."""
    quantizer = make().to(kind).eval()
    z = vectors(d=18, scale=5.0).to(kind)
    tokens = quantizer(z).tokens
    assert tokens.dtype == torch.int64 and int(tokens.min()) >= 0 and int(tokens.max()) < quantizer.codebook_size
    assert torch.equal(quantizer.tokens(z), tokens)
    if isinstance(quantizer, BinaryQuantizer):  # exact: nothing but signs is read
        assert torch.equal(tokens, quantizer.float().tokens(z.float()))


@pytest.mark.parametrize("levels", [[2], [2, 2, 2], [2, 3]])
def test_two_levels_are_both_within_reach(levels):
    """The published shift of even levels is endless for two, where it leaves no slope and one level out of reach."""
    quantizer = ScalarQuantizer(len(levels), levels)
    flat = torch.zeros(1, 1, len(levels), requires_grad=True)
    (slope,) = torch.autograd.grad(quantizer._bound(flat).sum(), flat)
    assert (slope > 0.3).all()
    z = vectors(8, 64, len(levels))
    assert len(quantizer._bound(z).round()[..., 0].unique()) == levels[0]


def test_spherical_vectors_and_codes_have_length_one():
    quantizer, z = SphericalQuantizer(4, 6, 3).eval(), vectors()
    made = quantizer(z)
    e, code = F.normalize(quantizer.down(z), dim=-1), F.normalize(quantizer.codes(made.tokens[..., 0]), dim=-1)
    torch.testing.assert_close(made.commitment, (e - code).square().mean(-1))
    torch.testing.assert_close(made.vectors, quantizer.up(code))
    every = (e[:, :, None] - F.normalize(quantizer.codes.weight, dim=-1)).square().sum(-1)
    assert torch.equal(every.argmin(-1), made.tokens[..., 0])  # nearest and of the least angle are one


@pytest.mark.parametrize(
    ("make", "path", "value"),
    [
        (lambda: BinaryQuantizer(4, 12), "codebook_size", 12),
        (lambda: BinaryQuantizer(4, 1), "codebook_size", 1),
        (lambda: BinaryQuantizer(4, 16, group_bits=0), "group_bits", 0),
        (lambda: BinaryQuantizer(4, 16, temperature=0.0), "temperature", 0.0),
        (lambda: IndexQuantizer(4, 1), "codebook_size", 1),
        (lambda: IndexQuantizer(4, 8, temperature=-1.0), "temperature", -1.0),
    ],
)
def test_limits_are_named(make, path, value):
    with refused(UnisonoError, "range", path, value=value, names=str(value)):
        make()


@pytest.mark.parametrize("make", [lambda: BinaryQuantizer(4, 16), lambda: IndexQuantizer(4, 16)])
def test_where_nothing_is_kept_nothing_is_said(make):
    with torch.no_grad():
        made = make()(vectors(), torch.zeros(3, 7, dtype=torch.bool))
    assert float(made.batch_entropy) == 0 and float(made.sample_entropy.sum()) == 0
    assert int(made.usage.sum()) == 0 and float(made.vectors.abs().sum()) == 0

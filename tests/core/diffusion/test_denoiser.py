"""Denoisers: a network of any objective answers at any noise level as the exact posterior mean does."""

import numpy as np
import pytest
import torch
from refused import refused
from unisono.diffusion import EDM, Discrete, Flow, HasDenoiser, NetworkDenoiser, linear_table, of_pipeline, table_levels
from unisono.errors import UnisonoError
from unisono.testing.oracles import Mixture

ORACLE = Mixture((2, 4, 4), num_modes=4)


def perfect(objective):
    """A network that knows the oracle, called as the objective's networks are."""

    def network(x, time):
        time = time.double()
        match objective:
            case Flow():
                t = time / 1000
                return ORACLE.predict(x, 1 - t, t, "flow")
            case EDM():
                sigma = (4 * time).exp()
                skip, out, scale, _ = objective.scales(sigma)
                wide = [v[:, None, None, None] for v in (skip, out, scale)]
                seen = x / wide[2]
                return (ORACLE.x0(seen, torch.ones_like(sigma), sigma) - wide[0] * seen) / wide[1]
            case _:
                ratio = (objective.table / (1 - objective.table)).log().numpy()
                square = torch.from_numpy(np.interp(time.numpy(), np.arange(1000), ratio)).sigmoid()
                return ORACLE.predict(x, square.sqrt(), (1 - square).sqrt(), objective.prediction)

    return network


@pytest.mark.parametrize(
    "objective",
    [
        Flow(),
        Flow(shift=3.0),
        EDM(),
        *(Discrete("linear", p) for p in ("eps", "x0", "v")),
        Discrete("squaredcos_cap_v2", "v"),
    ],
    ids=["flow", "flow-shift", "edm", "eps", "x0", "v", "cosine"],
)
def test_a_perfect_network_is_the_posterior_mean_at_any_level(objective):
    denoiser = NetworkDenoiser(objective, perfect(objective), ORACLE.shape)
    generator = torch.Generator().manual_seed(0)
    alpha, sigma = denoiser.noise_levels(7)
    assert all(a * a + s * s == pytest.approx(1) for a, s in zip(alpha, sigma, strict=True))
    assert list(sigma) == sorted(sigma, reverse=True) and sigma[0] > 0.99
    # The chain's own levels, and others of any scale.
    a = torch.tensor([*alpha[1:], 0.5, 1.0, 2.0], dtype=torch.float64)
    s = torch.tensor([*sigma[1:], 0.3, 0.9, 1.0], dtype=torch.float64)
    x = torch.randn(len(a), *ORACLE.shape, generator=generator, dtype=torch.float64)
    assert torch.allclose(denoiser.x0(x, a, s), ORACLE.x0(x, a, s), atol=1e-5)


def test_levels_of_a_table_end_beside_the_clean_item():
    table = linear_table()
    alpha, _ = table_levels(table, 1000)
    assert torch.allclose(torch.tensor(alpha).square(), table.flip(0).float(), atol=1e-6)
    alpha, _ = table_levels(table, 4)
    assert alpha == pytest.approx([float(table[i].sqrt()) for i in (999, 749, 499, 249)])
    with refused(UnisonoError, "range", "num_steps", value=1001):
        table_levels(table, 1001)
    with refused(UnisonoError, "type", "num_steps"):
        table_levels(table, 2.5)  # pyright: ignore[reportArgumentType]


def test_gradients_go_through():
    denoiser = NetworkDenoiser(Flow(), perfect(Flow()), ORACLE.shape)
    x = torch.randn(1, *ORACLE.shape, dtype=torch.float64, requires_grad=True)
    level = torch.tensor([0.8]).double(), torch.tensor([0.6]).double()
    (own,) = torch.autograd.grad(denoiser.x0(x, *level).sum(), x)
    (exact,) = torch.autograd.grad(ORACLE.x0(x, *level).sum(), x)
    assert torch.allclose(own, exact, atol=1e-4)


def test_oracles_can_be_priors_and_other_things_are_refused():
    assert isinstance(ORACLE, HasDenoiser) and ORACLE.denoiser() is ORACLE
    for thing in (object(), torch.nn.Linear(1, 1)):
        with refused(UnisonoError, "type", "pipeline"):
            of_pipeline(thing)
    with refused(UnisonoError, "state"):
        NetworkDenoiser(Flow(), torch.nn.Dropout(0.5), (1, 2, 2))  # pyright: ignore[reportArgumentType]

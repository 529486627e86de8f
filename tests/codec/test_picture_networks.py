"""Networks of picture codecs: what each prediction sees, closed forms of rates and losses, and sizes."""

import math
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from picture_codecs import KINDS
from refused import refused
from torch import Tensor
from unisono.errors import DataError, RecipeError
from unisono.recipe import Recipe
from unisono_codec.pictures.coding import Writer
from unisono_codec.pictures.data import made_picture
from unisono_codec.pictures.gaussian import log_mass
from unisono_codec.pictures.latents import LatentNet
from unisono_codec.pictures.qres_network import QResNet, QResSizes
from unisono_codec.pictures.s2lic_network import S2LICNet, S2LICSizes
from unisono_codec.pictures.swin import SwinBlock

# ---- the ladder and the slices -----------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_no_prediction_depends_on_a_latent_that_is_read_later(coders, kind):
    """All pairs of latents: a change of one changes no prediction up to its own, and the next ones do notice."""
    net, generator = coders[kind].net, torch.Generator().manual_seed(0)
    drawn: dict[int, Tensor] = {}

    def predictions(changed: int | None) -> list[Tensor]:
        found = []

        def reader(number: int, mean: Tensor, log_scale: Tensor, posterior: Any) -> Tensor:
            found.append(torch.cat([mean.flatten(), log_scale.flatten()]))
            if number not in drawn:
                drawn[number] = torch.randn(mean.shape, generator=generator, dtype=torch.float64)
            return drawn[number] + (1.0 if number == changed else 0.0)

        with torch.no_grad():
            net.descend((1, 2, 2), reader)
        return found

    base = predictions(None)
    assert len(base) == net.num_latents
    for changed in range(net.num_latents):
        other = predictions(changed)
        for number, (mine, theirs) in enumerate(zip(base, other, strict=True)):
            assert torch.equal(mine, theirs) == (number <= changed), (number, changed)


def test_others_see_their_anchors_and_halves_share_the_board():
    """Of each slice: the halves are all places, each once; an anchor reaches the others' predictions, no anchor's."""
    net = S2LICNet(
        S2LICSizes(channels=4, latent_channels=4, num_slices=2, depths=(1,) * 5, num_heads=(2,) * 5, window=2)
    )
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    shapes: list[int] = []

    def run(place: int | None) -> list[Tensor]:
        found: list[Tensor] = []
        shapes.clear()

        def reader(number: int, mean: Tensor, log_scale: Tensor, posterior: Any) -> Tensor:
            found.append(mean)
            shapes.append(mean.shape[-1])
            values = torch.zeros_like(mean)
            if number == 1 and place is not None:
                values[0, 0, place] = 3.0
            return values

        with torch.no_grad():
            net.descend((1, 1, 1), reader)
        return found

    base = run(None)
    assert shapes[1:] == [8, 8, 8, 8]
    for place in range(8):
        made = run(place)
        assert torch.equal(made[1], base[1]) and not torch.equal(made[2], base[2])


def test_windows_do_not_reach_beyond_their_borders():
    """By perturbation: a place is changed by those of its own window that no shift brought round, and by no others."""
    torch.manual_seed(0)
    for height, width in ((5, 7), (8, 8), (2, 3)):
        for shift in (False, True):
            block = SwinBlock(4, 2, 4, shift).double()
            x = torch.randn(1, height, width, 4, dtype=torch.float64)
            with torch.no_grad():
                base = block(x)
                for row in range(height):
                    for column in range(width):
                        moved = x.clone()
                        moved[0, row, column] += torch.randn(4, dtype=torch.float64)
                        changed = (block(moved) != base).any(-1)[0]

                        def window(place: int, moved_by: int = 2 if shift else 0) -> int:
                            return (place + moved_by) // 4

                        rows = torch.tensor([window(r) == window(row) for r in range(height)])
                        columns = torch.tensor([window(c) == window(column) for c in range(width)])
                        assert torch.equal(changed, rows[:, None] & columns)


def test_the_published_sizes_have_the_published_number_of_weights():
    with torch.device("meta"):
        assert round(sum(p.numel() for p in QResNet(QResSizes()).parameters()) / 1e6) == 34
        assert QResNet(QResSizes()).num_latents == 12 and QResNet(QResSizes()).stride == 64
        assert S2LICNet(S2LICSizes()).num_latents == 21


# ---- closed forms ------------------------------------------------------------------------------


def test_masses_are_those_of_the_error_function_and_add_up_to_one():
    x = torch.arange(-40, 41, dtype=torch.float64)
    for mean, scale in ((0.0, 0.1), (0.3, 1.0), (-2.4, 5.0)):
        found = log_mass(x, torch.full_like(x, mean), torch.full_like(x, scale))
        edges = [[math.erf((k + half - mean) / scale / 2**0.5) for half in (-0.5, 0.5)] for k in x.tolist()]
        mass = np.array([(high - low) / 2 for low, high in edges])
        np.testing.assert_allclose(found.exp().numpy(), mass, rtol=1e-9, atol=1e-15)
        assert float(found.exp().sum()) == pytest.approx(1, abs=1e-9)
    far = torch.tensor([50.0], requires_grad=True)
    value = log_mass(far, torch.zeros(1), torch.full((1,), 0.2))
    value.sum().backward()
    assert value.isfinite().all() and far.grad is not None and -1300 < float(far.grad) < -1100  # −(x − ½) / σ²


class Rotation(LatentNet):
    """A linear Gaussian autoencoder: latents are rotated values, whose deviations are known."""

    stride: ClassVar[int] = 2  # type: ignore[assignment]
    num_latents: ClassVar[int] = 1  # type: ignore[assignment]

    def __init__(self, deviations: Tensor):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.rotation = torch.linalg.qr(torch.randn(12, 12, generator=generator, dtype=torch.float64))[0]
        self.deviations = deviations

    def descend(self, shape, reader, seen=None):
        z = reader(0, torch.zeros_like(seen), self.deviations.log().expand_as(seen), lambda: seen @ self.rotation)
        return z @ self.rotation.T


def test_a_linear_gaussian_autoencoder_takes_its_closed_form_rate():
    """R = Σ ½ log₂(2πe σ²) bits an item at step 1, and an error of 1/12 a value: exact for deviations well above 1."""
    deviations = torch.linspace(2.5, 15, 12, dtype=torch.float64)
    net = Rotation(deviations)
    values = torch.randn(4000, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * deviations
    given = values @ net.rotation.T
    writer = Writer(1, net.scales)
    made = net.descend((1, 1, 1), writer, given)
    closed = 4000 * float((0.5 * torch.log2(2 * math.pi * math.e * deviations**2)).sum())
    assert writer.bits == pytest.approx(closed, rel=0.005)
    assert len(writer.encoder.finish()) * 8 == pytest.approx(closed, rel=0.005)
    assert float((made - given).square().mean()) == pytest.approx(1 / 12, rel=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_losses_are_the_rate_and_the_error(codecs, kind):
    """In evaluation the rate is that of whole steps, the same batch after batch; the total is its stated sum."""
    codec = codecs[kind]
    crop = 16 if kind == "qres" else 64
    pictures = torch.stack([torch.from_numpy(made_picture(n, crop, crop)) for n in range(2)]).float() / 127.5 - 1
    batch = {"image": pictures, "row": torch.arange(2)}
    with torch.no_grad():
        parts = codec.losses(batch)
        again = codec.losses({"image": pictures.flip(0), "row": torch.arange(2)})
    assert float(parts["bpp"]) == pytest.approx(float(again["bpp"]), rel=1e-5)
    weight = codec.distortion_weight
    total = parts["bpp"] * math.log(2) / 3 + weight * parts["mse"] if kind == "qres" else (
        parts["bpp"] + weight * 255**2 * parts["mse"] / 4
    )  # fmt: skip
    assert float(parts["loss"]) == pytest.approx(float(total), rel=1e-5)
    with refused(DataError, "shape", "data.crop", value=(crop + 1, crop)):
        codec.losses({"image": pictures[..., [*range(crop), 0]], "row": torch.arange(2)})


@pytest.mark.parametrize(
    ("kind", "change", "code", "path"),
    [
        ("qres", {"model.network.channels": [8]}, "shape", "model.network"),
        ("qres", {"model.network.channels": [8, 2]}, "range", "model.network.channels"),
        ("qres", {"model.network.kernel_sizes": [3, 4]}, "value", "model.network.kernel_sizes"),
        ("qres", {"model.distortion_weight": 0.0}, "range", "model.distortion_weight"),
        ("s2lic", {"model.network.num_slices": 3}, "shape", "model.network.num_slices"),
        ("s2lic", {"model.network.num_heads": [3, 2, 2, 2, 2]}, "shape", "model.network.num_heads"),
        ("s2lic", {"model.network.depths": [1]}, "shape", "model.network.depths"),
        ("s2lic", {"model.distortion_weight": -1.0}, "range", "model.distortion_weight"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(kind, change, code, path):
    with refused(RecipeError, code, path):
        Recipe.read(f"codec/{kind}-tiny", [f"--{key}={value}" for key, value in change.items()]).build_model({})

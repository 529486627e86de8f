"""Measures of views: closed forms, and what the truth reaches."""

import math

import numpy as np
import pytest
import torch
from unisono import Image
from unisono_views.cameras import Cameras
from unisono_views.hull import overlap, silhouettes, visual_hull
from unisono_views.measure import disagreement, looked_up, psnr, ssim
from unisono_views.media import Views
from unisono_views.render import depth, render
from unisono_views.shapes import Part, Shape, make_shape
from unisono_views.voxels import middles, render_voxels, voxelised

SIX = Cameras()


def test_psnr_is_of_the_mean_squared_error():
    true = torch.zeros(2, 3, 4, 4)
    made = true.clone()
    made[0] = 0.1
    assert psnr(made, true) == pytest.approx(-10 * math.log10(0.005), abs=1e-5)
    assert psnr(true, true) == math.inf


def test_ssim_of_constants_is_the_closed_form():
    a, b = torch.full((1, 3, 16, 16), 0.4), torch.full((1, 3, 16, 16), 0.6)
    c1 = 0.01**2
    assert ssim(a, b) == pytest.approx((2 * 0.24 + c1) / (0.16 + 0.36 + c1), abs=1e-5)
    noise = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert ssim(noise, noise) == pytest.approx(1) and ssim(noise, 1 - noise) < 0


def test_ssim_by_hand_in_one_window():
    """Windows as large as the picture: weighted moments, summed in NumPy."""
    g = torch.Generator().manual_seed(1)
    a, b = torch.rand(1, 1, 11, 11, generator=g), torch.rand(1, 1, 11, 11, generator=g)
    bell = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    weights = np.outer(bell, bell) / bell.sum() ** 2
    x, y = (part[0, 0].double().numpy() for part in (a, b))
    mx, my = (weights * x).sum(), (weights * y).sum()
    xx, yy, xy = ((weights * p).sum() for p in ((x - mx) ** 2, (y - my) ** 2, (x - mx) * (y - my)))
    wanted = (2 * mx * my + 1e-4) * (2 * xy + 9e-4) / ((mx**2 + my**2 + 1e-4) * (xx + yy + 9e-4))
    assert ssim(a, b) == pytest.approx(wanted, abs=1e-6)


def test_places_between_pixels_are_between_their_values():
    picture = torch.arange(16.0, dtype=torch.float64).view(1, 4, 4)
    rows, columns = torch.tensor([0.5, 1.5, 2.0]).double(), torch.tensor([0.5, 2.5, 1.25]).double()
    assert looked_up(picture, rows, columns)[0].tolist() == [0.0, 6.0, 1.5 * 4 + 0.75]


def test_views_of_one_surface_agree_and_painted_ones_do_not():
    # a ball of one brightness everywhere: colours of its places, without edges
    shape = Shape((Part("sphere", "red", (0.0, 0.0, 0.0), (0.9,)),))
    depths = depth(shape, SIX, 32)
    origins, directions = SIX.rays(32)
    points = origins[:, None, None] + depths.nan_to_num(posinf=0)[..., None] * directions
    painted = torch.where(depths.isfinite()[..., None], 0.5 + 0.4 * points, 1.0).permute(0, 3, 1, 2).float()
    apart, pairs = disagreement(painted, depths, SIX)
    assert pairs > 500 and apart < 2e-3
    painted[2] = (painted[2] + 0.3).clamp(0, 1)  # one view brighter
    assert disagreement(painted, depths, SIX)[0] > 0.05
    assert math.isnan(disagreement(painted, torch.full_like(depths, torch.inf), SIX)[0])


def test_true_views_agree_better_than_cubes():
    shape = make_shape(1)
    views, depths = render(shape, SIX, 32)
    cubes = render_voxels(voxelised(shape, 1), SIX, 32)
    assert disagreement(views, depths, SIX)[0] < 0.7 * disagreement(cubes, depths, SIX)[0]


def test_order_of_views_and_cameras_is_of_no_matter():
    shape = make_shape(0)
    views, depths = render(shape, SIX, 16)
    order = [3, 1, 5, 0, 2, 4]
    other = Cameras(azimuths=tuple(SIX.azimuths[i] for i in order), elevations=tuple(SIX.elevations[i] for i in order))
    one, two = disagreement(views, depths, SIX), disagreement(views[order], depths[order], other)
    assert one[0] == pytest.approx(two[0], abs=1e-9) and one[1] == two[1]


def test_the_hull_holds_the_object():
    shape = make_shape(3)
    views, _ = render(shape, SIX, 32)
    hull = visual_hull(views, SIX, 16)
    inside = shape.distance(middles(16).reshape(-1, 3)) <= -0.05
    assert hull.there.flatten()[inside].all()  # a hull leaves nothing out but what pixels blur
    assert 0.3 < overlap(hull, shape) < 1


def test_the_hull_of_a_ball_is_nearly_it():
    shape = Shape((Part("sphere", "green", (0.0, 0.0, 0.0), (0.8,)),))
    views, _ = render(shape, SIX, 32)
    hull = visual_hull(views, SIX, 16)
    assert overlap(hull, shape) > 0.8
    assert hull.colours[8, 8, 8, 1] > hull.colours[8, 8, 8, 0]
    assert not visual_hull(torch.ones(6, 3, 8, 8), SIX, 8).there.any()
    assert silhouettes(views).any(-1).any(-1).all()


def test_a_sheet_is_its_views(tmp_path):
    views = np.random.default_rng(0).integers(0, 256, (6, 3, 5, 5), dtype=np.uint8)
    sheet = Views.of(views)
    assert (sheet.height, sheet.width) == (15, 10)
    assert (sheet.pixels[:, 5:10, 5:] == views[3]).all()
    assert all((own.pixels == view).all() for own, view in zip(sheet.views, views, strict=True))
    sheet.save(tmp_path / "a.zip")
    assert sheet.encoded(".zip") == (tmp_path / "a.zip").read_bytes() == sheet.encoded(".zip")
    import io
    import zipfile

    from unisono.media.pictures import read_image

    with zipfile.ZipFile(io.BytesIO(sheet.encoded(".zip"))) as file:
        assert file.namelist() == [f"view-{number}.png" for number in range(6)]
        assert (read_image(file.read("view-4.png")) == views[4]).all()
    assert isinstance(sheet, Image) and sheet.about()["views"] == 6

"""Rendering of objects, by closed forms: rays that meet a sphere, a plane and cubes; what a grid's cubes are."""

import math

import numpy as np
import pytest
import torch
from refused import refused
from unisono.errors import DataError
from unisono_views.cameras import Cameras
from unisono_views.render import AMBIENT, LIGHT, depth, light, render, trace
from unisono_views.shapes import COLOURS, FEWEST, MOST, REACH, Part, Shape, caption_of, make_shape
from unisono_views.voxels import Voxels, met, middles, render_voxels, voxelised

SIX = Cameras()


def ball(radius: float = 0.6, middle=(0.1, -0.2, 0.15), colour: str = "red") -> Shape:
    return Shape((Part("sphere", colour, middle, (radius,)),))


# ---- cameras -----------------------------------------------------------------------------------


def test_a_ray_goes_through_the_pixel_that_its_points_are_projected_to():
    origins, directions = SIX.rays(8)
    for view in range(6):
        points = origins[view] + 3.7 * directions[view].reshape(-1, 3)
        rows, columns, distances = (part[view] for part in SIX.project(points, 8))
        there = torch.arange(8, dtype=torch.float64) + 0.5
        torch.testing.assert_close(rows.view(8, 8), there[:, None].expand(8, 8), rtol=0, atol=1e-9)
        torch.testing.assert_close(columns.view(8, 8), there.expand(8, 8), rtol=0, atol=1e-9)
        torch.testing.assert_close(distances, torch.full_like(distances, 3.7), rtol=0, atol=1e-9)


def test_cameras_look_at_the_origin_and_stand_upright():
    rows, columns, distances = SIX.project(torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 0.5]]), 10)
    assert torch.allclose(rows[:, 0], torch.tensor(5.0).double()) and torch.allclose(columns[:, 0], rows[:, 0])
    assert torch.allclose(distances[:, 0], torch.tensor(4.0).double())
    assert (rows[:, 1] < 5).all()  # above is above
    assert (torch.linalg.det(SIX.axes()) * -1 > 0.999).all()  # right, up and *forward*


def test_a_point_behind_a_camera_is_nowhere():
    rows, _, _ = Cameras(azimuths=(0,), elevations=(0,)).project(torch.tensor([[5.0, 0.0, 0.0]]), 8)
    assert rows.isnan().all()


@pytest.mark.parametrize(
    ("wrong", "code", "path"),
    [
        ({"azimuths": (1.0,)}, "shape", "cameras.elevations"),
        ({"azimuths": (math.nan,) * 6}, "range", "cameras.azimuths"),
        ({"elevations": (90.0,) * 6}, "range", "cameras.elevations"),
        ({"distance": 1.0}, "range", "cameras.distance"),
        ({"fov_degrees": 0.0}, "range", "cameras.fov_degrees"),
    ],
)
def test_cameras_that_cannot_be_are_refused(wrong, code, path):
    with refused(DataError, code, path):
        Cameras(**wrong)


# ---- distances ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["sphere", "box", "cylinder", "torus", "capsule"])
def test_a_distance_is_that_to_the_nearest_point_of_the_surface(shape):
    """Against brute force: points of the surface by parameters, as dense as 1e-2 needs."""
    size = {"sphere": (0.5,), "box": (0.3, 0.4, 0.2), "torus": (0.5, 0.15)}.get(shape, (0.25, 0.4))
    surface = surface_of(shape, size)
    points = torch.rand(100, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
    found = Part(shape, "red", (0.0, 0.0, 0.0), size).distance(points)
    nearest = torch.cdist(points, surface).amin(1)
    torch.testing.assert_close(found.abs(), nearest, rtol=0, atol=1e-2)
    assert (found[points.norm(dim=1) > 0.95] > 0).all()
    middle = torch.zeros(1, 3, dtype=torch.float64)
    hole = Part(shape, "red", (0.0, 0.0, 0.0), size).distance(middle)
    assert hole > 0 if shape == "torus" else hole < 0


def surface_of(shape: str, size: tuple[float, ...]) -> torch.Tensor:
    n = 110
    turn = torch.arange(n, dtype=torch.float64) * (2 * math.pi / n)
    share = torch.linspace(0, 1, n, dtype=torch.float64)
    a, b = torch.meshgrid(turn, share, indexing="ij")
    a, b = a.flatten(), b.flatten()
    if shape == "box":
        u, v = torch.meshgrid(2 * share - 1, 2 * share - 1, indexing="ij")
        u, v, one = u.flatten(), v.flatten(), torch.ones(n * n, dtype=torch.float64)
        faces = [torch.stack(f, 1) for s in (1, -1) for f in ((s * one, u, v), (u, s * one, v), (u, v, s * one))]
        return torch.cat(faces) * torch.tensor(size, dtype=torch.float64)
    if shape == "torus":
        tube = 2 * math.pi * b
        out = size[0] + size[1] * tube.cos()
        return torch.stack([out * a.cos(), out * a.sin(), size[1] * tube.sin()], 1)
    round_ = torch.stack([a.cos(), a.sin()], 1)
    if shape == "cylinder":
        side = torch.cat([size[0] * round_, (size[1] * (2 * b - 1))[:, None]], 1)
        disc, height = (size[0] * b)[:, None] * round_, torch.full((n * n, 1), size[1], dtype=torch.float64)
        return torch.cat([side, torch.cat([disc, height], 1), torch.cat([disc, -height], 1)])
    fall = math.pi * b
    sphere = torch.cat([fall.sin()[:, None] * round_, fall.cos()[:, None]], 1) * size[0]
    if shape == "sphere":
        return sphere
    side = torch.cat([size[0] * round_, (size[1] * (2 * b - 1))[:, None]], 1)
    up = sphere[:, 2] >= 0
    shift = torch.tensor([0, 0, size[1]], dtype=torch.float64)
    ends = [sphere[up] + shift, sphere[~up] - shift]
    return torch.cat([side, *ends])


def test_a_turned_part_is_the_part_turned():
    turned = make_shape(3).parts[0]
    straight = Part(turned.shape, turned.colour, (0.0, 0.0, 0.0), turned.size)
    points = torch.randn(50, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    turn = torch.tensor(turned.turn, dtype=torch.float64)
    torch.testing.assert_close(turn @ turn.T, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-9)
    back = points @ turn + torch.tensor(turned.middle, dtype=torch.float64)
    torch.testing.assert_close(turned.distance(back), straight.distance(points), rtol=0, atol=1e-9)


def test_objects_are_replayable_and_within_reach():
    for number in range(40):
        shape = make_shape(number)
        assert shape == make_shape(number) != make_shape(number, seed=1)
        assert FEWEST <= len(shape.parts) <= MOST
        assert len({part.colour for part in shape.parts}) == len(shape.parts)
        far = max(np.linalg.norm(part.middle) + part.reach for part in shape.parts)
        assert far == pytest.approx(REACH, abs=1e-6)


def test_captions_list_parts_with_their_articles():
    assert caption_of([("red", "sphere")]) == "a red sphere"
    assert caption_of([("red", "sphere"), ("orange", "box")]) == "a red sphere and an orange box"
    assert caption_of([("red", "box")] * 3) == "a red box, a red box and a red box"


# ---- sphere tracing ----------------------------------------------------------------------------


def test_depths_of_a_sphere_are_those_of_the_closed_form():
    shape, radius, middle = ball(), 0.6, torch.tensor([0.1, -0.2, 0.15], dtype=torch.float64)
    origins, directions = SIX.rays(24)
    away = origins - middle
    half = (away[:, None, None] * directions).sum(-1)
    inside = half.square() - (away.square().sum(-1) - radius**2)[:, None, None]
    exact = torch.where(inside > 0, -half - inside.clamp(min=0).sqrt(), torch.inf)
    found = depth(shape, SIX, 24)
    sure = inside.abs() > 2e-3  # rays that graze it may be said to meet it, within NEAR
    assert torch.equal(found.isfinite()[sure], exact.isfinite()[sure]) and sure.double().mean() > 0.99
    both = sure & exact.isfinite()
    torch.testing.assert_close(found[both], exact[both], rtol=0, atol=3e-3)


def test_depths_of_a_plane_are_those_of_the_closed_form():
    normal = torch.tensor([0.2, -0.4, 0.9], dtype=torch.float64)
    normal, level = normal / normal.norm(), -0.3
    origins, directions = SIX.rays(16)
    starts, ways = origins[:1, None].expand(1, 256, 3).reshape(-1, 3), directions[0].reshape(-1, 3)
    exact = (level - starts @ normal) / (ways @ normal)
    found = trace(lambda points: points @ normal - level, starts, ways)
    hit = (starts + exact[:, None] * ways).norm(dim=1) < 0.999
    assert hit.sum() > 50
    torch.testing.assert_close(found[hit], exact[hit], rtol=0, atol=5e-4)


def test_a_sphere_is_lit_as_its_normals_say():
    shape = ball(0.8, (0.0, 0.0, 0.0), "blue")
    picture, depths = render(shape, SIX, 16, samples=1)
    origins, directions = SIX.rays(16)
    seen = depths.isfinite() & (depths < 3.5)  # not the rim
    points = origins[:, None, None] + depths[..., None].nan_to_num(posinf=0) * directions
    normals = points / points.norm(dim=-1, keepdim=True).clamp(min=1e-9)
    towards = torch.tensor(LIGHT, dtype=torch.float64)
    bright = AMBIENT + (1 - AMBIENT) * (normals @ (towards / towards.norm())).clamp(min=0)
    wanted = bright[..., None] * torch.tensor(COLOURS["blue"], dtype=torch.float64)
    torch.testing.assert_close(picture.permute(0, 2, 3, 1)[seen].double(), wanted[seen], rtol=0, atol=2e-3)
    assert (picture.permute(0, 2, 3, 1)[~depths.isfinite()] == 1).all()


# ---- cubes -------------------------------------------------------------------------------------


def test_cubes_are_there_where_the_distance_says():
    shape = make_shape(5)
    found = voxelised(shape, 5, resolution=8, noise=0)
    along = [-1 + (2 * i + 1) / 8 for i in range(8)]
    for i, x in enumerate(along):
        for j, y in enumerate(along):
            for k, z in enumerate(along):
                point = torch.tensor([[x, y, z]], dtype=torch.float64)
                assert bool(found.there[i, j, k]) == bool(shape.distance(point) <= 0)
                nearest = min(shape.parts, key=lambda part: float(part.distance(point)))
                assert torch.allclose(found.colours[i, j, k], torch.tensor(COLOURS[nearest.colour]), atol=1e-6)


def test_noise_of_cubes_is_the_objects_own():
    shape = ball()
    one, same, other = (voxelised(shape, number) for number in (1, 1, 2))
    assert torch.equal(one.colours, same.colours) and not torch.equal(one.colours, other.colours)
    plain = voxelised(shape, 1, noise=0).colours
    assert 0.03 < float((one.colours - plain).std()) < 0.12  # 0.12, less what is cut at 0 and 1


def test_rays_meet_the_cubes_that_small_steps_meet():
    """Against brute force: 4,000 steps along each ray."""
    voxels = voxelised(make_shape(7), 7, resolution=8)
    origins, directions = SIX.rays(12)
    starts = origins.float()[:, None, None].expand_as(directions).reshape(-1, 3)
    ways = directions.float().reshape(-1, 3)
    found = met(voxels, starts, ways)
    steps = torch.linspace(2.2, 5.8, 4000)
    wrong = 0
    for start, way, colour in zip(starts, ways, found, strict=True):
        cells = ((start + steps[:, None] * way + 1) * 4).floor().long()
        inside = ((cells >= 0) & (cells < 8)).all(1)
        x, y, z = cells.clamp(0, 7).T
        solid = voxels.there[x, y, z] & inside
        if not solid.any():
            wrong += not torch.equal(colour, torch.ones(3))
            continue
        first = int(solid.to(torch.uint8).argmax())
        own = voxels.colours[x[first], y[first], z[first]]
        share = (colour / own.clamp(min=1e-6))[own > 0.05]  # how bright: the same of red, green and blue
        wrong += not (share.max() - share.min() < 1e-3 and AMBIENT - 1e-3 < share.min() < 1.001)
    assert wrong <= 0.01 * len(starts)  # rays that touch a corner for less than a step


def test_a_face_is_lit_by_its_side():
    there = torch.zeros(2, 2, 2, dtype=torch.bool)
    there[1, 1, 1] = True
    cube = Voxels(there, torch.full((2, 2, 2, 3), 0.5))
    above = met(cube, torch.tensor([[0.5, 0.5, 3.0]]), torch.tensor([[0.0, 0.0, -1.0]]))
    beside = met(cube, torch.tensor([[0.5, -3.0, 0.5]]), torch.tensor([[0.0, 1.0, 0.0]]))
    past = met(cube, torch.tensor([[-0.5, 0.5, 3.0]]), torch.tensor([[0.0, 0.0, -1.0]]))
    assert torch.allclose(above, 0.5 * light(torch.tensor([[0.0, 0.0, 1.0]]))[:, None])
    assert torch.allclose(beside, torch.full((1, 3), 0.5 * AMBIENT)) and torch.equal(past, torch.ones(1, 3))


def test_no_cube_is_white():
    empty = Voxels(torch.zeros(4, 4, 4, dtype=torch.bool), torch.zeros(4, 4, 4, 3))
    assert (render_voxels(empty, SIX, 8) == 1).all()


def test_middles_are_of_cubes():
    assert torch.allclose(middles(2)[1, 0, 1], torch.tensor([0.5, -0.5, 0.5], dtype=torch.float64))

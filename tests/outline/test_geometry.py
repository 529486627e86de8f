"""Geometry against matplotlib's paths, polygon clipping by hand, and identities."""

import math

import numpy as np
import pytest
import torch
from matplotlib.path import Path as Line
from unisono_outline.geometry import (
    angle_sum,
    canonical,
    coverage,
    iou,
    nearest_shift,
    resampled,
    signed_area,
    winding_numbers,
)

DRAW = np.random.default_rng(0)


def star_shaped(count: int, draw: np.random.Generator) -> np.ndarray:
    """A random polygon that does not cross itself: radii at growing angles, clockwise as seen."""
    angle = np.sort(draw.uniform(0, 2 * math.pi, count))
    radius = draw.uniform(0.2, 1, count)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1) + draw.uniform(-0.3, 0.3, 2)


def pentagram() -> np.ndarray:
    angle = 2 * math.pi * np.arange(5) * 2 / 5
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def clipped(subject: np.ndarray, convex: np.ndarray) -> np.ndarray:
    """Sutherland and Hodgman's clipping of a polygon by a convex one, both of positive area."""
    found = list(subject)
    for a, b in zip(convex, np.roll(convex, -1, axis=0), strict=True):
        points, found = found, []
        for p, q in zip(points, points[1:] + points[:1], strict=True):
            inside = [(b[0] - a[0]) * (r[1] - a[1]) - (b[1] - a[1]) * (r[0] - a[0]) for r in (p, q)]
            if inside[0] >= 0:
                found.append(p)
            if (inside[0] >= 0) != (inside[1] >= 0):
                found.append(p + (q - p) * inside[0] / (inside[0] - inside[1]))
    return np.array(found)


def test_angle_sums_are_inside_or_outside_as_another_library_says():
    for _ in range(20):
        polygon = star_shaped(int(DRAW.integers(3, 30)), DRAW)
        points = DRAW.uniform(-1.4, 1.4, (500, 2))
        turns = angle_sum(torch.from_numpy(points)[None], torch.from_numpy(polygon)[None])[0].numpy()
        wanted = Line(polygon).contains_points(points)
        assert np.abs(turns - wanted * round(np.sign(signed_area(polygon)))).max() < 1e-9


def test_what_winds_twice_counts_twice_and_direction_is_the_sign():
    polygon = torch.from_numpy(pentagram())[None]
    middle = torch.zeros(1, 1, 2, dtype=torch.float64)
    assert angle_sum(middle, polygon).item() == pytest.approx(2)
    assert angle_sum(middle, polygon.flip(1)).item() == pytest.approx(-2)
    eight = torch.tensor([[[-1.0, -1], [1, 1], [1, -1], [-1, 1]]])  # crosses itself: one half each way round
    halves = angle_sum(torch.tensor([[[-0.7, 0.0], [0.7, 0.0]]]), eight)[0]
    assert halves.abs().tolist() == pytest.approx([1, 1]) and halves.sum().item() == pytest.approx(0, abs=1e-6)


def test_exact_sums_have_no_gradient_and_soft_ones_do():
    polygon = torch.from_numpy(star_shaped(12, DRAW))[None]
    points = torch.from_numpy(DRAW.uniform(-1, 1, (1, 200, 2)))
    gradients = []
    for softness in (0.0, 0.2):
        vertices = polygon.clone().requires_grad_()
        angle_sum(points, vertices, softness).square().sum().backward()
        assert vertices.grad is not None
        gradients.append(vertices.grad.abs().max().item())
    assert gradients[0] < 1e-9 < 1e-2 < gradients[1]


def test_a_softened_sum_is_the_exact_one_far_from_the_line():
    circle = torch.tensor([[math.cos(a), math.sin(a)] for a in 2 * math.pi * np.arange(200) / 200])[None]
    far = torch.tensor([[[0.0, 0.0], [5.0, 0.0]]])
    assert angle_sum(far, circle, 0.05)[0].tolist() == pytest.approx([1, 0], abs=0.01)


@pytest.mark.parametrize("softness", [0.0, 0.3])
def test_a_point_on_a_vertex_gives_a_number_and_a_gradient(softness):
    vertices = torch.tensor([[[0.0, 0], [1, 0], [1, 1], [1, 1]]], requires_grad=True)
    turns = angle_sum(vertices.detach()[:, :3], vertices, softness)
    turns.sum().backward()
    assert vertices.grad is not None and turns.isfinite().all() and vertices.grad.isfinite().all()


def test_angle_sums_turn_and_move_with_the_polygon():
    polygon, points = torch.from_numpy(star_shaped(9, DRAW))[None], torch.from_numpy(DRAW.uniform(-1, 1, (1, 50, 2)))
    cos, sin = math.cos(1.1), math.sin(1.1)
    turn = torch.tensor([[cos, sin], [-sin, cos]], dtype=torch.float64)
    plain = angle_sum(points, polygon, 0.2)
    assert torch.allclose(angle_sum(points @ turn + 3, polygon @ turn + 3, 0.2), plain)
    assert torch.allclose(angle_sum(points, polygon.roll(4, dims=1), 0.2), plain)


def test_the_nearest_shift_is_the_best_of_all():
    made, wanted = torch.randn(3, 7, 2), torch.randn(3, 7, 2)
    brute = torch.stack([(made - wanted.roll(-k, dims=1)).square().sum(-1).mean(-1) for k in range(7)]).amin(0)
    assert torch.allclose(nearest_shift(made, wanted).mean(-1), brute)
    assert nearest_shift(wanted.roll(3, dims=1), wanted).abs().max() < 1e-12


def test_rasters_are_those_of_another_library_and_of_winding():
    for _ in range(10):
        polygon = star_shaped(int(DRAW.integers(3, 20)), DRAW) * 9 + 10
        y, x = np.mgrid[:20, :24] + 0.5
        wanted = Line(polygon).contains_points(np.stack([x.ravel(), y.ravel()], axis=1)).reshape(20, 24)
        assert np.array_equal(winding_numbers(polygon, 20, 24), wanted * round(np.sign(signed_area(polygon))))
    assert winding_numbers(pentagram() * 9 + 10, 20, 20)[10, 10] == 2


def test_coverage_is_the_area_and_what_lies_outside_is_cut():
    square = np.array([[-5.0, 2], [3.5, 2], [3.5, 30], [-5, 30]])
    assert coverage(square, 8, 8).sum() == pytest.approx(3.5 * 6)
    assert coverage(square[::-1], 8, 8).sum() == pytest.approx(3.5 * 6)


def test_overlaps_are_those_of_polygon_clipping():
    for _ in range(10):
        one = star_shaped(int(DRAW.integers(5, 12)), DRAW) * 25 + 40
        angle = 2 * math.pi * np.arange(6) / 6
        other = np.stack([np.cos(angle), np.sin(angle)], axis=1) * 20 + DRAW.uniform(30, 50, 2)
        one = one if signed_area(one) > 0 else one[::-1]
        both = clipped(one, other)
        shared = signed_area(both) if len(both) > 2 else 0.0
        exact = shared / (signed_area(one) + signed_area(other) - shared)
        assert iou(one, other, 80, 80) == pytest.approx(exact, abs=0.01)  # 16 samples a pixel
    assert iou(one, one, 80, 80) == 1
    assert iou(one + 500, one + 600, 80, 80) == 0


def test_outlines_begin_at_the_top_and_go_clockwise():
    polygon = star_shaped(15, DRAW)
    for given in (polygon, polygon[::-1], np.roll(polygon, 5, axis=0)):
        found = canonical(given)
        assert signed_area(found) > 0 and found[0, 1] == polygon[:, 1].min()
        assert np.allclose(found, canonical(polygon))
    level = np.array([[0.0, 0], [4, 0], [4, 4], [0, 4]])
    assert canonical(np.roll(level, 2, axis=0)).tolist() == level.tolist()


def test_resampled_points_lie_on_the_line_at_equal_distances():
    square = np.array([[0.0, 0], [4, 0], [4, 4], [0, 4]])
    assert resampled(square, 8).tolist() == [[0, 0], [2, 0], [4, 0], [4, 2], [4, 4], [2, 4], [0, 4], [0, 2]]
    polygon = star_shaped(9, DRAW)
    assert iou(resampled(polygon, 4000) * 30 + 40, polygon * 30 + 40, 80, 80) > 0.99

"""Voxels: the degraded twin of an object: cubes of noisy colours, rendered by the same cameras.

A cube of a grid over [−1, 1]³ is there where the object's distance at its middle is not above 0, and has the colour of
the part that is nearest there, plus noise. A ray is cut at all planes of the grid, so that what it meets is exact.

Shapes: r cubes a side, v views, s pixels a side, n rays.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from unisono.data import derive_seed

from unisono_views.cameras import Cameras
from unisono_views.render import SAMPLES, averaged, light
from unisono_views.shapes import Shape

RESOLUTION = 16
NOISE = 0.12
"""Standard deviation of a cube's colour, of each of red, green and blue in [0, 1]."""


@dataclass(frozen=True, eq=False)
class Voxels:
    """Which cubes are there, and their colours in [0, 1]; axes are x, y, z."""

    there: Bool[Tensor, "r r r"]
    colours: Float[Tensor, "r r r 3"]


def middles(resolution: int) -> Float[Tensor, "r r r 3"]:
    """Return the middles of a grid's cubes, in float64."""
    along = (torch.arange(resolution, dtype=torch.float64) + 0.5) * (2 / resolution) - 1
    return torch.stack(torch.meshgrid(along, along, along, indexing="ij"), dim=-1)


def voxelised(
    shape: Shape, number: int = 0, seed: int = 0, resolution: int = RESOLUTION, noise: float = NOISE
) -> Voxels:
    """Return the cubes of an object; the noise is that of ``number`` and ``seed``."""
    points = middles(resolution).reshape(-1, 3)
    there = (shape.distance(points) <= 0).view(resolution, resolution, resolution)
    drawn = torch.randn(len(points), 3, generator=torch.Generator().manual_seed(derive_seed("cubes", seed, number)))
    colours = (shape.colours(points).float() + noise * drawn).clamp(0, 1)
    return Voxels(there, colours.view(resolution, resolution, resolution, 3))


def render_voxels(voxels: Voxels, cameras: Cameras, size: int, samples: int = SAMPLES) -> Float[Tensor, "v 3 s s"]:
    """Return pictures of cubes in [0, 1], lit as objects are, on white."""
    origins, directions = cameras.rays(samples * size)
    starts = origins.float()[:, None, None].expand_as(directions).reshape(-1, 3)
    ways = directions.float().reshape(-1, 3)
    half = (starts * ways).sum(-1)
    reach = middles(len(voxels.there))[voxels.there].norm(dim=-1).amax() if voxels.there.any() else torch.zeros(())
    reach = float(reach) + 3**0.5 / len(voxels.there)  # of the ball round the cubes
    near = (half.square() - starts.square().sum(-1) + reach**2 > 0).nonzero()[:, 0]
    shaded = torch.ones_like(ways)
    shaded[near] = met(voxels, starts[near], ways[near])
    return averaged(shaded.view(directions.shape), samples)


def met(voxels: Voxels, starts: Float[Tensor, "n 3"], ways: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    """Return the colour of the first cube that each ray meets, white where there is none."""
    resolution = len(voxels.there)
    planes = torch.linspace(-1, 1, resolution + 1, dtype=starts.dtype)
    ways = torch.where(ways.abs() < 1e-9, 1e-9, ways)
    cuts = ((planes - starts[:, :, None]) / ways[:, :, None]).flatten(1)  # x planes, y planes, z planes
    cuts, order = cuts.sort(dim=1)
    between = (cuts[:, :-1] + cuts[:, 1:]) / 2
    cells = ((starts[:, None] + between[..., None] * ways[:, None] + 1) * (resolution / 2)).floor().int()
    inside = ((cells >= 0) & (cells < resolution)).all(-1) & (between > 0)
    x, y, z = cells.clamp(0, resolution - 1).unbind(-1)
    place = (x * resolution + y) * resolution + z
    solid = voxels.there.flatten()[place] & inside
    first = solid.to(torch.uint8).argmax(1)
    row = torch.arange(len(starts))
    axis = order[row, first] // (resolution + 1)  # of the plane through which the cube is entered
    normals = torch.zeros_like(ways)
    normals[row, axis] = -ways[row, axis].sign()
    colours = voxels.colours.flatten(0, 2)[place[row, first]] * light(normals)[:, None]
    return torch.where(solid.any(1)[:, None], colours, 1.0)

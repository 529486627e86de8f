"""Cameras: pinhole cameras that look at the origin; their rays, and where points of space fall in their pictures.

The world has z upwards. A picture is square; its first row is the top one, and pixel (row, column) covers
[column, column + 1) × [row, row + 1). A depth is the distance from the camera along the ray, not along its axis.

Shapes: v views, s pixels a side, n points.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from unisono.errors import DataError

AZIMUTHS = (30.0, 90.0, 150.0, 210.0, 270.0, 330.0)
ELEVATIONS = (20.0, -10.0, 20.0, -10.0, 20.0, -10.0)


@dataclass(frozen=True, kw_only=True)
class Cameras:
    """Cameras at one distance from the origin, which they look at.

    By default six, round the object, from above and below by turns.

    Args:
        azimuths: degrees round the z axis, of each camera; 0 is on the x axis.
        elevations: degrees above the plane of x and y, within ±89.
        distance: from the origin; objects lie within 1 of it, and all of that is in the picture by default.
        fov_degrees: from the left edge to the right one.
    """

    azimuths: tuple[float, ...] = AZIMUTHS
    elevations: tuple[float, ...] = ELEVATIONS
    distance: float = 4.0
    fov_degrees: float = 30.0

    def __post_init__(self) -> None:
        if not self.azimuths or len(self.azimuths) != len(self.elevations):
            raise DataError(
                f"cameras: {len(self.azimuths)} azimuths and {len(self.elevations)} elevations: give one of each to "
                "every camera",
                code="shape",
                path="cameras.elevations",
                value=len(self.elevations),
            )
        checks = (
            ("azimuths", all(math.isfinite(a) for a in self.azimuths), "finite"),
            ("elevations", all(-89 <= e <= 89 for e in self.elevations), "from -89 to 89 degrees"),
            ("distance", 1 < self.distance < math.inf, "above 1, which objects reach to"),
            ("fov_degrees", 1 <= self.fov_degrees <= 120, "from 1 to 120 degrees"),
        )
        for name, right, limit in checks:
            if not right:
                value = getattr(self, name)
                raise DataError(
                    f"cameras.{name}={value} must be {limit}", code="range", path=f"cameras.{name}", value=value
                )

    def __len__(self) -> int:
        return len(self.azimuths)

    def positions(self) -> Float[Tensor, "v 3"]:
        """Return where the cameras are, in float64."""
        azimuth, elevation = (torch.tensor(a, dtype=torch.float64).deg2rad() for a in (self.azimuths, self.elevations))
        flat = elevation.cos()
        return self.distance * torch.stack([flat * azimuth.cos(), flat * azimuth.sin(), elevation.sin()], dim=-1)

    def axes(self) -> Float[Tensor, "v 3 3"]:
        """Return right, up and forward of each camera, unit vectors in float64."""
        forward = -self.positions() / self.distance
        right = torch.linalg.cross(forward, torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).expand_as(forward))
        right = right / right.norm(dim=-1, keepdim=True)
        return torch.stack([right, torch.linalg.cross(right, forward), forward], dim=1)

    def rays(self, size: int) -> tuple[Float[Tensor, "v 3"], Float[Tensor, "v s s 3"]]:
        """Return origins and unit directions of the rays through the middles of ``size`` × ``size`` pixels."""
        along = (torch.arange(size, dtype=torch.float64) + 0.5) * (2 / size) - 1
        right, up, forward = self.axes().unbind(1)
        across = along[None, None, :, None] * right[:, None, None] - along[None, :, None, None] * up[:, None, None]
        directions = forward[:, None, None] + math.tan(math.radians(self.fov_degrees) / 2) * across
        return self.positions(), directions / directions.norm(dim=-1, keepdim=True)

    def project(
        self, points: Float[Tensor, "n 3"], size: int
    ) -> tuple[Float[Tensor, "v n"], Float[Tensor, "v n"], Float[Tensor, "v n"]]:
        """Return rows and columns in pixels (0 is the picture's edge) and distances of points, in every view.

        Points behind a camera are at NaN.
        """
        away = points.double()[None] - self.positions()[:, None]
        right, up, forward = torch.einsum("vij,vnj->ivn", self.axes(), away)
        scale = size / 2 / math.tan(math.radians(self.fov_degrees) / 2)
        inverse = torch.where(forward > 0, 1 / forward, torch.nan)
        return size / 2 - scale * up * inverse, size / 2 + scale * right * inverse, away.norm(dim=-1)

"""Geometry of outlines: polygons, their rasters, and the angle sum that training compares."""

from unisono_outline.geometry.polygon import canonical, centre_of, resampled, signed_area
from unisono_outline.geometry.raster import coverage, iou, winding_numbers
from unisono_outline.geometry.winding import angle_sum, nearest_shift

__all__ = [
    "angle_sum",
    "canonical",
    "centre_of",
    "coverage",
    "iou",
    "nearest_shift",
    "resampled",
    "signed_area",
    "winding_numbers",
]

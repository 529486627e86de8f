"""Skeletons: rotations, BVH files, and the moving skeleton as a media type."""

from unisono_motion.skeleton.bvh import Capture, read_bvh
from unisono_motion.skeleton.media import Motion
from unisono_motion.skeleton.rotation import (
    euler_to_matrix,
    matrix_to_euler,
    matrix_to_six,
    six_to_matrix,
    slerp,
)
from unisono_motion.skeleton.skeleton import Skeleton, nearest_rotation

__all__ = [
    "Capture",
    "Motion",
    "Skeleton",
    "euler_to_matrix",
    "matrix_to_euler",
    "matrix_to_six",
    "nearest_rotation",
    "read_bvh",
    "six_to_matrix",
    "slerp",
]

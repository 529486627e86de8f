"""Motion: skeletons, rotations, BVH files, and the moving skeleton as a media type."""

from unisono.motion.bvh import Capture, read_bvh
from unisono.motion.media import Motion
from unisono.motion.rotation import (
    euler_to_matrix,
    matrix_to_euler,
    matrix_to_quaternion,
    matrix_to_six,
    quaternion_to_matrix,
    six_to_matrix,
    slerp,
)
from unisono.motion.skeleton import Skeleton, nearest_rotation

__all__ = [
    "Capture",
    "Motion",
    "Skeleton",
    "euler_to_matrix",
    "matrix_to_euler",
    "matrix_to_quaternion",
    "matrix_to_six",
    "nearest_rotation",
    "quaternion_to_matrix",
    "read_bvh",
    "six_to_matrix",
    "slerp",
]

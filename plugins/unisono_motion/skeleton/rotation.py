"""Rotations as matrices: Euler angles and slerp by scipy, and the six numbers of Zhou et al. (arXiv:1812.07035).

Six numbers are the first two columns of the matrix, from which Gram-Schmidt makes the third ("On the Continuity of
Rotation Representations in Neural Networks"): they jump nowhere, unlike angles and quaternions. scipy has no such form.

Matrices act on columns: ``R @ x``. Angles are radians.
"""

import warnings
from typing import Any

import numpy as np
from einops import rearrange
from jaxtyping import Float
from unisono.extras import optional


def euler_to_matrix(angles: Float[np.ndarray, "*n a"], order: str) -> Float[np.ndarray, "*n 3 3"]:
    """Return ``R_1 R_2 …``, elementary rotations about the axes named by ``order``, such as ``"ZXY"``."""
    if not order:
        return np.broadcast_to(np.eye(3), (*angles.shape[:-1], 3, 3)).copy()
    flat = angles.reshape(-1, len(order))
    return _rotation().from_euler(order, flat).as_matrix().reshape(*angles.shape[:-1], 3, 3)


def matrix_to_euler(matrix: Float[np.ndarray, "*n 3 3"], order: str) -> Float[np.ndarray, "*n 3"]:
    """Return the angles that ``euler_to_matrix`` takes back; ``order`` names three different axes.

    Where the middle angle is a right one (gimbal lock), the last is 0.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Gimbal lock")
        return _of(matrix).as_euler(order).reshape(*matrix.shape[:-2], 3)


def slerp(
    one: Float[np.ndarray, "*n 3 3"], other: Float[np.ndarray, "*n 3 3"], share: Float[np.ndarray, "*n"]
) -> Float[np.ndarray, "*n 3 3"]:
    """Return the rotation at ``share`` of the shortest way from one to the other, at constant speed."""
    start = _of(one)
    way = (start.inv() * _of(other)).as_rotvec() * np.reshape(share, (-1, 1))
    return (start * _rotation().from_rotvec(way)).as_matrix().reshape(one.shape)


def matrix_to_six(matrix: Float[np.ndarray, "*n 3 3"]) -> Float[np.ndarray, "*n 6"]:
    """Return the first column, then the second."""
    return rearrange(matrix[..., :2], "... row column -> ... (column row)")


def six_to_matrix(six: Float[np.ndarray, "*n 6"]) -> Float[np.ndarray, "*n 3 3"]:
    """Return the rotation that six numbers mean (Gram-Schmidt); any six that are not degenerate will do."""
    first = six[..., :3] / np.maximum(np.linalg.norm(six[..., :3], axis=-1, keepdims=True), 1e-8)
    second = six[..., 3:] - (first * six[..., 3:]).sum(-1, keepdims=True) * first
    second = second / np.maximum(np.linalg.norm(second, axis=-1, keepdims=True), 1e-8)
    return np.stack([first, second, np.cross(first, second)], axis=-1)


def _of(matrix: Float[np.ndarray, "*n 3 3"]) -> Any:
    """The matrices as scipy's rotations, in one row."""
    return _rotation().from_matrix(matrix.reshape(-1, 3, 3))


def _rotation() -> Any:
    return optional("scipy", "scipy.spatial.transform", extra="motion").Rotation

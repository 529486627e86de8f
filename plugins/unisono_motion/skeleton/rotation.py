"""Rotations as matrices: to and from Euler angles, quaternions and the six numbers of Zhou et al.

Zhou et al., "On the Continuity of Rotation Representations in Neural Networks" (arXiv:1812.07035): the first
two columns of the matrix, from which Gram-Schmidt makes the third; no jump anywhere, unlike angles and
quaternions.

Matrices act on columns: ``R @ x``. Angles are radians. Quaternions are (w, x, y, z).
"""

import numpy as np
from jaxtyping import Float

AXES = "XYZ"


def euler_to_matrix(angles: Float[np.ndarray, "*n a"], order: str) -> Float[np.ndarray, "*n 3 3"]:
    """Return ``R_1 R_2 …``, elementary rotations about the axes named by ``order``, such as ``"ZXY"``."""
    result = np.broadcast_to(np.eye(3), (*angles.shape[:-1], 3, 3))
    for index, axis in enumerate(order):
        i = AXES.index(axis)
        j, k = (i + 1) % 3, (i + 2) % 3
        turn = np.zeros((*angles.shape[:-1], 3, 3))
        turn[..., i, i] = 1
        turn[..., j, j] = turn[..., k, k] = np.cos(angles[..., index])
        turn[..., k, j] = np.sin(angles[..., index])
        turn[..., j, k] = -turn[..., k, j]
        result = result @ turn
    return result


def matrix_to_euler(matrix: Float[np.ndarray, "*n 3 3"], order: str) -> Float[np.ndarray, "*n 3"]:
    """Return the angles that ``euler_to_matrix`` takes back; ``order`` names three different axes.

    Where the middle angle is a right one (gimbal lock), the last is 0.
    """
    i, j, k = (AXES.index(axis) for axis in order)
    sign = 1.0 if (j - i) % 3 == 1 else -1.0
    sine = np.clip(sign * matrix[..., i, k], -1, 1)
    locked = np.abs(sine) > 1 - 1e-12
    first = np.where(
        locked,
        np.arctan2(sign * matrix[..., k, j], matrix[..., j, j]),
        np.arctan2(-sign * matrix[..., j, k], matrix[..., k, k]),
    )
    last = np.where(locked, 0.0, np.arctan2(-sign * matrix[..., i, j], matrix[..., i, i]))
    return np.stack([first, np.arcsin(sine), last], axis=-1)


def matrix_to_quaternion(matrix: Float[np.ndarray, "*n 3 3"]) -> Float[np.ndarray, "*n 4"]:
    """Return unit quaternions; of the two signs, the one whose largest part is positive."""
    m = matrix
    # Rows of the symmetric matrix 4 q qᵀ: the one with the largest diagonal is the best conditioned.
    trace = m[..., 0, 0] + m[..., 1, 1] + m[..., 2, 2]
    x, y, z = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 0, 1] + m[..., 1, 0], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1]
    rows = np.stack(
        [
            np.stack([1 + trace, x, y, z], -1),
            np.stack([x, 1 + 2 * m[..., 0, 0] - trace, xy, xz], -1),
            np.stack([y, xy, 1 + 2 * m[..., 1, 1] - trace, yz], -1),
            np.stack([z, xz, yz, 1 + 2 * m[..., 2, 2] - trace], -1),
        ],
        -2,
    )
    best = np.diagonal(rows, axis1=-2, axis2=-1).argmax(-1)
    row = np.take_along_axis(rows, best[..., None, None], -2)[..., 0, :]
    return row / np.linalg.norm(row, axis=-1, keepdims=True)


def quaternion_to_matrix(quaternion: Float[np.ndarray, "*n 4"]) -> Float[np.ndarray, "*n 3 3"]:
    """Return the rotations of unit quaternions."""
    w, x, y, z = np.moveaxis(quaternion, -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, -1) for row in rows], -2)


def slerp(
    one: Float[np.ndarray, "*n 3 3"], other: Float[np.ndarray, "*n 3 3"], share: Float[np.ndarray, "*n"]
) -> Float[np.ndarray, "*n 3 3"]:
    """Return the rotation at ``share`` of the shortest way from one to the other, at constant speed."""
    p, q = matrix_to_quaternion(one), matrix_to_quaternion(other)
    cosine = (p * q).sum(-1)
    q = np.where((cosine < 0)[..., None], -q, q)
    angle = np.arccos(np.clip(np.abs(cosine), 0, 1))
    small = angle < 1e-6  # there, the straight way is the shortest one
    sine = np.where(small, 1.0, np.sin(angle))
    left = np.where(small, 1 - share, np.sin((1 - share) * angle) / sine)
    right = np.where(small, share, np.sin(share * angle) / sine)
    mixed = left[..., None] * p + right[..., None] * q
    return quaternion_to_matrix(mixed / np.linalg.norm(mixed, axis=-1, keepdims=True))


def matrix_to_six(matrix: Float[np.ndarray, "*n 3 3"]) -> Float[np.ndarray, "*n 6"]:
    """Return the first column, then the second."""
    return np.concatenate([matrix[..., 0], matrix[..., 1]], axis=-1)


def six_to_matrix(six: Float[np.ndarray, "*n 6"]) -> Float[np.ndarray, "*n 3 3"]:
    """Return the rotation that six numbers mean (Gram-Schmidt); any six that are not degenerate will do."""
    first = six[..., :3] / np.maximum(np.linalg.norm(six[..., :3], axis=-1, keepdims=True), 1e-8)
    second = six[..., 3:] - (first * six[..., 3:]).sum(-1, keepdims=True) * first
    second = second / np.maximum(np.linalg.norm(second, axis=-1, keepdims=True), 1e-8)
    return np.stack([first, second, np.cross(first, second)], axis=-1)

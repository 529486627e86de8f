"""Sliding and jumps against motions whose answer is known."""

import numpy as np
import pytest
from refused import refused
from unisono.errors import DataError
from unisono_motion.measure.physics import foot_sliding, seam_jump, velocity_jumps

FPS = 20


def still(num_frames: int = 10, joints: int = 3) -> np.ndarray:
    return np.tile(np.arange(joints * 3, dtype=float).reshape(joints, 3), (num_frames, 1, 1))


def test_a_foot_that_stands_slides_by_nothing():
    assert foot_sliding(still(), [1, 2], FPS) == 0


def test_a_foot_that_glides_slides_at_its_horizontal_speed():
    positions = still()
    positions[:, 1, 0] += 0.03 * np.arange(10)
    positions[:, 1, 2] += 0.04 * np.arange(10)
    assert foot_sliding(positions, [1], FPS) == pytest.approx(0.05 * FPS)
    assert foot_sliding(positions, [1, 2], FPS) == pytest.approx(0.05 * FPS / 2)


def test_vertical_movement_is_no_sliding():
    positions = still()
    positions[:, 1, 1] += 0.04 * (np.arange(10) % 2)  # up and down within the 5 cm that count as standing
    assert foot_sliding(positions, [1], FPS) == 0
    positions[:, 1, 0] += 0.03 * np.arange(10)
    assert foot_sliding(positions, [1], FPS) == pytest.approx(0.03 * FPS)


def test_a_foot_stands_near_its_own_lowest_place_wherever_that_is():
    positions = still()
    positions[:, 1, 1] += np.linspace(0, 0.2, 10) + 7.0  # far above the ground; the first three frames are low
    positions[:, 1, 0] += 0.01 * np.arange(10) ** 2
    assert foot_sliding(positions, [1], FPS) == pytest.approx(FPS * np.mean([0.01, 0.03]))


def test_a_lifted_foot_may_move():
    positions = still()
    positions[4:7, 1, 1] += 0.2  # three frames in the air, in which it goes 30 cm ahead
    positions[:, 1, 0] += np.interp(np.arange(10), [3, 7], [0, 0.3])
    assert foot_sliding(positions, [1], FPS) == 0
    positions[:, 1, 1] = 1.0 + 0.06 * np.arange(10)  # only its first frame is low
    assert foot_sliding(positions, [1], FPS) is None


def test_velocity_jumps_are_where_velocity_changes():
    positions = still(9)
    positions[5:, :, 0] += 0.1 * np.arange(1, 5)[:, None]  # all joints set off from frame 4 on
    jumps = velocity_jumps(positions, FPS)
    assert jumps.argmax() == 4
    assert jumps[4] == pytest.approx(0.1 * FPS)
    assert np.delete(jumps, 4) == pytest.approx(np.zeros(8), abs=1e-9)


def test_a_seam_is_measured_on_both_of_its_sides():
    positions = still(12)
    positions[6:, :, 1] += 0.5  # a leap between the frames 5 and 6
    assert seam_jump(positions, FPS, [6]) == pytest.approx(0.5 * FPS)
    assert seam_jump(positions, FPS, [3]) == pytest.approx(0, abs=1e-9)
    assert seam_jump(positions, FPS, [3, 6]) == pytest.approx(0.25 * FPS)
    assert seam_jump(positions, FPS, [0, 12]) is None  # the ends of the clip are no seams


def test_a_seam_takes_the_larger_of_its_two_jumps():
    positions = still(12)
    positions[6:, :, 0] += 0.5  # speed 0, then 0.5 a frame, then 0.2: jumps of 0.5 at frame 5 and 0.3 at frame 6
    positions[7:, :, 0] += 0.2 * np.arange(1, 6)[:, None]
    jumps = velocity_jumps(positions, FPS)
    assert jumps[5:7] == pytest.approx([0.5 * FPS, 0.3 * FPS])
    assert seam_jump(positions, FPS, [6]) == pytest.approx(0.5 * FPS)
    assert seam_jump(positions, FPS, [6, 7]) == pytest.approx((0.5 + 0.3) / 2 * FPS)


def test_what_cannot_be_measured_is_refused():
    with refused(DataError, "unsupported", "feet"):
        foot_sliding(still(), [], FPS)
    with refused(DataError, "limit", "positions", value=1):
        foot_sliding(still(1), [1], FPS)
    with refused(DataError, "limit", "positions", value=2):
        velocity_jumps(still(2), FPS)

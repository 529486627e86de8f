"""Features: there and back, against the published equations; the way to one skeleton, rate, ground and mirror."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from unisono.data import Drop
from unisono_motion.corpus.features import CONTACT_SPEED, MotionSpec, about_y
from unisono_motion.corpus.figures import ACTIONS, figure_skeleton, make_figure
from unisono_motion.corpus.fit import REFLECT, Mirror, fit, resample, retarget, stand
from unisono_motion.skeleton import Motion, Skeleton, euler_to_matrix

SHARED = Path(os.environ.get("UNISONO_SHARED", Path(__file__).parents[3] / "shared"))
SPEC = MotionSpec(figure_skeleton(), 20.0)


def figure(number: int) -> Motion:
    return stand(make_figure(number), SPEC)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Three real clips, where the archive lies beside the checkout."""
    import tarfile

    archive = SHARED / "data" / "bandai-motion.tar.xz"
    if not archive.is_file():
        pytest.skip("../shared/data/bandai-motion.tar.xz is absent")
    folder = tmp_path_factory.mktemp("bandai")
    found = []
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.name.endswith(".bvh"):
                (folder / f"{len(found)}.bvh").write_bytes(tar.extractfile(member).read())
                found.append(folder / f"{len(found)}.bvh")
            if len(found) == 3:
                break
    return found


# ---- there and back ----------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(len(ACTIONS)))
def test_a_motion_comes_back_from_its_features(number):
    motion = figure(number)
    features = SPEC.encode(motion)
    assert features.shape == (len(motion.positions), SPEC.dim) and features.dtype == np.float32
    back = SPEC.positions(torch.from_numpy(features)[None].double())[0].numpy()
    # float32 features, summed up over at most 60 frames
    np.testing.assert_allclose(back, motion.positions, atol=1e-5)
    decoded = SPEC.decode(features)
    np.testing.assert_allclose(decoded.positions, motion.positions, atol=2e-5)
    np.testing.assert_allclose(decoded.rotations, motion.rotations, atol=2e-5)


def test_features_become_bvh_and_features_again(tmp_path):
    motion = figure(1)
    features = SPEC.encode(motion)
    path = SPEC.decode(features).save(tmp_path / "clip.bvh")
    again = SPEC.encode(fit(Motion.read(path), SPEC))
    np.testing.assert_allclose(again, features, atol=2e-4)  # contacts are 0 or 1: none changed


@pytest.mark.slow
def test_real_clips_come_back_within_a_hundredth_of_a_millimetre(real, tmp_path):
    for path in real:
        motion = Motion.read(path)
        spec = MotionSpec(motion.skeleton, motion.fps)
        placed = stand(motion, spec)
        saved = spec.decode(spec.encode(placed)).save(tmp_path / "back.bvh")
        again = Motion.read(saved)
        assert np.abs(again.positions - placed.positions).max() < 1e-5


def test_features_do_not_depend_on_place_and_direction():
    motion = figure(2)
    turn = about_y(np.array([2.0]))
    rotations = motion.rotations.copy()
    rotations[:, 0] = turn @ rotations[:, 0]
    moved = replace(motion, positions=motion.positions @ turn[0].T + [3.0, 0, -7], rotations=rotations)
    np.testing.assert_allclose(SPEC.encode(moved), SPEC.encode(motion), atol=1e-5)


def test_each_group_is_what_the_table_says():
    """The published equations, frame by frame."""
    motion = figure(1)
    p, heading = motion.positions, SPEC.heading(motion.positions)
    features = SPEC.encode(motion).astype(np.float64)
    cut = {name: features[:, columns] for name, columns in SPEC.slices.items()}
    assert sum(part.shape[1] for part in cut.values()) == SPEC.dim == 1 + 2 + 1 + 42 + 90 + 45 + 2
    for t in range(len(p) - 1):
        face, after = about_y(-heading[t : t + 1])[0], about_y(-heading[t + 1 : t + 2])[0]
        assert cut["turn"][t, 0] == pytest.approx(-(heading[t + 1] - heading[t]) / 2, abs=1e-6)
        np.testing.assert_allclose(cut["velocity"][t], (after @ (p[t + 1, 0] - p[t, 0]))[[0, 2]], atol=1e-6)
        assert cut["height"][t, 0] == pytest.approx(p[t, 0, 1], abs=1e-6)
        for j in range(15):
            speed = face @ (p[t + 1, j] - p[t, j])
            np.testing.assert_allclose(cut["speeds"][t, 3 * j : 3 * j + 3], speed, atol=1e-6)
            if j:
                place = face @ (p[t, j] - p[t, 0] * [1, 0, 1])
                np.testing.assert_allclose(cut["places"][t, 3 * j - 3 : 3 * j], place, atol=1e-6)
                columns = motion.rotations[t, j].T[:2].ravel()
                np.testing.assert_allclose(cut["rotations"][t, 6 * j : 6 * j + 6], columns, atol=1e-6)
        root = (face @ motion.rotations[t, 0]).T[:2].ravel()
        np.testing.assert_allclose(cut["rotations"][t, :6], root, atol=1e-6)


def test_heading_is_where_the_body_faces():
    for angle in (0.0, 1.0, 3.0, -2.0):
        skeleton = SPEC.skeleton
        rotations = np.broadcast_to(np.eye(3), (30, 15, 3, 3)).copy()
        rotations[:, 0] = euler_to_matrix(np.full((30, 1), angle), "Y")
        positions = skeleton.positions(rotations, np.zeros((30, 3)))
        np.testing.assert_allclose(SPEC.heading(positions), angle, atol=1e-12)


def test_a_full_turn_is_continuous():
    angle = np.linspace(0, 4 * np.pi, 200)
    rotations = np.broadcast_to(np.eye(3), (200, 15, 3, 3)).copy()
    rotations[:, 0] = euler_to_matrix(angle[:, None], "Y")
    motion = Motion(SPEC.skeleton.positions(rotations, np.zeros((200, 3))), SPEC.skeleton, 20.0, rotations)
    assert np.abs(np.diff(SPEC.heading(motion.positions))).max() < 0.1
    assert np.abs(SPEC.encode(motion)[:, 0]).max() < 0.05


def test_feet_that_stand_touch_and_feet_that_swing_do_not():
    assert SPEC.encode(figure(3))[:, SPEC.slices["contacts"]].all()  # waves with the feet at rest
    skeleton, time = SPEC.skeleton, np.arange(40) / 20
    angles = np.zeros((40, 15, 3))
    angles[:, skeleton.names.index("LeftUpLeg"), 0] = np.where(time < 1, 0.0, np.sin(2 * np.pi * (time - 1)))
    rotations = euler_to_matrix(angles, "XYZ")
    motion = Motion(skeleton.positions(rotations, np.tile([0, 0.9, 0], (40, 1))), skeleton, 20.0, rotations)
    left, right = SPEC.encode(motion)[:, SPEC.slices["contacts"]].T
    assert right.all() and left[:19].all()
    speed = np.linalg.norm(np.diff(motion.positions[:, skeleton.names.index("LeftFoot")], axis=0), axis=-1) * 20
    assert not left[:-1][speed > 0.41].any() and (speed > 0.41).sum() > 10


def test_contacts_are_told_by_metres_per_second_at_any_rate():
    skeleton = SPEC.skeleton
    rotations = np.broadcast_to(np.eye(3), (30, len(skeleton), 3, 3)).copy()
    for fps in (15.0, 60.0):
        spec = replace(SPEC, fps=fps)
        for share, touches in ((0.75, True), (1.5, False)):  # a body that glides as a whole
            root = np.arange(30)[:, None] / fps * [share * CONTACT_SPEED, 0, 0] + [0, 0.9, 0]
            motion = Motion(skeleton.positions(rotations, root), skeleton, fps, rotations)
            assert (spec.encode(motion)[:, spec.slices["contacts"]] == touches).all()


def test_contacts_do_not_depend_on_the_height_of_the_ground():
    for number in (0, 3):
        plain = figure(number)
        contacts = SPEC.encode(plain)[:, SPEC.slices["contacts"]]
        assert contacts.any()
        for height in (-2.0, 3.0):
            lifted = replace(plain, positions=plain.positions + np.array([0, height, 0]))
            assert np.array_equal(SPEC.encode(lifted)[:, SPEC.slices["contacts"]], contacts)


def test_published_layout_is_read_without_its_rotations():
    """22 joints and 263 numbers; 21 and 251."""
    from unisono_motion.corpus.humanml3d import JOINTS_21, JOINTS_22

    for joints, dim in ((JOINTS_22, 263), (JOINTS_21, 251)):
        names, parents, rest = zip(*joints, strict=True)
        skeleton = Skeleton(names, parents, np.array(rest, float), np.zeros((len(names), 3)))
        spec = MotionSpec(skeleton, 20.0, tilt=False)
        assert spec.dim == dim and len(skeleton.feet) == 4
        assert len(skeleton.pairs) == 2


def test_parts_share_the_columns_out():
    lower, upper = SPEC.parts["lower"], SPEC.parts["upper"]
    assert sorted(lower + upper) == list(range(SPEC.dim))
    motion = figure(0)
    features = SPEC.encode(motion)
    arms = motion.rotations.copy()
    arms[:, 3:9] = arms[:, 3:9] @ euler_to_matrix(np.array([0.5]), "X")
    other = replace(motion, positions=SPEC.skeleton.positions(arms, motion.positions[:, 0]), rotations=arms)
    changed = np.abs(SPEC.encode(other) - features).max(0) > 1e-6
    assert changed.any() and not changed[lower].any()


def test_disagreeing_features_still_give_bones_of_constant_length():
    features = SPEC.encode(figure(0))
    noise = np.random.default_rng(0).normal(size=features.shape).astype(np.float32)
    made = SPEC.decode(features + 0.05 * noise)
    for joint in range(1, 15):
        bone = np.linalg.norm(made.positions[:, joint] - made.positions[:, SPEC.skeleton.parents[joint]], axis=-1)
        np.testing.assert_allclose(bone, np.linalg.norm(SPEC.skeleton.offsets[joint]), atol=1e-5)


def test_the_spec_survives_json():
    again = MotionSpec.from_dict(SPEC.to_dict())
    assert again.to_dict() == SPEC.to_dict() and again.dim == SPEC.dim


def test_one_frame_and_no_sides_have_no_features():
    motion = figure(0)
    with pytest.raises(Drop, match="at least 2 frames"):
        SPEC.encode(replace(motion, positions=motion.positions[:1], rotations=motion.rotations[:1]))
    snake = Skeleton(("a", "b"), (-1, 0), np.array([[0, 0, 0], [0, 1.0, 0]]), np.zeros((2, 3)))
    with pytest.raises(Drop, match="no left and right"):
        MotionSpec(snake, 20.0).encode(Motion(np.zeros((5, 2, 3)), snake, 20.0))


# ---- fitting -----------------------------------------------------------------------------------


def test_resampling_there_and_back():
    motion = figure(0)
    double = resample(motion, 40.0)
    assert len(double.positions) == 2 * len(motion.positions) - 1 and double.fps == 40
    np.testing.assert_allclose(resample(double, 20.0).positions, motion.positions, atol=1e-9)
    third = resample(motion, 20.0 / 3)
    np.testing.assert_allclose(third.positions, motion.positions[::3][: len(third.positions)], atol=1e-9)
    assert third.seconds == pytest.approx(motion.seconds, abs=3 / 20)
    assert resample(motion, 20.0) is motion


def test_retargeting_keeps_rotations_and_scales_the_way():
    motion, target = figure(0), replace(SPEC.skeleton, offsets=SPEC.skeleton.offsets * 1.5)
    moved = retarget(motion, target)
    np.testing.assert_allclose(moved.positions, 1.5 * motion.positions, atol=1e-12)
    assert retarget(motion, SPEC.skeleton) is motion


def test_longer_arms_do_not_lengthen_the_way():
    motion, skeleton = figure(0), SPEC.skeleton
    arms = [joint for joint in range(1, len(skeleton)) if joint not in skeleton.legs]
    offsets = skeleton.offsets.copy()
    offsets[arms] *= 2
    moved = retarget(motion, replace(skeleton, offsets=offsets))
    np.testing.assert_allclose(moved.positions[:, 0], motion.positions[:, 0], atol=1e-12)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda s: replace(s, names=(*s.names[:-1], "Tail")), "lacks RightFoot; has Tail"),
        (lambda s: replace(s, parents=(*s.parents[:-1], 0)), "other parents"),
        (lambda s: replace(s, offsets=s.offsets[:, [1, 0, 2]]), r"rest-pose bone of .* differs by .*° \(max 30°\)"),
    ],
)
def test_another_skeleton_is_told(change, match):
    with pytest.raises(Drop, match=match):
        retarget(replace(figure(0), skeleton=change(SPEC.skeleton)), SPEC.skeleton)


def test_standing_means_origin_ground_and_facing_z():
    motion = make_figure(1)
    turn = about_y(np.array([1.0]))
    rotations = motion.rotations.copy()
    rotations[:, 0] = turn @ rotations[:, 0]
    away = replace(motion, positions=motion.positions @ turn[0].T + [5.0, 2, 1], rotations=rotations)
    placed = stand(away, SPEC)
    np.testing.assert_allclose(placed.positions[0, 0, [0, 2]], 0, atol=1e-12)
    assert placed.positions[..., 1].min() == pytest.approx(0, abs=1e-12)
    assert SPEC.heading(placed.positions)[0] == pytest.approx(0, abs=1e-9)
    again = SPEC.skeleton.positions(placed.rotations, placed.positions[:, 0])
    np.testing.assert_allclose(again, placed.positions, atol=1e-12)


def test_a_mirror_image_changes_sides():
    motions = [figure(n) for n in range(10)]
    mean = np.mean([m.rotations.mean(0) for m in motions], 0)
    mirror = Mirror.learn(SPEC.skeleton, mean)
    left, sides = figure(3), list(SPEC.skeleton.mirror)
    image = mirror(left, "other")
    np.testing.assert_allclose(image.positions, left.positions[:, sides] @ REFLECT, atol=1e-9)
    np.testing.assert_allclose(mirror(image).rotations, left.rotations, atol=1e-9)
    right = SPEC.skeleton.names.index("RightHand")
    assert image.positions[:, right, 1].max() > 1.2 > image.positions[:, sides[right], 1].max()
    assert image.caption == "other"


def test_mirrored_axes_are_found_whatever_the_maker_chose():
    """The right side's axes reversed, as animation programmes do: reflections are C = −1 there."""
    skeleton = SPEC.skeleton
    flipped = [i for i, name in enumerate(skeleton.names) if name.startswith("Right")]
    half = euler_to_matrix(np.array([np.pi]), "X")

    def remake(motion):
        frames = skeleton.global_rotations(motion.rotations)
        frames[:, flipped] = frames[:, flipped] @ half
        return frames

    offsets = skeleton.offsets.copy()
    for joint in range(1, 15):
        if skeleton.parents[joint] in flipped:
            offsets[joint] = half.T @ offsets[joint]
    other = replace(skeleton, offsets=offsets)
    motions = [figure(n) for n in range(10)]
    local = [other.local_rotations(remake(m)) for m in motions]
    mirror = Mirror.learn(other, np.mean([r.mean(0) for r in local], 0))
    motion = Motion(motions[0].positions, other, 20.0, local[0])
    np.testing.assert_allclose(other.positions(local[0], motion.positions[:, 0]), motion.positions, atol=1e-9)
    expected = remake(Mirror.learn(skeleton, np.mean([m.rotations.mean(0) for m in motions], 0))(motions[0]))
    np.testing.assert_allclose(other.global_rotations(mirror(motion).rotations), expected, atol=1e-6)

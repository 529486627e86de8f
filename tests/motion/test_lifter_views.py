"""Views: cameras that see what is there, detectors, COCO's joints, what is held out and refused."""

import numpy as np
import pytest
import torch
from refused import refused
from unisono.errors import DataError
from unisono_motion.corpus.data import ClipOptions
from unisono_motion.corpus.figures import figure_skeleton, make_figure
from unisono_motion.lifting.camera import Camera, CameraRange, levelled
from unisono_motion.lifting.coco import KEYPOINTS, CocoJoints
from unisono_motion.lifting.detector import Detector
from unisono_motion.lifting.facts import LifterFacts
from unisono_motion.lifting.views import FigureViews, ViewData, Viewer, flipped
from unisono_motion.skeleton import Skeleton

SKELETON = figure_skeleton()
EXACT = Detector(sigma=(0.0, 0.0), dropout=0.0, coco_share=0.0)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def figure(number=0):
    motion = make_figure(number)
    return motion.positions - [0, motion.positions[..., 1].min(), 0]


# ---- cameras -----------------------------------------------------------------------------------


def test_a_camera_sees_as_one_does():
    camera = Camera.looking(np.array([0.0, 1.0, 4.0]), np.array([0.0, 1.0, 0.0]), focal=1.5)
    seen = camera.project(camera.place(np.array([[0.0, 1, 0], [1, 1, 0], [0, 2, 0], [1, 1, 2]])))
    # x to the right and y down in half widths: 2 · 1.5 · 1 m / 4 m, and twice that at half the distance.
    np.testing.assert_allclose(seen, [[0, 0], [0.75, 0], [0, -0.75], [1.5, 0]], atol=1e-12)
    assert camera.pitch == 0
    np.testing.assert_allclose(camera.place(np.array([1.0, 1, 0])), [1, 0, -4])


def test_axes_are_right_handed_and_levelled_ones_are_upright():
    camera = CameraRange().draw(figure(), generator(3))
    np.testing.assert_allclose(camera.rotation @ camera.rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(camera.rotation) == pytest.approx(1)
    assert camera.rotation[0, 1] == pytest.approx(0)  # no roll
    above = camera.place(figure()[:1] + np.array([0, 0.5, 0])) - camera.place(figure()[:1])
    np.testing.assert_allclose(levelled(above, camera.pitch), np.broadcast_to([0, 0.5, 0], above.shape), atol=1e-12)
    down = Camera.looking(np.array([0.0, 2.0, 2.0]), np.zeros(3), 1.0)
    assert np.degrees(down.pitch) == pytest.approx(45)


def test_a_person_behind_the_camera_is_refused():
    camera = Camera.looking(np.array([0.0, 1.0, 3.0]), np.array([0.0, 1.0, 0.0]), 1.0)
    with refused(DataError, "range", "camera", value=-1.0):
        camera.project(camera.place(np.array([[0.0, 1, 0], [0, 1, 4]])))
    with refused(DataError, "range", "camera"):
        camera.project(np.array([0.0, 0.0, np.nan]))
    with refused(DataError, "value", "position"):
        Camera.looking(np.array([0.0, 3.0, 0.0]), np.zeros(3), 1.0)


@pytest.mark.parametrize("number", range(5))
def test_drawn_cameras_stand_in_their_ranges_and_before_the_person(number):
    positions, ranges = figure(number), CameraRange()
    far, turns = [], []
    for seed in range(30):
        camera = ranges.draw(positions, generator(seed))
        assert ranges.height[0] <= camera.position[1] <= ranges.height[1]
        assert ranges.focal[0] <= camera.focal <= ranges.focal[1]
        camera.project(camera.place(positions))
        way = camera.position[[0, 2]] - positions[:, 0][:, [0, 2]]
        far.append(np.linalg.norm(way, axis=1).min())
        turns.append(np.arctan2(*way[0]))
    assert min(far) >= ranges.distance[0] - 1e-9
    assert np.ptp(turns) > 5  # all around


@pytest.mark.parametrize(
    ("name", "value"), [("height", (2.0, 1.0)), ("distance", (0.5, 2.0)), ("focal", (0.0, 1.0)), ("focal", (1, 1e9))]
)
def test_ranges_that_cannot_be_are_refused(name, value):
    with refused(DataError, "range", f"data.camera.{name}", value=list(value)):
        CameraRange(**{name: value})


def test_the_projection_of_the_poses_is_the_keypoints():
    viewer = Viewer(SKELETON, CameraRange(), EXACT)
    keypoints, poses, camera = viewer.view(figure(), generator())
    assert (keypoints[..., 2] == 1).all() and (poses[:, 0] == 0).all()
    root = camera.place(figure())[:, :1]
    np.testing.assert_allclose(camera.project(poses + root), keypoints[..., :2], atol=1e-12)
    # The mirror image, left and right exchanged in both, is what the same camera sees of the mirrored person.
    mirrored = camera.project(flipped(poses + root, SKELETON.mirror))
    np.testing.assert_allclose(mirrored, flipped(keypoints, SKELETON.mirror)[..., :2], atol=1e-12)


# ---- detectors ---------------------------------------------------------------------------------


def test_errors_have_their_size_and_confidence_falls_with_them():
    seen = np.zeros((400, 10, 2))
    detector = Detector(sigma=(0.01, 0.01), dropout=0.1, coco_share=0.0)
    found = detector.detect(seen, 2.0, None, generator())
    there = found[..., 2] > 0
    assert 1 - there.mean() == pytest.approx(0.1, abs=0.02)  # 4,000 draws: a standard deviation of 0.005
    assert not found[~there].any()
    assert found[there][:, :2].std() == pytest.approx(0.02, rel=0.05)
    off = np.linalg.norm(found[there][:, :2], axis=-1)
    np.testing.assert_allclose(found[there][:, 2], np.exp(-off / 0.04), rtol=1e-6)  # drawn as float32
    np.testing.assert_array_equal(found, detector.detect(seen, 2.0, None, generator()))


@pytest.mark.parametrize(
    ("name", "value"), [("sigma", (0.02, 0.01)), ("sigma", (-1.0, 0.0)), ("dropout", 1.0), ("coco_share", 1.5)]
)
def test_detectors_that_cannot_be_are_refused(name, value):
    with refused(DataError, "range", f"data.detector.{name}"):
        Detector(**{name: value})


# ---- COCO's joints -----------------------------------------------------------------------------

_ARM, _LEG = ("Shoulder", "UpperArm", "LowerArm", "Hand"), ("UpperLeg", "LowerLeg", "Foot", "Toes")
BANDAI = ["Hips", "Spine", "Chest", "Neck", "Head"]
BANDAI += [f"{name}_{side}" for limb in (_ARM, _LEG) for side in "LR" for name in limb]
PARENTS = (-1, 0, 1, 2, 3, 2, 5, 6, 7, 2, 9, 10, 11, 0, 13, 14, 15, 0, 17, 18, 19)


def skeleton_of(names, parents):
    return Skeleton(tuple(names), tuple(parents), np.ones((len(names), 3)), np.zeros((len(names), 3)))


def told(skeleton):
    coco = CocoJoints.of(skeleton)
    return {n: [KEYPOINTS[k] for k in ks] for n, ks in zip(skeleton.names, coco.sources, strict=True) if ks}


def test_joints_are_told_by_name_in_several_skeletons():
    bandai = told(skeleton_of(BANDAI, PARENTS))
    assert bandai["UpperArm_L"] == ["left_shoulder"] and bandai["Foot_R"] == ["right_ankle"]
    assert bandai["Hips"] == ["left_hip", "right_hip"] and bandai["Neck"] == ["left_shoulder", "right_shoulder"]
    assert not {"Shoulder_L", "Spine", "Chest", "Toes_L"} & bandai.keys()
    assert told(SKELETON)["LeftForeArm"] == ["left_elbow"]
    from unisono_motion.corpus.humanml3d import JOINTS_22

    human = told(skeleton_of([n for n, *_ in JOINTS_22], [p for _, p, *_ in JOINTS_22]))
    assert human["left_ankle"] == ["left_ankle"] and human["left_shoulder"] == ["left_shoulder"]
    assert "left_foot" not in human and "left_collar" not in human
    assert CocoJoints.of(skeleton_of(["a", "b"], (-1, 0))) is None


def test_items_seen_as_coco_have_the_middles_of_joints():
    coco = CocoJoints.of(SKELETON)
    seen = np.random.default_rng(0).normal(size=(2, len(SKELETON), 2))
    hips = [SKELETON.names.index(f"{side}UpLeg") for side in ("Left", "Right")]
    np.testing.assert_allclose(coco.imitate(seen)[:, 0], seen[:, hips].mean(1))
    detector = Detector(sigma=(0.0, 0.0), dropout=0.0, coco_share=1.0)
    found = detector.detect(seen, 1.0, coco, generator())
    np.testing.assert_array_equal(found[0, :, 2] > 0, coco.known)
    assert not coco.known[SKELETON.names.index("Spine")]
    # The same from COCO's own keypoints, which a detector gives.
    table = np.zeros((2, 17, 3))
    for joint, keypoints in enumerate(coco.sources):
        if len(keypoints) == 1:
            table[:, keypoints[0]] = np.concatenate([seen[:, joint], np.ones((2, 1))], -1)
    read = coco.read(table)
    for joint in range(len(SKELETON)):
        if SKELETON.names[joint] != "Head":  # its ears are no joints
            np.testing.assert_allclose(read[:, joint], found[:, joint])


# ---- data --------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("UNISONO_CACHE", str(tmp_path / "cache"))
    for number in range(6):
        style = "youthful" if number % 3 == 0 else "normal"
        make_figure(number).save(tmp_path / "clips" / f"dataset-2_walk_{style}_00{number}.bvh")
    return str(tmp_path / "clips")


OPTIONS = {"clips": ClipOptions(fps=20.0, mirror=False), "val_size": 1, "batch_size": 2, "num_processes": 1}


def test_a_style_and_some_clips_are_held_out(folder):
    data = ViewData(folder, held=("*_youthful_*",), **OPTIONS)
    data.prepare(progress=False)
    facts = data.describe()
    assert len(data.train_set) == 3 and len(data.val_set) == 3
    assert {"dataset-2_walk_youthful_000", "dataset-2_walk_youthful_003"} < set(facts.held_out)
    assert not set(data.train_set.names) & set(facts.held_out)
    assert facts.held_patterns == ("*_youthful_*",) and facts.skeleton == SKELETON
    assert [len(sample) for sample in facts.samples] == [27, 13]
    # The mean pose stands upright and looks nowhere: cameras are all around.
    mean = np.array(facts.mean).reshape(-1, 3)
    assert mean[SKELETON.names.index("Head"), 1] > 0.4 and np.abs(mean[:, [0, 2]]).max() < 0.25
    assert LifterFacts.from_json(facts.to_json()) == facts


def test_another_draw_is_another_view_and_validation_is_the_same_each_time(folder):
    data = ViewData(folder, frames=9, **OPTIONS)
    data.prepare(progress=False)
    one, again, other = (data.train_set.item(0, generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(one["keypoints"], again["keypoints"])
    assert (one["keypoints"] - other["keypoints"]).abs().max() > 0.1
    first, second = (next(iter(data.val_dataloader()))["keypoints"] for _ in range(2))
    assert torch.equal(first, second)
    assert one["keypoints"].shape == one["poses"].shape == (9, 15, 3)


def test_views_are_mirrored_half_of_the_time_in_the_picture_and_in_space(folder):
    """Left and right that are exchanged in one of both only teach nonsense."""
    plain, both = (ViewData(folder, detector=EXACT, flip=flip, frames=9, **OPTIONS) for flip in (False, True))
    plain.prepare(progress=False)
    both.prepare(progress=False)
    times = 0
    for seed in range(20):
        one, other = plain.train_set.item(0, generator(seed)), both.train_set.item(0, generator(seed))
        if torch.equal(one["poses"], other["poses"]):
            assert torch.equal(one["keypoints"], other["keypoints"])
            continue
        times += 1
        for name in ("poses", "keypoints"):
            torch.testing.assert_close(flipped(other[name], SKELETON.mirror), one[name])
    assert 4 <= times <= 16


@pytest.mark.parametrize(
    ("arguments", "code", "path"),
    [
        ({"clips": ClipOptions()}, "conflict", "data.clips.mirror"),
        ({"frames": 1}, "range", "data.frames"),
        ({"held": ("*_elderly_*",)}, "value", "data.held"),
        ({"held": ("*",), "val_size": 0}, "empty", "data.held"),
    ],
)
def test_what_cannot_be_prepared_is_one_sentence(folder, arguments, code, path):
    with refused(DataError, code, path):
        ViewData(folder, **{**OPTIONS, **arguments}).prepare(progress=False)


def test_statistics_of_another_skeleton_are_refused():
    data = FigureViews(num_items=4, val_size=1, frames=9)
    data.prepare(progress=False)
    facts = data.describe().to_json()
    with refused(DataError, "shape", "mean", value=6):
        LifterFacts.from_json({**facts, "mean": facts["mean"][:6]})
    with refused(DataError, "range", "frames", value=1):
        LifterFacts.from_json({**facts, "frames": 1})

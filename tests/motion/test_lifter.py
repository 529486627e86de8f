"""The lifter as it is asked: files and numbers in, motions out, windows, and all that is wrong with keypoints."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from refused import refused
from unisono import Synthesizer
from unisono.errors import CheckpointError, DataError, RecipeError, RequestError
from unisono.recipe import Recipe
from unisono_motion.corpus.figures import FigureData, figure_skeleton, make_figure
from unisono_motion.lifting import lifter as lifter_module
from unisono_motion.lifting.camera import CameraRange
from unisono_motion.lifting.coco import KEYPOINTS
from unisono_motion.lifting.detector import Detector
from unisono_motion.lifting.evaluate import evaluate
from unisono_motion.lifting.keypoints import Keypoints
from unisono_motion.lifting.lifter import FrameLifter, Lifter
from unisono_motion.lifting.network import LifterSizes
from unisono_motion.lifting.views import FigureViews, Viewer, flipped
from unisono_motion.lifting.windows import windows
from unisono_motion.skeleton import Motion

SKELETON = figure_skeleton()
JOINTS = len(SKELETON)
WIDTH, HEIGHT = 640.0, 480.0


@pytest.fixture(scope="module")
def views():
    data = FigureViews(num_items=10, val_size=2, frames=12, batch_size=4)
    data.prepare(progress=False)
    return data


def built(views, kind=Lifter, seed=0, **arguments):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = kind(**arguments)
        model.build(views.describe())
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture(scope="module")
def model(views):
    sizes = LifterSizes(dim=16, num_layers=2, num_heads=2, head_dim=8, layer_scale=0.3)
    return built(views, network=sizes)


@pytest.fixture(scope="module")
def lift(model):
    return Synthesizer(model)


def seen(number=0, frames=None, detector=Detector(sigma=(0, 0), dropout=0, coco_share=0)):  # noqa: B008
    """A figure's keypoints in pixels, its poses and the camera."""
    positions = make_figure(number).positions[:frames]
    positions = positions - [0, positions[..., 1].min(), 0]
    values, poses, camera = Viewer(SKELETON, CameraRange(), detector).view(
        positions, torch.Generator().manual_seed(number)
    )
    pixels = (values[..., :2] * WIDTH + [WIDTH, HEIGHT]) / 2
    return (
        Keypoints.of(
            np.concatenate([pixels, values[..., 2:]], -1), joints=SKELETON.names, width=WIDTH, height=HEIGHT, fps=20.0
        ),
        values,
        poses,
        camera,
    )


def picture(**fields):
    return {"width": WIDTH, "height": HEIGHT, **fields}


# ---- what comes out ----------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".json", ".npz"])
def test_a_file_becomes_a_motion_that_bvh_takes(lift, tmp_path, suffix):
    keypoints, *_ = seen()
    motion = lift(str(keypoints.write(tmp_path / f"seen{suffix}")))
    assert motion.fps == 20 and motion.skeleton == SKELETON and len(motion.positions) == len(keypoints.values)
    np.testing.assert_allclose(motion.positions[..., 1].min(1), 0, atol=1e-6)
    again = Motion.read(motion.save(tmp_path / "lifted.bvh"))
    assert again.skeleton.names == SKELETON.names and len(again.positions) == len(motion.positions)


def test_files_come_back_as_they_were_written(tmp_path):
    keypoints, *_ = seen(detector=Detector(sigma=(0.01, 0.01), coco_share=0))
    for suffix, off in ((".json", 0.006), (".npz", 0.0)):
        again = Keypoints.read(keypoints.write(tmp_path / f"seen{suffix}"))
        np.testing.assert_allclose(again.values, keypoints.values, atol=off, rtol=0)
        assert (again.joints, again.width, again.height, again.fps) == (SKELETON.names, WIDTH, HEIGHT, 20)


def test_pixels_are_normalised_by_the_width_as_cameras_see():
    keypoints, values, *_ = seen()
    np.testing.assert_allclose(keypoints.normalised(SKELETON), values, atol=1e-12)
    shuffled = list(np.random.default_rng(0).permutation(JOINTS))
    other = Keypoints(keypoints.values[:, shuffled], tuple(SKELETON.names[i] for i in shuffled), WIDTH, HEIGHT, 20.0)
    np.testing.assert_allclose(other.normalised(SKELETON), values, atol=1e-12)


def test_bones_are_fitted_to_the_skeleton_on_request(lift):
    keypoints, *_ = seen()
    asked = picture(points=keypoints.values, root="pinned")
    free, fitted = lift(asked), lift({**asked, "bones": "fitted"})
    bones = [
        np.linalg.norm(m.positions[:, 1:] - m.positions[:, list(SKELETON.parents[1:])], axis=-1) for m in (free, fitted)
    ]
    np.testing.assert_allclose(
        bones[1], np.broadcast_to(np.linalg.norm(SKELETON.offsets[1:], axis=1), bones[1].shape), atol=1e-5
    )
    assert np.abs(bones[0] - bones[1]).max() > 0.05
    assert not free.positions[:, 0].any()
    # Inverse kinematics lays each bone along the lifted one where its joint has no other.
    one, other = (m.positions[:, 5] - m.positions[:, 4] for m in (free, fitted))
    cosine = (one * other).sum(-1) / np.linalg.norm(one, axis=-1) / np.linalg.norm(other, axis=-1)
    assert cosine.min() > 0.999


def test_a_tilted_camera_is_levelled(model, monkeypatch):
    keypoints, _, poses, camera = seen()
    monkeypatch.setattr(Lifter, "predict", lambda self, views, mask=None: torch.from_numpy(poses[:12]).float()[None])
    motion = Synthesizer(model)(
        points=keypoints.values[:12], pitch_degrees=np.degrees(camera.pitch), root="pinned", flip=False, **picture()
    )
    world = make_figure(0).positions[:12]
    up = motion.positions[..., 1], (world - world[:, :1])[..., 1]
    np.testing.assert_allclose(*up, atol=1e-6)


def test_the_mirror_image_is_averaged(model):
    _, values, *_ = seen(frames=12)
    plain, both = (np.concatenate(list(model.lift(values, flip=flip))) for flip in (False, True))
    mirrored = np.concatenate(list(model.lift(flipped(values, SKELETON.mirror), flip=False)))
    np.testing.assert_allclose(both, (plain + flipped(mirrored, SKELETON.mirror)) / 2, atol=1e-6)
    assert np.abs(plain - both).max() > 1e-3
    # What is averaged is exactly symmetric.
    other = np.concatenate(list(model.lift(flipped(values, SKELETON.mirror))))
    np.testing.assert_allclose(flipped(other, SKELETON.mirror), both, atol=1e-6)


def test_another_frame_rate_is_brought_to_the_models(lift):
    keypoints, values, *_ = seen()
    doubled = Keypoints(np.repeat(keypoints.values, 2, 0), None, WIDTH, HEIGHT, 40.0)
    np.testing.assert_allclose(doubled.at_rate(20.0).normalised(SKELETON), values, atol=1e-9)
    slow = Keypoints(keypoints.values[::2], None, WIDTH, HEIGHT, 10.0).at_rate(20.0)
    np.testing.assert_allclose(slow.values[::2], keypoints.values[::2], atol=1e-9)
    middle = (keypoints.values[0] + keypoints.values[2]) / 2
    np.testing.assert_allclose(slow.values[1], middle, atol=1e-9)
    made = lift(points=keypoints.values, fps=40, **picture())
    assert made.seconds == pytest.approx(len(values) / 40, abs=0.06) and made.fps == 20


def test_a_joint_that_is_seen_in_one_of_two_frames_is_not_seen_between():
    values = np.ones((2, 1, 3))
    values[1] = 0
    made = Keypoints(values, None, 2.0, 2.0, 10.0).at_rate(40.0).values
    assert made[:, 0, 2].tolist() == [1, 0, 0, 0, 0]


def test_one_frame_is_lifted(lift):
    keypoints, *_ = seen(frames=1)
    assert lift(points=keypoints.values, **picture()).positions.shape == (1, JOINTS, 3)


def test_confidence_may_be_left_out_and_unseen_places_do_not_count(lift):
    keypoints, *_ = seen(frames=12)
    full = lift(points=keypoints.values, **picture())
    np.testing.assert_array_equal(full.positions, lift(points=keypoints.values[..., :2], **picture()).positions)
    lost = keypoints.values.copy()
    lost[3, 4] = [1.0, 2.0, 0.0]
    other = lost.copy()
    other[3, 4, :2] = -1e5
    one, two = lift(points=lost, **picture()), lift(points=other, **picture())
    np.testing.assert_array_equal(one.positions, two.positions)
    assert np.abs(one.positions - full.positions).max() > 1e-5


# ---- windows -----------------------------------------------------------------------------------


@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("frames", [1, 11, 12, 13, 24, 100])
def test_windows_cover_a_clip_once_and_keep_their_middles(frames, overlap):
    found = windows(frames, 12, overlap)
    assert [one.first for one in found] == [0, *(one.last for one in found[:-1])] and found[-1].last == frames
    for one in found:
        assert 0 <= one.start <= one.first < one.last <= one.stop <= frames
        assert one.stop - one.start == min(12, frames)
    for one, other in pairwise(found):
        assert one.stop - one.last - (other.first - other.start) in (0, 1, -1)
        assert one.stop - other.start >= int(12 * overlap)


def test_a_long_clip_is_made_of_its_windows(model):
    values = np.concatenate([seen(n)[1] for n in range(3)])
    made = np.concatenate(list(model.lift(values, flip=False)))
    for one in windows(len(values), 12, 0.5):
        view = torch.from_numpy(values[one.start : one.stop]).float()[None]
        with torch.no_grad():
            alone = model.predict(view)[0].numpy()
        kept = alone[one.first - one.start : one.last - one.start]
        np.testing.assert_allclose(made[one.first : one.last], kept, atol=1e-5)


def test_an_hour_is_lifted_window_by_window(model, monkeypatch):
    """The network never sees more than AT_ONCE windows, and pieces are given out as they are final."""
    most = []

    def predict(self, views, mask=None):
        most.append(views.shape[:2])
        return views

    monkeypatch.setattr(Lifter, "predict", predict)
    hour = np.broadcast_to(seen(frames=1)[1], (72_000, JOINTS, 3))
    done = 0
    for piece in model.lift(hour, flip=False):
        assert len(piece) <= lifter_module.AT_ONCE * 12
        done += len(piece)
    assert done == 72_000
    assert set(most) <= {(lifter_module.AT_ONCE, 12), most[-1]} and most[-1][0] <= lifter_module.AT_ONCE


def test_a_stream_has_the_same_frames(lift):
    values = np.concatenate([seen(n)[0].values for n in range(3)] * 4)
    asked = picture(points=values, overlap=0.9)
    pieces, whole = list(lift.stream(asked)), lift(asked)
    assert len(pieces) > 1
    np.testing.assert_allclose(np.concatenate([p.positions for p in pieces]), whole.positions, atol=1e-5)


# ---- COCO's files ------------------------------------------------------------------------------


def coco_rows(frames=3):
    """Keypoints that lie in the picture, the frames of a film."""
    numbers = np.random.default_rng(0).uniform(100, 300, (frames, 17, 3))
    numbers[..., 2] = 1
    return numbers


def coco_file(path, numbers, flags=2.0, **changes):
    """Annotations in a shuffled order, with picture 7 first."""
    table = numbers.copy()
    table[..., 2] = flags
    images = [{"id": 7 + i, "width": 640, "height": 480} for i in range(len(table))]
    found = [{"image_id": 7 + i, "keypoints": row.ravel().tolist()} for i, row in enumerate(table)]
    path.write_text(json.dumps({"images": images[::-1], "annotations": found[::-1], **changes}))
    return path


def test_annotations_and_results_are_read(lift, tmp_path):
    numbers = coco_rows()
    file = Keypoints.read(coco_file(tmp_path / "a.json", numbers))
    np.testing.assert_allclose(file.values, numbers)
    assert file.joints == KEYPOINTS and (file.width, file.height, file.fps) == (640, 480, None)
    rows = [{"image_id": i, "keypoints": row.ravel().tolist(), "score": 0.9} for i, row in enumerate(numbers)]
    (tmp_path / "b.json").write_text(json.dumps(rows[::-1]))
    np.testing.assert_allclose(Keypoints.read(tmp_path / "b.json").values, numbers)
    one, other = lift(str(tmp_path / "a.json")), lift(str(tmp_path / "b.json"), **picture())
    np.testing.assert_array_equal(one.positions, other.positions)


def test_flags_become_confidences_and_a_picture_without_a_person_has_none(tmp_path):
    numbers = coco_rows()
    flags = np.broadcast_to(np.arange(17) % 3, (3, 17)).astype(float)
    path = coco_file(tmp_path / "a.json", numbers, flags)
    np.testing.assert_allclose(Keypoints.read(path).values[..., 2], flags / 2)
    found = json.loads(path.read_text())
    found["annotations"] = [row for row in found["annotations"] if row["image_id"] != 8]
    path.write_text(json.dumps(found))
    read = Keypoints.read(path).values
    assert not read[1].any() and read[0].any() and read[2].any()


@pytest.mark.parametrize(
    ("change", "code", "at"),
    [
        (lambda f: f["annotations"].append(f["annotations"][0]), "conflict", "image_id"),
        (lambda f: f["annotations"][0].update(keypoints=[1, 2, 2]), "shape", "keypoints"),
        (lambda f: f["annotations"][0]["keypoints"].__setitem__(2, 0.7), "range", "keypoints"),
        (lambda f: f["annotations"][0].update(image_id=99), "format", "annotations"),
        (lambda f: f["annotations"][0].update(image_id="x"), "format", "image_id"),
        (lambda f: f.update(annotations=[]), "empty", "annotations"),
        (lambda f: f.pop("images"), "format", "images"),
        (lambda f: f["images"][0].update(width=320), "conflict", "images"),
        (lambda f: f["images"][0].update(id=f["images"][1]["id"]), "conflict", "images"),
    ],
)
def test_annotations_that_are_not_one_person_in_one_film_are_refused(tmp_path, change, code, at):
    path = coco_file(tmp_path / "a.json", coco_rows())
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))
    with refused(DataError, code, at):
        Keypoints.read(path)


def test_results_with_a_gap_are_refused(tmp_path):
    rows = [{"image_id": i, "keypoints": [1.0] * 51} for i in (1, 2, 4)]
    (tmp_path / "b.json").write_text(json.dumps(rows))
    with refused(DataError, "missing", "image_id", value=3):
        Keypoints.read(tmp_path / "b.json")


# ---- wrong input -------------------------------------------------------------------------------


def good():
    return seen(frames=4)[0].values.copy()


def spoiled(place, value):
    values = good()
    values[place] = value
    return values


NAMES = list(SKELETON.names)


@pytest.mark.parametrize(
    ("fields", "code", "path"),
    [
        ({}, "missing", "keypoints"),
        ({"points": good(), "keypoints": "a.json"}, "conflict", "keypoints"),
        ({"keypoints": "a.json", "joints": NAMES}, "conflict", "joints"),
        ({"keypoints": "nowhere.json"}, "missing", "nowhere.json"),
        ({"keypoints": "film.mp4"}, "unsupported", "film.mp4"),
        ({"points": spoiled((2, 3, 0), np.nan)}, "range", "points.2.3.0"),
        ({"points": spoiled((2, 3, 1), np.inf)}, "range", "points.2.3.1"),
        ({"points": spoiled((1, 0, 2), 1.5)}, "range", "keypoints"),
        ({"points": spoiled((1, 0, 2), -0.1)}, "range", "keypoints"),
        ({"points": spoiled((1, 0, 0), 5000.0)}, "range", "width"),
        ({"points": spoiled((1, 0, 1), -5000.0)}, "range", "height"),
        ({"points": []}, "shape", "keypoints"),
        ({"points": [[]]}, "shape", "keypoints"),
        ({"points": good()[:0]}, "shape", "keypoints"),
        ({"points": [[[1.0, 2.0]], [[1.0]]]}, "type", "keypoints"),
        ({"points": good()[:, :7]}, "shape", "keypoints"),
        ({"points": good()[:, :-1], "joints": NAMES[:-1]}, "missing", "joints"),
        ({"points": good(), "joints": ["Pelvis", *NAMES[1:]]}, "missing", "joints"),
        ({"points": np.concatenate([good(), good()[:, :1]], 1), "joints": [*NAMES, "Tail"]}, "unknown", "joints"),
        ({"points": good(), "joints": NAMES[:-1]}, "shape", "joints"),
        ({"points": good(), "joints": [NAMES[1], *NAMES[1:]]}, "conflict", "joints"),
        ({"points": good(), "width": None}, "missing", "width"),
        ({"points": good(), "height": None}, "missing", "height"),
        ({"points": good(), "width": 0}, "range", "width"),
        ({"points": good(), "fps": -1}, "range", "fps"),
        ({"points": good(), "overlap": 1.0}, "range", "overlap"),
        ({"points": good(), "root": "flying"}, "unknown", "root"),
    ],
)
def test_a_wrong_request_is_one_sentence(lift, fields, code, path):
    with refused(RequestError, code, path):
        lift({**picture(), **fields})


def test_a_joint_that_is_not_there_is_named(lift):
    with refused(RequestError, "missing", "joints", value=["Hips"], names=["Hips", "Pelvis", "LeftFoot"]):
        lift(points=good(), joints=["Pelvis", *NAMES[1:]], **picture())
    with refused(RequestError, "range", "keypoints", value=1.5, names=["1.5", "frame 1", "[0, 1]"]):
        lift(points=spoiled((1, 0, 2), 1.5), **picture())


def test_three_hours_are_refused(lift):
    values = np.broadcast_to(good()[:1], (3 * 3600 * 20, JOINTS, 3))
    asked = lift.request(points=good(), **picture()).model_copy(update={"points": values})
    with refused(RequestError, "limit", "keypoints", value=216_000, names=["3600"]):
        lift(asked)


@pytest.mark.parametrize(
    ("content", "code", "path"),
    [
        ("{", "format", "a.json"),
        ("3", "missing", "keypoints"),
        ('{"joints": ["a"]}', "missing", "keypoints"),
        ('{"keypoints": "abc"}', "type", "keypoints"),
        ('{"keypoints": [[[1, 2, NaN]]]}', "value", "keypoints"),
        ('{"keypoints": [[[1, 2]]], "joints": "a"}', "type", "joints"),
        ('{"keypoints": [[[1, 2]]], "joints": ["a", "b"]}', "shape", "joints"),
        ('{"keypoints": [[[1, 2]]], "width": "wide"}', "type", "width"),
        ('{"keypoints": [[[1, 2]]], "fps": 0}', "range", "fps"),
    ],
)
def test_a_wrong_file_is_one_sentence(tmp_path, content, code, path):
    (tmp_path / "a.json").write_text(content)
    with refused(DataError, code, path):
        Keypoints.read(tmp_path / "a.json")


def test_an_archive_without_keypoints_or_with_objects_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", other=np.zeros(3))
    with refused(DataError, "missing", "keypoints"):
        Keypoints.read(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", keypoints=np.array([{}], dtype=object))
    with refused(DataError, "unsafe"):
        Keypoints.read(tmp_path / "b.npz")


# ---- training ----------------------------------------------------------------------------------


def test_the_loss_is_published_and_padding_is_no_part_of_it(model, views):
    items = [views.train_set.item(i, torch.Generator().manual_seed(i)) for i in range(3)]
    short = {name: part[:5] if name != "length" else 5 for name, part in items[0].items()}
    with torch.no_grad():
        batch = views.collate([short, items[1]])
        parts = model.losses(batch)
        padded = {name: batch[name].clone() for name in batch}
        padded["keypoints"][0, 5:], padded["poses"][0, 5:] = 9.0, -9.0
        again = model.losses(padded)
        total, frames = 0.0, 0
        for item in (short, items[1]):
            made = model.predict(item["keypoints"][None])[0]
            total += (made - item["poses"]).norm(dim=-1).mean(-1).sum().item()
            frames += item["length"]
    assert parts["mpjpe"].item() == pytest.approx(total / frames, rel=1e-5)
    weighted = parts["mpjpe"] + 0.5 * parts["scaled"] + 20 * parts["velocity"]
    assert parts["loss"].item() == pytest.approx(weighted.item(), rel=1e-6)
    for name, value in parts.items():
        assert again[name].item() == pytest.approx(value.item(), rel=1e-6)


def test_targets_are_metres(views):
    """A scale that is forgotten, as the picture's units of the published targets, shows at once."""
    item = views.val_set.item(0, torch.Generator().manual_seed(0))
    bones = (item["poses"][:, 1:] - item["poses"][:, list(SKELETON.parents[1:])]).norm(dim=-1)
    expected = torch.from_numpy(np.linalg.norm(SKELETON.offsets[1:], axis=1)).float()
    torch.testing.assert_close(bones, expected.expand_as(bones), atol=1e-3, rtol=0)


@pytest.mark.slow
def test_training_on_detections_counts_and_flips_agree_after_it():
    """A lifter of exact keypoints falls apart on detections; one that saw detections does not."""
    found = {}
    noisy = Detector(sigma=(0.01, 0.01), dropout=0.05, coco_share=0.0)
    for name, detector in (("exact", Detector(sigma=(0, 0), dropout=0, coco_share=0)), ("noisy", noisy)):
        data = FigureViews(num_items=40, val_size=8, frames=12, batch_size=16, detector=detector)
        data.prepare(progress=False)
        model = built(
            data, network=LifterSizes(dim=32, num_layers=2, num_heads=2, head_dim=32, layer_scale=0.3)
        ).train()
        optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
        for step in range(150):
            generator = torch.Generator().manual_seed(step)
            rows = torch.randint(0, len(data.train_set), (16,), generator=generator).tolist()
            loss = model.losses(data.collate([data.train_set.item(row, generator) for row in rows]))["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        errors, turned = [], []
        for number in range(41, 60):
            _, values, poses, _ = seen(number, 12, noisy)
            made, other = (
                np.concatenate(list(model.lift(v, flip=False))) for v in (values, flipped(values, SKELETON.mirror))
            )
            errors.append(np.linalg.norm(made - poses, axis=-1).mean())
            turned.append(np.linalg.norm(flipped(other, SKELETON.mirror) - made, axis=-1).mean())
        found[name] = np.mean(errors)
        assert np.mean(turned) < np.mean(errors)
    assert found["noisy"] < 0.8 * found["exact"]


def test_a_start_from_another_skeleton_or_rate_is_refused(model, views):
    facts = views.describe().to_json()
    model.check_source(facts)
    with refused(CheckpointError, "conflict", "run.init_from", value="fps"):
        model.check_source({**facts, "fps": 25.0})
    other = {**facts["skeleton"], "names": ["Pelvis", *facts["skeleton"]["names"][1:]]}
    with refused(CheckpointError, "conflict", "run.init_from", value="skeleton"):
        model.check_source({**facts, "skeleton": other})


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("dim", 15, "value"),
        ("num_heads", 3, "value"),
        ("num_layers", 0, "range"),
        ("neighbours", 0, "range"),
        ("layer_scale", 0, "range"),
    ],
)
def test_sizes_that_cannot_be_are_refused(name, value, code):
    with refused(RecipeError, code):
        Recipe.read("motion/lifter-tiny", [f"--model.network.{name}={value}"]).build_model({})
    with refused(RecipeError, code, "model.network.dim" if code == "value" else f"model.network.{name}"):
        LifterSizes(**{"dim": 16, "num_heads": 2, name: value})


# ---- evaluation --------------------------------------------------------------------------------


def test_a_report_has_each_lifter_and_the_mean_pose(model, views, tmp_path, monkeypatch):
    mlp = Synthesizer(built(views, FrameLifter, width=16, num_blocks=1))
    monkeypatch.setattr("unisono.load", lambda path, device: mlp)
    clips = FigureData(num_items=10, val_size=2)
    report = evaluate(Synthesizer(model), clips, limit=3, views=1, against=["mlp"], progress=False)
    assert report.systems == ["mean pose", "two streams", "frames, MLP"]
    assert report.facts["held out"] == "yes" and report.facts["clips"] == 2
    for measure in ("MPJPE", "P-MPJPE", "acceleration error", "MPJPE, exact places", "MPJPE, COCO's keypoints alone"):
        values = [report.value(measure, system) for system in report.systems]
        assert all(value > 0 for value in values), measure
    assert report.value("MPJPE, another kind", "two streams") is None
    assert report.value("P-MPJPE", "two streams") < report.value("MPJPE", "two streams")
    assert report.value("deviation of bones' lengths", "mean pose") == pytest.approx(0)
    assert report.value("MPJPE", "two streams") == pytest.approx(np.mean([i["two streams"] for i in report.items]))
    with refused(DataError, "conflict", "against"):
        evaluate(Synthesizer(model), clips, against=["mlp", "again"], progress=False)


def test_a_lifter_that_knows_the_truth_is_measured_as_perfect(model, monkeypatch):
    """A scale forgotten somewhere between poses and measures would show."""
    truth = {}
    view = Viewer.view

    def remember(self, positions, generator):
        keypoints, poses, camera = view(self, positions, generator)
        truth[keypoints.tobytes()] = poses
        return keypoints, poses, camera

    monkeypatch.setattr(Viewer, "view", remember)
    monkeypatch.setattr(
        Lifter, "lift", lambda self, keypoints, *rest: iter([truth.get(keypoints.tobytes(), keypoints)])
    )
    report = evaluate(Synthesizer(model), FigureData(num_items=10, val_size=2), views=1, progress=False)
    assert report.value("MPJPE", "two streams") < 1e-3 and report.value("acceleration error", "two streams") < 1e-3
    assert report.value("joints within 50 mm", "two streams") == 100
    assert report.value("MPJPE", "mean pose") > 50


def test_clips_of_another_data_set_are_refused(model):
    with refused(DataError, "conflict", "data"):
        evaluate(Synthesizer(model), FigureData(num_items=10, val_size=2, fps=25.0), progress=False)

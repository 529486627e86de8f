"""Clips: what is kept, what is dropped and why, captions, mirror images, splits, and the published layout."""

import os
import shutil

import numpy as np
import pytest
import torch
from refused import refused
from unisono.data import Drop, derive_seed, mirrored, read_captions, words_of
from unisono.errors import DataError
from unisono_motion.corpus.captions import CONTENTS, STYLES, captions_of_name
from unisono_motion.corpus.data import MIRRORED, ClipData, ClipOptions, Listed, read_clip
from unisono_motion.corpus.features import MotionSpec
from unisono_motion.corpus.figures import FigureData, figure_skeleton, make_figure
from unisono_motion.corpus.humanml3d import JOINTS_22, spec_of
from unisono_motion.skeleton import Motion


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNISONO_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    """Six clips named like the motion-capture set, figures 0 to 5."""
    contents = ("walk", "walk-turn-left", "walk-turn-right", "wave-left-hand", "wave-right-hand", "run")
    for number, content in enumerate(contents):
        make_figure(number).save(tmp_path / "clips" / "deep" / f"dataset-2_{content}_elderly_00{number}.bvh")
    return tmp_path / "clips"


def prepared(root, **kwargs):
    options = {"fps": 20.0, "batch_size": 2, "val_size": 2, "num_processes": 1, **kwargs}
    clips = ClipOptions(**{name: options.pop(name) for name in [*options] if name in ClipData.flat})
    data = ClipData(str(root), clips=clips, **options)
    data.prepare(progress=False)
    return data


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# ---- captions ----------------------------------------------------------------------------------


def test_names_say_what_clips_show():
    captions = captions_of_name("dataset-2_wave-left-hand_elderly_012")
    assert "an elderly person waves with the left hand" in captions
    assert len(captions) == len(set(captions)) == 6
    assert captions_of_name("dataset-1_walk_normal_1")[0] == "a person walks"
    for other in ("dataset-2_swim_elderly_012", "dataset-2_walk_lazy_012", "walk", "dataset-2_walk_elderly"):
        assert captions_of_name(other) == ()


def test_every_phrasing_is_told_apart():
    everything = [c for k in CONTENTS for s in STYLES for c in captions_of_name(f"dataset-2_{k}_{s}_001")]
    assert len(everything) == len(set(everything)) == 10 * 7 * 6


def test_mirrored_captions_change_sides_and_only_those():
    assert mirrored("turns left, then right; left alone") == "turns right, then left; right alone"
    assert mirrored("a bright leftover copyright") == "a bright leftover copyright"
    assert mirrored("spins clockwise") == "spins counterclockwise"
    for content in CONTENTS:
        (first, *_) = captions_of_name(f"dataset-2_{content}_normal_001")
        assert mirrored(mirrored(first)) == first


def test_words():
    assert words_of("A person's arm, raised—twice!") == ["a", "person's", "arm", "raised", "twice"]


# ---- BVH folders -------------------------------------------------------------------------------


def test_items_and_facts(folder):
    data = prepared(folder)
    assert data.audit.kept == 6 and not data.audit.dropped
    assert (len(data.train_set), len(data.val_set)) == (8, 2)  # four clips and their mirror images
    facts = data.describe()
    spec = MotionSpec.from_dict(facts["motion"])
    assert spec.fps == 20 and len(facts["mean"]) == len(facts["std"]) == spec.dim
    assert len(facts["held_out"]) == 2 and all(name.startswith("deep/dataset-2") for name in facts["held_out"])
    assert {"elderly", "person", "left", "right"} <= set(facts["words"])
    values = np.concatenate([clip.features for clip in data.train_set.clips])
    np.testing.assert_allclose(facts["mean"], values.mean(0), atol=1e-5)
    np.testing.assert_allclose(facts["std"], values.std(0), atol=1e-5)
    for batch in data.train_dataloader():
        b, t, d = batch["features"].shape
        assert (b, d) == (2, spec.dim) and int(batch["length"].max()) == t
        assert len(batch["caption"]) == 2 and batch["row"].dtype == torch.int64


def test_a_clip_is_the_file(folder):
    data = prepared(folder, val_size=0, mirror=False)
    for number, clip in enumerate(sorted(data.train_set.clips, key=lambda clip: clip.id[-3:])):
        made = data.spec.decode(clip.features).positions
        real = make_figure(number)
        shift = real.positions[0, 0] * [1, 0, 1] + [0, real.positions[..., 1].min(), 0]
        # A file has six digits of a centimetre; the first frame of a figure faces z but for the smoothing.
        distances = np.linalg.norm(made - made[:, :1], axis=-1) - np.linalg.norm(
            real.positions - real.positions[:, :1], axis=-1
        )
        assert np.abs(distances).max() < 1e-4
        np.testing.assert_allclose(made[..., 1], (real.positions - shift)[..., 1], atol=1e-4)


def test_mirror_images_are_of_training_clips_only_and_say_so(folder):
    data = prepared(folder)
    ids = {clip.id: clip for clip in data.train_set.clips}
    plain = {name for name in ids if not name.endswith(MIRRORED)}
    assert {name + MIRRORED for name in plain} == ids.keys() - plain
    assert not any(clip.id.endswith(MIRRORED) for clip in data.val_set.clips)
    for name in plain:
        assert ids[name + MIRRORED].captions == tuple(mirrored(c) for c in ids[name].captions)
        turn = data.spec.slices["turn"]
        np.testing.assert_allclose(ids[name + MIRRORED].features[:, turn], -ids[name].features[:, turn], atol=1e-5)


def test_crops_and_phrasings_are_drawn_anew_and_replayed(folder):
    data = prepared(folder, crop_frames=10, mirror=False)
    sets = data.train_set
    first, again, other = (sets.item(0, generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(first["features"], again["features"]) and first["caption"] == again["caption"]
    assert first["length"] == 10 and not torch.equal(first["features"], other["features"])
    drawn = {sets.item(0, generator(seed))["caption"] for seed in range(40)}
    assert drawn == set(sets.clips[0].captions)
    whole = torch.from_numpy(np.array(sets.clips[0].features))
    windows = whole.unfold(0, 10, 1).transpose(1, 2)
    assert (windows == first["features"]).all((1, 2)).any()
    held = data.val_set.item(0, generator())
    clip = data.val_set.clips[0]
    assert held["length"] == len(clip.features) and held["caption"] == clip.captions[0]


def test_the_split_depends_on_ids_alone(folder):
    held = set(prepared(folder).describe()["held_out"])
    names = sorted((p.relative_to(folder).as_posix() for p in folder.rglob("*.bvh")), reverse=True)
    (folder / "list.txt").write_text("".join(f"{name}|the same words for all\n" for name in names))
    assert set(prepared(folder / "list.txt", crop_frames=None, mirror=False).describe()["held_out"]) == held
    ranked = sorted((name.removesuffix(".bvh") for name in names), key=lambda name: derive_seed("split", name))
    assert held == set(ranked[:2])


def test_bad_clips_are_dropped_with_the_reason_and_the_rest_is_used(folder):
    def good(number):
        return (make_figure(number)).save(folder / f"x{number}.bvh").read_text()

    text = good(0)
    (folder / "x0.bvh").unlink()
    (folder / "truncated.bvh").write_text(text[: len(text) // 2])
    (folder / "words.bvh").write_text(text.rpartition(" ")[0] + " word\n")
    (folder / "other.bvh").write_text(text.replace("LeftHand", "LeftPaw"))
    head, _, frames = text.partition("Frames: ")
    time, first = frames.split("\n")[1:3]
    (folder / "one.bvh").write_text(f"{head}Frames: 1\n{time}\n{first}\n")
    (folder / "short.bvh").write_text(f"{head}Frames: 4\n{time}\n" + f"{first}\n" * 4)
    data = prepared(folder)
    assert data.audit.kept == 6
    told = {item.id: (item.reason, item.detail) for item in data.audit.dropped}
    assert {name: reason for name, (reason, _) in told.items()} == {
        "truncated": "unreadable",
        "words": "unreadable",
        "other": "other skeleton",
        "one": "one frame",
        "short": "too short",
    }
    assert "the file is truncated" in told["truncated"][1] or "values for" in told["truncated"][1]
    assert "'word' is not a finite number" in told["words"][1]
    assert "lacks LeftHand; has LeftPaw" in told["other"][1]
    assert told["short"][1] == "0.20 s of at least 0.5 s"
    again = prepared(folder)  # from the cache
    assert {item.id: (item.reason, item.detail) for item in again.audit.dropped} == told


def test_another_rate_and_too_long(folder):
    data = prepared(folder, fps=10.0, mirror=False, val_size=0)
    frames = [len(clip.features) for clip in data.train_set.clips]
    assert data.spec.fps == 10 and max(frames) <= 31
    data = prepared(folder, max_seconds=2.0, mirror=False, val_size=0, batch_size=1)
    assert set(data.audit.reasons) == {"too long"} and data.audit.kept < 6


def test_a_target_skeleton_and_the_unit(folder, tmp_path):
    import dataclasses

    figure = make_figure(0)
    tall = dataclasses.replace(figure.skeleton, offsets=1.25 * figure.skeleton.offsets)
    dataclasses.replace(figure, skeleton=tall).save(tmp_path / "tall.bvh")
    data = prepared(folder, skeleton=str(tmp_path / "tall.bvh"), mirror=False, val_size=0)
    np.testing.assert_allclose(data.spec.skeleton.offsets, 1.25 * figure.skeleton.offsets, atol=1e-6)
    with refused(DataError, "range", "data.clips.metres_per_unit", value=1.0, names=["0.3", "4", "1"]):
        prepared(folder, metres_per_unit=1.0)


def test_tables(folder, tmp_path):
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.bvh"))
    lines = [f"{name}|somebody moves" for name in names] + [f"{names[0]}|a second caption"]
    for text in ("\n".join(lines), "\n".join(["file|caption", *lines]), "\n".join(lines).replace("|", "\t")):
        (folder / "list.txt").write_text(text)
        data = prepared(folder / "list.txt", val_size=0, mirror=False)
        captions = {clip.id: clip.captions for clip in data.train_set.clips}
        assert len(captions) == 6 and captions[names[0][:-4]] == ("somebody moves", "a second caption")
    for text, code, names in (
        ("a.bvh|x|y\n", "format", "line 1: 3 fields"),
        ("a.bvh|\n", "format", "line 1: 2 fields"),
        ("", "empty", ()),
    ):
        (folder / "list.txt").write_text(text)
        with refused(DataError, code, "list.txt", names=names):
            read_captions(folder / "list.txt", "clip")
    (folder / "list.txt").write_text("gone.bvh|x\n")
    with refused(DataError, "missing", "list.txt", value="gone.bvh"):
        prepared(folder / "list.txt")


def test_clips_without_captions_are_counted(folder):
    make_figure(0).save(folder / "nameless.bvh")
    data = prepared(folder, val_size=0)
    assert "1 of 7 clips have no caption" in data.audit.notes


@pytest.mark.parametrize(
    ("kwargs", "code", "path", "value"),
    [
        ({"fps": 0.5}, "range", "data.clips.fps", 0.5),
        ({"crop_frames": 1}, "range", "data.crop_frames", 1),
        ({"metres_per_unit": 0.0}, "range", "data.clips.metres_per_unit", 0.0),
        ({"min_seconds": 3.0, "max_seconds": 2.0}, "range", "data.clips.min_seconds", 3.0),
    ],
)
def test_limits_are_named(kwargs, code, path, value):
    with refused(DataError, code, path, value=value):
        prepared("somewhere", **kwargs)


def test_a_folder_without_motions(tmp_path):
    with refused(DataError, "empty", tmp_path):
        prepared(tmp_path)
    with refused(DataError, "missing", "data.root"):
        prepared(tmp_path / "nowhere")
    (tmp_path / "a.bvh").write_text("HELLO")
    with refused(DataError, "empty", "data.root"):
        prepared(tmp_path)


def test_one_frame_is_dropped_while_reading(tmp_path):
    figure = make_figure(0)
    one = Motion(figure.positions[:1], figure.skeleton, 20.0, figure.rotations[:1]).save(tmp_path / "one.bvh")
    with pytest.raises(Drop, match="one frame"):
        read_clip(Listed("one", one), 0.01)


# ---- the published layout ----------------------------------------------------------------------


def published(root, count=6, frames=90):
    """Features of 22 joints that walk stiffly ahead, and texts."""
    _, parents, rest = zip(*JOINTS_22, strict=True)
    (root / "new_joint_vecs").mkdir(parents=True)
    (root / "texts").mkdir()
    places = np.zeros((22, 3))
    for joint in range(1, 22):
        places[joint] = places[parents[joint]] + 0.2 * np.array(rest[joint])
    row = np.zeros(263, np.float32)
    row[2], row[3] = 0.05, 0.9
    row[4:67] = (np.array([0, 0.9, 0]) + places[1:]).ravel()
    for number in range(count):
        np.save(root / "new_joint_vecs" / f"{number:06d}.npy", np.tile(row, (frames + number, 1)))
        text = "a man walks ahead.#a/DET man/NOUN#0.0#0.0\nhe is stiff#he/PRON#nan#nan\nhe stops#he/PRON#1.0#3.5\n"
        (root / "texts" / f"{number:06d}.txt").write_text(text)
    return root


def test_the_published_layout(tmp_path):
    root = published(tmp_path / "HumanML3D")
    data = prepared(root, val_size=2)
    assert data.audit.kept == 6 and not data.spec.tilt and data.spec.dim == 263 and data.spec.fps == 20
    assert len(data.train_set) == 8  # four clips, and a stretch of each with a caption of its own
    whole = {clip.id: clip for clip in data.train_set.clips if "@" not in clip.id}
    part = [clip for clip in data.train_set.clips if "@" in clip.id]
    assert all(clip.captions == ("a man walks ahead.", "he is stiff") for clip in whole.values())
    assert all(clip.captions == ("he stops",) and len(clip.features) == 50 for clip in part)
    assert not data.audit.dropped
    lengths = np.linalg.norm(data.spec.skeleton.offsets[1:], axis=-1)
    np.testing.assert_allclose(lengths, 0.2, atol=1e-6)
    motion = data.spec.decode(np.array(whole[min(whole)].features))
    np.testing.assert_allclose(motion.positions[-1, 0], [0, 0.9, 0.05 * (len(motion.positions) - 1)], atol=1e-4)
    np.testing.assert_allclose(motion.rotations, np.broadcast_to(np.eye(3), motion.rotations.shape), atol=1e-3)


def test_split_files_come_first(tmp_path):
    root = published(tmp_path / "HumanML3D")
    (root / "train.txt").write_text("000001\n000002\n000003\n")
    (root / "val.txt").write_text("000004\n")
    data = prepared(root)
    assert data.describe()["held_out"] == ["000004", "000004@1-3.5"]
    assert "2 of 6 clips are in neither train.txt nor val.txt and sit out" in data.audit.notes
    (root / "train.txt").write_text("nothing\n")
    with refused(DataError, "empty", "train.txt"):
        prepared(root)


def test_bad_features_are_dropped_with_the_reason(tmp_path):
    root = published(tmp_path / "HumanML3D")
    folder = root / "new_joint_vecs"
    np.save(folder / "nan.npy", np.full((90, 263), np.nan, np.float32))
    np.save(folder / "narrow.npy", np.zeros((90, 60), np.float32))
    np.save(folder / "kit.npy", np.zeros((90, 251), np.float32))
    np.save(folder / "whole.npy", np.zeros((90, 263), np.int64))
    np.save(folder / "one.npy", np.zeros((1, 263), np.float32))
    (folder / "broken.npy").write_bytes(b"\x93NUMPY nothing")
    np.save(folder / "pickle.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    whole = (folder / "000000.npy").read_bytes()
    (folder / "cut.npy").write_bytes(whole[: len(whole) // 2])
    (folder / "two.npy").write_bytes(whole + whole)
    with (folder / "archive.npy").open("wb") as file:
        np.savez(file, np.zeros((90, 263), np.float32))
    (folder / "huge.npy").write_bytes(whole.replace(b"(90, 263), }      ", b"(99999999, 263), }"))
    (folder / "empty.npy").write_bytes(b"")
    np.save(folder / "deep.npy", np.zeros((2, 90, 263), np.float32))
    data = prepared(root)
    assert {item.id: item.reason for item in data.audit.dropped} == {
        "cut": "unreadable",
        "two": "unreadable",
        "archive": "unreadable",
        "huge": "unreadable",
        "empty": "unreadable",
        "deep": "wrong shape",
        "nan": "not finite",
        "narrow": "wrong shape",
        "kit": "other skeleton",
        "whole": "wrong type",
        "one": "one frame",
        "broken": "unreadable",
        "pickle": "unreadable",
    }
    assert data.audit.kept == 6


def test_features_in_millimetres_are_scaled(tmp_path):
    root = published(tmp_path / "KIT")
    for path in (root / "new_joint_vecs").glob("*.npy"):
        features = np.load(path)
        features[:, 1:67] *= 1000
        np.save(path, features)
    with refused(DataError, "range", "data.clips.metres_per_unit", value=1.0):
        prepared(root)
    data = prepared(root, metres_per_unit=0.001)
    np.testing.assert_allclose(np.linalg.norm(data.spec.skeleton.offsets[1:], axis=-1), 0.2, atol=1e-6)
    assert data.train_set.clips[0].features[0, 3] == pytest.approx(0.9)
    assert spec_of([np.array(c.features) for c in data.train_set.clips]).skeleton.height == pytest.approx(
        data.spec.skeleton.height
    )


def test_stretches_that_are_too_short_are_listed(tmp_path):
    root = published(tmp_path / "HumanML3D", count=4)
    (root / "texts" / "000001.txt").write_text("he waits#he/PRON#0.0#0.0\nhe twitches#he/PRON#1.0#1.2\n")
    data = prepared(root, val_size=1)
    assert [(d.id, d.reason) for d in data.audit.dropped] == [("000001@1-1.2", "too short")]
    assert data.audit.kept == 4


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        ("a caption#tokens#start", "expected caption#tokens#from#to"),
        ("he stops#he/PRON#0.0#inf", "0 to inf s"),
        ("he stops#he/PRON#-1.0#2.0", "-1 to 2 s"),
        ("he stops#he/PRON#3.0#2.0", "3 to 2 s"),
        ("he stops#he/PRON#99#100", "99 to 100 s of 4.50 s"),
        ("he stops#he/PRON#0,5#1", "no seconds"),
        ("#he/PRON#0.0#0.0", "caption is empty"),
    ],
)
def test_a_caption_that_cannot_be_used_is_one_row(tmp_path, line, detail):
    root = published(tmp_path / "HumanML3D", count=3)
    (root / "texts" / "000000.txt").write_text(f"a man walks ahead.#a/DET#0.0#0.0\n{line}\n")
    data = prepared(root, val_size=0)
    (row,) = data.audit.dropped
    assert (row.id, row.reason) == ("000000, line 2 of its captions", "caption cannot be used")
    assert detail in row.detail and data.audit.kept == 3
    assert {c.id: c.captions for c in data.train_set.clips}["000000"] == ("a man walks ahead.",)


def test_a_stretch_that_ends_after_the_clip_ends_with_it(tmp_path):
    root = published(tmp_path / "HumanML3D", count=3)
    (root / "texts" / "000000.txt").write_text("he stops#he/PRON#2.0#1000.0\n")
    data = prepared(root, val_size=0)
    assert {c.id: len(c.features) for c in data.train_set.clips}["000000@2-1000"] == 90 - 40
    assert not data.audit.dropped


def test_captions_that_are_no_utf8_are_one_row(tmp_path):
    root = published(tmp_path / "HumanML3D", count=3)
    (root / "texts" / "000001.txt").write_bytes("caf\xe9#a#0#0\n".encode("latin-1"))
    (root / "texts" / "000002.txt").write_bytes("\ufeffa man waves.#a#0#0\r\n".encode())
    data = prepared(root, val_size=0)
    assert [(d.id, d.reason) for d in data.audit.dropped] == [("000001", "captions cannot be read")]
    assert {c.id: c.captions for c in data.train_set.clips}["000002"] == ("a man waves.",)


def test_ids_are_listed_whatever_the_line_ends_and_marks(tmp_path):
    root = published(tmp_path / "HumanML3D")
    (root / "train.txt").write_bytes("\ufeff000000\r\n000001\r\n000001\r\nM000009\r\n".encode())
    (root / "val.txt").write_bytes("\ufeff000004\r\n".encode())
    data = prepared(root)
    whole = [clip.id for clip in data.train_set.clips if "@" not in clip.id]
    assert whole == ["000000", "000001"]
    assert "1 ids of train.txt have no clip that is used, such as 'M000009'" in data.audit.notes


def test_an_id_in_both_parts_is_one_row(tmp_path):
    root = published(tmp_path / "HumanML3D")
    (root / "train.txt").write_text("000001\n000002\n000003\n")
    (root / "val.txt").write_text("000003\n000004\n")
    data = prepared(root)
    assert [(d.id, d.reason) for d in data.audit.dropped] == [("000003", "in both parts")]
    seen = {clip.id.partition("@")[0] for part in (data.train_set, data.val_set) for clip in part.clips}
    assert seen == {"000001", "000002", "000004"} and data.audit.kept == 5


def test_a_clip_and_its_mirror_image_are_held_out_together(tmp_path):
    root = published(tmp_path / "HumanML3D")
    for place in [*(root / "new_joint_vecs").iterdir(), *(root / "texts").iterdir()]:
        shutil.copy(place, place.with_name(f"M{place.name}"))
    data = prepared(root, val_size=3)
    sides = [{clip.id.partition("@")[0] for clip in part.clips} for part in (data.train_set, data.val_set)]
    assert len(sides[1]) == 4 and len(sides[0]) == 8
    assert not {name.removeprefix("M") for name in sides[0]} & {name.removeprefix("M") for name in sides[1]}
    (root / "train.txt").write_text("000001\nM000002\n000003\nM000003\n")
    (root / "val.txt").write_text("000002\n000004\n")
    data = prepared(root)
    assert {(d.id, d.reason) for d in data.audit.dropped} == {(name, "in both parts") for name in ("000002", "M000002")}


def test_features_beyond_any_body_are_one_row(tmp_path):
    root = published(tmp_path / "HumanML3D")
    features = np.load(root / "new_joint_vecs" / "000002.npy")
    features[3, 5] = 1e30
    np.save(root / "new_joint_vecs" / "000002.npy", features)
    data = prepared(root, val_size=1)
    assert [(d.id, d.reason) for d in data.audit.dropped] == [("000002", "too large")]


def test_mirror_images_say_the_other_side(folder):
    data = prepared(folder, val_size=0)
    said = {clip.id.rpartition("_")[2]: clip.captions for clip in data.train_set.clips}
    for number, side, other in ((3, "left", "right"), (4, "right", "left")):
        captions, mirrored_ = said[f"00{number}"], said[f"00{number}{MIRRORED}"]
        assert len(captions) == len(mirrored_) == 6
        assert all(side in c.split() and other not in c.split() for c in captions)
        assert all(other in c.split() and side not in c.split() for c in mirrored_)


def test_folders_are_walked_as_everywhere(folder):
    make_figure(7).save(folder / "b.bvh")
    (folder / "b.bvh").rename(folder / "UPPER.BVH")
    (folder / ".hidden.bvh").write_text("HELLO")
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "x.bvh").write_text("HELLO")
    os.mkfifo(folder / "pipe.bvh")
    (folder / "gone.bvh").symlink_to(folder / "nowhere.bvh")
    data = prepared(folder, val_size=0, mirror=False)
    assert "UPPER" in {clip.id for clip in data.train_set.clips} and data.audit.kept == 7
    assert {d.id: d.reason for d in data.audit.dropped} == {"pipe.bvh": "not a file", "gone.bvh": "broken link"}
    assert any(".hidden.bvh" in note and "__MACOSX" in note for note in data.audit.notes)


# ---- figures -----------------------------------------------------------------------------------


def test_figures_are_made_on_the_spot():
    data = FigureData(num_items=6, val_size=2, batch_size=2)
    data.prepare(progress=False)
    assert (len(data.train_set), len(data.val_set), data.audit.kept) == (6, 2, 8)
    assert data.spec.skeleton == figure_skeleton()
    assert {"figure", "walks", "left", "waves"} <= set(data.describe()["words"])
    assert np.array_equal(make_figure(3).positions, make_figure(3).positions)
    assert not np.array_equal(make_figure(3).positions[:20], make_figure(8).positions[:20])

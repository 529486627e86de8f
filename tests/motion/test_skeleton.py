"""Motion: rotations against their definitions, skeletons, BVH there and back, what is wrong with a file, drawings."""

import itertools
import json
import os
import shutil
from decimal import ROUND_FLOOR, ROUND_HALF_UP, Decimal

import numpy as np
import pytest
from refused import ANYTHING, refused
from unisono.errors import DataError, MissingProgram, RequestError
from unisono_motion.skeleton import (
    Motion,
    Skeleton,
    euler_to_matrix,
    matrix_to_euler,
    matrix_to_six,
    nearest_rotation,
    read_bvh,
    six_to_matrix,
    slerp,
)
from unisono_motion.skeleton.bvh import frame_rate

SMALL = """HIERARCHY
ROOT Hips
{
  OFFSET 0 0 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT Left Leg
  {
    OFFSET 10 -5 0
    CHANNELS 3 Zrotation Xrotation Yrotation
    End Site
    {
      OFFSET 0 -40 0
    }
  }
  JOINT Right Leg {
    OFFSET -10 -5 0
    CHANNELS 1 Xrotation
    End Site
    { OFFSET 0 -40 0 }
  }
}
MOTION
Frames: 3
Frame Time: 0.0333333
0 90 0 0 0 0 0 0 0 0
1 90 2 0 0 90 0 90 0 30
2 90 4 10 20 30 0 0 0 -30
"""


def rng():
    return np.random.default_rng(0)


def random_rotations(*shape):
    return nearest_rotation(rng().normal(size=(*shape, 3, 3)))


def body():
    """Seven joints with sides and bones in all directions."""
    names = ("Hips", "Spine", "Head", "LeftLeg", "LeftFoot", "RightLeg", "RightFoot")
    offsets = np.array(
        [[0, 0, 0], [0, 0.3, 0.02], [0, 0.3, 0], [0.1, -0.1, 0], [0, -0.8, 0.1], [-0.1, -0.1, 0], [0, -0.8, 0.1]]
    )
    ends = np.zeros((7, 3))
    ends[2] = [0, 0.2, 0]
    return Skeleton(names, (-1, 0, 1, 0, 3, 0, 5), offsets, ends)


def moving(frames=5, fps=30.0):
    skeleton = body()
    rotations = random_rotations(frames, 7)
    root = np.array([0, 1, 0]) + rng().normal(size=(frames, 3))
    return Motion(skeleton.positions(rotations, root), skeleton, fps, rotations, "a <moving> body")


# ---- rotations ---------------------------------------------------------------------------------


def test_elementary_turns_are_right_handed():
    for axis, start, end in (("X", 1, 2), ("Y", 2, 0), ("Z", 0, 1)):
        turn = euler_to_matrix(np.array([np.pi / 2]), axis)
        np.testing.assert_allclose(turn @ np.eye(3)[start], np.eye(3)[end], atol=1e-15)


@pytest.mark.parametrize("order", ["".join(p) for p in itertools.permutations("XYZ")])
def test_euler_angles_there_and_back(order):
    angles = rng().uniform(-1, 1, (50, 3)) * [np.pi, np.pi / 2, np.pi]
    matrix = euler_to_matrix(angles, order)
    np.testing.assert_allclose(matrix_to_euler(matrix, order), angles, atol=1e-9)
    one = [euler_to_matrix(angles[:, i : i + 1], axis) for i, axis in enumerate(order)]
    np.testing.assert_allclose(matrix, one[0] @ one[1] @ one[2], atol=1e-15)
    locked = euler_to_matrix(np.array([[0.3, np.pi / 2, 0.4], [0.3, -np.pi / 2, 0.4]]), order)
    np.testing.assert_allclose(euler_to_matrix(matrix_to_euler(locked, order), order), locked, atol=1e-7)


def test_six_numbers_there_and_back():
    matrix = random_rotations(200)
    assert np.array_equal(matrix_to_six(matrix), np.concatenate([matrix[..., 0], matrix[..., 1]], -1))
    np.testing.assert_allclose(six_to_matrix(matrix_to_six(matrix)), matrix, atol=1e-12)
    anything = six_to_matrix(rng().normal(size=(50, 6)))
    np.testing.assert_allclose(anything @ anything.mT, np.broadcast_to(np.eye(3), (50, 3, 3)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(anything), 1, atol=1e-12)


def test_slerp_turns_at_constant_speed():
    for angle in (1e-9, 0.7, 3.0):
        start = random_rotations()
        end = start @ euler_to_matrix(np.array([angle]), "X")
        for share in (0.0, 0.25, 0.5, 1.0):
            expected = start @ euler_to_matrix(np.array([angle * share]), "X")
            np.testing.assert_allclose(slerp(start, end, np.array(share)), expected, atol=1e-7)


def test_slerp_takes_the_shortest_way():
    start = random_rotations(50)
    end = start @ euler_to_matrix(rng().uniform(-2, 2, (50, 1)), "Y")
    one, two = (slerp(a, b, np.full(50, 0.3)) for a, b in ((start, end), (end, start)))
    turned = [np.arccos(np.clip((np.trace(start.mT @ m, axis1=-2, axis2=-1) - 1) / 2, -1, 1)) for m in (one, end, two)]
    np.testing.assert_allclose(turned[0], 0.3 * turned[1], atol=1e-6)
    np.testing.assert_allclose(turned[2], 0.7 * turned[1], atol=1e-6)


def test_the_nearest_rotation_is_the_best_of_many():
    matrix = rng().normal(size=(3, 3))
    best = (nearest_rotation(matrix) * matrix).sum()
    assert best >= (random_rotations(5000) * matrix).sum((-1, -2)).max()
    assert np.linalg.det(nearest_rotation(-np.eye(3))) == pytest.approx(1)


# ---- skeletons ---------------------------------------------------------------------------------


def test_forward_kinematics_equals_a_walk_along_the_bones():
    motion, skeleton = moving(), body()
    for t in range(5):
        for joint in range(7):
            path, at = [joint], joint
            while skeleton.parents[at] >= 0:
                at = skeleton.parents[at]
                path.append(at)
            place, frame = motion.positions[t, 0], np.eye(3)
            for parent, child in zip(path[::-1][:-1], path[::-1][1:], strict=True):
                frame = frame @ motion.rotations[t, parent]
                place = place + frame @ skeleton.offsets[child]
            np.testing.assert_allclose(motion.positions[t, joint], place, atol=1e-12)


def test_fitted_rotations_reach_the_positions():
    motion = moving()
    fitted = motion.skeleton.fit_rotations(motion.positions)
    reached = motion.skeleton.positions(fitted, motion.positions[:, 0])
    # The weak pull towards the rest pose bends a bone by up to a thousandth of a half turn.
    np.testing.assert_allclose(reached, motion.positions, atol=5e-3)
    exact = motion.skeleton.fit_rotations(motion.positions, motion.rotations, guess_weight=0.3)
    np.testing.assert_allclose(exact, motion.rotations, atol=1e-9)


def test_global_and_local_rotations_are_inverse():
    motion = moving()
    frames = motion.skeleton.global_rotations(motion.rotations)
    np.testing.assert_allclose(motion.skeleton.local_rotations(frames), motion.rotations, atol=1e-12)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("LeftArm", "RightArm"),
        ("left_hip", "right_hip"),
        ("UpperArm_L", "UpperArm_R"),
        ("L_Knee", "R_Knee"),
        ("leg.l", "leg.r"),
        ("lFoot", "rFoot"),
        ("mixamorig:LeftHand", "mixamorig:RightHand"),
    ],
)
def test_sides_are_told_by_names(left, right):
    skeleton = Skeleton(("Hips", right, left, "Lower"), (-1, 0, 0, 0), np.zeros((4, 3)), np.zeros((4, 3)))
    assert skeleton.mirror == (0, 2, 1, 3)
    assert skeleton.pairs == ((2, 1),)
    assert skeleton.legs == (1, 2)


def test_a_skeleton_survives_json_and_says_how_tall_it_is():
    skeleton = body()
    assert Skeleton.from_dict(skeleton.to_dict()) == skeleton
    assert skeleton.feet == (4, 6)
    assert skeleton.height == pytest.approx(2 * 0 + np.hypot(0.1, 0.1) + np.hypot(0.8, 0.1) + np.hypot(0.3, 0.02) + 0.3)


def test_what_a_page_is_told_of_a_motion():
    made = moving()
    told = json.loads(json.dumps(made.about(), allow_nan=False))
    assert np.abs(np.array(told["positions"]) - made.positions).max() <= 0.0005 + 1e-9
    assert (told["fps"], told["seconds"]) == (30.0, made.seconds)
    assert told["names"] == list(made.skeleton.names) and told["parents"] == list(made.skeleton.parents)


def test_left_feet_come_first_whatever_the_makers_order():
    names = ("Hips", "RightFoot", "RightToe", "LeftFoot", "LeftToe")
    skeleton = Skeleton(names, (-1, 0, 1, 0, 3), np.zeros((5, 3)), np.zeros((5, 3)))
    assert [names[joint] for joint in skeleton.feet] == ["LeftFoot", "LeftToe", "RightFoot", "RightToe"]


@pytest.mark.parametrize(
    ("names", "parents", "code", "path", "value"),
    [
        (("a", "b"), (-1, 1), "value", "parents", (-1, 1)),
        (("a", "b"), (0, 0), "value", "parents", (0, 0)),
        (("a", "a"), (-1, 0), "value", "names", "a"),
        (("a",), (-1, 0), "shape", "parents", 2),
    ],
)
def test_a_bad_tree_is_refused(names, parents, code, path, value):
    with refused(DataError, code, path, value=value):
        Skeleton(names, parents, np.zeros((len(names), 3)), np.zeros((len(names), 3)))


# ---- BVH ---------------------------------------------------------------------------------------


def write(tmp_path, text, name="clip.bvh"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_a_file_is_read_as_it_says(tmp_path):
    capture = read_bvh(write(tmp_path, SMALL))
    assert capture.skeleton.names == ("Hips", "Left Leg", "Right Leg")
    assert capture.skeleton.parents == (-1, 0, 0) and capture.fps == 30
    np.testing.assert_allclose(capture.skeleton.offsets[1], [0.1, -0.05, 0])
    np.testing.assert_allclose(capture.skeleton.ends[2], [0, -0.4, 0])
    np.testing.assert_allclose(capture.root[2], [0.02, 0.9, 0.04])
    np.testing.assert_allclose(capture.rotations[2, 0], euler_to_matrix(np.radians([10, 20, 30]), "ZXY"), atol=1e-12)
    np.testing.assert_allclose(capture.rotations[1, 2], euler_to_matrix(np.radians([30]), "X"), atol=1e-12)
    # A quarter turn about y takes the left leg from +x to −z.
    positions = capture.skeleton.positions(capture.rotations, capture.root)
    np.testing.assert_allclose(positions[1, 1], [0.01, 0.85, 0.02 - 0.1], atol=1e-12)
    metres = read_bvh(write(tmp_path, SMALL), metres_per_unit=1.0)
    np.testing.assert_allclose(metres.root, 100 * capture.root)


def test_windows_line_ends_tabs_and_a_byte_order_mark(tmp_path):
    path = tmp_path / "clip.bvh"
    path.write_bytes(b"\xef\xbb\xbf" + SMALL.replace("\n", "\r\n").replace("  ", "\t").encode())
    assert read_bvh(path).root.shape == (3, 3)


def test_a_locator_above_the_hips_is_folded_away(tmp_path):
    inner = SMALL.partition("ROOT Hips")[2].partition("MOTION")[0].rstrip()
    channels = "CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation"
    text = f"HIERARCHY\nROOT Locator\n{{\nOFFSET 0 0 0\n{channels}\nJOINT Hips{inner}\n}}\nMOTION\nFrames: 1\n"
    text += "Frame Time: 0.05\n5 0 0 0 0 90 0 90 10 0 0 0 0 0 0 0\n"
    capture = read_bvh(write(tmp_path, text))
    assert capture.skeleton.names[0] == "Hips" and capture.fps == 20
    np.testing.assert_allclose(capture.root[0], [0.05 + 0.1, 0.9, 0], atol=1e-12)
    np.testing.assert_allclose(capture.rotations[0, 0], euler_to_matrix(np.array([np.pi / 2]), "Y"), atol=1e-12)


def test_bvh_there_and_back(tmp_path):
    motion = moving()
    again = Motion.read(motion.save(tmp_path / "out" / "clip.bvh"))
    assert again.skeleton == motion.skeleton and again.fps == motion.fps
    # Six digits: a millionth of a centimetre, and of a degree on bones of a metre.
    np.testing.assert_allclose(again.positions, motion.positions, atol=1e-6)
    np.testing.assert_allclose(again.rotations, motion.rotations, atol=1e-6)


def test_channels_stand_in_the_order_of_the_hierarchy(tmp_path):
    names = ("Root", "a", "b", "a2")  # a2 hangs on a, but stands behind b here
    skeleton = Skeleton(names, (-1, 0, 0, 1), np.eye(4)[:, :3], np.zeros((4, 3)))
    rotations = random_rotations(2, 4)
    motion = Motion(skeleton.positions(rotations, np.zeros((2, 3))), skeleton, 30.0, rotations)
    again = Motion.read(motion.save(tmp_path / "clip.bvh"))
    assert again.skeleton.names == ("Root", "a", "a2", "b")
    np.testing.assert_allclose(again.positions[:, [0, 1, 3, 2]], motion.positions - motion.positions[:, :1], atol=1e-6)


def test_positions_alone_make_a_bvh_too(tmp_path):
    motion = moving()
    bare = Motion(motion.positions, motion.skeleton, 30.0)
    again = Motion.read(bare.save(tmp_path / "clip.bvh"))
    np.testing.assert_allclose(again.positions, motion.positions, atol=5e-3)


@pytest.mark.parametrize(
    ("change", "code", "value", "names"),
    [
        (lambda s: s[:150], "damaged", ANYTHING, "truncated"),
        (lambda s: s[:183], "damaged", 9, "'Xrotatio'"),
        (lambda s: s[:200], "damaged", 10, "truncated"),
        (lambda s: s.partition("MOTION")[0], "damaged", ANYTHING, "MOTION"),
        (lambda s: s.partition("Frame Time")[0], "damaged", 23, "Frame Time"),
        (lambda s: s.rpartition("\n2 90")[0], "damaged", 2, "says 3 frames and holds 2; the file is truncated"),
        (lambda s: s + "0 90 0 0 0 0 0 0 0 0\n", "damaged", 4, "remove"),
        (lambda s: s.replace("2 90 4 10", "2 90 4"), "damaged", 27, "9 values for 10 channels"),
        (lambda s: s.replace("2 90 4 10", "2 90 4 ten"), "value", "ten", ()),
        (lambda s: s.replace("2 90 4 10", "2 90 4 nan"), "value", "nan", ()),
        (lambda s: s.replace("OFFSET 10 -5 0", "OFFSET 10 x 0"), "damaged", 8, "'x'"),
        (lambda s: s.replace("OFFSET 10 -5 0", "OFFSET 10 inf 0"), "damaged", 8, "'inf' is not finite"),
        (
            lambda s: s.replace("Xrotation Yrotation\n  JOINT", "Xrotation Wrotation\n  JOINT"),
            "damaged",
            5,
            "'Wrotation'",
        ),
        (lambda s: s.replace("0.0333333", "0"), "range", "0", ()),
        (lambda s: s.replace("0.0333333", "fast"), "range", "fast", ()),
        (lambda s: s.replace("Frames: 3", "Frames: 0").partition("\n0 90")[0] + "\n", "empty", ANYTHING, ()),
        (lambda s: s.replace("HIERARCHY", "HELLO"), "format", 1, "'HELLO' where HIERARCHY"),
        (lambda s: "", "damaged", ANYTHING, "before HIERARCHY"),
        (lambda s: s.replace("}\nMOTION", "}\n}\nMOTION"), "damaged", 22, "closes nothing"),
        (lambda s: s.replace("}\nMOTION", "MOTION"), "damaged", 21, "MOTION comes before"),
        (lambda s: s.replace("Right Leg", "Left Leg"), "value", "Left Leg", ()),
    ],
)
def test_a_damaged_file_is_told_in_one_sentence(tmp_path, change, code, value, names):
    path = write(tmp_path, change(SMALL))
    with refused(DataError, code, "clip.bvh", value=value, names=names) as caught:
        Motion.read(path)
    assert "\n" not in str(caught.value)


def test_what_is_no_text_file_is_told(tmp_path):
    with refused(DataError, "missing", "none.bvh"):
        Motion.read(tmp_path / "none.bvh")
    (tmp_path / "binary.bvh").write_bytes(b"\x80\x00\x80")
    with refused(DataError, "format", "binary.bvh", names="0x80"):
        Motion.read(tmp_path / "binary.bvh")
    with refused(DataError, "range", "metres_per_unit", value=0):
        Motion.read(write(tmp_path, SMALL), metres_per_unit=0)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.replace("MOTION\n", "MOTION\n\n \n"),
        lambda s: s.replace("Frames: 3", "Frames : 3").replace("Frame Time:", "Frame  Time :"),
        lambda s: s.replace("Frames: 3", "Frames:\t3").replace("Frame Time: ", "Frame Time:"),
        lambda s: s.replace("Frames: 3\n", "Frames: 3\n\n"),
        lambda s: s.replace("Frames: 3\nFrame", "frames: 003   FRAME"),
        lambda s: s.replace("End Site", "End site"),
        lambda s: s.replace("End Site", "END SITE").replace("ROOT", "Root").replace("OFFSET", "Offset"),
        lambda s: s.replace("End Site", "End Site Toe"),
        lambda s: s.replace("Xrotation", "XROTATION").replace("Zposition", "zposition").replace("CHANNELS", "channels"),
        lambda s: " ".join(s.partition("MOTION")[0].split()) + "\n" + "".join(s.partition("MOTION")[1:]),
        lambda s: " ".join(s.partition("Frames")[0].split()) + " " + "".join(s.partition("Frames")[1:]),
        lambda s: s.replace(" {", "{").replace("{ ", "{").replace(" }", "}"),
        lambda s: s.replace("\n", "\r\n"),
        lambda s: s.replace("\n", "\r"),
        lambda s: s.replace("0 90 0 0", "\n0\t90  0 0") + "\n\n",
        lambda s: s.replace("0.0333333", "3.33333e-2"),
    ],
)
def test_one_file_written_in_many_ways(tmp_path, change):
    text = change(SMALL)
    assert text != SMALL
    path = tmp_path / "clip.bvh"
    path.write_bytes(text.encode())
    plain, read = read_bvh(write(tmp_path, SMALL, "plain.bvh")), read_bvh(path)
    assert read.skeleton == plain.skeleton and read.fps == plain.fps == 30
    assert np.array_equal(read.rotations, plain.rotations) and np.array_equal(read.root, plain.root)


@pytest.mark.parametrize(
    ("change", "code", "value", "names"),
    [
        (lambda s: s.replace("Frames: 3", "Frames: " + "9" * 5000), "damaged", 3, "99999999… (5000 digits) frames"),
        (lambda s: s.replace("Frames: 3", "Frames: -3"), "damaged", 23, ()),
        (lambda s: s.replace("Frames: 3", "Frames: 3.0"), "damaged", 23, ()),
        (lambda s: s.replace("0.0333333", "1e-300"), "range", "1e-300", ()),
        (lambda s: s.replace("0.0333333", "inf"), "range", "inf", ()),
        (lambda s: s.replace("0.0333333", "0,0333"), "range", "0,0333", ()),
        (lambda s: s.replace("0.0333333", "0.0333333 9"), "damaged", 23, ()),
        (lambda s: s.replace("2 90 4 10", "2 90 4 1e300"), "value", "1e300", ()),
        (lambda s: s.replace("2 90 4 10", "2 90 4 1_0"), "value", "1_0", ()),
        (lambda s: s.replace("CHANNELS 1 ", "CHANNELS 1e8 "), "damaged", 17, "1e+08 channels"),
        (lambda s: s.replace("CHANNELS 1 ", "CHANNELS -1 "), "damaged", 17, "-1 channels"),
        (lambda s: s.replace("CHANNELS 3 Zrotation X", "CHANNELS 3 Zrotation Z"), "damaged", 9, "'Zrotation'"),
        (lambda s: s.replace("-5 0\n    CHANNELS 3", "1e99 0\n    CHANNELS 3"), "damaged", 8, "'1e99'"),
        (lambda s: s.replace("  JOINT Right", "  JOINT A\n{ OFFSET 0 0 0 CHANNELS 0 }\n" * 600 + "  JOINT Right"),
         "damaged", 1035, ()),
    ],
)  # fmt: skip
def test_what_is_beyond_all_bounds_is_named(tmp_path, change, code, value, names):
    with refused(DataError, code, "clip.bvh", value=value, names=names) as caught:
        read_bvh(write(tmp_path, change(SMALL)))
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("name", ["/dev/zero", "pipe", "folder", "x" * 300, "a\0b", "empty"])
@pytest.mark.parametrize("suffix", [".bvh", ".npz"])
def test_only_regular_files_are_opened(tmp_path, name, suffix):
    os.mkfifo(tmp_path / f"pipe{suffix}")
    (tmp_path / f"folder{suffix}").mkdir()
    (tmp_path / f"empty{suffix}").write_bytes(b"")
    (tmp_path / f"zero{suffix}").symlink_to("/dev/zero")
    for path in (tmp_path / f"{name}{suffix}", tmp_path / f"zero{suffix}", "/dev/zero"):
        with pytest.raises(DataError) as caught:
            Motion.read(path)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


NTSC = [rate * 1000 / 1001 for rate in (24, 30, 48, 60, 120)]


@pytest.mark.parametrize("rate", [*NTSC, 24, 25, 30, 50, 60, 90, 100, 120, 240, 29, 47, 125, 37])
@pytest.mark.parametrize("digits", [6, 7, 8, 9, 10, 12, 17])
def test_rates_are_known_at_any_printed_precision(rate, digits):
    exact = Decimal(1) / Decimal(rate) if rate == int(rate) else Decimal(1001) / Decimal(round(rate * 1.001) * 1000)
    for rounding in (ROUND_HALF_UP, ROUND_FLOOR):
        printed = str(exact.quantize(Decimal(1).scaleb(-digits), rounding=rounding))
        assert frame_rate(printed) == rate, printed
    assert frame_rate(f"{np.float32(exact):.12g}") == rate


@pytest.mark.parametrize(
    ("printed", "rate"),
    [
        ("0.03336666", 30000 / 1001), ("0.0333667", 30000 / 1001), ("0.03337", 30000 / 1001), ("0.0334", 30000 / 1001),
        ("0.0333", 30), ("0.033", 30), ("0.0083", 120), ("0.008333", 120), ("0.00833", 120), ("0.008", 125),
        ("0.01667", 60), ("0.016667", 60), ("0.0167", 60), ("0.016683", 60000 / 1001), ("0.041708", 24000 / 1001),
        ("3.33667e-02", 30000 / 1001), ("1", 1), ("0.033366700", 30000 / 1001),
        ("0.01668335", 60000 / 1001), ("0.03336670003", 30000 / 1001), ("0.041708375", 24000 / 1001), ("0.0330", 30),
        ("0.5", 2), ("2.5", 0.4), ("0.08", 12.5), ("0.083", 12), ("0.0345", 29),
    ],
)  # fmt: skip
def test_rates_by_examples(printed, rate):
    assert frame_rate(printed) == pytest.approx(rate, rel=1e-12)


def test_npz_is_whole_numbers_and_one_sentence(tmp_path):
    motion = moving()
    whole = motion.save(tmp_path / "clip.npz").read_bytes()
    with np.load(tmp_path / "clip.npz") as kept:
        parts = dict(kept)
    cases = {
        "truncated": whole[: len(whole) // 2],
        "flipped": whole[:200] + bytes(b ^ 255 for b in whole[200:230]) + whole[230:],
        "an array": b"\x93NUMPY\x01\x00",
        "empty": b"",
    }
    changes = {
        "NaN": {"positions": np.where(np.arange(5)[:, None, None] == 2, np.nan, parts["positions"])},
        "inf fps": {"fps": np.array(np.inf)},
        "two fps": {"fps": np.array([30.0, 20.0])},
        "texts": {"offsets": np.full((7, 3), "x")},
        "short": {"offsets": parts["offsets"][:5]},
        "fewer": {"positions": parts["positions"][:, :5]},
        "parents": {"parents": np.array([-1, 9, 9, 9, 9, 9, 9])},
        "whole": {"positions": parts["positions"].astype(np.int64)},
        "pickled": {"caption": np.array({"a": 1}, dtype=object)},
    }
    for name, change in changes.items():
        np.savez(tmp_path / "other.npz", **{**parts, **change})
        cases[name] = (tmp_path / "other.npz").read_bytes()
    for name, content in cases.items():
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(DataError) as caught:
            Motion.read(tmp_path / "bad.npz")
        assert caught.value.code in ("damaged", "format", "unsafe") and "bad.npz" in (caught.value.path or ""), name
        assert (caught.value.code == "unsafe") == (name == "pickled"), name
        assert "\n" not in str(caught.value), name


def test_bones_that_stretch_are_refused(tmp_path):
    text = SMALL.replace("CHANNELS 1 Xrotation", "CHANNELS 2 Xposition Xrotation")
    rows = ["0 90 0 0 0 0 0 0 0 -10 0", "1 90 2 0 0 90 0 90 0 -10 30", "2 90 4 10 20 30 0 0 0 -14 -30"]
    moved = text.partition("0.0333333\n")[0] + "0.0333333\n" + "\n".join(rows) + "\n"
    with refused(DataError, "unsupported", "clip.bvh", value="Right Leg", names=["'Right Leg'", "2.7"]):
        Motion.read(write(tmp_path, moved))
    still = read_bvh(write(tmp_path, moved.replace("-14", "-10")))
    np.testing.assert_allclose(still.skeleton.offsets[2], [-0.1, -0.05, 0])


# ---- media -------------------------------------------------------------------------------------


def test_npz_there_and_back(tmp_path):
    for motion in (moving(), Motion(moving().positions, body(), 20.0)):
        again = Motion.read(motion.save(tmp_path / "clip.npz"))
        assert again.skeleton == motion.skeleton and (again.fps, again.caption) == (motion.fps, motion.caption)
        assert np.array_equal(again.positions, motion.positions)
        assert (again.rotations is None) == (motion.rotations is None)
    (tmp_path / "other.npz").write_bytes(b"PK nothing")
    with refused(DataError, "damaged", "other.npz", names="BadZipFile"):
        Motion.read(tmp_path / "other.npz")
    np.savez(tmp_path / "foreign.npz", a=np.zeros(3))
    with refused(DataError, "format", "foreign.npz"):
        Motion.read(tmp_path / "foreign.npz")


def test_a_gif_lasts_as_long_as_the_motion(tmp_path):
    from PIL import Image

    motion = moving(frames=31)
    with Image.open(motion.save(tmp_path / "clip.gif")) as image:
        periods = []
        for frame in range(image.n_frames):
            image.seek(frame)
            periods.append(image.info["duration"])
    assert sum(periods) == pytest.approx(1000 * motion.seconds, abs=40)


def test_mp4_needs_ffmpeg(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with refused(MissingProgram, "dependency", "ffmpeg"):
        moving().save(tmp_path / "clip.mp4")
    assert not (tmp_path / "clip.mp4").exists()


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_mp4_is_written(tmp_path):
    assert moving().save(tmp_path / "clip.mp4").stat().st_size > 1000


def test_plot_and_notebook():
    motion = moving()
    figure = motion.plot(num_poses=4)
    assert len(figure.axes[0].texts) == 4
    assert figure.axes[0].get_title() == motion.caption
    shown = motion._repr_html_()
    assert shown.startswith("<img") and "&lt;moving&gt;" in shown and "data:image/gif;base64," in shown
    assert repr(motion) == "Motion(0.17 s, 30 fps, 7 joints)"


def test_left_and_right_have_their_colours():
    from unisono_motion.skeleton.draw import LEFT, RIGHT, TRUNK, _colours

    assert _colours(body()) == [TRUNK, TRUNK, LEFT, LEFT, RIGHT, RIGHT]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"positions": np.zeros((5, 6, 3))}, "positions must be"),
        ({"positions": np.zeros((0, 7, 3))}, "positions must be"),
        ({"rotations": np.zeros((4, 7, 3, 3))}, "rotations must be"),
        ({"fps": 0.0}, "fps=0.0"),
    ],
)
def test_shapes_are_checked(change, match):
    fields = {"positions": np.zeros((5, 7, 3)), "skeleton": body(), "fps": 30.0, **change}
    with pytest.raises(ValueError, match=match):
        Motion(**fields)


def test_another_suffix_is_refused(tmp_path):
    with refused(RequestError, "unsupported", "clip.fbx", value=".fbx", names=[".bvh", ".npz", ".gif", ".mp4"]):
        moving().save(tmp_path / "clip.fbx")

"""What emoji show: names of sequences against their meaning, and a folder of them as data."""

import unicodedata

import pytest
from PIL import Image as Pillow
from refused import refused
from unisono.errors import DataError
from unisono_image.corpus.emoji import EmojiData
from unisono_image.corpus.emoji_names import code_points, may_mirror, phrases, plain
from unisono_image.corpus.options import PictureOptions


@pytest.mark.parametrize(
    ("stem", "phrase"),
    [
        ("emoji_u1f63b", "smiling cat face with heart eyes"),
        ("emoji_u1f600", "grinning face"),
        ("emoji_u1f44d_1f3fd", "thumbs up with medium skin tone"),
        ("emoji_u1f3c4_1f3ff_200d_2640", "woman surfer with dark skin tone"),
        ("emoji_u1f9d7_200d_2642", "man climbing"),
        ("emoji_u1f9d4_200d_2640", "bearded woman"),
        ("emoji_u1f469_200d_1f680", "woman astronaut"),
        ("emoji_u1f468_1f3fb_200d_1f9b2", "bald man with light skin tone"),
        ("emoji_u1f468_200d_1f469_200d_1f467_200d_1f466", "family of man, woman, girl and boy"),
        ("emoji_u1f469_1f3fb_200d_2764_200d_1f468_1f3ff", "woman and man with heart with light and dark skin tones"),
        ("emoji_u1f468_200d_2764_200d_1f48b_200d_1f468", "two men kissing"),
        ("emoji_u1f9d1_200d_1f91d_200d_1f9d1", "two people holding hands"),
        ("emoji_u1f6b6_200d_2640_200d_27a1", "woman pedestrian facing right"),
        ("emoji_u1f3f3_fe0f_200d_1f308", "rainbow flag"),
        ("emoji_u1f1eb_1f1f7", "flag fr"),
        ("emoji_u1f1ff", "letter z"),
        ("emoji_u1f3f4_e0067_e0062_e0065_e006e_e0067_e007f", "flag gbeng"),
        ("emoji_u0035_20e3", "keycap 5"),
        ("emoji_u0023_fe0f_20e3", "keycap number sign"),
        ("emoji_u1f408_200d_2b1b", "black cat"),
        ("2764-fe0f-200d-1f525", "heart on fire"),
        ("1f3fb", "emoji modifier fitzpatrick type-1-2"),
    ],
)
def test_sequences_say_what_they_show(stem, phrase):
    assert phrase in phrases(code_points(stem))


def test_a_name_is_unicodes_own():
    """The first phrasing of one character is its name; nothing is made up."""
    for point in (0x1F63B, 0x1F41D, 0x2600, 0x1F697, 0x1F957):
        assert phrases([point])[0] == unicodedata.name(chr(point)).lower()


def test_selectors_change_nothing_and_tones_come_off():
    heart = code_points("emoji_u2764_fe0f")
    assert phrases(heart) == phrases([0x2764])
    woman = code_points("emoji_u1f3c4_1f3ff_200d_2640_fe0f")
    assert plain(woman) == (0x1F3C4, 0x200D, 0x2640)
    assert plain(woman, genders=False) == (0x1F3C4,)
    # man, woman and person at one work are one group
    works = [plain(code_points(f"{who}_1f3fb_200d_1f680"), genders=False) for who in ("1f468", "1f469", "1f9d1")]
    assert len(set(works)) == 1


@pytest.mark.parametrize(
    ("stem", "mirrors"),
    [("1f63b", True), ("0035_20e3", False), ("1f1eb_1f1f7", False), ("1f552", False), ("27a1", False), ("1f3e0", True)],
)
def test_writing_and_flags_have_no_mirror_image(stem, mirrors):
    assert may_mirror(code_points(stem)) is mirrors


@pytest.mark.parametrize("points", [[], [0xFE0F], [0xE0000 - 1]])
def test_nothing_has_no_name(points):
    with pytest.raises(LookupError):
        phrases(points)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("emoji")
    names = ["emoji_u1f63b", "emoji_u1f600", "emoji_u1f697", "emoji_u1f408", "emoji_u1f408_200d_2b1b", "emoji_u2600"]
    names += ["emoji_u1f44d", *(f"emoji_u1f44d_1f3f{tone}" for tone in "bcdef")]
    for number, name in enumerate(names):
        picture = Pillow.new("RGBA", (12, 12), (0, 0, 0, 0))
        picture.paste((10 * number, 0, 200, 255), (3, 3, 9, 9))
        picture.save(root / f"{name}.png")
    Pillow.new("RGBA", (12, 12)).save(root / "smile.png")
    Pillow.new("RGBA", (12, 12)).save(root / "emoji_udffff.png")
    (root / "deep").mkdir()
    Pillow.new("RGBA", (12, 12)).save(root / "emoji_u2600_fe0f.png")
    return root


def test_a_folder_of_emoji(folder):
    data = EmojiData(
        str(folder), size=12, pictures=PictureOptions(fit="pad", background="#ffff00"), batch_size=4, val_size=2
    )
    audit = data.prepare(progress=False)
    assert audit.reasons == {"no name": 1, "no code points": 1, "second file": 1}
    assert audit.kept == 12
    everything = [*data.train_set.pictures, *data.val_set.pictures]
    thumbs = [p for p in everything if p.captions[0].startswith("thumbs up")]
    assert len(thumbs) == 6
    assert len({p.turn for p in thumbs}) == 1
    held = {p.group for p in data.val_set.pictures}
    assert held.isdisjoint(p.group for p in data.train_set.pictures)
    assert len(data.train_set) < len(data.train_set.pictures) or any(p in data.val_set.pictures for p in thumbs)
    assert data.train_set.of(everything[0])[:, 0, 0].tolist() == [255, 255, 0]
    assert "heart" in data.describe()["words"] or any("heart" in p.captions[0] for p in data.val_set.pictures)


def test_tones_can_be_left_out_and_are_counted(folder):
    data = EmojiData(str(folder), size=12, batch_size=4, val_size=0, skin_tones=False)
    audit = data.prepare(progress=False)
    assert audit.reasons["skin tone"] == 5
    assert len(data.train_set) == 7


def test_a_folder_without_emoji_says_so(tmp_path):
    Pillow.new("RGB", (8, 8)).save(tmp_path / "holiday.png")
    with refused(DataError, "empty", "data.root", names="'no code points': 1"):
        EmojiData(str(tmp_path)).prepare(progress=False)

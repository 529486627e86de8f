"""Data for image models: classes, captions, shards; what is dropped; batches that can be replayed."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from refused import ANYTHING, refused
from unisono import plugin
from unisono.arguments import build, nested
from unisono.errors import DataError, RecipeError
from unisono.recipe import Recipe
from unisono_image.corpus.data import CaptionData, FolderData, Picture, PictureSet, split
from unisono_image.corpus.options import PictureOptions
from unisono_image.corpus.shapes import SHAPES, ShapeData
from unisono_image.corpus.store import open_store, pack_files
from unisono_image.measure.evaluate import corpus_of


def save(path, value, size=(8, 8), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.new(mode, size, value).save(path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes of four training and two test images, each of a grey of its own; and eight that are wrong."""
    root = tmp_path_factory.mktemp("folder")
    for part, count in (("train", 4), ("test", 2)):
        for number, name in enumerate(("cat", "dog")):
            for index in range(count):
                save(root / part / name / f"{index}.png", (10 * index + 100 * number,) * 3, (8 + 2 * index, 8))
    save(root / "test" / "emu" / "0.png", "red")
    save(root / "train" / "cat" / "tiny.png", "red", (1, 1))
    (root / "train" / "cat" / "empty.jpg").write_bytes(b"")
    save(root / "train" / "dog" / "whole.jpg", "blue", (64, 64))
    (root / "train" / "dog" / "cut.jpg").write_bytes((root / "train" / "dog" / "whole.jpg").read_bytes()[:500])
    (root / "train" / "dog" / "words.png").write_text("no picture")
    (root / "train" / "notes.txt").write_text("not read")
    return root


def test_a_folder_gives_classes_parts_and_reasons(folder):
    data = FolderData(str(folder), size=8, batch_size=4, val_size=3)
    audit = data.prepare(progress=False)
    assert data.classes == ["cat", "dog"]
    assert audit.reasons == {"unreadable": 1, "empty file": 1, "truncated": 1, "too small": 1, "unknown class": 1}
    assert {item.id for item in audit.dropped if item.reason == "truncated"} == {"train/dog/cut.jpg"}
    assert audit.kept == 4 + 5 + 4
    assert audit.by_group()["dog"]["kept"] == 7
    assert any("1 files below train are no images" in note for note in audit.notes)
    assert any("1 of 4 test images sit out" in note for note in audit.notes)
    assert len(data.train_set) == 9
    assert len(data.val_set) == 3
    assert len(data.tested) == 4
    facts = data.describe()
    assert json.loads(json.dumps(facts.to_json())) == facts
    assert facts["held_out"] == []
    assert (facts["size"], facts["count"], facts["background"]) == (8, 9, [255, 255, 255])
    (picture,) = [p for p in data.train_set.pictures if p.id == "train/dog/3.png"]
    assert picture.label == 1
    assert (data.train_set.of(picture) == 130).all()


def test_other_sizes_can_be_refused(folder):
    audit = FolderData(str(folder), size=8, pictures=PictureOptions(fit="exact"), batch_size=1).prepare(progress=False)
    assert audit.reasons["other size"] == 2 * 3 + 1 + 2  # all but the first of each class and part; whole.jpg


def test_folders_named_by_numbers_are_in_their_order(tmp_path):
    for number in range(12):
        save(tmp_path / str(number) / "a.png", (number,) * 3)
    data = FolderData(str(tmp_path), size=8, batch_size=1, val_size=0)
    data.prepare(progress=False)
    assert data.classes == [str(number) for number in range(12)]
    assert {p.label: int(data.train_set.of(p)[0, 0, 0]) for p in data.train_set.pictures} == {n: n for n in range(12)}


def test_a_folder_of_pictures_with_what_systems_and_people_leave_in_it(tmp_path):
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    for name in ("cat", "dog", ".ipynb_checkpoints", "__MACOSX"):
        save(root / name / "a.PNG", (1, 1, 1))
    save(root / "cat" / "._b.png", "red")
    save(elsewhere / "deep" / "a.png", (9, 9, 9))
    (root / "linked").symlink_to(elsewhere)
    (root / "cat" / "loop").symlink_to(root)
    (root / "dog" / "broken.png").symlink_to(tmp_path / "gone.png")
    os.mkfifo(root / "dog" / "pipe.png")
    save(root / "stray.png", "blue")
    data = FolderData(str(root), size=8, batch_size=1, val_size=0)
    audit = data.prepare(progress=False)
    assert data.classes == ["cat", "dog", "linked"]
    assert {p.id for p in data.train_set.pictures} == {"cat/a.PNG", "dog/a.PNG", "linked/deep/a.png", "stray.png"}
    assert {item.id: item.reason for item in audit.dropped} == {
        "cat/loop": "link loop", "dog/broken.png": "broken link", "dog/pipe.png": "not a file",
    }  # fmt: skip
    assert any("ipynb_checkpoints" in note and "__MACOSX" in note for note in audit.notes)
    assert "1 of 4 pictures have no class" in audit.notes


def test_a_class_of_broken_pictures_alone_is_none(tmp_path):
    save(tmp_path / "cat" / "a.png", "red")
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "a.png").write_text("broken")
    data = FolderData(str(tmp_path), size=8, batch_size=1, val_size=0)
    assert data.prepare(progress=False).reasons == {"unreadable": 1}
    assert data.classes == ["cat"]


def test_images_beside_the_parts_are_counted(tmp_path):
    for name in ("train/cat/a.png", "test/cat/a.png", "val/cat/a.png", "b.png"):
        save(tmp_path / name, "red")
    audit = FolderData(str(tmp_path), size=8, batch_size=1, val_size=1).prepare(progress=False)
    assert audit.kept == 2 and "2 images lie outside of train and test and were not read" in audit.notes


def test_parts_are_known_in_any_case(tmp_path):
    for place in ("Train/cat/a.png", "Train/dog/b.png", "VAL/cat/c.png"):
        save(tmp_path / place, "red")
    data = FolderData(str(tmp_path), size=8, batch_size=1, val_size=1)
    data.prepare(progress=False)
    assert data.classes == ["cat", "dog"] and len(data.train_set) == 2 and len(data.val_set) == 1


def test_one_picture_under_two_names_is_one(tmp_path):
    save(tmp_path / "a.png", "red")
    (tmp_path / "captions.csv").write_text("image|caption\na.png|one\n./a.png|two\n./a.png|one\n")
    data = CaptionData(str(tmp_path), size=8, batch_size=1, val_size=0)
    data.prepare(progress=False)
    assert [p.captions for p in data.train_set.pictures] == [("one", "two")]


def test_folders_without_parts_and_without_classes(tmp_path):
    for number in range(6):
        save(tmp_path / f"{number}.png", (number,) * 3)
    data = FolderData(str(tmp_path), size=8, batch_size=2, val_size=2)
    data.prepare(progress=False)
    assert data.classes == []
    assert len(data.train_set) == 4
    assert sorted(data.describe()["held_out"]) == sorted(p.id for p in data.val_set.pictures)
    assert {p.label for p in data.train_set.pictures} == {-1}


def test_a_batch_is_what_the_contract_says(folder):
    data = FolderData(str(folder), size=8, batch_size=9, pictures=PictureOptions())
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (9, 3, 8, 8)
    assert batch["image"].dtype == torch.float32
    assert -1 <= float(batch["image"].min()) <= float(batch["image"].max()) <= 1
    assert batch["label"].dtype == torch.int64
    assert batch["caption"] == [""] * 9
    byte = data.train_set.of(data.train_set.pictures[int(batch["row"][0])])
    torch.testing.assert_close(batch["image"][0], torch.from_numpy(byte) / 127.5 - 1)


def test_batches_are_replayed_in_any_process_and_worker():
    def batches(workers, rank=0, world=1):
        data = ShapeData(num_items=12, size=8, batch_size=4, flip=True, shift=2, num_workers=workers)
        data.seed = 3
        data._rank = lambda: (rank, world)
        return list(data.train_dataloader())

    straight = batches(0)
    assert len(straight) == 3
    for left, right in zip(straight, batches(1), strict=True):
        assert torch.equal(left["image"], right["image"])
        assert left["caption"] == right["caption"]
    for whole, *parts in zip(straight, batches(0, 0, 2), batches(0, 1, 2), strict=True):
        for rank, part in enumerate(parts):
            assert torch.equal(whole["image"][rank::2], part["image"])


def test_a_mirror_image_says_the_other_side():
    pixels = np.arange(3 * 4 * 4, dtype=np.uint8).reshape(1, 3, 4, 4)
    pictures = [Picture("a", 0, captions=("turns left",)), Picture("b", 0, captions=("turns left",), mirrors=False)]
    items = PictureSet(pixels, 4, pictures, flip=True, shift=0, random=True)
    seen = [set(), set()]
    for seed in range(20):
        for index in range(2):
            item = items.item(index, torch.Generator().manual_seed(seed))
            image = ((item["image"] + 1) * 127.5).round().to(torch.uint8).numpy()
            mirrored = (image == pixels[0, :, :, ::-1]).all()
            assert mirrored or (image == pixels[0]).all()
            assert item["caption"] == ("turns right" if mirrored else "turns left")
            seen[index].add(bool(mirrored))
    assert seen == [{True, False}, {False}]


def test_what_a_shift_lets_in_is_the_border_in_a_mirror():
    """Not the other side of the picture, and not a colour: rows 0 1 2 … become 1 0 | 0 1 2 … and so on."""
    rows = np.arange(8, dtype=np.uint8)
    pixels = np.stack([np.broadcast_to(10 * rows[:, None] + rows, (8, 8))] * 3)[None].astype(np.uint8)
    items = PictureSet(pixels, 8, [Picture("a", 0)], flip=False, shift=2, random=True)
    mirrored = [1, 0, *range(8), 7, 6]
    wanted = {
        (top, left): [[10 * row + column for column in mirrored[left : left + 8]] for row in mirrored[top : top + 8]]
        for top in range(5)
        for left in range(5)
    }
    seen = set()
    for seed in range(120):
        image = ((items.item(0, torch.Generator().manual_seed(seed))["image"][0] + 1) * 127.5).round().int().tolist()
        (place,) = [place for place, expected in wanted.items() if expected == image]
        seen.add(place)
    assert len(seen) == 25


def test_a_shift_moves_the_picture_and_no_more():
    pixels = np.zeros((1, 3, 8, 8), np.uint8)
    pixels[0, :, 4, 4] = 255
    items = PictureSet(pixels, 8, [Picture("a", 0)], flip=False, shift=2, random=True)
    places = set()
    for seed in range(80):
        image = items.item(0, torch.Generator().manual_seed(seed))["image"]
        places.add(tuple((image[0] == 1).nonzero()[0].tolist()))
    assert places == {(row, column) for row in range(2, 7) for column in range(2, 7)}


def test_what_takes_turns_is_one_item():
    pixels = np.stack([np.full((3, 4, 4), value, np.uint8) for value in (0, 51, 102)])
    pictures = [Picture("a", 0, turn="x"), Picture("b", 1, turn="x"), Picture("c", 2, turn="y")]
    items = PictureSet(pixels, 4, pictures, False, 0, random=True)
    assert len(items) == 2
    seen = {round(float((items.item(0, torch.Generator().manual_seed(seed))["image"][0, 0, 0] + 1) * 2.5), 3)
            for seed in range(20)}  # fmt: skip
    assert seen == {0.0, 1.0}
    assert len(PictureSet(pixels, 4, pictures, False, 0, random=False)) == 3


def test_a_split_depends_on_names_alone_and_keeps_groups_together():
    pictures = [Picture(f"{number}", number, group=f"{number // 3}") for number in range(30)]
    train, val = split(pictures, 5)
    assert 5 <= len(val) <= 7
    assert {p.group for p in train}.isdisjoint(p.group for p in val)
    again = split(pictures[::-1], 5)[1]
    assert {p.id for p in again} == {p.id for p in val}
    assert {p.id for p in split(pictures[:15], 2)[1]} <= {p.id for p in split(pictures, 30 - 3)[1]} | {"never"}
    with refused(DataError, "empty", "val_size", value=30):
        split(pictures, 30)


def test_captions_from_a_table_and_from_json_lines(tmp_path):
    for name, value in (("a.png", 10), ("b.png", 20), ("c.png", 30), ("d.png", 40)):
        save(tmp_path / "pictures" / name, (value,) * 3)
    (tmp_path / "captions.csv").write_text(
        "image|caption\npictures/a.png|a dark square\npictures/a.png|nearly black\npictures/b.png|less dark, still\n"
        "pictures/gone.png|nothing\n"
    )
    data = CaptionData(str(tmp_path), size=8, batch_size=1, val_size=0)
    audit = data.prepare(progress=False)
    assert audit.reasons == {"missing": 1}
    assert [p.captions for p in data.train_set.pictures] == [("a dark square", "nearly black"), ("less dark, still",)]
    seen = {data.train_set.item(0, torch.Generator().manual_seed(seed))["caption"] for seed in range(20)}
    assert seen == {"a dark square", "nearly black"}
    assert {"dark", "nearly", "still"} <= set(data.describe()["words"])
    lines = [{"file_name": "c.png", "text": "grey"}, {"image": "d.png", "caption": ["light grey", "pale"]}]
    table = tmp_path / "pictures" / "list.jsonl"
    table.write_text("\n".join(map(json.dumps, lines)))
    data = CaptionData(str(table), size=8, batch_size=1, val_size=1)
    data.prepare(progress=False)
    assert len(data.train_set) == len(data.val_set) == 1
    assert len(data.describe()["sample_captions"]) == 1


@pytest.mark.parametrize(
    ("name", "text", "code", "path", "value"),
    [
        ("captions.csv", "a.png|one|two\n", "format", "captions.csv", "3 fields between bars, expected image|caption"),
        ("captions.csv", "image,caption\na.png,\n", "format", "captions.csv", ANYTHING),
        ("captions.jsonl", '{"image": "a.png"}\n', "format", "captions.jsonl", "no key 'caption' (known: image)"),
        (
            "captions.jsonl",
            '{"image": "a.png", "captoin": "x"}\n',
            "format",
            "captions.jsonl",
            "no key 'caption' (did you mean 'captoin'?)",
        ),
        (
            "captions.jsonl",
            '{"image": "a.png", "caption": 3}\n',
            "format",
            "captions.jsonl",
            "3 must be a string that is not empty",
        ),
        ("captions.jsonl", "[]\n", "format", "captions.jsonl", "is not an object"),
        ("captions.jsonl", "{\n", "format", "captions.jsonl", ANYTHING),
        ("captions.csv", "\n", "empty", "captions.csv", ANYTHING),
        ("other.csv", "a.png|b\n", "missing", ANYTHING, ANYTHING),
    ],
)
def test_a_wrong_table_is_named_with_its_line(tmp_path, name, text, code, path, value):
    (tmp_path / name).write_text(text)
    with refused(DataError, code, path, value=value):
        CaptionData(str(tmp_path), size=8).prepare(progress=False)


def test_a_store_is_made_once_and_anew_for_changed_files(tmp_path, monkeypatch):
    files = [save(tmp_path / f"{n}.png", (n,) * 3) for n in range(3)]
    path, drops = pack_files(files, 8, "crop", (0, 0, 0), progress=False)
    assert drops == [None] * 3
    assert open_store(path, 8)[:, 0, 0, 0].tolist() == [0, 1, 2]
    monkeypatch.setattr("unisono_image.corpus.store.read_image", None)  # it is not read again
    assert pack_files(files, 8, "crop", (0, 0, 0), progress=False)[0] == path
    monkeypatch.undo()
    save(files[1], (77,) * 3, (9, 9))
    other, _ = pack_files(files, 8, "crop", (0, 0, 0), progress=False)
    assert other != path
    assert open_store(other, 8)[:, 0, 4, 4].tolist() == [0, 77, 2]
    assert pack_files(files, 8, "crop", (1, 0, 0), progress=False)[0] not in (path, other)


@pytest.mark.parametrize("harm", ["zeros", "short", "list", "null"])
def test_a_damaged_store_is_made_anew(tmp_path, harm):
    files = [save(tmp_path / f"{n}.png", (n + 1,) * 3) for n in range(3)]
    path, _ = pack_files(files, 8, "crop", (0, 0, 9), progress=False)
    whole = path.read_bytes()
    if harm == "zeros":
        path.write_bytes(whole[:200] + bytes(50) + whole[250:])
    elif harm == "short":
        path.write_bytes(whole[:-192])
    else:
        path.with_suffix(".json").write_text("{" if harm == "list" else "null")
    assert pack_files(files, 8, "crop", (0, 0, 9), progress=False) == (path, [None] * 3)
    assert path.read_bytes() == whole


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("UNISONO_CACHE", str(tmp_path / "file"))
    path, dropped = pack_files([save(tmp_path / "a.png", "red")], 8, "crop", (0, 0, 0), progress=False)
    assert dropped == [None] and open_store(path, 8)[0, :, 4, 4].tolist() == [255, 0, 0]
    assert "made anew in each run: the cache cannot be written" in caplog.text


@pytest.mark.parametrize(
    ("change", "code", "path", "value"),
    [
        ({"size": 2}, "range", "data.size", 2),
        ({"pictures": PictureOptions(shift=32)}, "range", "data.pictures.shift", 32),
        ({"val_size": -1}, "range", "data.val_size", -1),
        ({"pictures": PictureOptions(background="wihte")}, "value", "data.pictures.background", "wihte"),
        ({"root": "/nowhere/at/all"}, "missing", "data.root", "/nowhere/at/all"),
    ],
)
def test_wrong_arguments_are_refused(tmp_path, change, code, path, value):
    with refused(DataError, code, path, value=value):
        FolderData(**{"root": str(tmp_path), **change}).prepare(progress=False)


def test_an_empty_folder_and_one_of_broken_files(tmp_path):
    with refused(DataError, "empty", "data.root"):
        FolderData(str(tmp_path)).prepare(progress=False)
    (tmp_path / "a.png").write_text("no")
    with refused(DataError, "empty", "data", value={"unreadable": 1}, names="'unreadable': 1"):
        FolderData(str(tmp_path)).prepare(progress=False)


def test_shapes_are_what_their_captions_say():
    data = ShapeData(num_items=8, size=16, batch_size=4)
    data.prepare(progress=False)
    assert data.classes == list(SHAPES)
    for picture in data.train_set.pictures:
        assert picture.captions[0].endswith(SHAPES[picture.label])
        red, green, blue = data.train_set.of(picture).astype(int).mean((1, 2))
        if "red" in picture.captions[0]:
            assert red > max(green, blue)
        if "blue" in picture.captions[0]:
            assert blue > max(red, green)


FORMAT_1 = {"root": "somewhere", "size": 16, "fit": "pad", "flip": False, "shift": 2, "batch_size": 4}


@pytest.mark.parametrize("name", ["folder", "captions", "emoji", "shards"])
def test_what_is_done_to_pictures_is_read_from_recipes_of_both_formats(name):
    kind = plugin.resolve(f"image/{name}", "data")
    old = build(kind, nested(FORMAT_1, kind.flat, "data", "test"), "data", "test")
    changed = {"fit": "pad", "flip": False, "shift": 2}
    new = build(kind, {"root": "somewhere", "size": 16, "pictures": changed, "batch_size": 4}, "data", "test")
    assert old.options == new.options == PictureOptions(fit="pad", background="white", flip=False, shift=2)
    # A part that is given leaves the others as the corpus has them.
    moved = build(kind, {"root": "somewhere", "pictures": {"shift": 1}}, "data", "test").options
    own = {"folder": {"flip": True}, "emoji": {"fit": "pad"}}.get(name, {})
    assert moved == PictureOptions(**own, shift=1)


def test_flags_of_format_1_reach_the_pictures():
    recipe = Recipe.read("image/dit-cifar10", ["--data.root=x", "--data.flip=false", "--data.shift=3"])
    assert recipe.build_data().options == PictureOptions(flip=False, shift=3)
    with refused(RecipeError, "unknown", "data.flop"):
        Recipe.read("image/dit-cifar10", ["--data.root=x", "--data.flop=false"])


def test_a_corpus_of_an_older_export_is_read_as_it_was(tmp_path):
    """The emoji's export has a data section of format 1; its ``flip`` and ``shift`` are training's alone."""
    model = SimpleNamespace(recipe={"data": {"name": "image/emoji", "size": 12, "background": "#ffff00", "flip": True}})
    data = corpus_of(model, str(tmp_path))
    assert data.options == PictureOptions(fit="pad", background="#ffff00") and data.background == (255, 255, 0)
    assert (data.size, data.val_size) == (12, 0)


@pytest.mark.parametrize(
    ("name", "options"), [("emoji", PictureOptions(fit="pad")), ("cifar10", PictureOptions(flip=True))]
)
def test_a_shipped_export_says_what_was_done_to_its_pictures(name, options):
    recipe = Recipe.read(str(Path(__file__).parents[2] / "checkpoints" / name / "recipe.yaml"))
    assert recipe.build_data().options == options

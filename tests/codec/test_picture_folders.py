"""Picture codecs and users' pictures: what is read, folders of them, other formats beside them, the command line."""

import io
import math
import struct

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from refused import refused
from unisono import Image
from unisono.errors import DataError, RequestError
from unisono.export import save_export
from unisono_codec.pictures.coder import PictureCoder, decode_picture, encode_picture
from unisono_codec.pictures.data import CropSet, PictureData, made_picture, roots_of
from unisono_codec.pictures.formats import Curve, formats, psnr, size_at
from unisono_codec.pictures.reading import MAX_PIXELS, read_picture_file

# ---- pictures that are given -------------------------------------------------------------------


def test_pictures_of_all_kinds_are_read_with_what_was_done_to_them(tmp_path):
    rgb = Pillow.fromarray(made_picture(0, 6, 9).transpose(1, 2, 0))
    rgb.convert("CMYK").save(tmp_path / "cmyk.jpg")
    rgb.convert("P").save(tmp_path / "palette.png")
    rgb.convert("RGBA").save(tmp_path / "alpha.png")
    Pillow.fromarray(np.arange(54, dtype=np.uint16).reshape(6, 9) * 1000).save(tmp_path / "wide.png")
    exif = Pillow.Exif()
    exif[0x0112] = 6
    rgb.save(tmp_path / "turned.jpg", exif=exif)
    rgb.save(tmp_path / "moving.gif", save_all=True, append_images=[rgb.transpose(Pillow.Transpose.ROTATE_180)])
    found = {path.stem: read_picture_file(path) for path in sorted(tmp_path.iterdir())}
    assert found["palette"].notes == ()
    for name, word in {"cmyk": "CMYK", "alpha": "transparency", "wide": "16 bits", "turned": "turned"}.items():
        assert len(found[name].notes) == 1 and word in found[name].notes[0]
    assert any("2 frames" in note for note in found["moving"].notes)
    assert found["turned"].pixels.shape == (3, 9, 6) and found["cmyk"].pixels.shape == (3, 6, 9)
    assert found["wide"].pixels[0, 0, 1] == round(1000 / 257)


def test_pictures_that_cannot_be_coded_are_refused(codecs, tmp_path):
    codec = codecs["qres"]
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    (tmp_path / "empty.png").write_bytes(b"")
    Pillow.fromarray(np.full((4, 4), 0.5, np.float32)).save(tmp_path / "float.tif")
    side = math.isqrt(MAX_PIXELS) + 1
    Pillow.new("1", (10_000, MAX_PIXELS // 10_000 + 1)).save(tmp_path / "large.png")
    for name, code in {"cut": "damaged", "empty": "format", "none": "missing"}.items():
        with refused(RequestError, code, "image"):
            codec.synthesize([codec.Request(image=str(tmp_path / f"{name}.png"))])
    with refused(RequestError, "format", "image"):
        codec.synthesize([codec.Request(image=str(tmp_path / "float.tif"))])
    with refused(RequestError, "limit", "image", names=[str(MAX_PIXELS), "10000"]):
        codec.synthesize([codec.Request(image=str(tmp_path / "large.png"))])
    with refused(RequestError, "limit", "image", value=side * side):
        PictureCoder(codec).encode(np.zeros((3, side, side), np.uint8))
    nan = np.full((3, 4, 4), 0.5, np.float32)
    nan[0, 0, 0] = np.nan
    with refused(RequestError, "value", "image"):
        codec.synthesize([codec.Request(image=Image(nan))])
    with refused(RequestError, "range", "latents", value=99):
        codec.synthesize([codec.Request(latents=99)])


# ---- data --------------------------------------------------------------------------------------


def test_folders_are_read_with_what_they_hold_out(tmp_path):
    for number in range(8):
        for name in ("one", "two/train", "two/test"):
            (tmp_path / name).mkdir(parents=True, exist_ok=True)
            Image(made_picture(number, 20, 12)).save(tmp_path / name / f"{number}.png")
    (tmp_path / "one" / "broken.png").write_bytes(b"\x89PNG")
    root = f"a={tmp_path / 'one'},b={tmp_path / 'two'}"
    data = PictureData(root, crop=16, batch_size=4, val_size=6, num_processes=1)
    audit = data.prepare(progress=False)
    assert [drop.id for drop in audit.dropped] == ["a/broken.png"]
    held = data.facts["held_out"]
    assert len(held) == 6 and sum(id.startswith("b/test/") for id in held) == 3
    assert len(data.train_set) == 8 - 3 + 8 and len(data.val_set) == 6
    assert data.train_set.groups()[0] == ["a", "b"]
    item = data.train_set.item(0, torch.Generator().manual_seed(0))["image"]
    assert item.shape == (3, 16, 16) and float(item.min()) >= -1 and float(item.max()) <= 1
    again = PictureData(root, crop=16, batch_size=4, val_size=6, num_processes=1)
    again.prepare(progress=False)
    assert again.facts == data.facts
    with refused(DataError, "missing", "data.root"):
        PictureData(str(tmp_path / "nowhere")).prepare(progress=False)
    with refused(DataError, "range", "data.crop", value=0):
        PictureData("x", crop=0)
    assert roots_of({"a": "x"}) == {"a": "x"} and roots_of("x") == {"": "x"}


def test_small_pictures_go_on_as_their_mirror_image():
    picture = made_picture(3, 5, 12)
    items = CropSet([picture], 12, (255, 255, 255), flip=False, random=True, keep=False)
    crop = ((items.item(0, torch.Generator())["image"] + 1) * 127.5).round().numpy().astype(np.uint8)
    np.testing.assert_array_equal(crop[:, :5], picture)
    np.testing.assert_array_equal(crop[:, 5:10], picture[:, ::-1])


# ---- beside other formats ----------------------------------------------------------------------


def test_formats_are_measured_at_the_wanted_psnr():
    picture = made_picture(4, 48, 48)
    assert psnr(picture, picture) == math.inf
    assert psnr(np.zeros((3, 2, 2), np.uint8), np.full((3, 2, 2), 255, np.uint8)) == 0.0
    for format in formats():
        curve = Curve(picture, format, format.options[0])
        small, large = (size_at(picture, format, curve.at(quality)[0]) for quality in (30, 80))
        assert small is not None and large is not None
        assert 0 < small.payload < small.file and small.file < large.file and small.payload < large.payload
        assert size_at(picture, format, 99.0) is None
        wanted, size = curve.at(60)
        found = curve.size_of(wanted)
        assert found is not None and found.file == pytest.approx(size.file, rel=0.15)


def test_what_is_no_header_of_a_jpeg_is_what_lies_between_its_marks():
    buffer = io.BytesIO()
    Pillow.fromarray(made_picture(4, 48, 48).transpose(1, 2, 0)).save(buffer, "JPEG", quality=80, optimize=True)
    data = buffer.getvalue()
    start = data.index(b"\xff\xda")
    payload = len(data) - start - 2 - struct.unpack(">H", data[start + 2 : start + 4])[0] - 2
    assert formats()[0].payload(data) == payload


# ---- the command line --------------------------------------------------------------------------


def test_encode_info_and_decode(codecs, tmp_path, capsys):
    from unisono.cli import main

    export = save_export(codecs["qres"], tmp_path / "export")
    Image(made_picture(1, 20, 30)).save(tmp_path / "in.png")
    file, out = tmp_path / "x.uc", tmp_path / "out.png"
    assert not main(["codec", "encode", str(tmp_path / "in.png"), "-o", str(file), "--codec", str(export)])
    assert f"30 × 20, {file.stat().st_size} bytes" in capsys.readouterr().out
    assert not main(["codec", "info", str(file)])
    assert "codec/qres" in capsys.readouterr().out
    assert not main(["codec", "decode", str(file), "-o", str(out), "--codec", str(export)])
    assert "to the last bit" in capsys.readouterr().out
    expected = PictureCoder(codecs["qres"]).encode(made_picture(1, 20, 30)).pixels
    np.testing.assert_array_equal(np.asarray(Pillow.open(out)).transpose(2, 0, 1), expected)
    wrong = ["codec", "encode", str(tmp_path / "in.png"), str(tmp_path / "y.uc"), "--codec", str(export), "--mono"]
    assert main(wrong) == 2 and not (tmp_path / "y.uc").exists()
    assert main(["codec", "decode", str(file), "--codec", str(export)]) == 2
    with refused(RequestError, "unsupported"):
        decode_picture(codecs["qres"], file, tmp_path / "out.wav")
    with refused(RequestError, "missing", "image"):
        encode_picture(codecs["qres"], tmp_path / "none.png", tmp_path / "z.uc")
    assert not (tmp_path / "z.uc").exists()


def test_a_codec_is_measured_beside_formats(codecs, tmp_path):
    from unisono.synthesis import Synthesizer
    from unisono_codec.pictures.evaluate import evaluate, probe

    for number in range(3):
        Image(made_picture(number, 24, 24)).save(tmp_path / f"{number}.png")
    synthesizer = Synthesizer(codecs["qres"])
    report = evaluate(synthesizer, tmp_path, limit=2, progress=False)
    assert len(report.items) == 2 and report.facts["pictures"] == 2
    assert report.systems[:2] == ["codec", "jpeg"]
    item = report.items[0]
    assert item["payload"] < item["file"] and item["same"]
    asked = probe(synthesizer, tmp_path, limit=2)
    assert asked.price is not None
    assert asked.price[1]({"latents": 1}) < asked.price[1]({"latents": None})
    made = codecs["qres"].synthesize([codecs["qres"].Request(**fields) for fields in asked.requests])
    assert asked.measure is not None and set(asked.measure(made)) == {"PSNR"}
    with refused(DataError, "missing", "data.root"):
        evaluate(synthesizer, tmp_path / "nowhere", progress=False)

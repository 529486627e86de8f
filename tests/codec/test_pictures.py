"""Picture codecs: files come back to the bit, decode elsewhere or are refused, and cost what their tables say.

Networks are small and their weights random and large: what is tested here holds for any weights.
"""

import copy
import io
import math
import struct
import zlib
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from refused import refused
from torch import Tensor
from unisono import Image
from unisono.errors import DataError, RecipeError, RequestError
from unisono.export import save_export
from unisono.recipe import Recipe
from unisono_codec.files.uc import Header, UcReader, UcWriter
from unisono_codec.pictures.coder import PictureCoder, decode_picture, encode_picture
from unisono_codec.pictures.coding import GUARD, Quantised, Reader, Unsure, Writer
from unisono_codec.pictures.data import CropSet, PictureData, made_picture, roots_of
from unisono_codec.pictures.formats import Curve, formats, psnr, size_at
from unisono_codec.pictures.gaussian import log_mass
from unisono_codec.pictures.latents import LatentNet
from unisono_codec.pictures.picture_file import PictureHeader, read_picture, write_picture
from unisono_codec.pictures.qres_network import QResNet, QResSizes
from unisono_codec.pictures.reading import MAX_PIXELS, read_picture_file
from unisono_codec.pictures.s2lic_network import S2LICNet, S2LICSizes
from unisono_codec.pictures.swin import SwinBlock

KINDS = ("qres", "s2lic")


def untrained(kind: str, seed: int = 0) -> Any:
    recipe = Recipe.read(f"codec/{kind}-tiny", [f"--seed={seed}"])
    data = recipe.build_data()
    data.prepare(progress=False)
    model = recipe.build_model(data.describe()).eval()
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data += 0.15 * torch.randn(parameter.shape, generator=generator)
    return model


@pytest.fixture(scope="module")
def codecs() -> dict[str, Any]:
    return {kind: untrained(kind) for kind in KINDS}


@pytest.fixture(scope="module")
def coders(codecs) -> dict[str, PictureCoder]:
    return {kind: PictureCoder(codec) for kind, codec in codecs.items()}


# ---- files come back ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(1, 1), (33, 70), (64, 64), (3, 150)])
def test_a_file_comes_back_to_the_bit_at_any_size(coders, kind, size):
    coder, picture = coders[kind], made_picture(1, *size)
    coded = coder.encode(picture)
    decoded = coder.decode(coded.content)
    assert decoded.same and decoded.pixels.shape == (3, *size)
    np.testing.assert_array_equal(decoded.pixels, coded.pixels)
    assert (decoded.header.width, decoded.header.height) == size[::-1]
    # one percent, the ends of a message, and the shifts of its latents
    assert coded.message_bytes * 8 <= 1.01 * coded.estimated_bits + 56
    assert len(coded.content) - coded.message_bytes <= 50


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_latents_are_a_file_of_their_own_and_a_part_of_the_whole(coders, kind):
    coder, picture = coders[kind], made_picture(2, 40, 40)
    whole = coder.encode(picture)
    sizes = []
    for latents in range(1, coder.net.num_latents + 1):
        part = coder.encode(picture, latents)
        sizes.append(part.message_bytes)
        np.testing.assert_array_equal(coder.decode(whole.content, latents=latents).pixels, part.pixels)
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1] == whole.message_bytes
    for latents in (0, coder.net.num_latents + 1):
        with refused(RequestError, "range", "latents", value=latents):
            coder.decode(whole.content, latents=latents)
        with refused(RequestError, "range", "latents", value=latents):
            coder.encode(picture, latents)


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_alone_is_that_picture_in_any_batch(codecs, kind):
    codec = codecs[kind]
    requests = [codec.Request(image=Image(made_picture(n, 20 + n, 30))) for n in range(3)]
    together = codec.synthesize(requests[::-1])[::-1]
    for request, made in zip(requests, together, strict=True):
        np.testing.assert_array_equal(codec.synthesize([request])[0].pixels, made.pixels)


@pytest.mark.parametrize("kind", KINDS)
def test_the_bits_are_those_of_the_exact_gaussians(coders, kind):
    """Within 0.5 %: what a few deviations and whole frequencies lose, of latents as they are expected to be."""
    coder, ideal, spent = coders[kind], 0.0, 0.0
    generator = torch.Generator().manual_seed(0)

    class Counting(Writer):
        def __call__(self, number, mean, log_scale, posterior):
            nonlocal ideal
            low, high = (math.log(float(s)) for s in coder.net.scales[:2])
            scale = log_scale.clamp(low, high).exp()
            drawn = mean + scale * torch.randn(mean.shape, generator=generator, dtype=torch.float64)
            latent = super().__call__(number, mean, log_scale, lambda: drawn)
            ideal += float(-log_mass(latent, (mean * 64).round() / 64, scale).sum()) / math.log(2)
            return latent

    for _ in range(6):
        writer = Counting(coder.net.num_latents, coder.net.scales)
        with torch.no_grad():
            coder.net.descend((1, 128 // coder.net.stride, 64 // coder.net.stride), writer)
        spent += writer.bits
    # what the tables leave to one of 2^16 costs a symbol that is nearly sure 0.0001 bits
    assert abs(spent / ideal - 1) < 0.005


# ---- elsewhere ---------------------------------------------------------------------------------


def elsewhere(coder: PictureCoder, relative: float) -> PictureCoder:
    """The same codec on a machine whose arithmetic deviates by so much."""
    other = copy.copy(coder)
    other.net = copy.deepcopy(coder.net)
    generator = torch.Generator().manual_seed(1)
    for parameter in other.net.parameters():
        parameter.data *= 1 + relative * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return other


@pytest.mark.parametrize("kind", KINDS)
def test_a_machine_that_deviates_a_little_finds_the_same_latents_and_one_that_deviates_more_refuses(coders, kind):
    """Float64 deviates by 1e-16 an operation: a hundred times that is another machine, 1e-3 is another codec."""
    coder = coders[kind]
    for number in range(4):
        coded = coder.encode(made_picture(number, 64, 64))
        assert coded.nearest >= GUARD
        near = elsewhere(coder, 1e-13).decode(coded.content)
        assert np.abs(near.pixels.astype(int) - coded.pixels).max() <= 1
        with refused(DataError, "version", "the file", names="torch"):
            elsewhere(coder, 1e-2).decode(coded.content)


@pytest.mark.parametrize("kind", KINDS)
def test_another_number_of_threads_decodes_the_same(coders, kind):
    coded = coders[kind].encode(made_picture(5, 64, 64))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2 if before == 1 else 1)
        decoded = coders[kind].decode(coded.content)
    finally:
        torch.set_num_threads(before)
    assert decoded.same


def test_numbers_near_a_border_move_the_borders():
    """Whatever lies within the guard of a border, a deviation of half a guard changes no rounding."""
    scales = QResNet.scales
    rng = np.random.default_rng(0)
    for near in (0.0, 0.3 * GUARD, -0.9 * GUARD):
        mean = torch.tensor(np.round(rng.normal(size=50) * 64) / 64 + (0.5 + near) / 64)
        log_scale = torch.tensor(rng.uniform(-2, 2, 50))
        quantised = Quantised(scales)
        means, indices, shift = quantised.rounded(mean, log_scale, None)
        assert shift > 0 and quantised.nearest >= GUARD
        for sign in (-0.5, 0.5):
            again = Quantised(scales).rounded(
                mean + sign * GUARD / 64, log_scale + sign * GUARD * quantised.step, shift
            )
            np.testing.assert_array_equal(again[0], means)
            np.testing.assert_array_equal(again[1], indices)


def test_what_no_shift_serves_and_what_is_no_number_is_not_written(codecs):
    spread = (torch.arange(257, dtype=torch.float64) / 256 + 0.5) / 64
    with pytest.raises(Unsure):
        Quantised(QResNet.scales).rounded(spread, torch.zeros(257, dtype=torch.float64), None)
    broken = copy.deepcopy(codecs["qres"])
    broken.net.latents[0][0].prior[1].weight.data[0, 0] = math.nan
    with refused(RequestError, "failed", "image"):
        PictureCoder(broken).encode(made_picture(0, 16, 16))


# ---- what is no such file ----------------------------------------------------------------------


def test_a_file_that_is_cut_foreign_or_damaged_is_refused(coders):
    coder = coders["qres"]
    content = coder.encode(made_picture(1, 40, 40)).content
    for length in (*range(6), 20, len(content) // 2, len(content) - 1):
        with pytest.raises(DataError) as caught:
            coder.decode(content[:length])
        assert caught.value.code == ("format" if length == 0 else "damaged")
    for place in range(5, len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        with refused(DataError, "damaged", "the file"):
            coder.decode(bytes(damaged))
    with refused(DataError, "damaged"):
        coder.decode(content + b"\0")
    with refused(DataError, "format", value=b"\x89PNG"):
        coder.decode(b"\x89PNG\r\n\x1a\n")
    with refused(DataError, "version", value=9):
        coder.decode(content[:4] + b"\x09" + content[5:])


def test_a_message_that_was_changed_under_a_right_checksum_is_refused(coders):
    """Two of 2^32 would be the right latents by chance."""
    for kind, coder in coders.items():
        coded = coder.encode(made_picture(1, 64, 64))
        header, message = read_picture(coded.content, "x")
        for place in range(0, len(message), 7 if kind == "qres" else len(message) // 12):
            damaged = bytearray(message)
            damaged[place] ^= 16
            with refused(DataError, "version", "the file"):
                coder.decode(write_picture(header, bytes(damaged)))


def test_another_codecs_file_and_a_file_of_sound_are_refused(coders):
    coded = coders["qres"].encode(made_picture(1, 16, 16))
    with refused(DataError, "conflict", "the file"):
        coders["s2lic"].decode(coded.content)
    with refused(DataError, "conflict", "the file"):
        PictureCoder(untrained("qres", 1)).decode(coded.content)
    sound = io.BytesIO()
    UcWriter(sound, Header("codec/rvq", "0" * 16, "1", 8000, 80, 1, 8, ((0, 0),))).close(0)
    with refused(DataError, "type", "the file"):
        coders["qres"].decode(sound.getvalue())
    with refused(DataError, "type", "a picture"):
        UcReader(io.BytesIO(coded.content), "a picture")


def test_a_header_comes_back_and_one_that_has_no_room_is_refused():
    header = PictureHeader.of("codec/qres", "0123456789abcdef", 65535, 1, 12).with_sums(2**32 - 1, 7)
    assert read_picture(write_picture(header, b"abcd"), "x") == (header, b"abcd")
    assert all(len(version.split(".")) == 3 for version in header.versions)
    with refused(DataError, "limit", "header", names="65535"):
        PictureHeader.of("codec/qres", "00" * 8, 65536, 1, 1).to_bytes()
    body = header.to_bytes()[:20]
    with refused(DataError, "damaged"):
        read_picture(body + struct.pack("<I", zlib.crc32(body)), "x")


# ---- the ladder and the slices -----------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_no_prediction_depends_on_a_latent_that_is_read_later(coders, kind):
    """All pairs of latents: a change of one changes no prediction up to its own, and the next ones do notice."""
    net, generator = coders[kind].net, torch.Generator().manual_seed(0)
    drawn: dict[int, Tensor] = {}

    def predictions(changed: int | None) -> list[Tensor]:
        found = []

        def reader(number: int, mean: Tensor, log_scale: Tensor, posterior: Any) -> Tensor:
            found.append(torch.cat([mean.flatten(), log_scale.flatten()]))
            if number not in drawn:
                drawn[number] = torch.randn(mean.shape, generator=generator, dtype=torch.float64)
            return drawn[number] + (1.0 if number == changed else 0.0)

        with torch.no_grad():
            net.descend((1, 2, 2), reader)
        return found

    base = predictions(None)
    assert len(base) == net.num_latents
    for changed in range(net.num_latents):
        other = predictions(changed)
        for number, (mine, theirs) in enumerate(zip(base, other, strict=True)):
            assert torch.equal(mine, theirs) == (number <= changed), (number, changed)


def test_others_see_their_anchors_and_halves_share_the_board():
    """Of each slice: the halves are all places, each once; an anchor reaches the others' predictions, no anchor's."""
    net = S2LICNet(
        S2LICSizes(channels=4, latent_channels=4, num_slices=2, depths=(1,) * 5, num_heads=(2,) * 5, window=2)
    )
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    shapes: list[int] = []

    def run(place: int | None) -> list[Tensor]:
        found: list[Tensor] = []
        shapes.clear()

        def reader(number: int, mean: Tensor, log_scale: Tensor, posterior: Any) -> Tensor:
            found.append(mean)
            shapes.append(mean.shape[-1])
            values = torch.zeros_like(mean)
            if number == 1 and place is not None:
                values[0, 0, place] = 3.0
            return values

        with torch.no_grad():
            net.descend((1, 1, 1), reader)
        return found

    base = run(None)
    assert shapes[1:] == [8, 8, 8, 8]
    for place in range(8):
        made = run(place)
        assert torch.equal(made[1], base[1]) and not torch.equal(made[2], base[2])


def test_windows_do_not_reach_beyond_their_borders():
    """By perturbation: a place is changed by those of its own window that no shift brought round, and by no others."""
    torch.manual_seed(0)
    for height, width in ((5, 7), (8, 8), (2, 3)):
        for shift in (False, True):
            block = SwinBlock(4, 2, 4, shift).double()
            x = torch.randn(1, height, width, 4, dtype=torch.float64)
            with torch.no_grad():
                base = block(x)
                for row in range(height):
                    for column in range(width):
                        moved = x.clone()
                        moved[0, row, column] += torch.randn(4, dtype=torch.float64)
                        changed = (block(moved) != base).any(-1)[0]

                        def window(place: int, moved_by: int = 2 if shift else 0) -> int:
                            return (place + moved_by) // 4

                        rows = torch.tensor([window(r) == window(row) for r in range(height)])
                        columns = torch.tensor([window(c) == window(column) for c in range(width)])
                        assert torch.equal(changed, rows[:, None] & columns)


def test_the_published_sizes_have_the_published_number_of_weights():
    with torch.device("meta"):
        assert round(sum(p.numel() for p in QResNet(QResSizes()).parameters()) / 1e6) == 34
        assert QResNet(QResSizes()).num_latents == 12 and QResNet(QResSizes()).stride == 64
        assert S2LICNet(S2LICSizes()).num_latents == 21


# ---- closed forms ------------------------------------------------------------------------------


def test_masses_are_those_of_the_error_function_and_add_up_to_one():
    x = torch.arange(-40, 41, dtype=torch.float64)
    for mean, scale in ((0.0, 0.1), (0.3, 1.0), (-2.4, 5.0)):
        found = log_mass(x, torch.full_like(x, mean), torch.full_like(x, scale))
        edges = [[math.erf((k + half - mean) / scale / 2**0.5) for half in (-0.5, 0.5)] for k in x.tolist()]
        mass = np.array([(high - low) / 2 for low, high in edges])
        np.testing.assert_allclose(found.exp().numpy(), mass, rtol=1e-9, atol=1e-15)
        assert float(found.exp().sum()) == pytest.approx(1, abs=1e-9)
    far = torch.tensor([50.0], requires_grad=True)
    value = log_mass(far, torch.zeros(1), torch.full((1,), 0.2))
    value.sum().backward()
    assert value.isfinite().all() and far.grad is not None and -1300 < float(far.grad) < -1100  # −(x − ½) / σ²


class Rotation(LatentNet):
    """A linear Gaussian autoencoder: latents are rotated values, whose deviations are known."""

    stride: ClassVar[int] = 2  # type: ignore[assignment]
    num_latents: ClassVar[int] = 1  # type: ignore[assignment]

    def __init__(self, deviations: Tensor):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.rotation = torch.linalg.qr(torch.randn(12, 12, generator=generator, dtype=torch.float64))[0]
        self.deviations = deviations

    def descend(self, shape, reader, seen=None):
        z = reader(0, torch.zeros_like(seen), self.deviations.log().expand_as(seen), lambda: seen @ self.rotation)
        return z @ self.rotation.T


def test_a_linear_gaussian_autoencoder_takes_its_closed_form_rate():
    """R = Σ ½ log₂(2πe σ²) bits an item at step 1, and an error of 1/12 a value: exact for deviations well above 1."""
    deviations = torch.linspace(2.5, 15, 12, dtype=torch.float64)
    net = Rotation(deviations)
    values = torch.randn(4000, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * deviations
    given = values @ net.rotation.T
    writer = Writer(1, net.scales)
    made = net.descend((1, 1, 1), writer, given)
    closed = 4000 * float((0.5 * torch.log2(2 * math.pi * math.e * deviations**2)).sum())
    assert writer.bits == pytest.approx(closed, rel=0.005)
    assert len(writer.encoder.finish()) * 8 == pytest.approx(closed, rel=0.005)
    assert float((made - given).square().mean()) == pytest.approx(1 / 12, rel=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_losses_are_the_rate_and_the_error(codecs, kind):
    """In evaluation the rate is that of whole steps, the same batch after batch; the total is its stated sum."""
    codec = codecs[kind]
    crop = 16 if kind == "qres" else 64
    pictures = torch.stack([torch.from_numpy(made_picture(n, crop, crop)) for n in range(2)]).float() / 127.5 - 1
    batch = {"image": pictures, "row": torch.arange(2)}
    with torch.no_grad():
        parts = codec.losses(batch)
        again = codec.losses({"image": pictures.flip(0), "row": torch.arange(2)})
    assert float(parts["bpp"]) == pytest.approx(float(again["bpp"]), rel=1e-5)
    weight = codec.distortion_weight
    total = parts["bpp"] * math.log(2) / 3 + weight * parts["mse"] if kind == "qres" else (
        parts["bpp"] + weight * 255**2 * parts["mse"] / 4
    )  # fmt: skip
    assert float(parts["loss"]) == pytest.approx(float(total), rel=1e-5)
    with refused(DataError, "shape", "data.crop", value=(crop + 1, crop)):
        codec.losses({"image": pictures[..., [*range(crop), 0]], "row": torch.arange(2)})


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


@pytest.mark.parametrize(
    ("kind", "change", "code", "path"),
    [
        ("qres", {"model.network.channels": [8]}, "shape", "model.network"),
        ("qres", {"model.network.channels": [8, 2]}, "range", "model.network.channels"),
        ("qres", {"model.network.kernel_sizes": [3, 4]}, "value", "model.network.kernel_sizes"),
        ("qres", {"model.distortion_weight": 0.0}, "range", "model.distortion_weight"),
        ("s2lic", {"model.network.num_slices": 3}, "shape", "model.network.num_slices"),
        ("s2lic", {"model.network.num_heads": [3, 2, 2, 2, 2]}, "shape", "model.network.num_heads"),
        ("s2lic", {"model.network.depths": [1]}, "shape", "model.network.depths"),
        ("s2lic", {"model.distortion_weight": -1.0}, "range", "model.distortion_weight"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(kind, change, code, path):
    with refused(RecipeError, code, path):
        Recipe.read(f"codec/{kind}-tiny", [f"--{key}={value}" for key, value in change.items()]).build_model({})


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


def test_a_reader_takes_what_a_writer_wrote_and_no_more():
    writer = Writer(1, QResNet.scales)
    mean, log_scale = torch.randn(2, 30, dtype=torch.float64)
    latent = writer(0, mean, log_scale, lambda: mean * 3)
    assert float((latent - mean * 3).abs().max()) <= 0.5 + 1 / 64
    assert torch.equal(writer(1, mean, log_scale, lambda: mean * 3), mean)
    reader = Reader(writer.encoder.finish(), 1, QResNet.scales)
    assert torch.equal(reader(0, mean, log_scale, lambda: mean), latent)
    assert torch.equal(reader(1, mean, log_scale, lambda: mean), mean)
    reader.decoder.finish()
    assert reader.sum == writer.sum

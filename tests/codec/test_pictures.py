"""Picture codecs: files come back to the bit, decode elsewhere or are refused, and cost what their tables say.

Networks are small and their weights random and large: what is tested here holds for any weights.
"""

import copy
import io
import math
import struct
import zlib

import numpy as np
import pytest
import torch
from picture_codecs import KINDS, untrained
from refused import refused
from unisono import Image
from unisono.errors import DataError, RequestError
from unisono_codec.files.uc import Header, UcReader, UcWriter
from unisono_codec.pictures.coder import PictureCoder
from unisono_codec.pictures.coding import GUARD, Quantised, Reader, Unsure, Writer
from unisono_codec.pictures.data import made_picture
from unisono_codec.pictures.gaussian import log_mass
from unisono_codec.pictures.picture_file import PictureHeader, read_picture, write_picture
from unisono_codec.pictures.qres_network import QResNet

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

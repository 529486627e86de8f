"""The .uc file: what is written is read; what is cut, changed, foreign or newer is refused in a sentence."""

import io
import struct
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refused import refused
from unisono.coding import Tables
from unisono.errors import DataError
from unisono_codec.files import uc
from unisono_codec.files.uc import PACKED, RANS, Header, UcReader, UcWriter, check_codec

TABLE = Tables.of_counts(np.tile([1000, *[1] * 1023], (3, 1)))
HEADER = Header("codec/rvq", "0123456789abcdef", "0.1.0", 22050, 512, 1, 1024, ((0, 0), (0, 1), (0, 2)))


def write(header: Header, chunks: list[np.ndarray], num_samples: int, table: Tables | None = None) -> bytes:
    file = io.BytesIO()
    writer = UcWriter(file, header, table)
    for chunk in chunks:
        writer.write(chunk)
    writer.close(num_samples)
    assert writer.num_bytes == len(file.getvalue())
    return file.getvalue()


def read(data: bytes, table: Tables | None = TABLE) -> tuple[UcReader, list[np.ndarray]]:
    reader = UcReader(io.BytesIO(data), "x.uc")
    chunks = [chunk.codes(reader.header, table) for chunk in reader.chunks()]
    assert reader.num_bytes == len(data)
    return reader, chunks


def make_codes(*shape: int, size: int = 1024, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, size, shape)


@pytest.fixture(scope="module")
def small() -> bytes:
    zeros = np.zeros((1, 20, 3), int)
    return write(HEADER, [make_codes(1, 5, 3), zeros], 25 * 512 - 3, TABLE)


@st.composite
def contents(draw):
    size = draw(st.integers(1, 3000))
    channels, levels = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    streams = tuple((draw(st.integers(0, 255)), draw(st.integers(0, 255))) for _ in range(levels))
    name = draw(st.text(max_size=20))
    header = Header(name, draw(st.binary(min_size=8, max_size=8)).hex(), "1.2", 8000, 7, channels, size, streams)
    lengths = draw(st.lists(st.integers(1, 12), max_size=4))
    seed = draw(st.integers(0, 2**32 - 1))
    chunks = [make_codes(channels, n, levels, size=size, seed=seed + i) for i, n in enumerate(lengths)]
    if draw(st.booleans()):  # many equal codes, which a histogram shortens
        chunks = [chunk * (make_codes(*chunk.shape, size=8, seed=seed) == 0) for chunk in chunks]
    counts = np.bincount(np.concatenate([[0], *(c.ravel() for c in chunks)]), minlength=size)
    table = Tables.of_counts(np.tile(counts, (levels + 1, 1))) if draw(st.booleans()) else None
    frames = sum(lengths)
    samples = draw(st.integers(max(7 * frames - 6, 0), 7 * frames)) if frames else 0
    return header, chunks, samples, table


@settings(max_examples=80, deadline=None)
@given(contents())
def test_what_is_written_is_read(content):
    header, chunks, samples, table = content
    data = write(header, chunks, samples, table)
    reader, found = read(data, table)
    assert reader.header == header
    assert (reader.num_samples, reader.num_frames) == (samples, sum(chunk.shape[1] for chunk in chunks))
    assert len(found) == len(chunks)
    for there, here in zip(found, chunks, strict=True):
        np.testing.assert_array_equal(there, here)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**62))
def test_varints(value):
    reader = UcReader(io.BytesIO(write(HEADER, [], 0)))
    reader._file = io.BytesIO(uc.varint(value))
    assert reader._read_varint() == value
    assert len(uc.varint(value)) == max(-(-value.bit_length() // 7), 1)


def test_each_chunk_takes_the_shorter_coding(small):
    reader = UcReader(io.BytesIO(small))
    chunks = list(reader.chunks())
    assert [chunk.coding for chunk in chunks] == [PACKED, RANS]
    assert len(chunks[0].payload) == -(-5 * 3 * 10 // 8)
    assert len(chunks[1].payload) < 20


def test_a_long_chunk_is_written_as_several(monkeypatch):
    monkeypatch.setattr(uc, "MAX_CODES", 30)
    codes = make_codes(1, 25, 3)
    _, found = read(write(HEADER, [codes], 25 * 512))
    assert [chunk.shape[1] for chunk in found] == [10, 10, 5]
    np.testing.assert_array_equal(np.concatenate(found, 1), codes)


def test_overhead_is_small():
    """What the format adds to the codes of a sentence: a header, and a few bytes for each chunk and the end."""
    data = write(HEADER, [make_codes(1, 200, 3)], 200 * 512)
    assert len(data) - 200 * 3 * 10 // 8 == 55 + 9 + 8


def test_every_prefix_is_refused(small):
    for length in range(len(small)):
        with refused(DataError, "damaged", "x.uc"):
            read(small[:length])


def test_every_changed_byte_is_noticed(small):
    for place in range(len(small)):
        for change in (1, 0x80):
            damaged = bytearray(small)
            damaged[place] ^= change
            with pytest.raises(DataError) as error:
                read(bytes(damaged))
            assert error.value.code in ("damaged", "version", "format") and error.value.path == "x.uc"


def test_chunks_that_were_lost_repeated_or_exchanged_are_noticed():
    codes = [make_codes(1, 4, 3, seed=seed) for seed in range(3)]
    ends, file = [], io.BytesIO()
    writer = UcWriter(file, HEADER)
    for chunk in codes:
        ends.append(file.tell())
        writer.write(chunk)
    ends.append(file.tell())
    writer.close(12 * 512)
    data = file.getvalue()
    head, tail = data[: ends[0]], data[ends[-1] :]
    parts = [data[a:b] for a, b in pairwise(ends)]
    assert read(head + b"".join(parts) + tail)[0].num_frames == 12
    for order in ([0, 1], [0, 2, 1], [1, 2], [0, 1, 2, 2], [0, 0, 1, 2]):
        with refused(DataError, "damaged", "x.uc"):
            read(head + b"".join(parts[i] for i in order) + tail)


def test_what_follows_the_end_is_refused(small):
    with refused(DataError, "damaged", "x.uc", value=b"\x00"):
        read(small + b"\0")


@pytest.mark.parametrize("start", [b"RIFF\x24\0\0\0WAVE", b"fLaC", b"OggS", b"PK\3\4", b"hello"])
def test_a_foreign_file_is_refused(start):
    with refused(DataError, "format", "x.uc"):
        read(start + b"\0" * 100)


def test_a_newer_file_is_refused(small):
    with refused(DataError, "version", "x.uc", value=3, names="1"):
        read(small[:4] + b"\3" + small[5:])
    with refused(DataError, "type", "x.uc", value=2):  # a picture
        read(small[:4] + b"\2" + small[5:])
    # Even if nothing else of it is as it is now.
    with refused(DataError, "version", "x.uc", value=7):
        read(small[:4] + b"\7")


def test_another_codecs_file_is_refused():
    check_codec(HEADER, "x.uc", HEADER)
    more = Header(**{**vars(HEADER), "streams": (*HEADER.streams, (0, 3)), "num_channels": 2, "version": "9"})
    check_codec(HEADER, "x.uc", more)  # fewer levels than the codec has
    for change in ({"fingerprint": "f" * 16}, {"codec": "codec/fsq"}):
        with refused(DataError, "conflict", "x.uc", value="0123456789abcdef"):
            check_codec(HEADER, "x.uc", Header(**{**vars(HEADER), **change}))
    for change in ({"streams": HEADER.streams[:2]}, {"codebook_size": 512}, {"hop_length": 256}):
        with refused(DataError, "damaged", "x.uc"):
            check_codec(HEADER, "x.uc", Header(**{**vars(HEADER), **change}))


def test_a_histogram_that_is_missing_is_asked_for(small):
    with refused(DataError, "conflict", "table"):
        read(small, None)


@pytest.mark.parametrize("change", [{"num_channels": 256}, {"streams": ((0, 256),)}, {"fingerprint": "xy"},
                                    {"sample_rate": 2**32}, {"codec": "x" * 256}])  # fmt: skip
def test_a_header_without_room_is_refused(change):
    with refused(DataError, "limit", "header"):
        UcWriter(io.BytesIO(), Header(**{**vars(HEADER), **change}))


def test_wrong_codes_are_a_mistake_of_the_caller():
    writer = UcWriter(io.BytesIO(), HEADER)
    shapes = (make_codes(1, 4, 2), make_codes(2, 4, 3), make_codes(4, 3))
    for codes in (*shapes, np.full((1, 1, 3), 1024), np.full((1, 1, 3), -1)):
        with pytest.raises(ValueError, match="codes"):
            writer.write(codes)
    with pytest.raises(ValueError, match="513 samples are 2 frames, 0 were written"):
        writer.close(513)


def test_a_pipe_will_do(small):
    """Neither seeks: each reads and writes strictly forwards."""

    class Pipe(io.RawIOBase):
        def __init__(self, data: bytes = b""):
            self.inside = io.BytesIO(data)

        def read(self, size: int = -1) -> bytes:
            return self.inside.read(size)

        def write(self, data) -> int:
            return self.inside.write(data)

    pipe = Pipe()
    writer = UcWriter(pipe, HEADER)
    writer.write(make_codes(1, 5, 3))
    writer.close(5 * 512)
    reader = UcReader(Pipe(pipe.inside.getvalue()))
    assert sum(chunk.num_frames for chunk in reader.chunks()) == 5


def test_a_huge_promise_takes_no_memory():
    """A chunk that claims more codes than any may have is damaged, whatever its size."""
    file = io.BytesIO()
    writer = UcWriter(file, HEADER)
    writer._write(uc.varint(2**40) + bytes([RANS]) + uc.varint(4) + struct.pack("<I", 1 << 16))
    with refused(DataError, "damaged", "x.uc", value="chunk 1"):
        read(file.getvalue())


@pytest.mark.parametrize("name", ["sample_rate", "hop_length", "codebook_size", "num_channels", "streams"])
def test_a_header_of_nothing_makes_no_sense(name):
    body = replace(HEADER, **{name: () if name == "streams" else 0}).to_bytes()
    with pytest.raises(ValueError, match="contradict"):
        Header.from_bytes(body)


@pytest.mark.parametrize(("size", "bits"), [(1, 1), (2, 1), (3, 2), (1024, 10), (1025, 11)])
def test_a_code_takes_one_bit_at_least(size, bits):
    assert replace(HEADER, codebook_size=size).bits_per_code == bits


@pytest.mark.parametrize("num_samples", [0, 4 * 512, 5 * 512 + 1])
def test_an_end_that_counts_other_samples_than_there_are_frames_is_refused(num_samples):
    """Its checksum is right: a writer that was wrong wrote it."""
    file = io.BytesIO()
    writer = UcWriter(file, HEADER)
    writer.write(make_codes(1, 5, 3))
    writer._write(uc.varint(0) + uc.varint(num_samples))
    with refused(DataError, "damaged", "x.uc", value="its end"):
        read(file.getvalue())

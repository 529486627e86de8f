"""Known files: hashed once, and again when size, time or a sample of them says so."""

import os

import pytest
from unisono.data import known
from unisono.data.known import SAMPLE, content_hash, content_hashes
from unisono.errors import DataError


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setenv("UNISONO_CACHE", str(tmp_path / "cache"))
    paths = [tmp_path / f"{i}.bin" for i in range(6)]
    for i, path in enumerate(paths):
        path.write_bytes(bytes([i]) * (i * 3 * SAMPLE + 1))
    return paths


@pytest.fixture
def read(monkeypatch):
    """The names of files that were read whole."""
    names = []

    def hash_of(path):
        names.append(path.name)
        return content_hash(path)

    def hashes(paths):
        names.clear()
        return content_hashes(paths, "list", hash_of), list(names)

    return hashes


def test_files_are_read_once(files, read):
    first, names = read(files)
    assert first == [content_hash(path) for path in files] and sorted(names) == [path.name for path in files]
    assert read(files) == (first, [])
    assert read(files[::-1]) == (first[::-1], [])


@pytest.mark.parametrize("place", [0, 4 * SAMPLE, -1])
def test_a_change_of_bytes_alone_is_seen_where_they_are_sampled(files, read, place):
    read(files)
    path = files[4]
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if place == 4 * SAMPLE else place] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    found, names = read(files)
    assert names == ["4.bin"] and found[4] == content_hash(path)


def test_another_time_or_size_is_read_again(files, read):
    read(files)
    os.utime(files[1], ns=(0, 1))
    files[2].write_bytes(b"longer" * 9000)
    assert sorted(read(files)[1]) == ["1.bin", "2.bin"]


def test_every_byte_on_request(files, read, monkeypatch):
    read(files)
    monkeypatch.setenv("UNISONO_REHASH", "1")
    assert len(read(files)[1]) == 6


def test_damaged_notes_are_not_believed(files, read, tmp_path):
    right, _ = read(files)
    (place,) = (tmp_path / "cache" / "known").iterdir()
    whole = place.read_bytes()
    for data in (whole[:-30], b"", whole[:-40] + bytes(40), b"junk" * 100):
        place.write_bytes(data)
        assert read(files)[0] == right


def test_what_cannot_be_read_is_an_error_in_its_place(files, read):
    files[3].unlink()
    found, _ = read(files)
    assert isinstance(found[3], DataError) and found[4] == content_hash(files[4])


def test_without_a_cache_all_is_read(files, read, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("UNISONO_CACHE", str(tmp_path / "file" / "cache"))
    assert len(read(files)[1]) == len(read(files)[1]) == 6


def test_notes_are_written_as_the_list_goes(files, read, monkeypatch):
    monkeypatch.setattr(known, "CHUNK", 2)
    right = [content_hash(path) for path in files]

    def killed(path):
        if path.name == "3.bin":
            raise KeyboardInterrupt
        return content_hash(path)

    with pytest.raises(KeyboardInterrupt):
        content_hashes(files, "list", killed)
    found, names = read(files)
    assert found == right and not {"0.bin", "1.bin"} & set(names)

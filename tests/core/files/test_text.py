"""Text files of users: what is a line, what is UTF-8, what is a file."""

import os
import unicodedata
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refused import ANYTHING, refused
from unisono.errors import DataError, RecipeError
from unisono.files import (
    Fault,
    checksum,
    composed,
    decoded,
    fault_of,
    is_file,
    lines_of,
    lone_surrogate,
    read_bytes,
    read_lines,
    read_text,
    shown,
    stream_lines,
    wide_encoding,
)

STRANGE = "a\x0cb\x1cc\x85d\u2028e\u2029f\x0bg"


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_end_with_lf_or_crlf_only(tmp_path, mark, end):
    path = tmp_path / "x.txt"
    path.write_bytes(mark + end.join([STRANGE, "", "zwei\rdrei", "Zoë 漢字 🙂", ""]).encode())
    assert read_lines(path) == [STRANGE, "", "zwei\rdrei", "Zoë 漢字 🙂"]
    assert [(n, raw.decode().rstrip("\r\n")) for n, raw in stream_lines(path)] == list(enumerate(read_lines(path), 1))


def test_marks_of_files_that_were_put_together_are_no_text(tmp_path):
    path = tmp_path / "x.txt"
    path.write_bytes(b"\xef\xbb\xbf\xef\xbb\xbfone\r\n\xef\xbb\xbftwo\nth\xef\xbb\xbfree")
    assert read_lines(path) == ["one", "two", "th\ufeffree"]
    assert [raw.decode().strip() for _, raw in stream_lines(path)] == read_lines(path)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"))), st.booleans())
def test_lines_come_back(lines, dos):
    end = "\r\n" if dos else "\n"
    assert lines_of("".join(line + end for line in lines)) == lines
    assert lines_of("one\r\r\ntwo\r") == ["one\r", "two"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])
@pytest.mark.parametrize("text", ["Hi\n", "Hello there.\nAnd more, é.\n", "Привет, это письмо.\nИ ещё одно, да.\n"])
def test_wide_encodings_are_named(tmp_path, encoding, text):
    path = tmp_path / "x.txt"
    path.write_bytes(text.encode(encoding))
    assert wide_encoding(path.read_bytes()) == encoding[:6].upper()
    for read in (read_text, read_lines, lambda p: list(stream_lines(p))):
        wide = f"is {encoding[:6].upper()}, not UTF-8"
        with refused(DataError, "format", path, value=wide, names="save it as UTF-8") as error:
            read(path)
        assert error.value.fault is not None and error.value.fault.reason == "invalid UTF-8"


def test_other_bytes_are_named_with_their_line(tmp_path):
    path = tmp_path / "x.txt"
    path.write_bytes(b"fine\ncaf\xe9\n")
    said = ["line 2", "byte 0xe9", "save it as UTF-8; it may be Latin-1"]
    with refused(RecipeError, "format", path, names=said) as error:
        read_text(path, RecipeError)
    fault = error.value.fault
    assert fault is not None and (fault.reason, fault.line, fault.path) == ("invalid UTF-8", 2, path)
    path.write_bytes(b"one\ntwo\nth\0ree")
    with refused(DataError, "format", path, names=["line 3", "NUL"]):
        read_lines(path)
    path.write_bytes(b"one\n\xed\xa0\xbd")
    with refused(DataError, "damaged", path, names="line 2"):
        read_lines(path)
    path.write_bytes(b"old\rMac\rends\r")
    with refused(DataError, "format", path, names="CR alone"):
        read_lines(path)
    path.write_bytes(b"one\n\xed more")  # begins as half of a character does, and is another byte
    with refused(DataError, "format", path, value="byte 0xed is not UTF-8", names="line 2"):
        read_lines(path)
    found = decoded(b"x\n\xff", path, 7)
    assert isinstance(found, Fault) and found.line == 8
    found = decoded(b"a\0b\0c\0d\0", path, 3)  # how a file is encoded is told by its beginning alone
    assert isinstance(found, Fault) and (found.reason, found.line) == ("not text", 3)


def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "ring").symlink_to(tmp_path / "ring")
    (tmp_path / "file").write_text("x")
    cases = {
        tmp_path / "pipe": ("not a file", "format", "is a pipe, no regular file"),
        "/dev/zero": ("not a file", "format", "is a device, no regular file"),
        tmp_path: ("not a file", "format", "is a folder, not a file"),
        tmp_path / "none": ("missing", "missing", "does not exist"),
        tmp_path / "file" / "below": ("missing", "missing", "does not exist"),
        tmp_path / "gone": ("broken link", "missing", f"is a link to '{tmp_path / 'nowhere'}', which does not exist"),
        tmp_path / "ring": ("link loop", "unsafe", "is a link that leads back to itself"),
        tmp_path / ("n" * 300): ("missing", "missing", ANYTHING),
        tmp_path / "nul\0": ("unreadable", "damaged", ANYTHING),
    }
    for path, (reason, code, value) in cases.items():
        assert not is_file(path)
        for read in (read_bytes, read_text, read_lines, lambda p: list(stream_lines(p))):
            with refused(DataError, code, path, value=value) as error:
                read(path)
            assert error.value.fault is not None and error.value.fault.reason == reason
            assert "\n" not in str(error.value) and len(str(error.value)) < 400
    assert is_file(tmp_path / "file") and fault_of(tmp_path / "file") is None


def test_a_bound_is_kept(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"12345")
    assert read_bytes(path, most=5) == b"12345"
    with refused(DataError, "limit", path, names=["more than 4 bytes", "divide it"]):
        read_bytes(path, most=4)


@settings(max_examples=50, deadline=None)
@given(st.text())
def test_composed_forms_are_one(text):
    assert composed(unicodedata.normalize("NFD", text)) == composed(text)


def test_lone_surrogates_and_names_that_print():
    assert lone_surrogate("a 📦 box") is None
    assert lone_surrogate("a \ud83d box") == "\\ud83d"
    assert shown("bad\udcff\n.png") == "bad\\xff\\n.png"
    assert len(shown("x" * 5000)) < 300


def test_a_checksum_is_that_of_all_bytes(tmp_path):
    path = tmp_path / "x.bin"
    for size in (0, 1, 2**22, 2**22 + 1):  # of one block, and of more
        data = bytes(range(251)) * (size // 251 + 1)
        path.write_bytes(data[:size])
        assert checksum(path) == zlib.crc32(data[:size])
    for other, code in ((tmp_path, "format"), (tmp_path / "gone", "missing")):
        with refused(DataError, code, other):
            checksum(other)

"""Rows: what files of each kind ask for, and what is wrong with a row or a file."""

import io
import json
import sys
from io import BufferedReader

import pytest
from refused import refused
from toy import ToyRequest
from unisono.batch.requests import Requests
from unisono.batch.rows import BadRow, read_rows
from unisono.errors import RequestError

REQUESTS = Requests(ToyRequest, "text", {})


def read(source, chosen=None):
    return list(read_rows(str(source), REQUESTS.columns(chosen)))


def given(source, chosen=None):
    return [row.given for row in read(source, chosen)]


def test_text_and_objects_line_by_line(tmp_path):
    path = tmp_path / "x.txt"
    path.write_bytes('\ufeffFirst\x0c line.\r\n\n  \n{"text": "Two", "level": 2}\n\ufeffThird'.encode())
    assert given(path) == ["First\x0c line.", {"text": "Two", "level": 2}, "Third"]
    assert [row.line for row in read(path)] == [1, 4, 5]
    assert [row.file for row in read(path)] == [str(path)] * 3


def test_a_bad_line_alone_is_bad(tmp_path):
    path = tmp_path / "x.txt"
    bad = [b"caf\xe9", b"half \xed\xa0\x80", b"a\0b", b'{"text": 1', b'{"text": "\\ud83d"}', b'{"a": 1, "a": 2}']
    path.write_bytes(b"\n".join([b"good", *bad, b"good too"]))
    found = given(path)
    assert (found[0], found[-1]) == ("good", "good too")
    assert [row.code for row in found[1:-1]] == ["format", "damaged", "format", "format", "damaged", "format"]
    assert "Latin-1" in found[1].reason and "x.txt" not in found[1].reason


def test_lines_that_must_be_objects(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "a"}\njust a text\n[1]\n')
    first, *others = given(path)
    assert first == {"text": "a"}
    assert all(isinstance(other, BadRow) and other.code == "format" for other in others)


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_a_table_with_each_mark(tmp_path, mark):
    path = tmp_path / ("x.tsv" if mark == "\t" else "x.csv")
    rows = [["text", "level", "numbers"], ["One", "2", "[1, 2]"], ["Two", "", ""], ["007", "0.5", ""]]
    path.write_text("\n" + "\n".join(mark.join(row) for row in rows) + "\n\n")
    if mark == ",":
        path.write_text(path.read_text().replace("[1, 2]", '"[1, 2]"'))
    assert given(path) == [
        {"text": "One", "level": 2, "numbers": [1, 2]},
        {"text": "Two"},
        {"text": "007", "level": 0.5},
    ]
    assert [row.line for row in read(path)] == [3, 4, 5]


def test_quotes_and_rows_that_cannot_be_read(tmp_path):
    path = tmp_path / "x.csv"
    lines = [
        "text,level",
        '"a, ""b""",1',
        '"two\nlines",2',
        "too,many,cells",
        "x,[1",
        '"closed" within,1',
        "fine,3",
        '"never closed,1',
        "swallowed,1",
    ]
    path.write_text("\n".join(lines) + "\n")
    rows = read(path)
    good = [row.given for row in rows if not isinstance(row.given, BadRow)]
    assert good == [{"text": 'a, "b"', "level": 1}, {"text": "two\nlines", "level": 2}, {"text": "fine", "level": 3}]
    bad = {row.line: row.given.reason for row in rows if isinstance(row.given, BadRow)}
    assert sorted(bad) == [5, 6, 7, 9]
    assert "3 fields between commas, the header has 2" in bad[5] and "lines 9 to 10" in bad[9]
    path.write_bytes(b"text\ngood\ncaf\xe9\ngood\n")
    assert [isinstance(row, BadRow) for row in given(path)] == [False, True, False]


def test_columns_of_tables(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("id,sentence,level\n1,Hello,2\n")
    with refused(RequestError, "unknown", "--columns", value="id", names="--columns"):
        read(path)
    assert given(path, "sentence=text,level") == [{"text": "Hello", "level": 2}]
    assert given(path, "sentence=text") == [{"text": "Hello"}]
    with refused(RequestError, "missing", "--columns", value="sentense", names="'sentence'"):
        read(path, "sentense=text")
    with refused(RequestError, "unknown", "--columns", value="txt", names="'text'"):
        read(path, "sentence=txt")
    for twice in ("level,sentence=level", "level,level"):
        with refused(RequestError, "conflict", "--columns"):
            read(path, twice)
    path.write_text("text,text\na,b\n")
    with refused(RequestError, "conflict", "--columns", value="text"):
        read(path)


def test_parquet(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "x.parquet"
    table = {"text": ["One", "Two"], "level": [2.0, None], "numbers": [[1, 2], None]}
    parquet.write_table(arrow.table(table), path)
    assert given(path) == [{"text": "One", "level": 2.0, "numbers": [1, 2]}, {"text": "Two"}]
    assert given(path, "text") == [{"text": "One"}, {"text": "Two"}]
    parquet.write_table(arrow.table({"text": ["One"], "id": [1]}), path)
    with refused(RequestError, "unknown", "--columns", value="id"):
        read(path)
    for broken in (b"", b"text\n", path.read_bytes()[:60]):
        path.write_bytes(broken)
        with refused(RequestError, "damaged", "x.parquet"):
            read(path)
    with refused(RequestError, "missing", "none.parquet"):
        read(tmp_path / "none.parquet")


def test_a_pattern_names_files_in_natural_order(tmp_path):
    for name, text in (("10.txt", "ten"), ("2.txt", "two"), ("3.jsonl", json.dumps({"text": "three"}))):
        (tmp_path / name).write_text(text)
    assert given(tmp_path / "*") == ["two", {"text": "three"}, "ten"]
    with refused(RequestError, "missing", "input", names="*.csv"):
        read(tmp_path / "*.csv")
    (tmp_path / "[1].txt").write_text("a file with brackets")
    assert given(tmp_path / "[1].txt") == ["a file with brackets"]


def test_files_of_no_kind_are_named(tmp_path):
    (tmp_path / "x.xlsx").write_text("x")
    with refused(RequestError, "format", "input", value=".xlsx", names=".parquet"):
        read(tmp_path / "x.xlsx")
    with refused(RequestError, "missing", "none.txt"):
        read(tmp_path / "none.txt")
    (tmp_path / "folder.txt").mkdir()
    with refused(RequestError, "format", "folder.txt"):
        read(tmp_path / "folder.txt")
    for coding in ("utf-16", "utf-32"):
        (tmp_path / "wide.txt").write_bytes("Hello there.\nYou.\n".encode(coding))
        with refused(RequestError, "format", "wide.txt"):
            read(tmp_path / "wide.txt")
    (tmp_path / "mac.txt").write_bytes(b"One.\rTwo.\r")
    with refused(RequestError, "format", "mac.txt"):
        read(tmp_path / "mac.txt")


def test_rows_come_while_the_standard_input_is_open(monkeypatch):
    """One is there before the next is written."""

    class Slow(io.RawIOBase):
        lines = iter([b"\xef\xbb\xbfOne.\n", b"Two.\n"])
        read_so_far = 0

        def readable(self):
            return True

        def readinto(self, buffer):
            line = next(self.lines, b"")
            Slow.read_so_far += 1
            buffer[: len(line)] = line
            return len(line)

    class Stdin:
        buffer = BufferedReader(Slow())

    monkeypatch.setattr(sys, "stdin", Stdin())
    rows = read_rows("-", REQUESTS.columns(None))
    assert next(rows).given == "One." and Slow.read_so_far == 1
    assert next(rows).given == "Two." and next(rows, None) is None


def test_nothing_of_a_file_is_held(tmp_path):
    """A table that never ends is read from its beginning."""
    path = tmp_path / "x.csv"
    with path.open("w") as file:
        file.write("text\n")
        file.writelines(f"row {n}\n" for n in range(40_000))
    rows = read_rows(str(path), REQUESTS.columns(None))
    assert next(rows).given == {"text": "row 0"}
    import tracemalloc

    tracemalloc.start()
    for _ in range(20_000):
        next(rows)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20

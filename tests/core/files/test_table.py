"""Tables of users: the delimiter is proved, open quotes are named."""

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refused import refused
from unisono.errors import DataError
from unisono.files import read_table


def key_of(header):
    return header.index("image") if "image" in header and "caption" in header else None


@pytest.fixture
def read(tmp_path):
    def read(content, name="captions.csv", **settings):
        (tmp_path / name).write_bytes(content.encode())
        table = read_table(tmp_path / name, key_of, **settings)
        return table.delimiter, [row.fields for row in table.rows]

    return read


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a.png|one, two, three\nb.png|four\n", ("|", [("a.png", "one, two, three"), ("b.png", "four")])),
        ("a.png|one, two, three", ("|", [("a.png", "one, two, three")])),
        ('a.png,"red | blue"\n', (",", [("a.png", "red | blue")])),
        ('a.png,"red | blue"\nb.png,"x | y"', (",", [("a.png", "red | blue"), ("b.png", "x | y")])),
        ("a.png\tx|y, z\nb.png\tp|q, r", ("\t", [("a.png", "x|y, z"), ("b.png", "p|q, r")])),
        ("a.png|one, two\nb.png|three, four", ("|", [("a.png", "one, two"), ("b.png", "three, four")])),
        ("a.png;one, two\nb.png;three, four", (";", [("a.png", "one, two"), ("b.png", "three, four")])),
        ('image,caption\na.png,"x, ""y"""\n', (",", [("a.png", 'x, "y"')])),
        ('image, caption\na.png, "x, y"\n', (",", [("a.png", "x, y")])),
        ("Caption|id|Image\nx, y|1|a.png", ("|", [("x, y", "1", "a.png")])),
        ('a.png|the "red" one\nb.png|"so', ("|", [("a.png", 'the "red" one'), ("b.png", '"so')])),
        ('a.png,"two\r\nlines"\r\nb.png,x\r\n', (",", [("a.png", "two\nlines"), ("b.png", "x")])),
        ("image,caption\ra.png,x\rb.png,y\r", (",", [("a.png", "x"), ("b.png", "y")])),
        ("\ufeffa.png,é\n", (",", [("a.png", "é")])),
        ("a.png,e\u0301\u2028x\x0cy\n", (",", [("a.png", "é\u2028x\x0cy")])),
        ("my,photo.png|red\n", ("|", [("my,photo.png", "red")])),
        ('a.png,the 5" disk\nb.png,x', (",", [("a.png", 'the 5" disk'), ("b.png", "x")])),
    ],
)
def test_what_separates_fields_is_proved(read, content, expected):
    assert read(content) == expected


def test_a_suffix_or_the_caller_declares_it(read):
    assert read("a.png\tx, y", "x.tsv") == ("\t", [("a.png", "x, y")])
    assert read("a|b|c", delimiter="|", widths=(2, 3)) == ("|", [("a", "b", "c")])


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        ('a.png,"red\nb.png,blue\nc.png,green\n', 1, "open quote"),
        ('a.png,x\nb.png,"red\nc.png,blue\nd.png,"green"\n', 2, "open quote"),
        ('a.png,x\nb.png,"red\nc.png,blue"\nd.png,green\n', 2, "open quote"),
        ('image,caption\na.png,x\nb.png,"red\nc c.png,blue"\nd.png,green\n', 3, "open quote"),
        ('caption,image\nx,a.png\n"red,b.png\nblue",c.png\ngreen,d.png\n', 3, "open quote"),
        ('image,caption\na.png,"two\nlines"\nb.png,x, y\n', 4, "wrong fields"),
        ('image,caption\n"b.png,red\nc d",x\n', 2, "open quote"),
        ('a.png,"red" ball\nb.png,x\n', 1, "open quote"),
        ("image,caption\na.png,x\nb.png,x, y\n", 3, "wrong fields"),
        ("a.png,x\nb.png,x\nc.png\n", 3, "wrong fields"),
        ("a.png\nb.png\n", 1, "wrong fields"),
    ],
)
def test_the_line_is_named(read, content, line, reason):
    with refused(DataError, "format", names=f"line {line}") as error:
        read(content)
    fault = error.value.fault
    assert fault is not None and (fault.line, fault.reason) == (line, reason)


def test_rows_of_several_widths_are_alike_unless_they_may_differ(read):
    content = "a.png|x|y\nb.png|x|y\nc.png|x\n"
    with refused(DataError, "format", "captions.csv", names="line 3"):
        read(content, widths=(2, 3))
    assert read(content, widths=(2, 3), alike=False)[1] == [("a.png", "x", "y"), ("b.png", "x", "y"), ("c.png", "x")]


@pytest.mark.parametrize(
    ("content", "kept", "dropped"),
    [
        ("image,caption\na.png,x\nb.png,x, y\nc.png,z\n", ["a.png", "c.png"], {3: "3 fields"}),
        ('image,caption\n"b.png","x\ny",\na.png,"x\nz"\nc.png\n', ["a.png"], {2: "3 fields", 6: "1 fields"}),
        ("image|caption\na.png|x|y\nb.png|x", ["b.png"], {2: "3 fields"}),
        ("a.png,x\nb.png,x\nc.png\n", ["a.png", "b.png"], {3: "1 fields"}),
        ("a.png|one, two\nb.png|x\nc.png\nd.png|y", ["a.png", "b.png", "d.png"], {3: "1 fields"}),
        ("a.png|one, two\nb.png|x\nc.png|d.png|y", ["a.png", "b.png"], {3: "3 fields"}),
    ],
)
def test_rows_of_another_width_are_faults_where_they_are_collected(tmp_path, content, kept, dropped):
    path = tmp_path / "captions.csv"
    path.write_text(content)
    table = read_table(path, key_of, collect=True)
    assert [row.fields[0] for row in table.rows] == kept
    assert {fault.line: fault.detail.split(" between")[0] for fault in table.faults} == dropped
    assert {(fault.reason, fault.path) for fault in table.faults} == {("wrong fields", path)}
    assert [line for line, _ in table.lines()] == sorted([row.line for row in table.rows] + [*dropped])
    with refused(DataError, "format", path, names=f"line {min(dropped)}"):
        read_table(path, key_of)


@pytest.mark.parametrize(
    "content",
    [
        "a.png,x, y\nb.png,x, y\nc.png,x\n",  # most rows are wrong
        "a.png|one\nb.png|two\nc.png,three\n",  # commas divide the last row, bars the others
        "image,caption\na.png,x, y\n",  # no row is right
        'a.png,x\nb.png,y\nc.png,"z\n',  # an open quote may hold any number of rows
        'image,caption\na.png,x\nb.png,"red\nc.png,blue\n',
    ],
)
def test_a_table_that_cannot_be_told_is_refused_though_faults_are_collected(tmp_path, content):
    path = tmp_path / "captions.csv"
    path.write_text(content)
    with refused(DataError, "format", path, names="line "):
        read_table(path, key_of, collect=True)


def test_what_cannot_be_told_is_said(read):
    with refused(DataError, "format", names="first line"):
        read("a,b|c\nd|e,f")


def test_long_fields_and_many(read):
    long = "x" * 300_000
    assert read(f'a.png,"{long}, y"\n')[1] == [("a.png", f"{long}, y")]
    assert len(read("a.png,x\n" * 50_000)[1]) == 50_000


WIDTHS = st.lists(st.integers(1, 4), min_size=1, max_size=12)


@settings(max_examples=50, deadline=None)
@given(WIDTHS, st.sampled_from(",;|\t"))
def test_every_row_is_kept_or_one_fault(tmp_path_factory, widths, mark):
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    rows = [mark.join([f"{i}.png", *"xyz"[: width - 1]]) for i, width in enumerate(widths)]
    path.write_text("\n".join([f"image{mark}caption", *rows]))
    if 2 not in widths:
        with refused(DataError, "format", path, names="line 2"):
            read_table(path, key_of, collect=True)
        return
    table = read_table(path, key_of, collect=True)
    assert [row.fields for row in table.rows] == [(f"{i}.png", "x") for i, width in enumerate(widths) if width == 2]
    assert [fault.line for fault in table.faults] == [i + 2 for i, width in enumerate(widths) if width != 2]


PLAIN = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).map(lambda t: t.strip() or "x")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.from_regex(r"[a-z]{1,5}\.png", fullmatch=True), PLAIN), min_size=1, max_size=8))
def test_what_csv_writes_is_read(tmp_path_factory, rows):
    import unicodedata

    out = io.StringIO()
    csv.writer(out).writerows([("image", "caption"), *rows])
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    path.write_bytes(out.getvalue().encode())
    found = read_table(path, key_of)
    assert [row.fields for row in found.rows] == [(a, unicodedata.normalize("NFC", b).strip()) for a, b in rows]

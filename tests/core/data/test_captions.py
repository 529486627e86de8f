"""Captions: what a list says of each item, and what the mirror image shows."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refused import refused
from unisono.data import Audit, find_captions, mirrored, read_captions, words_of
from unisono.errors import DataError


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("turns left, then right", "turns right, then left"),
        ("counter clockwise", "clockwise"),
        ("counter-clockwise", "clockwise"),
        ("anticlockwise", "clockwise"),
        ("counter\u2014clockwise, counter\u2011clockwise", "clockwise, clockwise"),
        ("bottom-left, Left/Right", "bottom-right, Right/Left"),
        ("anti-clockwise and Anti Clockwise", "clockwise and Clockwise"),
        ("counter clock-wise", "clockwise"),
        ("counter\u00adclockwise, anti\u200bclock\u00adwise", "clockwise, clockwise"),
        ("Clockwise turn, CLOCKWISE", "Counterclockwise turn, COUNTERCLOCKWISE"),
        ("COUNTER-CLOCKWISE", "CLOCKWISE"),
        ("LEFT Left left", "RIGHT Right right"),
        ("left-hand side, right_foot", "right-hand side, left_foot"),
        ("leftmost, rightward, Leftwards", "rightmost, leftward, Rightwards"),
        ("left-to-right", "right-to-left"),
        ("his left's up; “right”.", "his right's up; “left”."),
        ("the lefthanded righty", "the righthanded lefty"),
        ("upright, bright leftovers, copyright, rights, cleft", None),
        ("counterintuitive, anti clock, otherwise", None),
        ("", None),
    ],
)
def test_mirrored_captions(caption, expected):
    assert mirrored(caption) == (caption if expected is None else expected)


PIECES = [
    "left",
    "right",
    "Left",
    "RIGHT",
    "clockwise",
    "counterclockwise",
    "Clockwise",
    "COUNTERCLOCKWISE",
    "leftmost",
]
PIECES += ["ccw", "CW", "a", "upright", "-", "_", ".", "\n", "wise", "'s"]
OTHERS = ["counter clockwise", "anti-clockwise", "Anticlockwise", "lEfT", "counter", "clock", "anti"]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=8), st.sampled_from([" ", ", ", ". "]))
def test_mirrored_twice_is_what_it_was(pieces, between):
    caption = between.join(pieces)
    assert mirrored(mirrored(caption)) == caption


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(PIECES + OTHERS) | st.text(max_size=5), max_size=8))
def test_mirrored_thrice_is_mirrored_once(pieces):
    once = mirrored(", ".join(pieces))
    assert mirrored(mirrored(once)) == once


BAD = {
    "half a character": '{"image": "b.png", "caption": "a \\ud83d box"}',
    "not JSON": '{"image": "b.png", "caption": ' + "9" * 5000 + "}",
    "wrong fields": '{"image": "b.png", "caption": 3}',
}
CODES = {"half a character": "damaged", "not JSON": "format", "wrong fields": "format"}


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_line_is_one_dropped_item(tmp_path, reason):
    path = tmp_path / "captions.jsonl"
    path.write_text(
        f'{{"image": "a.png", "caption": "one"}}\n{BAD[reason]}\n{{"image": "c.png", "text": ["x", "y"]}}\n'
    )
    audit = Audit()
    assert read_captions(path, "image", audit) == {"a.png": ("one",), "c.png": ("x", "y")}
    assert [(d.id, d.reason) for d in audit.dropped] == [("captions.jsonl:2", reason)]
    with refused(DataError, CODES[reason], path, names="line 2") as caught:
        read_captions(path, "image")
    assert caught.value.fault.line == 2
    path.write_text(BAD[reason])
    with refused(DataError, "empty", "captions.jsonl"):
        read_captions(path, "image", Audit())


@pytest.mark.parametrize("header", ["image,caption\n", ""])
def test_a_row_with_a_wrong_number_of_fields_is_one_dropped_item(tmp_path, header):
    path, first = tmp_path / "captions.csv", bool(header) + 1
    path.write_text(f'{header}a.png,one\nb.png,red, blue\nc.png,"red, blue"\nd.png\ne.png,\nf.png,two\ng.png,three\n')
    audit = Audit()
    found = read_captions(path, "image", audit)
    assert found == {"a.png": ("one",), "c.png": ("red, blue",), "f.png": ("two",), "g.png": ("three",)}
    lines = [f"captions.csv:{first + offset}" for offset in (1, 3, 4)]
    assert [(d.id, d.reason) for d in audit.dropped] == [(line, "wrong fields") for line in lines]
    assert [d.detail[:8] for d in audit.dropped] == ["3 fields", "1 fields", "2 fields"]
    with refused(DataError, "format", path, names=[f"line {first + 1}", "double quotes"]):
        read_captions(path, "image")


def test_two_ways_to_write_an_accent_are_one_item(tmp_path):
    path = tmp_path / "captions.csv"
    path.write_text("caf\u00e9.png|caf\u00e9\ncafe\u0301.png|cafe\u0301\n")
    assert read_captions(path, "image") == {"caf\u00e9.png": ("caf\u00e9",)}


def test_a_list_that_is_no_file(tmp_path):
    for root in (tmp_path / "gone", tmp_path / ("x" * 300)):
        with refused(DataError, "missing", root, names="check data.root"):
            find_captions(root)
    (tmp_path / "captions.csv").write_bytes("a.png|é".encode("utf-16"))
    with refused(DataError, "format", "captions.csv", value="is UTF-16, not UTF-8", names="save it as UTF-8"):
        read_captions(find_captions(tmp_path), "image")


def test_an_accent_within_a_word_does_not_divide_it():
    assert words_of("Naïve re\u0301sume\u0301s, l’été!") == ["naive", "resumes", "l'ete"]

"""Manifests as people write them, and sentences for those that cannot be read."""

import json
import os
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refused import refused
from unisono.data import Audit
from unisono.errors import DataError
from unisono.files.fault import CODES
from unisono_sound.corpus import Manifest, Utterance, find_audio, read_manifest, read_manifests, same_sentence


@pytest.fixture
def corpus(tmp_path):
    """A folder with recordings a, b and c, and a function that writes its manifest."""
    folder = tmp_path / "voice"
    (folder / "wavs").mkdir(parents=True)
    for name in "abc":
        (folder / "wavs" / f"{name}.wav").touch()

    def write(content, name="metadata.csv", encoding="utf-8"):
        path = folder / name
        path.write_bytes(content.encode(encoding))
        return path

    return folder, write


def test_ljspeech_layout(corpus):
    folder, write = corpus
    write('a|Dr. A|Doctor A\nb|"Quoted," he said, 1|"Quoted," he said, one\n\nc|only raw|\n')
    found = read_manifest(folder)
    assert [u.id for u in found] == ["a", "b", "c"]
    assert [u.text for u in found] == ["Doctor A", '"Quoted," he said, one', "only raw"]
    assert found[0].audio == folder / "wavs" / "a.wav"
    assert found.speakers == ["voice"]


def test_ljspeech_with_two_columns_suffix_and_other_formats(corpus):
    folder, write = corpus
    (folder / "wavs" / "d.flac").touch()
    (folder / "e.ogg").touch()
    write("a.wav|one\nd|two\ne|three")
    found = read_manifest(folder / "metadata.csv")
    assert [u.audio.name for u in found] == ["a.wav", "d.flac", "e.ogg"]


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_marks_and_unicode(corpus, ends, mark):
    folder, write = corpus
    write(mark + ends.join(["a|Zoë naïve — 漢字 🙂", "b|ñandú"]) + ends)
    assert [u.text for u in read_manifest(folder)] == ["Zoë naïve — 漢字 🙂", "ñandú"]
    assert read_manifest(folder)[0].id == "a"


def test_csv_with_header(corpus):
    _, write = corpus
    path = write(
        'Audio,extra,text,speaker\nwavs/a.wav,1,"Hello, ""you""",kim\nwavs/b.wav,2,"two\nlines",\n',
        "train.csv",
    )
    found = read_manifest(path)
    assert [u.text for u in found] == ['Hello, "you"', "two\nlines"]
    assert [u.speaker for u in found] == ["kim", "voice"]
    assert [u.id for u in found] == ["wavs/a", "wavs/b"]


@pytest.mark.parametrize("delimiter", ["|", "\t"])
def test_bars_and_tabs_are_never_quoted(corpus, delimiter):
    _, write = corpus
    rows = [
        ["id", "audio", "text"],
        ["x", "wavs/a.wav", '"Hm," he said, and'],
        ["y", "wavs/b.wav", 'b"'],
    ]
    path = write("\n".join(delimiter.join(row) for row in rows), "train.txt")
    found = read_manifest(path)
    assert [(u.id, u.text) for u in found] == [("x", '"Hm," he said, and'), ("y", 'b"')]


def test_jsonl(corpus):
    _, write = corpus
    rows = [
        {"audio": "wavs/a.wav", "text": "one", "duration": 1.5},
        {"audio": "wavs/b.wav", "text": ""},
    ]
    path = write("\n".join(json.dumps(row) for row in rows) + "\n\n", "train.jsonl")
    assert [u.text for u in read_manifest(path)] == ["one", ""]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.csv", "audio,text\nwavs/a.wav,Cafe\u0301"),
        ("m.jsonl", '{"audio": "wavs/a.wav", "text": "Cafe\u0301"}'),
        ("metadata.csv", "a|Cafe\u0301"),
    ],
)
def test_texts_are_composed(corpus, name, content):
    _, write = corpus
    (found,) = read_manifest(write(content, name))
    assert found.text == "Café"


def test_absolute_paths(corpus):
    folder, write = corpus
    path = write(f"audio|text\n{folder / 'wavs' / 'c.wav'}|see", "train.csv")
    assert read_manifest(path)[0].audio == folder / "wavs" / "c.wav"


@pytest.mark.parametrize(
    ("name", "content", "code", "named"),
    [
        ("m.csv", "audio,txt\nwavs/a.wav,x", "format", ["line 1", "'text'", "did you mean 'txt'"]),
        ("m.csv", "file,text\nwavs/a.wav,x", "format", ["line 1", "'audio'", "known: file, text"]),
        ("m.csv", "audio,text,text\nwavs/a.wav,x,y", "conflict", ["line 1", "'text'"]),
        ("m.csv", "audio,text\nwavs/a.wav,Hello, you", "format", ["line 2", "3 fields", "2", "double quotes"]),
        ("m.csv", "audio|text\nwavs/a.wav", "format", ["line 2", "1 fields", "audio, text"]),
        ("m.csv", "audio,text\n", "empty", []),
        ("m.csv", "", "empty", []),
        ("m.csv", "a,b,c\n1,2,3", "format", ["line 1", "1 fields", "id|text"]),
        ("m.csv", "a|b|c|d", "format", ["line 1", "4 fields"]),
    ],
)
def test_a_manifest_that_cannot_be_read_is_refused(corpus, name, content, code, named):
    _, write = corpus
    with refused(DataError, code, name, names=named) as caught:
        read_manifest(write(content, name))
    assert "\n" not in str(caught.value)


ROWS = [
    ("m.csv", "audio,text\n,x", "wrong fields", ["audio is empty"]),
    ("m.csv", "audio,text\nq.wav,y", "missing", ["q.wav"]),
    ("m.csv", "audio,text\nwavs,y", "not a file", ["wavs"]),
    ("m.csv", f"audio,text\n{'x' * 300},y", "missing", ["too long"]),
    ("m.csv", "audio,text\nwavs/a.wav,Hello, you", "wrong fields", ["3 fields", "header has 2"]),
    ("m.csv", "audio,text\nwavs/a.wav", "wrong fields", ["1 fields", "audio, text"]),
    ("m.jsonl", '\n{"audio": ', "not JSON", ["column"]),
    ("m.jsonl", '\n{"audio": "wavs/b.wav", "text": ' + "9" * 5000 + "}", "not JSON", ["digits"]),
    ("m.jsonl", "\n" + "[" * 100_000, "not JSON", ["deep"]),
    ("m.jsonl", "\n[1, 2]", "not JSON", ["object"]),
    ("m.jsonl", '\n{"audio": "wavs/b.wav", "txt": "x"}', "wrong fields", ["'text'", "'txt'"]),
    ("m.jsonl", '\n{"text": "x"}', "wrong fields", ["'audio'"]),
    ("m.jsonl", '\n{"audio": "wavs/b.wav", "text": 3}', "wrong fields", ["text=3"]),
    ("m.jsonl", '\n{"id": null, "text": "x"}', "wrong fields", ["id=None"]),
    ("m.jsonl", '\n{"id": "", "text": "x"}', "wrong fields", ["id is empty"]),
    ("m.jsonl", '\n{"audio": "wavs/b.wav", "text": "a \\ud83d box"}', "half a character", ["ud83d"]),
]
"""A manifest whose second line cannot be used, and why."""


@pytest.mark.parametrize(("name", "content", "reason", "named"), ROWS)
def test_a_line_that_cannot_be_used_is_a_row_of_the_audit(corpus, name, content, reason, named):
    _, write = corpus
    more = "\nwavs/c.wav,last" if name == "m.csv" else '\n{"audio": "wavs/c.wav", "text": "last"}'
    found = read_manifest(write(content + more, name))
    assert [(u.id, u.text) for u in found] == [("wavs/c", "last")]
    audit = Audit()
    found.tell(audit)
    ((dropped),) = audit.dropped
    assert (dropped.id, dropped.reason) == (f"{name}:2", reason)
    assert all(word in dropped.detail for word in named) and len(dropped.detail) < 400
    assert found.failures() == [{"id": f"{name}:2", "system": "recording", "reason": f"{reason}: {dropped.detail}"}]
    assert read_manifests({"kim": write(content + more, name)}).faults[0][0] == f"kim/{name}:2"


@pytest.mark.parametrize(("name", "content", "reason", "named"), ROWS)
def test_a_manifest_of_such_lines_alone_is_refused_by_the_first(corpus, name, content, reason, named):
    _, write = corpus
    with refused(DataError, CODES.get(reason, "format"), name, names=[*named, "line 2"]) as caught:
        read_manifest(write(content, name))
    assert caught.value.fault is not None and (caught.value.fault.reason, caught.value.fault.line) == (reason, 2)
    assert len(str(caught.value)) < 800


def test_a_row_of_a_list_without_header_is_a_row_of_the_audit(corpus):
    _, write = corpus
    found = read_manifest(write("a|one\nb\nc|three|Three\nb|x|y|z\nb|two\n"))
    assert [(u.id, u.text) for u in found] == [("a", "one"), ("c", "Three"), ("b", "two")]
    assert [(place, fault.line) for place, fault in found.faults] == [("metadata.csv:2", 2), ("metadata.csv:4", 4)]


def test_all_lines_that_cannot_be_used_are_counted(corpus):
    _, write = corpus
    with refused(DataError, "missing", "m.csv", names=["line 2", "q.wav", "2 more"]):
        read_manifest(write("audio,text\nq.wav,y\nr.wav,z\ns.wav,z", "m.csv"))


def test_the_first_of_two_lines_with_one_id_is_read(corpus):
    _, write = corpus
    found = read_manifest(write("audio,text\nwavs/a.wav,x\nwavs/b.wav,z\nwavs/a.wav,y", "m.csv"))
    assert [(u.id, u.text) for u in found] == [("wavs/a", "x"), ("wavs/b", "z")]
    ((place, fault),) = found.faults
    assert (place, fault.reason, fault.line) == ("m.csv:4", "same name", 4) and "line 2" in fault.detail


@pytest.mark.parametrize(
    ("content", "layout"),
    [
        ("a|p225|Please call Stella.\nb|p226|Ask her to bring these things.", "id|speaker|text"),
        ("a|14|Please call Stella.\nb|14|Ask her.\nc|14|Six spoons.", "id|speaker|text"),
        ("wavs/a.wav|Mary Ann|Please call.\nb|Mary Ann|Ask her to.\nc|Mary Ann|Six spoons", "id|speaker|text"),
        ("a|小明|我有两个苹果\nb|小红|他去了北京", "id|speaker|text"),
        ("a|Mary Ann|Please call.\nb|Mary Ann|Ask her to.\nc|Jo Li|Six spoons", "id|speaker|text"),
        ("a|Please call Stella.|kim\nb|Ask her.|lee", "id|text|speaker"),
        ("a|One sentence.|kim\nb|One sentence.|lee", "id|text|speaker"),
    ],
)
def test_a_list_of_another_layout_is_named(corpus, content, layout):
    _, write = corpus
    with refused(DataError, "format", "metadata.csv", names=layout) as error:
        read_manifest(write(content))
    assert error.value.fault is not None and error.value.fault.line == 1
    found = read_manifest(write(f"{layout}\n{content}"))
    assert all(u.speaker != "voice" and len(u.text) > len(u.speaker) for u in found)


@pytest.mark.parametrize(
    "content",
    ["a|Dr. Li, 3|Doctor Li, three\nb|No. 4|number four", "a|我有2个苹果|我有两个苹果", "a|1 cat|one cat\nb|5|five"],
)
def test_two_ways_to_write_a_text_are_no_speakers(corpus, content):
    _, write = corpus
    assert [u.speaker for u in read_manifest(write(content))] == ["voice"] * (content.count("\n") + 1)


def test_a_header_with_ids_finds_recordings_as_ljspeech_does(corpus):
    folder, write = corpus
    (found,) = read_manifest(write("id|speaker|text\nb|kim|Hello there."))
    assert (found.id, found.audio, found.speaker) == ("b", folder / "wavs" / "b.wav", "kim")


def test_names_are_found_in_any_form_and_case(corpus):
    folder, write = corpus
    (folder / "wavs" / "UPPER.WAV").touch()
    (folder / "wavs" / unicodedata.normalize("NFD", "Zoë.wav")).touch()
    for content in ("UPPER|one\nZoë|two", unicodedata.normalize("NFD", "UPPER|one\nZoë|two")):
        found = read_manifest(write(content))
        assert [u.id for u in found] == ["UPPER", "Zoë"] and all(u.audio.is_file() for u in found)
    found = read_manifest(write("audio,text\nwavs/UPPER.wav,one\nwavs/Zoë.wav,two", "t.csv"))
    assert [u.id for u in found] == ["wavs/UPPER", "wavs/Zoë"]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('audio,text\nwavs/a.wav,"Hello\nwavs/b.wav,two\nwavs/c.wav,three\n', 2),
        ('audio,text\nwavs/a.wav,one\nwavs/b.wav,"Hello\nwavs/c.wav,three"\n', 3),
        ('text,audio\none,wavs/a.wav\n"two,wavs/b.wav\nthree",wavs/c.wav\n', 3),
    ],
)
def test_an_open_quote_is_named_with_its_line(corpus, content, line):
    _, write = corpus
    with refused(DataError, "format", "train.csv", names=f"line {line}") as error:
        read_manifest(write(content, "train.csv"))
    assert error.value.fault is not None and error.value.fault.reason == "open quote"


def test_what_is_no_file_is_one_sentence(corpus):
    folder, write = corpus
    os.mkfifo(folder / "pipe.csv")
    for root, code in (("x" * 300, "missing"), (folder / "pipe.csv", "format"), ("/dev/zero", "format")):
        with refused(DataError, code, root) as error:
            read_manifest(root)
        assert len(str(error.value)) < 400
    with refused(DataError, "missing", "metadata.csv", names="line 1"):
        read_manifest(write("x" * 300 + "|one"))
    for encoding in ("utf-16", "utf-16-le"):
        with refused(DataError, "format", "metadata.csv", value="is UTF-16, not UTF-8"):
            read_manifest(write("a|one\nb|two and more words", encoding=encoding))


def test_find_audio_walks_as_every_reader(tmp_path):
    for name in ("2.wav", "10.wav", "._2.wav", ".hidden/x.wav", "__MACOSX/2.wav", "b/c.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "gone.wav").symlink_to("nowhere")
    (tmp_path / "b" / "up").symlink_to(tmp_path)
    found = find_audio(tmp_path)
    assert [u.id for u in found] == ["2", "10", "b/c"]
    assert {id: fault.reason for id, fault in found.faults} == {"gone.wav": "broken link", "b/up": "link loop"}
    assert len(found.notes) == 1 and "__MACOSX" in found.notes[0]


def test_missing_metadata_folder_and_encoding(corpus, tmp_path):
    folder, write = corpus
    with refused(DataError, "missing", "voice", value="metadata.csv"):
        read_manifest(folder)
    with refused(DataError, "missing", "nowhere", value="no such folder or file"):
        read_manifest(tmp_path / "nowhere")
    path = write("a|fine\nb|caf\xe9", encoding="latin-1")
    with refused(DataError, "format", "metadata.csv", value="byte 0xe9 is not UTF-8", names="line 2"):
        read_manifest(path)


def test_two_corpora_make_one_with_two_speakers(corpus, tmp_path):
    folder, write = corpus
    write("a|one\nb|two")
    other = tmp_path / "other"
    (other / "wavs").mkdir(parents=True)
    (other / "wavs" / "a.wav").touch()
    (other / "metadata.csv").write_text("a|three")
    both = read_manifests({"kim": str(folder), "lee": str(other)})
    assert [(u.id, u.speaker) for u in both] == [
        ("kim/a", "kim"), ("kim/b", "kim"), ("lee/a", "lee"),
    ]  # fmt: skip
    assert both.speakers == ["kim", "lee"]
    assert read_manifests([str(folder), str(other)]).speakers == ["voice", "other"]
    assert read_manifests(str(folder))[0].id == "a"
    with refused(DataError, "conflict", "data.root"):
        read_manifests([str(folder), str(folder)])
    with refused(DataError, "empty", "data.root"):
        read_manifests({})


def test_find_audio(tmp_path):
    (tmp_path / "x" / "deep").mkdir(parents=True)
    for name in ("b.wav", "x/a.flac", "x/deep/c.OGG", "notes.txt"):
        (tmp_path / name).touch()
    assert [u.id for u in find_audio(tmp_path)] == ["b", "x/a", "x/deep/c"]
    (tmp_path / "b.mp3").touch()
    found = find_audio(tmp_path)
    assert [u.audio.name for u in found] == ["b.mp3", "a.flac", "c.OGG"]
    assert [(id, fault.reason) for id, fault in found.faults] == [("b.wav", "same name")]
    (tmp_path / "empty").mkdir()
    with refused(DataError, "empty", "empty", names=".wav"):
        find_audio(tmp_path / "empty")


def make(texts):
    return Manifest(tuple(Utterance(f"u{i}", Path(f"{i}.wav"), text) for i, text in enumerate(texts)))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=30), st.integers(0, 8))
def test_split_keeps_texts_apart_and_loses_nothing(texts, val_size):
    manifest = make(texts)
    try:
        train, val = manifest.split(val_size)
    except DataError:
        assert val_size > len(texts) - max(Counter(texts).values())  # the last group was needed
        return
    assert sorted(u.id for u in (*train, *val)) == sorted(u.id for u in manifest)
    assert not {u.text for u in train} & {u.text for u in val}
    assert len(val) >= val_size and len(train) > 0


def test_split_depends_on_nothing_but_texts():
    texts = [f"sentence {i}" for i in range(50)]
    held = {u.text for u in make(texts).split(5)[1]}
    assert {u.text for u in make(texts[::-1]).split(5)[1]} == held
    # dropping a training sentence, or adding recordings, moves nothing from one side to the other
    fewer = [text for text in texts if text in held or text != texts[0]]
    assert {u.text for u in make(fewer).split(5)[1]} == held
    assert len(make(texts).split(0)[1]) == 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(min_size=1), min_size=2, max_size=12, unique_by=same_sentence), st.integers(1, 5), st.randoms())
def test_the_split_knows_neither_order_nor_form(texts, val_size, draw):
    try:
        train, val = make(texts).split(val_size)
    except DataError:
        return
    other = [unicodedata.normalize(draw.choice(["NFC", "NFD"]), text) for text in draw.sample(texts, len(texts))]
    for mine, theirs in zip((train, val), make(other).split(val_size), strict=True):
        assert {same_sentence(u.text) for u in mine} == {same_sentence(u.text) for u in theirs}


@given(st.text())
def test_a_sentence_is_one_in_every_form(text):
    forms = {same_sentence(unicodedata.normalize(form, text)) for form in ("NFC", "NFD")}
    assert len(forms) == 1


def test_one_sentence_written_in_two_ways_stays_on_one_side():
    assert same_sentence("Hello,  World!") == same_sentence("hello world")
    assert same_sentence("Hello") != same_sentence("Hell o")
    assert same_sentence("…") == same_sentence("…") != same_sentence("!")
    assert same_sentence("Straße") == same_sentence("STRASSE")
    texts = [f"Sentence {i}." for i in range(20)] + [f"SENTENCE {i}" for i in range(20)]
    train, val = make(texts).split(6)
    assert not {same_sentence(u.text) for u in train} & {same_sentence(u.text) for u in val}
    assert len(val) == 6
    assert {u.text for u in make(texts[::-1]).split(6)[1]} == {u.text for u in val}


def test_split_refuses_to_hold_out_everything():
    with refused(DataError, "range", "val_size", value=3, names=["0", "2"]):
        make(["a", "b", "c"]).split(3)
    with refused(DataError, "empty", "val_size", value=1):
        make(["a", "a", "a"]).split(1)


def digits(folder, *names):
    (folder / "recordings").mkdir(parents=True)
    for name in names:
        (folder / "recordings" / name).touch()
    return folder


def test_spoken_digits_are_read_from_their_names(tmp_path):
    names = ["3_jackson_10.wav", "3_jackson_9.wav", "0_van_der_berg_0.wav", "notes.txt", "3_george_2.wav"]
    found = read_manifest(digits(tmp_path / "fsdd", *names))
    assert [u.id for u in found] == ["0_van_der_berg_0", "3_george_2", "3_jackson_9", "3_jackson_10"]
    assert [u.text for u in found] == ["zero", "three", "three", "three"]
    assert found.speakers == ["van_der_berg", "george", "jackson"]
    both = read_manifests({"a": tmp_path / "fsdd"})
    assert both[0].id == "a/0_van_der_berg_0" and both[0].speaker == "van_der_berg"


@pytest.mark.parametrize(
    "name", ["seven_jackson_1.wav", "7_jackson.wav", "7__1.wav", "17_jackson_1.wav", "3_jackson_9.flac"]
)
def test_a_digit_with_another_name_is_listed(tmp_path, name):
    found = read_manifest(digits(tmp_path / "one", "3_jackson_9.aiff.wav", "3_jackson_9.wav", name))
    same = name.startswith("3")
    assert [u.id for u in found] == ["3_jackson_9"]
    reasons = {id: fault.reason for id, fault in found.faults}
    assert reasons["3_jackson_9.aiff.wav"] == "wrong fields" and len(reasons) == 2
    assert ("same name" in reasons.values()) is same
    if not same:
        with refused(DataError, "format", name, names="digit_speaker_number"):
            read_manifest(digits(tmp_path / "none", name))


def test_a_folder_without_digits_is_refused(tmp_path):
    with refused(DataError, "empty", "recordings"):
        read_manifest(digits(tmp_path, "notes.txt"))


def test_the_digits_own_split_wins_and_comes_on_top(tmp_path, corpus):
    folder, write = corpus
    write("a|one two\nb|two three\nc|three four")
    digits(tmp_path / "fsdd", *(f"{d}_theo_{n}.wav" for d in (1, 2) for n in range(8)))
    both = read_manifests({"voice": str(folder), "fsdd": str(tmp_path / "fsdd")})
    train, val = both.split(1)
    assert [u.id for u in val if u.speaker == "theo"] == [f"fsdd/{d}_theo_{n}" for d in (1, 2) for n in range(5)]
    assert [u.id for u in train if u.speaker == "theo"] == [f"fsdd/{d}_theo_{n}" for d in (1, 2) for n in range(5, 8)]
    alone, _ = read_manifests({"voice": str(folder)}).split(1)
    assert [u.id for u in train if u.speaker == "voice"] == [u.id for u in alone]
    only, held = read_manifest(tmp_path / "fsdd").split(2)
    assert len(only) == 6 and len(held) == 10
    assert [len(side) for side in both.split(0)] == [19, 0]


def test_nothing_left_to_train_on_is_refused_where_all_else_is_held_out(tmp_path):
    held = Utterance("a", tmp_path / "a.wav", "one", "s", held_out=True)
    rest = Utterance("b", tmp_path / "b.wav", "two", "s")
    with refused(DataError, "empty", "val_size", value=1):
        Manifest((held, rest)).split(1)

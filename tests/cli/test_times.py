"""Times beside outputs: ``generate --times``, of one text, of lines and of a batch; what is refused, by its fields."""

import json
import tarfile
from itertools import pairwise

import pytest
import srt
from unisono import Audio

TEXT = "The first one is short. Then comes another one, with a few more words."


def test_of_one_text(command, voice, voice_export, tmp_path):
    sound, times = tmp_path / "x.wav", tmp_path / "new" / "x.srt"
    done = command("generate", voice_export, TEXT, "-o", sound, "--times", times, "--times-option", "line-length=20")
    assert (done.code, done.out.split()) == (0, [str(sound), str(times)])
    made = voice(TEXT)
    made.save_times(tmp_path / "own.srt", line_length=20)
    assert times.read_bytes() == (tmp_path / "own.srt").read_bytes()
    cues = list(srt.parse(times.read_text(encoding="utf-8")))
    assert " ".join(" ".join(cue.content.split()) for cue in cues) == TEXT  # with its punctuation
    assert cues[-1].end.total_seconds() <= made.seconds
    assert all(len(line) <= 20 for cue in cues for line in cue.content.splitlines())


def test_words_have_their_places_in_a_long_text(voice):
    text = "  One — two…\n\n\nThree, (four) “five”. " * 12
    made = voice(text)
    assert made.text == text and len(made.words) == 60
    assert all(text[slice(*word.span)] == word.label for word in made.words)
    pieces = list(voice.stream(text))
    assert len(pieces) > 1 and "".join(piece.text for piece in pieces) == text
    assert all(piece.text[slice(*word.span)] == word.label for piece in pieces for word in piece.words)
    for kind in ("word", "phoneme"):
        stretches = made.times().stretches(kind)
        assert all(before.last <= after.first for before, after in pairwise(stretches)) and stretches[0].first >= 0


REFUSED = {
    "unknown suffix": (["--times", "X/x.ass"], "times are not written as '.ass': use one of .srt, .vtt, .TextGrid"),
    "no suffix": (["--times", "X/x"], "times are not written as ''"),
    "no such option": (["--times", "X/x.srt", "--times-option=line_lenght=9"], "did you mean 'line_length'"),
    "an option's range": (["--times", "X/x.srt", "--times-option=lines=0"], "lines=0"),
    "no pair": (["--times", "X/x.srt", "--times-option=lines"], "is not NAME=VALUE"),
    "an option twice": (["--times", "X/x.srt", "--times-option=lines=1", "--times-option=lines=2"], "given twice"),
    "options alone": (["--times-option=lines=1"], "--times-option is of --times"),
    "an unwritable place": (["--times", "X/file/x.srt"], "cannot write"),
    "a folder": (["--times", "X/folder.srt"], "is a directory"),
    "the output's place": (["--times", "X/link.srt"], "-o and --times are both"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_before_it_is_made(command, voice_export, tmp_path, case, monkeypatch):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder.srt").mkdir()
    (tmp_path / "link.srt").symlink_to(tmp_path / "x.wav")
    monkeypatch.setattr("unisono.Synthesizer.__call__", None)  # nothing is made
    flags, told = REFUSED[case]
    flags = [flag.replace("X", str(tmp_path)) for flag in flags]
    done = command("generate", voice_export, TEXT, "-o", tmp_path / "x.wav", *flags)
    assert done.code == 2 and told in done.err and done.err.count("\n") == 1, done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.srt", "link.srt"]


def test_a_model_without_times_says_so(command, vocoder_export, voice_export, tmp_path, monkeypatch):
    """A sound without times is kept, since it may have taken minutes; lines and batches end at the first one."""
    from unisono import Synthesizer

    whole = Synthesizer.__call__

    def without(self, *args, **fields):
        made = whole(self, *args, **fields)
        bare = [Audio(one.waveform, one.sample_rate) for one in (made if isinstance(made, list) else [made])]
        return bare if isinstance(made, list) else bare[0]

    monkeypatch.setattr(Synthesizer, "__call__", without)
    sentence = "this Audio has no times: its model does not tell what is when"
    done = command("generate", voice_export, "Hi.", "-o", tmp_path / "x.wav", "--times", tmp_path / "x.srt")
    assert done.code == 2 and sentence in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["x.wav"]
    (tmp_path / "lines.txt").write_text("One.\nTwo.\n")
    lines = ("--input", tmp_path / "lines.txt", "--output-dir", tmp_path / "out", "--times", "srt")
    done = command("generate", voice_export, *lines)
    assert done.code == 2 and sentence in done.err and not (tmp_path / "out").exists()
    done = command("batch", voice_export, tmp_path / "lines.txt", tmp_path / "shards", "--times=srt")
    assert done.code == 2 and sentence in done.err
    assert not [path for path in (tmp_path / "shards").iterdir() if path.suffix == ".tar"]


def test_a_kind_without_times_says_so_at_once(command, tmp_path, monkeypatch):
    from pathlib import Path

    picture = Path(__file__).parents[2] / "checkpoints" / "emoji"
    monkeypatch.setattr("unisono.Synthesizer.__call__", None)
    for verb in (
        ("generate", picture, "-o", tmp_path / "x.png", "--times", tmp_path / "x.srt"),
        ("batch", picture, tmp_path / "lines.txt", tmp_path / "shards", "--times=srt"),
    ):
        (tmp_path / "lines.txt").write_text("One.\n")
        done = command(*verb)
        assert done.code == 2 and "Image has no times, whatever makes it" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["lines.txt"]


def test_beside_lines(many, voice):
    text = "One is said.\nTwo are said, too.\n"
    done = many(text, "--times=srt", "--times-option=lines=1")
    assert (done.code, done.out.split(":")[0]) == (0, "2 written, 0 kept from before, 0 failed")
    names = ["0001.srt", "0001.wav", "0002.srt", "0002.wav"]
    assert sorted(path.name for path in many.folder.iterdir()) == names
    assert "Two are said, too." in (many.folder / "0002.srt").read_text(encoding="utf-8")
    assert many(text, "--times=.srt", "--times-option=lines=1").out.startswith("0 written, 2 kept")
    assert many(text).out.startswith("0 written, 2 kept")  # without them nothing is missing
    assert many(text, "--times=srt").out.startswith("2 written, 0 kept")  # other options
    (many.folder / "0001.srt").unlink()
    assert many(text, "--times=srt").out.startswith("1 written, 1 kept")
    done = many("One is said, and more.\nTwo are said, too.\n", "--times=json")
    assert done.out.startswith("2 written, 0 kept")
    names = ["0001.times.json", "0001.wav", "0002.times.json", "0002.wav"]
    assert sorted(path.name for path in many.folder.iterdir()) == names  # none is of what was said before
    (many.folder / "0001.vtt").write_text("mine")
    done = many(text, "--times=vtt")
    assert done.code == 1 and "line 1: 0001.vtt is there, and it is not known from what it was made" in done.err
    assert (many.folder / "0001.vtt").read_text() == "mine"


@pytest.mark.parametrize("suffix", ["../x.srt", "x.srt", "ass", ""])
def test_beside_lines_a_suffix_is_a_suffix(many, suffix):
    done = many("One.\n", f"--times={suffix}")
    assert done.code == 2 and "times are not written as" in done.err and not many.folder.exists()


@pytest.mark.parametrize("shards", ["tar", "files", "parquet"])
def test_of_a_batch(command, voice, voice_export, tmp_path, shards):
    (tmp_path / "lines.txt").write_text("One is said.\nTwo are said, too.\n")
    where = (voice_export, tmp_path / "lines.txt", tmp_path / "out", f"--shards={shards}")
    done = command("batch", *where, "--times=json")
    assert done.code == 0, done.err
    line = json.loads((tmp_path / "out" / "manifest.jsonl").read_text().splitlines()[1])
    name = f"{line['key']}.times.json"
    shard = tmp_path / "out" / line["shard"]
    if shards == "tar":
        with tarfile.open(shard) as archive:
            assert len(archive.getnames()) == 6
            told = archive.extractfile(name).read()
    elif shards == "files":
        assert len(list(shard.iterdir())) == 6
        told = (shard / name).read_bytes()
    else:
        parquet = pytest.importorskip("pyarrow.parquet")
        rows = {row["key"]: row for row in parquet.read_table(shard).to_pylist()}
        told = rows[line["key"]]["times"].encode()
    voice("Two are said, too.", seed=line["seed"]).save_times(tmp_path / "own.json")
    assert told == (tmp_path / "own.json").read_bytes()
    assert command("batch", *where, "--times=json").out.startswith("0 made, 2 kept")
    done = command("batch", *where)
    assert done.code == 2 and "was begun with times '.json', not None: give --times=.json" in done.err
    done = command("batch", *where, "--times=srt", "--times-option=lines=1")
    assert done.code == 2 and "was begun with times '.json', not '.srt'" in done.err

"""Batch: the verb: what it reads, prints and returns, with a real export."""

import json
import subprocess
import sys
import tarfile

import pytest
import soundfile


@pytest.fixture
def batch(command, voice_export, tmp_path):
    """Return a function that runs a file of lines, and the folder that it writes."""
    folder = tmp_path / "out"

    def run(text, *flags, name="lines.txt", dest=folder):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return command("batch", voice_export, tmp_path / name, dest, *flags)

    run.folder = folder
    return run


def manifest(folder):
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_batch_its_manifest_and_a_second_start(batch, voice, tmp_path):
    text = 'One.\n{"text": "Two.", "speaker": "lj"}\nHi мир\nOne.\n'
    done = batch(text, "--pace=2", "--suffix=.flac", "--shard-size=1")
    assert done.code == 1
    first, second = done.out.splitlines()
    assert first == f"2 made, 0 kept from before, 1 failed: {batch.folder}"
    assert second.startswith("1 rows ask for what another row asks for")
    assert done.err.strip().startswith(f"{tmp_path / 'lines.txt'}, line 3: ") and "U+043C" in done.err
    lines = manifest(batch.folder)
    assert [line.get("shard") for line in lines] == ["000000.tar", "000001.tar", None, "000000.tar"]
    with tarfile.open(batch.folder / "000001.tar") as archive:
        opened = archive.extractfile(lines[1]["name"])
        samples, _ = soundfile.read(opened)
    wanted = voice("Two.", speaker="lj", pace=2)
    assert len(samples) == wanted.waveform.shape[1] and lines[1]["amount"] == pytest.approx(wanted.seconds)
    assert lines[1]["unit"] == "seconds"
    done = batch("One.\n", "--pace=2", "--suffix=.flac", "--shard-size=1", "--verify")
    assert (done.code, done.out.splitlines()[0]) == (0, f"0 made, 1 kept from before, 0 failed: {batch.folder}")
    assert done.out.splitlines()[1].startswith("1 rows of the shards are of lines that the input has no longer")


def test_a_table(batch):
    table = 'text,pace,note\n"Well, one.",2,x\nTwo.,9,y\n'
    refused = batch(table, name="table.csv")
    assert refused.code == 2 and "column 'note' is no field" in refused.err and not batch.folder.exists()
    done = batch(table, "--columns=text,pace", "--shards=files", name="table.csv")
    assert done.code == 1 and "pace=9: input should be less than or equal to 4" in done.err
    (folder,) = [path for path in batch.folder.iterdir() if path.name.isdecimal()]
    assert sorted(path.suffix for path in folder.iterdir()) == [".json", ".wav"]


def test_more_failures_than_are_listed(batch):
    done = batch("мир\n" + "".join(f"мир {n}\n" for n in range(30)))
    assert done.code == 1 and len(done.err.splitlines()) == 21
    assert done.err.splitlines()[-1] == "and 11 more: see manifest.jsonl"


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--pase=2"], "unknown flag --pase (did you mean 'pace'?)"),
        (["--pace"], "--pace has no value"),
        (["another"], "'another' is one argument too many"),
        (["--workers=0"], "--workers 0 must be at least 1"),
        (["--shards=zip"], "--shards 'zip' is unknown"),
        (["--suffix=.txt"], "use one of .wav"),
        (["--component=vocoder"], "is not ROLE=WHERE"),
    ],
)
def test_wrong_flags_are_one_sentence(batch, flags, told):
    done = batch("One.\n", *flags)
    assert done.code == 2 and told in done.err and not batch.folder.exists()
    assert len(done.err.splitlines()) == 1


@pytest.mark.slow
def test_lines_of_the_standard_input(batch, voice_export):
    """In a process of its own; what it made is known in this one."""
    command = [sys.executable, "-m", "unisono", "batch", voice_export, "-", batch.folder, "--pace=4"]
    done = subprocess.run(command, input=b"\xef\xbb\xbfHello.\r\n", capture_output=True, timeout=280)
    assert done.returncode == 0 and done.stdout.startswith(b"1 made, 0 kept"), done.stderr
    assert manifest(batch.folder)[0]["file"] == "-"
    assert batch("Hello.\n", "--pace=4").out.startswith("0 made, 1 kept")


def test_an_input_that_cannot_be_read_leaves_a_finished_batch_alone(batch, command, voice_export, tmp_path):
    batch("Hello.\n", "--pace=4")
    before = (batch.folder / "manifest.jsonl").read_bytes()
    for name in ("none.txt", "*.csv", "."):
        assert command("batch", voice_export, tmp_path / name, batch.folder).code == 2
    assert (batch.folder / "manifest.jsonl").read_bytes() == before

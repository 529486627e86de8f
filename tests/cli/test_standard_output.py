"""Standard output: ``generate -o -``: the bytes and nothing else, whole or while they are made; what is refused."""

import io
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from refused import refused
from unisono import Audio, Image, Text
from unisono.cli.destination import Destination
from unisono.errors import RequestError

LONG = "The first one is short. Then comes another one, with a few more words in it, and it goes on for a while."


class Out(io.TextIOWrapper):
    """A standard output in memory; a terminal, where it is said to be one."""

    def __init__(self, terminal: bool = False):
        super().__init__(io.BytesIO(), "utf-8")
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    @property
    def content(self) -> bytes:
        return self.buffer.getvalue()


@pytest.fixture
def generate(voice_export, capfd, monkeypatch):
    """Return a function that runs ``unisono generate`` with a standard output in memory: its code, bytes and errors."""
    from unisono.cli import main

    def run(*argv: object, terminal: bool = False) -> tuple[int, bytes, str]:
        out = Out(terminal)
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", out)
            code = main(["generate", str(voice_export), *map(str, argv)])
            assert sys.stdout is out
        out.flush()
        return code, out.content, capfd.readouterr().err

    return run


@pytest.mark.parametrize("format", [None, *(suffix[1:] for suffix in Audio.suffixes)])
def test_the_bytes_are_those_of_the_file(generate, voice, format):
    code, content, told = generate("So it goes.", "-o", "-", *([] if format is None else [f"--format={format}"]))
    assert code == 0 and told.startswith("Audio(") and "22050 Hz, 1 channel" in told
    wanted = voice("So it goes.")
    if format == "pcm":
        assert content == wanted.pcm()
    else:
        samples, rate = soundfile.read(io.BytesIO(content), dtype="float32")
        own, same = soundfile.read(io.BytesIO(wanted.encoded(f".{format or 'wav'}")), dtype="float32")
        assert rate == same and len(samples) == len(own)
        np.testing.assert_allclose(samples, own, atol=1e-3)  # headers of Ogg hold a random number


def test_a_stream_is_its_pieces(generate, voice, tmp_path):
    times = tmp_path / "x.json"
    code, content, told = generate(LONG, "--stream", "-o", "-", "--format", "pcm", "--times", times)
    pieces = list(voice.stream(LONG))
    assert code == 0 and len(pieces) > 1 and content == b"".join(piece.pcm() for piece in pieces)
    assert told.splitlines() == [repr(pieces[0]), str(times)]
    whole = Audio.join(pieces)
    assert whole.text == LONG and whole.save_times(tmp_path / "own.json").read_bytes() == times.read_bytes()
    code, content, _ = generate(LONG, "--stream", "-o", "-", "--format=flac")
    assert code == 0 and content[:4] == b"fLaC" and content.count(b"fLaC") == 1


def test_pieces_are_written_as_they_are_made(capfd):
    """The second piece is not asked for before the first is out."""
    out = Out()
    where = Destination(asked(), Audio, out)
    seen = []

    def pieces():
        for number in range(3):
            seen.append(len(out.content))
            yield Audio(np.full((1, 100), number / 10, np.float32), 8000)

    where.write_pieces(pieces())
    assert seen == [0, 200, 400] and len(out.content) == 600
    assert capfd.readouterr().err == "Audio(0.01 s, 8000 Hz, 1 channel)\n"


def test_what_is_printed_meanwhile_does_not_stand_in_the_output(generate, voice, monkeypatch, tmp_path):
    from unisono import Synthesizer

    plain = Synthesizer.__call__

    def talking(self, *args, **fields):
        print("a library talks")
        return plain(self, *args, **fields)

    monkeypatch.setattr(Synthesizer, "__call__", talking)
    more = ("--times", tmp_path / "x.vtt", "--plot", tmp_path / "x.png")
    code, content, told = generate("So it goes.", "-o", "-", "--format=pcm", *more)
    assert code == 0 and content == plain(voice, "So it goes.").pcm()
    assert told.splitlines()[0] == "a library talks"
    assert told.splitlines()[2:] == [str(tmp_path / "x.vtt"), str(tmp_path / "x.png")]


def asked(**changes) -> Namespace:
    plain = {"output": "-", "format": "pcm", "stream": True, "live": False, "plot": None, "times": None}
    return Namespace(**{**plain, "times_option": [], **changes})


@pytest.mark.parametrize(
    ("changes", "media", "terminal", "code", "path"),
    [
        ({"stream": False}, Audio, True, "unsupported", "-o"),
        ({}, Audio, True, "unsupported", "-o"),
        ({"format": "aac"}, Audio, False, "unsupported", "--format"),
        ({"format": "../x.wav"}, Audio, False, "unsupported", "--format"),
        ({"format": "ogg"}, Audio, False, "unsupported", "stream"),
        ({"format": None}, Image, False, "unsupported", "stream"),
        ({"live": True}, Audio, False, "conflict", "--live"),
        ({"plot": "x.png"}, Audio, False, "conflict", "--plot"),
        ({"output": "x.wav", "stream": False}, Audio, False, "conflict", "--format"),
        ({"output": "x.wav", "format": None}, Audio, False, "conflict", "--stream"),
    ],
)
def test_what_cannot_be_is_refused_before_it_is_made(changes, media, terminal, code, path):
    with refused(RequestError, code, path):
        Destination(asked(**changes), media, Out(terminal))


def test_a_text_may_go_to_a_terminal():
    out = Out(terminal=True)
    Destination(asked(format=None, stream=False), Text, out).write(Text("Grüße"))
    assert out.content == "Grüße".encode()
    out = Out(terminal=True)
    Destination(asked(format=None), Text, out).write_pieces(iter([Text("Grü"), Text("ße")]))
    assert out.content == "Grüße".encode()


def test_the_verb_refuses_a_terminal_and_lines(generate, tmp_path):
    code, content, told = generate("So it goes.", "-o", "-", terminal=True)
    assert (code, content) == (2, b"") and "would write wav to the terminal" in told
    (tmp_path / "lines.txt").write_text("One.\n")
    for flags in (["-o", "-"], ["--format=wav"], ["--stream"]):
        code, _, told = generate("--input", tmp_path / "lines.txt", "--output-dir", tmp_path / "out", *flags)
        assert code == 2 and "does not go with --input" in told and not (tmp_path / "out").exists()


def test_a_reader_that_goes_away_ends_it_quietly(voice_export):
    """As ``| head -c 100`` does; in a process of its own, through a real pipe."""
    argv = [sys.executable, "-m", "unisono", "generate", voice_export, LONG * 20, "--stream", "-o-", "--format=pcm"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        first = os.read(process.stdout.fileno(), 100)
        process.stdout.close()
        told = process.stderr.read().decode()
    assert process.returncode == 141 and len(first) == 100
    assert "Traceback" not in told and "Broken" not in told and told.count("\n") == 1, told


@pytest.mark.slow
def test_from_one_pipe_into_another(voice_export, tmp_path, voice):
    argv = [sys.executable, "-m", "unisono", "generate", voice_export, "So it goes.", "-o", "-", "--format", "flac"]
    done = subprocess.run(argv, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == voice("So it goes.").encoded(".flac")
    assert not list(Path(tmp_path).iterdir())

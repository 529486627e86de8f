"""Generate: one request, or one per line of a file: what is read, written, kept and made anew."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch


def test_one_text(command, voice, voice_export, tmp_path):
    output, picture = tmp_path / "new" / "out.wav", tmp_path / "out.png"
    fields = ("--pace=1.5", "--pitch-shift", "-3", "--speaker=lj", "--pitch_range=0.5")
    done = command("generate", voice_export, "So it goes.", *fields, "-o", output, "--plot", picture)
    assert (done.code, done.out.split()) == (0, [str(output), str(picture)])
    samples, rate = soundfile.read(output)
    wanted = voice("So it goes.", pace=1.5, pitch_shift=-3, speaker="lj", pitch_range=0.5)
    assert rate == wanted.sample_rate
    np.testing.assert_allclose(samples, wanted.waveform[0].clip(-1, 1), atol=2**-14)
    assert picture.stat().st_size > 1000


def test_flags_and_text_in_any_order(command, voice_export, tmp_path):
    sounds = []
    for index, arguments in enumerate(
        (
            [voice_export, "So it goes.", "--pace=2", "-o", "X"],
            [voice_export, "-o", "X", "So it goes.", "--pace", "2"],
            [voice_export, "--pace", "2", "So it goes.", "-o", "X"],
            ["--output=X", voice_export, "--text", "So it goes.", "--pace=2"],
        )
    ):
        output = tmp_path / f"{index}.wav"
        assert (
            command(
                "generate",
                *(str(a).replace("X", str(output)) if "X" in str(a) else a for a in arguments),
            ).code
            == 0
        )
        sounds.append(output.read_bytes())
    assert len(set(sounds)) == 1


def test_the_schema_of_a_request(command, voice, voice_export):
    shown = command("generate", voice_export, "--schema")
    assert shown.code == 0
    assert json.loads(shown.out) == voice.model.Request.model_json_schema()


def test_help_of_generate_explains_the_fields_of_a_checkpoint(command, voice_export):
    shown = command("generate", voice_export, "--help")
    assert shown.code == 0
    assert "fields of tts/fastpitch's request:" in shown.out
    assert "higher or lower, in semitones (≥ -12, ≤ 12, default 0.0)" in shown.out
    wrong = command("generate", "/nowhere", "--help")
    assert wrong.code == 2
    assert "no export at '/nowhere'" in wrong.err


def test_a_figure_does_not_replace_the_output(command, tmp_path, voice_export, monkeypatch):
    same = ("-o", tmp_path / "x.wav", "--plot", f"{tmp_path}/./x.wav")
    with monkeypatch.context() as patch:  # as of a picture, whose formats are a figure's too
        patch.setattr("unisono.cli.destination.cannot_draw", lambda path: None)
        done = command("generate", voice_export, "Hello", *same)
    assert done.code == 2 and "-o and --plot are both" in done.err and not (tmp_path / "x.wav").exists()
    done = command("generate", voice_export, "Hello", "-o", tmp_path / "x.wav", "--plot", tmp_path / "x.wav")
    assert done.code == 2 and not (tmp_path / "x.wav").exists()
    done = command("sweep", voice_export, "--pace=1,2", "--json", "x.png", "--plot", "x.png")
    assert done.code == 2 and "--json and --plot are both 'x.png'" in done.err


def test_without_many_lines_a_suffix_is_a_field_or_refused(command, tmp_path, voice_export):
    done = command("generate", voice_export, "Hello", "-o", tmp_path / "x.wav", "--suffix=.flac")
    assert done.code == 2 and "--suffix is the format of what --input makes" in done.err
    done = command("generate", voice_export, "Hello", "-o", tmp_path / "x.wav", "--output-dir", tmp_path)
    assert done.code == 2 and "--output-dir is where --input writes" in done.err
    text = Path(__file__).parents[2] / "checkpoints" / "text-mdlm-shakespeare"
    done = command("generate", text, "Now ", "--suffix= the end.", "--length=4", "-o", tmp_path / "x.txt")
    made = (tmp_path / "x.txt").read_text()
    assert done.code == 0 and made.startswith("Now ") and made.endswith(" the end.")


def test_many_lines_of_text_and_json(many, voice):
    lines = [
        "The first line.",
        "",
        json.dumps({"text": "Second.", "speaker": "lj", "pace": 0.5}),
        "A third one, longer.",
    ]
    done = many("\n".join(lines), "--pace=2", "--batch-size=2", "--suffix=.flac")
    assert done.code == 0
    assert done.out == f"3 written, 0 kept from before, 0 failed: {many.folder}\n"
    assert sorted(p.name for p in many.folder.iterdir()) == ["0001.flac", "0003.flac", "0004.flac"]
    wanted = {
        "0001": voice("The first line.", pace=2.0),
        "0003": voice("Second.", speaker="lj", pace=0.5),  # a line's own fields win
        "0004": voice("A third one, longer.", pace=2.0),
    }
    for name, audio in wanted.items():
        samples, _ = soundfile.read(many.folder / f"{name}.flac")
        np.testing.assert_allclose(samples, audio.waveform[0].clip(-1, 1), atol=2**-14)


BAD_LINES = {
    "Hi мир": "'м' (U+043C CYRILLIC SMALL LETTER EM)",
    "🎉": "the text '🎉' holds neither letters nor digits: give at least one word",
    "…": "holds punctuation only",
    '{"text": "Hi", "pace": 9}': "pace=9: input should be less than or equal to 4",
    '{"text": "Hi", "pase": 1}': "unknown field 'pase' (did you mean 'pace'?)",
    '{"text": "Hi", "pace": NaN}': "pace=nan: input should be a finite number",
    '{"text": "Hi"': "not a JSON object",
    '{"text": "Hi", "seed": 1, "seed": 2}': "stands twice in one object",
    '{"text": "Hi", "speaker": "nobody"}': "unknown speaker 'nobody' (known: kathleen, lj)",
    '{"speaker": "lj"}': "text is required",
}


def test_bad_lines_are_reported_and_the_others_go_on(many):
    lines = ["Good one."]
    for line in BAD_LINES:
        lines += [line, "Another good one."]
    done, bad = many("\n".join(lines)), len(BAD_LINES)
    assert done.code == 1
    assert done.out == f"{bad + 1} written, 0 kept from before, {bad} failed: {many.folder}\n"
    reports = done.err.strip().splitlines()
    assert len(reports) == len(BAD_LINES)
    for index, (report, reason) in enumerate(zip(reports, BAD_LINES.values(), strict=True)):
        assert report.startswith(f"line {2 * index + 2}: ")
        assert reason in report
    assert {p.name for p in many.folder.iterdir()} == {f"{n:04d}.wav" for n in range(1, len(lines) + 1, 2)}


def test_it_resumes_where_it_stopped(many):
    text = "One.\nTwo.\nThree.\n"
    many(text)
    (many.folder / "0002.wav").unlink()
    before = (many.folder / "0001.wav").stat().st_mtime_ns
    (many.folder / ".part-0002.wav").write_text("left by an interruption")
    done = many(text)
    assert (done.code, done.out) == (0, f"1 written, 2 kept from before, 0 failed: {many.folder}\n")
    assert sorted(p.name for p in many.folder.iterdir()) == ["0001.wav", "0002.wav", "0003.wav"]
    assert (many.folder / "0001.wav").stat().st_mtime_ns == before


def test_a_model_is_the_same_in_another_process(many):
    """Whatever weights that only training needs are drawn there."""
    for seed, said in ((1, "1 written, 0 kept"), (2, "0 written, 1 kept")):
        torch.manual_seed(seed)
        assert many("One.\n", "--pace=4").out.startswith(said)


def test_nothing_to_do(many):
    done = many("\n\n")
    assert (done.code, done.out) == (0, f"0 written, 0 kept from before, 0 failed: {many.folder}\n")


@pytest.mark.parametrize("suffix", ["../x.wav", "/x.wav", "x.wav", " .wav"])
def test_a_suffix_is_a_suffix(command, tmp_path, voice_export, suffix):
    (tmp_path / "lines.txt").write_text("Hello.\n")
    where = ("--input", tmp_path / "lines.txt", "--output-dir", tmp_path / "out")
    done = command("generate", voice_export, *where, f"--suffix={suffix}")
    assert done.code == 2 and "use one of .wav" in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lines.txt"]


def test_a_byte_order_mark_and_line_ends_change_nothing(many, command, voice_export, tmp_path):
    source = tmp_path / "marked.txt"
    lines = ['{"text": "First.", "speaker": "lj"}', "A form\x0cfeed and a line\u2028separator\x85here.", "Third."]
    (tmp_path / "other.txt").write_text('\ufeff{"text": "First.", "speaker": "lj"}', encoding="utf-8")
    source.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode() + b"\r\n\xef\xbb\xbf" + lines[0].encode())
    done = command("generate", voice_export, "--input", source, "--output-dir", many.folder, "--pace=4")
    names = {path.name for path in many.folder.iterdir()}
    assert {"0001.wav", "0003.wav", "0004.wav"} <= names <= {"0001.wav", "0002.wav", "0003.wav", "0004.wav"}, done.err
    assert (many.folder / "0001.wav").read_bytes() == (many.folder / "0004.wav").read_bytes()


@pytest.mark.parametrize("coding", ["utf-16", "utf-32", "latin-1"])
def test_another_encoding_is_named(command, voice_export, tmp_path, coding):
    (tmp_path / "lines.txt").write_bytes("café\n".encode(coding))
    done = command("generate", voice_export, "--input", tmp_path / "lines.txt", "--output-dir", tmp_path / "out")
    assert done.code == 2 and "cannot be read as UTF-8 text" in done.err and "save it as UTF-8" in done.err


def test_what_no_json_reader_survives_fails_alone(many):
    bad = ['{"seed": 9' + "9" * 5000 + "}", '{"text": ' + "[" * 100_000, '{"text": "half \\ud83d"}', '{"text": [1]}']
    done = many("\n".join(["Good one.", *bad, "Another."]), "--pace=4")
    assert (done.code, done.out.split(":")[0]) == (1, "2 written, 0 kept from before, 4 failed")
    assert "line 4: the line holds half of a surrogate pair (\\ud83d): remove it" in done.err
    assert all(len(line) < 300 for line in done.err.splitlines())


def sound(path):
    return soundfile.read(path)[0]


def test_an_output_of_another_line_flag_or_model_is_made_anew(many, command, voice_export, vocoder_export, tmp_path):
    many("One.\nTwo, and more of it.\n", "--pace=2")
    first, second = many.folder / "0001.wav", many.folder / "0002.wav"
    before = first.stat().st_mtime_ns, len(sound(second))
    done = many("One.\nTwo, and much, much more of it than there was.\n", "--pace=2")
    assert done.out.startswith("1 written, 1 kept from before, 0 failed")
    assert "1 were there and are made anew" in done.out
    assert first.stat().st_mtime_ns == before[0] and len(sound(second)) > before[1]
    done = many("One.\nTwo.\n", "--pace=2", "--speaker=lj")
    assert done.out.startswith("2 written, 0 kept")
    assert many("One.\nTwo.\n", "--pace=2", "--speaker=lj").out.startswith("0 written, 2 kept")
    other = many("One.\nTwo.\n", "--pace=2", "--speaker=lj", "--component=vocoder=griffin-lim")
    assert other.out.startswith("2 written, 0 kept")
    assert sorted(path.name for path in many.folder.iterdir()) == ["0001.wav", "0002.wav"]


def test_an_empty_output_is_not_done_and_a_strangers_is_not_overwritten(many):
    many.folder.mkdir()
    (many.folder / "0001.wav").write_bytes(b"")
    (many.folder / "0002.wav").write_bytes(b"my own")
    done = many("One.\nTwo.\nThree.\n", "--pace=4")
    assert done.code == 1 and done.out.startswith("2 written, 0 kept from before, 1 failed")
    assert "line 2: 0002.wav is there, and it is not known from what it was made: remove it" in done.err
    assert (many.folder / "0002.wav").read_bytes() == b"my own"
    assert len(sound(many.folder / "0001.wav")) > 0


def test_a_kill_between_note_and_output_leaves_nothing_that_counts(many, monkeypatch):
    """The note stands, the file is not there, and the file of before is gone: it is made at the next run."""
    from unisono import Audio

    many("One.\nTwo.\n", "--pace=4")
    with monkeypatch.context() as patch:
        patch.setattr(Audio, "save", lambda self, path: (_ for _ in ()).throw(KeyboardInterrupt()))
        assert many("One.\nTwo, changed.\n", "--pace=4").code == 130
    assert [path.name for path in many.folder.iterdir()] == ["0001.wav"]
    notes = many.folder.with_name(".out.requests.jsonl")
    notes.write_text(notes.read_text() + '{"file": "00')  # cut
    assert many("One.\nTwo, changed.\n", "--pace=4").out.startswith("1 written, 1 kept from before, 0 failed")
    assert many("One.\nTwo, changed.\n", "--pace=4").out.startswith("0 written, 2 kept from before, 0 failed")


def test_lines_of_the_standard_input(voice_export, tmp_path):
    command = [sys.executable, "-m", "unisono", "generate", voice_export, "--input=-", "--output-dir", tmp_path / "out"]
    done = subprocess.run(command, input=b"\xef\xbb\xbfHello.\r\n", capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["0001.wav"]

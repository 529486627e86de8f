"""Wrong requests: one clear sentence that names the value and the fix, exit code 2, no traceback."""

import pytest
import soundfile
from wrong_input import matches

REQUESTS = {
    "empty": (["--text="], "the text '' is empty", "give at least one word"),
    "blank": (["  \n\t "], "is empty", "give at least one word"),
    "punctuation": (["?! … —"], "'?! … —' holds punctuation only", "give at least one word"),
    "no text": ([], "text is required"),
    "only an emoji": (
        ["🎉"],
        "the text '🎉' holds neither letters nor digits",
        "give at least one word",
    ),
    "another script": (
        ["Hello мир"],
        "'м' (U+043C CYRILLIC SMALL LETTER EM)",
        "'en-us'",
        "spell it out",
    ),
    "control character": (["a \x07 b"], "U+0007", "remove it"),
    "pace 0": (["Hello", "--pace=0"], "pace=0: input should be greater than or equal to 0.25"),
    "pace negative": (
        ["Hello", "--pace", "-1"],
        "pace=-1: input should be greater than or equal to 0.25",
    ),
    "pace nan": (["Hello", "--pace=nan"], "pace='nan': input should be a finite number"),
    "pace .nan": (["Hello", "--pace=.nan"], "pace=nan: input should be a finite number"),
    "pace inf": (["Hello", "--pace=.inf"], "pace=inf: input should be"),
    "pace too high": (["Hello", "--pace=5"], "pace=5: input should be less than or equal to 4"),
    "pace a word": (["Hello", "--pace=fast"], "pace='fast': input should be a valid number"),
    "pace a riddle": (["Hello", "--pace=["], "--pace=[ is not a number, a word or a list"),
    "speaker": (
        ["Hello", "--speaker=katleen"],
        "unknown speaker 'katleen'",
        "did you mean 'kathleen'?",
    ),
    "speaker far off": (["Hello", "--speaker=zz"], "unknown speaker 'zz'", "known: kathleen, lj"),
    "speaker a number": (["Hello", "--speaker=1"], "unknown speaker '1'", "known: kathleen, lj"),
    "shift": (
        ["Hello", "--pitch-shift=13"],
        "pitch_shift=13: input should be less than or equal to 12",
    ),
    "range": (["Hello", "--pitch-range=-0.1"], "pitch_range=-0.1: input should be greater"),
    "energy": (
        ["Hello", "--energy=-13"],
        "energy=-13: input should be greater than or equal to -12",
    ),
    "seed": (["Hello", "--seed=-1"], "seed=-1: input should be greater than or equal to 0"),
    "word paces": (
        ["Hello you", "--word-paces=[1]"],
        "word_paces has 1 numbers, the text has 2 words: give one per word",
    ),
    "word pace 0": (
        ["Hello you", "--word-paces=[1, 0]"],
        "word_paces holds 0.0: each must be from 0.25 to 4",
    ),
    "unknown flag": (
        ["Hello", "--pich-shift=2"],
        "unknown flag --pich_shift",
        "did you mean 'pitch_shift'?",
    ),
    "flag without value": (["Hello", "--pace"], "--pace has no value: write --pace=VALUE"),
    "two texts": (
        ["Hello", "world"],
        "'world' is one text too many: put a text with spaces in quotes",
    ),
    "batch size": (["Hello", "--batch-size=0"], "--batch-size 0 must be at least 1"),
    "device": (["Hello", "--device=gpu9"], "device 'gpu9' cannot be used", "take 'cpu'"),
    "component": (["Hello", "--component=vocoder"], "--component 'vocoder' is not ROLE=WHERE"),
    "component role": (
        ["Hello", "--component=vocodr=griffin-lim"],
        "no component 'vocodr'",
        "did you mean 'vocoder'?",
    ),
    "component place": (["Hello", "--component=vocoder=/nowhere"], "no export at '/nowhere'"),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_requests(complaint, voice_export, tmp_path, name):
    arguments, *parts = REQUESTS[name]
    output = tmp_path / "x.wav"
    matches(complaint("generate", voice_export, *arguments, "-o", output), *parts)
    assert not output.exists()


def test_a_place_for_the_output(complaint, voice_export, tmp_path):
    matches(complaint("generate", voice_export, "Hello"), "where should the output go?", "-o out.wav")
    matches(
        complaint("generate", voice_export, "Hello", "-o", tmp_path / "x.wave"),
        "'.wave'",
        "use one of .wav, .flac",
    )
    matches(
        complaint("generate", voice_export, "Hello", "-o", tmp_path / "x"),
        "a file without suffix",
        "use one of",
    )
    (tmp_path / "file").write_text("")
    matches(
        complaint("generate", voice_export, "Hello", "-o", tmp_path / "file" / "x.wav"),
        "cannot write",
        "another place",
    )
    picture = tmp_path / "x.nonsense"
    matches(
        complaint("generate", voice_export, "Hello", "-o", tmp_path / "x.wav", "--plot", picture),
        "--plot",
        "x.nonsense",
        "cannot be written",
    )


def test_many_texts(complaint, voice_export, tmp_path):
    lines = tmp_path / "lines.txt"
    lines.write_text("Hello\n")
    matches(complaint("generate", voice_export, "--input", lines), "--input needs --output-dir DIR")
    many = ("generate", voice_export, "--input", lines, "--output-dir", tmp_path / "out")
    matches(complaint(*many, "--suffix=.wave"), "'.wave'", "use one of .wav")
    matches(complaint(*many, "--suffix=flac"), "0001flac", "use one of .wav")
    matches(complaint(*many, "Hello"), "'Hello' does not go with --input")
    matches(complaint(*many, "-o", "x.wav"), "-o does not go with --input")
    matches(complaint(*many, "--pce=2"), "unknown flag --pce", "did you mean 'pace'?")
    lines.unlink()
    matches(complaint(*many), "--input", "lines.txt", "cannot be read as UTF-8 text")
    lines.write_bytes(b"caf\xe9\n")
    matches(complaint(*many), "--input", "lines.txt", "cannot be read as UTF-8 text")


def test_twenty_thousand_characters_are_spoken(said, voice_export, tmp_path):
    text = ("The ship left at dawn, and nobody waved. " * 500)[:20_000]
    said("generate", voice_export, text, "--pace=4", "-o", tmp_path / "long.flac")
    assert soundfile.info(tmp_path / "long.flac").duration > 100

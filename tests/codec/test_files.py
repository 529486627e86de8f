"""Sound files to .uc files and back: by hand, on the command line, and all that a file of sound can be."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import unisono
from refused import refused
from unisono import cli
from unisono.coding import ONE
from unisono.errors import DataError, RequestError
from unisono.export import save_export
from unisono.recipe import Recipe
from unisono_codec.codecs.codec import Codec
from unisono_codec.files import recordings as files
from unisono_codec.files.recordings import (
    UNSEEN,
    block_of,
    code_table,
    decode_file,
    describe,
    encode_file,
    fingerprint,
)
from unisono_codec.files.uc import UcReader
from unisono_codec.vocoders.data import make_tone

RATE, HOP = 22050, 512
FACTS = Recipe.read("codec/rvq-tiny").build_data().describe()


def make_codec(seed: int = 0) -> Codec:
    codec = Recipe.read("codec/rvq-tiny", [f"--seed={seed}"]).build_model(FACTS)
    wave = torch.stack([make_tone(i, 32 * HOP, RATE) for i in range(4)])
    codec.train()
    with torch.no_grad():
        codec.net.quantizer(codec.net.encoder(codec.net.encoder.read(wave)))
    return codec.eval()


@pytest.fixture(scope="module")
def codec() -> Codec:
    return make_codec()


@pytest.fixture(scope="module")
def export(codec, tmp_path_factory) -> Path:
    return save_export(codec, tmp_path_factory.mktemp("exports") / "codec")


def write_sound(path: Path, samples: Any, rate: int = RATE, **how: Any) -> Path:
    soundfile.write(path, np.asarray(samples, np.float32), rate, **how)
    return path


def tone(num_samples: int, number: int = 0, rate: int = RATE) -> np.ndarray:
    return make_tone(number, num_samples, rate).numpy()


@pytest.fixture
def sound(tmp_path) -> Path:
    return write_sound(tmp_path / "in.wav", tone(3 * RATE + 77), subtype="FLOAT")


# ---- there and back ----------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [None, 1])
def test_a_file_holds_the_codecs_tokens(codec, sound, tmp_path, levels):
    made = encode_file(codec, sound, tmp_path / "x.uc", levels=levels)
    wave = torch.from_numpy(tone(3 * RATE + 77))[None]
    wanted = torch.cat(list(codec.encode_stream([wave], levels, block_of(codec))), 1)
    with (tmp_path / "x.uc").open("rb") as file:
        reader = UcReader(file)
        found = np.concatenate([chunk.codes(reader.header, code_table(codec)) for chunk in reader.chunks()], 1)
    np.testing.assert_array_equal(found, wanted.numpy())
    assert (made.num_samples, made.header.streams) == (3 * RATE + 77, tuple(codec.streams[: levels or 2]))
    assert made == describe(tmp_path / "x.uc")
    assert made.num_bytes == (tmp_path / "x.uc").stat().st_size
    assert made.payload_bit_rate < made.bit_rate
    assert made.header.nominal_bit_rate == pytest.approx(codec.bit_rate(levels))


def test_what_is_decoded_is_what_the_codec_decodes(codec, sound, tmp_path):
    encode_file(codec, sound, tmp_path / "x.uc")
    decode_file(codec, tmp_path / "x.uc", tmp_path / "out.wav")
    tokens = codec.encode_stream([torch.from_numpy(tone(3 * RATE + 77))[None]], None, block_of(codec))
    wanted = torch.cat(list(codec.decode_stream(tokens, block_of(codec))), 1)[0, : 3 * RATE + 77]
    samples, rate = soundfile.read(tmp_path / "out.wav", dtype="float32")
    assert (rate, len(samples)) == (RATE, 3 * RATE + 77)
    # A sample of 16 bits is off by half a step at most.
    np.testing.assert_allclose(samples, wanted.numpy().clip(-1, 1), atol=2**-15)


def test_long_files_have_several_chunks(codec, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "CHUNK_SECONDS", 1.0)
    write_sound(tmp_path / "in.wav", tone(4 * RATE))
    made = encode_file(codec, tmp_path / "in.wav", tmp_path / "x.uc")
    assert sum(made.codings.values()) == math.ceil(4 * RATE / HOP / round(RATE / HOP))
    decode_file(codec, tmp_path / "x.uc", tmp_path / "out.flac")
    assert soundfile.info(tmp_path / "out.flac").frames == 4 * RATE


def test_the_histogram_makes_files_smaller(codec, tmp_path):
    """A table of the codes' own use shortens them; without one the file is plain bits, and says so."""
    wave = np.concatenate([tone(RATE, i) for i in range(8)])
    write_sound(tmp_path / "in.wav", wave)
    counts = [level.counts.clone() for level in codec.net.quantizer.levels]
    try:
        tokens = codec.encode(torch.from_numpy(wave)[None])[0]
        for level, column in zip(codec.net.quantizer.levels, tokens.T, strict=True):
            level.counts.copy_(torch.bincount(column, minlength=8))
        shorter = encode_file(codec, tmp_path / "in.wav", tmp_path / "x.uc")
        for level in codec.net.quantizer.levels:
            level.counts.zero_()
        assert code_table(codec) is None
        plain = encode_file(codec, tmp_path / "in.wav", tmp_path / "y.uc")
    finally:
        for level, count in zip(codec.net.quantizer.levels, counts, strict=True):
            level.counts.copy_(count)
    assert shorter.codings == {"bits": 0, "rANS": 1} and plain.codings == {"bits": 1, "rANS": 0}
    assert shorter.payload_bytes < plain.payload_bytes
    assert plain.payload_bytes == math.ceil(math.ceil(8 * RATE / HOP) * 2 * 3 / 8)


def test_the_table_is_that_of_each_stream(codec):
    """Row by row, the code that the quantiser took most often is the table's most frequent."""
    table = code_table(codec)
    for row, (group, level) in zip(table.rows, codec.streams, strict=True):
        assert group == 0
        counts = codec.net.quantizer.levels[level].counts
        assert counts[row.argmax()] == counts.max()


def test_the_table_of_groups_follows_the_streams():
    """Every codebook is told its own favourite code: the table's rows have them in the tokens' order."""
    recipe = Recipe.read("codec/grvq-tiny")
    codec = recipe.build_model(recipe.build_data().describe())
    tokens = codec.encode(torch.from_numpy(tone(RATE))[None])[0]
    assert tokens.shape[1] == codec.num_codebooks == codec.num_groups * codec.num_levels > codec.num_groups > 1
    vectors = torch.zeros(1, 1, codec.num_codebooks, dtype=torch.int64)
    books = [m for m in codec.net.quantizer.modules() if isinstance(getattr(m, "counts", None), torch.Tensor)]
    for index, book in enumerate(books):
        book.counts.zero_()
        book.counts[index] = 100.0
    table = code_table(codec)
    # a code that training did not see shares in the 2 % that are spread evenly
    frequencies = np.stack(table.rows)
    unseen, size = frequencies.min(1), codec.codebook_size
    assert np.abs(unseen - ONE * UNSEEN / size / (1 + UNSEEN)).max() < 3
    favourites = frequencies.argmax(1)
    for place, favourite in enumerate(favourites):
        # The codebook of this favourite is the one that changes when the token at this place does.
        changed = vectors.clone()
        changed[..., place] = 1
        before = codec.embed(vectors)
        weight = next(p for name, p in books[favourite].named_parameters() if p.shape[0] == codec.codebook_size)
        kept = weight.detach().clone()
        with torch.no_grad():
            weight[1] += 1
            assert torch.equal(codec.embed(vectors), before)
            moved = codec.embed(changed)
            weight.copy_(kept)
        assert not torch.equal(moved, codec.embed(changed))


def test_the_fingerprint_is_of_the_weights(codec, export):
    assert fingerprint(codec) == fingerprint(unisono.load(export).model) == fingerprint(make_codec())
    assert fingerprint(codec) != fingerprint(make_codec(1))
    changed = make_codec()
    with torch.no_grad():
        next(changed.parameters()).view(-1)[0] += 1e-3
    assert fingerprint(changed) != fingerprint(codec)


def test_memory_does_not_grow_with_length(codec, tmp_path, monkeypatch):
    """No network sees more frames of two minutes than of twenty seconds: a block, and what it sees around it."""
    seen: dict[str, list[int]] = {}
    for name, part in (("encoder", codec.net.encoder), ("mel", codec.net.decoder)):
        method = "forward" if name == "encoder" else "mel"
        inner = getattr(part, method)

        def watched(x, *args, name=name, inner=inner):
            seen.setdefault(name, []).append(x.shape[1])
            return inner(x, *args)

        monkeypatch.setattr(part, method, watched)
    most = []
    for seconds in (20, 120):
        seen.clear()
        write_sound(tmp_path / "in.wav", np.tile(tone(RATE), seconds))
        encode_file(codec, tmp_path / "in.wav", tmp_path / "x.uc")
        decode_file(codec, tmp_path / "x.uc", tmp_path / "out.wav")
        most.append({name: max(lengths) for name, lengths in seen.items()})
    assert most[0] == most[1]
    assert most[0]["mel"] == block_of(codec) + 2 * codec.net.decoder.context
    assert block_of(codec) == round(5 * RATE / HOP)


FRESH = """
import sys
import unisono
from unisono_codec.files.recordings import decode_file, encode_file
from refused import refused
codec = unisono.load(sys.argv[1]).model
encode_file(codec, sys.argv[2], sys.argv[2] + ".uc")
decode_file(codec, sys.argv[2] + ".uc", sys.argv[2] + ".flac")
with open("/proc/self/status") as status:
    print(next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 2**10)
"""
HOUR = 60
"""Minutes."""


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory of a process is read from /proc")
def test_an_hour_takes_the_memory_of_a_minute(export, tmp_path):
    """Of a process of its own, in MiB; an hour of samples alone would be 300."""
    peaks = []
    for minutes in (1, HOUR):
        sound = tmp_path / f"{minutes}.wav"
        with soundfile.SoundFile(sound, "w", RATE, 1) as file:
            for _ in range(minutes):
                file.write(np.tile(tone(RATE), 60))
        command = [sys.executable, "-c", FRESH, export, sound]
        done = subprocess.run(command, capture_output=True, text=True, timeout=1700)
        assert done.returncode == 0, done.stderr
        peaks.append(float(done.stdout))
        assert soundfile.info(f"{sound}.flac").frames == minutes * 60 * RATE
    assert peaks[1] < peaks[0] + 60


# ---- whatever a sound can be -------------------------------------------------------------------


@pytest.mark.parametrize("num_samples", [1, 220, 511, 512, 513])
def test_a_very_short_sound(codec, tmp_path, num_samples):
    """10 ms, and less: a frame or two, and as many samples back."""
    write_sound(tmp_path / "in.wav", tone(num_samples))
    made = encode_file(codec, tmp_path / "in.wav", tmp_path / "x.uc")
    assert made.num_samples == num_samples
    decode_file(codec, tmp_path / "x.uc", tmp_path / "out.wav")
    samples, _ = soundfile.read(tmp_path / "out.wav")
    assert len(samples) == num_samples and np.isfinite(samples).all()


@pytest.mark.parametrize("kind", ["silence", "clipped", "beyond"])
def test_silence_and_clipping(codec, tmp_path, kind):
    signs = np.sign(tone(RATE))
    samples = {"silence": np.zeros(RATE), "clipped": signs, "beyond": 4 * signs}[kind]
    write_sound(tmp_path / "in.wav", samples, subtype="FLOAT")
    encode_file(codec, tmp_path / "in.wav", tmp_path / "x.uc")
    decode_file(codec, tmp_path / "x.uc", tmp_path / "out.wav")
    heard, _ = soundfile.read(tmp_path / "out.wav")
    assert len(heard) == RATE and np.isfinite(heard).all() and np.abs(heard).max() <= 1


def test_each_channel_is_coded_by_itself(codec, tmp_path):
    left, right = tone(RATE), tone(RATE, 1)
    write_sound(tmp_path / "in.wav", np.stack([left, right], 1))
    for name, channel in (("left", left), ("right", right)):
        write_sound(tmp_path / f"{name}.wav", channel)
        encode_file(codec, tmp_path / f"{name}.wav", tmp_path / f"{name}.uc")
        decode_file(codec, tmp_path / f"{name}.uc", tmp_path / f"{name}-out.wav")
    made = encode_file(codec, tmp_path / "in.wav", tmp_path / "x.uc")
    assert made.header.num_channels == 2
    assert made.header.nominal_bit_rate == pytest.approx(2 * codec.bit_rate())
    decode_file(codec, tmp_path / "x.uc", tmp_path / "out.wav")
    both, _ = soundfile.read(tmp_path / "out.wav")
    alone = np.stack([soundfile.read(tmp_path / f"{name}-out.wav")[0] for name in ("left", "right")], 1)
    # A batch of two is added up in another order; a code may fall to the other side.
    assert both.shape == alone.shape
    assert (np.abs(both - alone) < 1e-3).mean() > 0.98
    assert np.abs(alone[:, 0] - alone[:, 1]).max() > 0.01
    mono = encode_file(codec, tmp_path / "in.wav", tmp_path / "mono.uc", mono=True)
    assert mono.header.num_channels == 1 and mono.num_samples == RATE


@pytest.mark.parametrize(("rate", "suffix"), [(8000, ".wav"), (48000, ".flac"), (44100, ".ogg")])
def test_another_rate_is_resampled(codec, tmp_path, rate, suffix):
    write_sound(tmp_path / f"in{suffix}", tone(2 * rate, rate=rate), rate)
    made = encode_file(codec, tmp_path / f"in{suffix}", tmp_path / "x.uc")
    assert made.header.sample_rate == RATE
    assert made.seconds == pytest.approx(2, abs=1 / RATE)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".opus", ".mp3"])
def test_every_suffix_that_is_offered_is_written(codec, sound, tmp_path, suffix):
    encode_file(codec, sound, tmp_path / "x.uc")
    decode_file(codec, tmp_path / "x.uc", tmp_path / f"out{suffix}")
    assert soundfile.info(tmp_path / f"out{suffix}").duration == pytest.approx(3, abs=0.1)


# ---- the command line --------------------------------------------------------------------------


@pytest.fixture
def command(capsys) -> Callable[..., tuple[int, str, str]]:
    def run(*argv: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = cli.main([str(item) for item in argv])
        except SystemExit as stop:
            code = int(stop.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_encode_info_and_decode(command, export, tmp_path):
    write_sound(tmp_path / "in.wav", np.stack([tone(16000, i, 16000) for i in range(2)], 1), 16000)
    code, out, _ = command("codec", "encode", tmp_path / "in.wav", tmp_path / "x.uc", "--codec", export, "--levels=1")
    assert code == 0
    assert "resampled: 16000 Hz to the codec's 22050 Hz" in out and "x.uc: 1.00 s, " in out
    code, out, _ = command("codec", "info", tmp_path / "x.uc")
    assert code == 0
    sizes = "1.00 s, 22050 samples of 2 channel(s) at 22050 Hz", "1 levels × 1 group(s) of 8"
    for part in ("codec/rvq, weights", *sizes, "kbit/s in all", "chunks: 1 of"):
        assert part in out, out
    code, out, _ = command("codec", "info", tmp_path / "x.uc", "--json")
    found = json.loads(out)
    assert (found["codec"], found["num_channels"], found["num_samples"]) == ("codec/rvq", 2, 22050)
    assert found["num_bytes"] == (tmp_path / "x.uc").stat().st_size
    code, out, _ = command("codec", "decode", tmp_path / "x.uc", tmp_path / "out.wav", "--codec", export)
    assert (code, out) == (0, f"{tmp_path / 'out.wav'}: 1.00 s, 22050 Hz, 2 channels\n")
    code, out, _ = command("codec", "encode", tmp_path / "in.wav", tmp_path / "y.uc", "--codec", export, "--mono")
    assert code == 0 and "averaged: 2 channels into one" in out


def test_the_verb_is_listed_and_explains_itself(command):
    assert "encode sound and pictures into small files" in command("--help")[1]
    code, out, _ = command("codec", "--help")
    assert code == 0 and all(action in out for action in ("encode", "decode", "info"))
    assert command("codec")[0] == 2
    assert "--levels" in command("codec", "encode", "--help")[1]


def nan_sound(folder: Path) -> Path:
    return write_sound(folder / "nan.wav", [0.0, math.nan, 0.0] * 1000, subtype="FLOAT")


def cut_sound(folder: Path) -> Path:
    path = write_sound(folder / "cut.wav", tone(RATE))
    path.write_bytes(path.read_bytes()[:20000])
    return path


WRONG_ENCODE = {
    "nan": (nan_sound, [], "nan.wav: holds NaN or infinite samples; export it again"),
    "truncated": (cut_sound, [], "cut.wav: truncated: its header promises"),
    "empty": (lambda f: write_sound(f / "no.wav", []), [], "no.wav: holds no samples"),
    "missing": (lambda f: f / "nowhere.wav", [], "nowhere.wav: no such audio file"),
    "text": (lambda f: (f / "a.txt").write_text("hello") and f / "a.txt", [], "a.txt: cannot be read as audio"),
    "levels": (lambda f: write_sound(f / "a.wav", tone(RATE)), ["--levels=3"], "levels=3 must be from 1 to 2"),
    "no level": (lambda f: write_sound(f / "a.wav", tone(RATE)), ["--levels=0"], "levels=0 must be from 1 to 2"),
}


@pytest.mark.parametrize("name", WRONG_ENCODE)
def test_what_cannot_be_encoded_is_one_sentence(command, export, tmp_path, name):
    make, flags, message = WRONG_ENCODE[name]
    code, out, err = command("codec", "encode", make(tmp_path), tmp_path / "x.uc", "--codec", export, *flags)
    assert (code, out) == (2, "")
    assert message in err and err.startswith("unisono: ") and err.count("\n") == 1
    assert not list(tmp_path.glob("*x.uc*")), "something was left behind"


def test_what_cannot_be_decoded_is_one_sentence(command, codec, export, sound, tmp_path):
    encode_file(codec, sound, tmp_path / "x.uc")
    data = (tmp_path / "x.uc").read_bytes()
    other = save_export(make_codec(1), tmp_path / "other")
    (tmp_path / "cut.uc").write_bytes(data[:-3])
    (tmp_path / "new.uc").write_bytes(data[:4] + b"\x03" + data[5:])
    cases = [
        (tmp_path / "cut.uc", "out.wav", export, "cut.uc: truncated: it ends in its end"),
        (tmp_path / "new.uc", "out.wav", export, "has .uc format 3"),
        (sound, "out.wav", export, "in.wav: is not a .uc file, it begins with b'RIFF'"),
        (tmp_path / "x.uc", "out.wav", other, "this codec is codec/rvq with weights"),
        (tmp_path / "nowhere.uc", "out.wav", export, "nowhere.uc: no such .uc file"),
        (tmp_path / "x.uc", "out.doc", export, "cannot write '.doc'; use one of .wav, .flac"),
        (tmp_path / "x.uc", "out", export, "cannot write 'a file without suffix'"),
        (tmp_path / "x.uc", "out.wav", tmp_path / "none", "no export at"),
    ]
    for file, dest, which, message in cases:
        code, _, err = command("codec", "decode", file, tmp_path / dest, "--codec", which)
        assert code == 2 and message in err and err.count("\n") == 1, err
        assert not list(tmp_path.glob("*out*")), "something was left behind"
    for path, message in ((tmp_path / "cut.uc", "truncated"), (sound, "is not a .uc file")):
        code, _, err = command("codec", "info", path)
        assert code == 2 and message in err


def test_codecs_of_transformers_are_imported(command, sound, tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = transformers.EncodecConfig(
        num_filters=4, hidden_size=8, upsampling_ratios=[4, 5, 2], num_lstm_layers=1, codebook_size=16,
        target_bandwidths=[2.4, 9.6], sampling_rate=24000,
    )  # fmt: skip
    transformers.EncodecModel(config).save_pretrained(tmp_path / "theirs")
    code, out, err = command("codec", "import", tmp_path / "theirs", tmp_path / "ours", "--licence=MIT")
    assert (code, out) == (0, f"export: {tmp_path / 'ours'}\n"), err
    assert unisono.load(tmp_path / "ours").info["card"]["licence"] == "MIT"
    assert command("codec", "encode", sound, tmp_path / "x.uc", "--codec", tmp_path / "ours")[0] == 0
    assert command("codec", "decode", tmp_path / "x.uc", tmp_path / "out.wav", "--codec", tmp_path / "ours")[0] == 0
    codec = unisono.load(tmp_path / "ours").model
    with (tmp_path / "x.uc").open("rb") as file:
        reader = UcReader(file)
        found = np.concatenate([chunk.codes(reader.header, code_table(codec)) for chunk in reader.chunks()], 1)
    wave = torch.from_numpy(np.concatenate(list(files.read_blocks(sound, 24000))).T.copy())
    assert np.array_equal(found, codec.encode(wave).numpy())  # causal: a file has the very tokens of encode
    code, _, err = command("codec", "import", tmp_path / "theirs", tmp_path / "ours")
    assert code == 2 and "add --overwrite" in err
    code, _, err = command("codec", "import", tmp_path, tmp_path / "new")
    assert code == 2 and "has no config.json" in err


def test_a_model_that_is_no_codec_is_refused(command, vocoder_export, sound, tmp_path):
    code, _, err = command("codec", "encode", sound, tmp_path / "x.uc", "--codec", vocoder_export)
    assert code == 2 and "is a codec/vocos, not a codec" in err


def test_a_place_that_cannot_be_written(codec, sound, tmp_path):
    (tmp_path / "file").write_text("")
    with refused(RequestError, "write", "x.uc", value="file exists"):
        encode_file(codec, sound, tmp_path / "file" / "x.uc")
    with refused(DataError, "unsupported", "out", value="", names="a file without suffix"):
        decode_file(codec, tmp_path / "x.uc", tmp_path / "out")


def test_a_failure_leaves_what_was_there(codec, sound, tmp_path):
    encode_file(codec, sound, tmp_path / "x.uc")
    before = (tmp_path / "x.uc").read_bytes()
    with refused(DataError, "damaged", "nan.wav", value="holds NaN or infinite samples"):
        encode_file(codec, nan_sound(tmp_path), tmp_path / "x.uc")
    assert (tmp_path / "x.uc").read_bytes() == before
    assert not list(tmp_path.glob(".part*"))


@pytest.mark.parametrize("levels", [2.5, 1.0, "1", True, 0, 3])
def test_levels_are_a_whole_number(codec, sound, tmp_path, levels):
    with refused(RequestError, "range", "levels", value=levels, names=["1", "2"]):
        encode_file(codec, sound, tmp_path / "x.uc", levels=levels)
    assert not (tmp_path / "x.uc").exists()


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".opus", ".mp3"])
def test_a_full_disk_is_one_sentence_and_leaves_what_was_there(codec, tmp_path, suffix):
    """A limit on the size of files stands for the disk: Ogg's last page is written, or not, where nobody looks."""
    import resource
    import signal

    write_sound(tmp_path / "long.wav", np.tile(tone(RATE), 12))
    encode_file(codec, tmp_path / "long.wav", tmp_path / "x.uc")
    size = (tmp_path / "x.uc").stat().st_size
    out = tmp_path / f"out{suffix}"
    out.write_text("was here")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, hard))
        with refused(RequestError, "write", "new.uc", value="file too large"):
            encode_file(codec, tmp_path / "long.wav", tmp_path / "new.uc")
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, hard))
        with refused(RequestError, "write", f"out{suffix}"):
            decode_file(codec, tmp_path / "x.uc", out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert out.read_text() == "was here"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["long.wav", f"out{suffix}", "x.uc"]


def test_half_an_ogg_is_not_encoded(codec, tmp_path):
    write_sound(tmp_path / "a.ogg", tone(4 * RATE), format="OGG", subtype="VORBIS")
    data = (tmp_path / "a.ogg").read_bytes()
    (tmp_path / "a.ogg").write_bytes(data[: len(data) // 2])
    with refused(DataError, "damaged", "a.ogg"):
        encode_file(codec, tmp_path / "a.ogg", tmp_path / "x.uc")
    assert not (tmp_path / "x.uc").exists()


def test_only_regular_files_are_described(tmp_path):
    for place in ("/dev/zero", tmp_path, tmp_path / ("a" * 300)):
        with refused(DataError, "missing" if str(place).endswith("a" * 300) else "format", place):
            describe(place)


def test_blocks_at_another_rate_are_the_whole_resampled(tmp_path):
    wave = np.stack([tone(7 * 16000, i, 16000) for i in range(2)], 1)
    write_sound(tmp_path / "a.wav", wave, 16000, subtype="FLOAT")
    blocks = np.concatenate(list(files.read_blocks(tmp_path / "a.wav", RATE)))
    whole = files.soxr.resample(wave, 16000, RATE, quality="HQ")
    assert abs(len(blocks) - len(whole)) <= 1
    n = min(len(blocks), len(whole))
    np.testing.assert_allclose(blocks[:n], whole[:n], atol=2e-4)
    mono = np.concatenate(list(files.read_blocks(tmp_path / "a.wav", RATE, mono=True)))
    np.testing.assert_allclose(mono[:n, 0], whole[:n].mean(1), atol=2e-4)

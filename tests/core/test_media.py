"""Audio, images and texts: joining, files, and how they show themselves."""

import base64
import errno
import io
import json
import os
import re
import resource
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
from refused import refused
from unisono import Audio, Image, Media, Segment, Text
from unisono.errors import RequestError
from unisono.media import Curve
from unisono.media.opus import OPUS_RATES

RATE = 8000


def make_audio(seconds: float = 0.5, channels: int = 1, rate: int = RATE, seed: int = 0) -> Audio:
    generator = np.random.default_rng(seed)
    wave = 0.2 * generator.standard_normal((channels, round(seconds * rate))).astype(np.float32)
    segments = (
        Segment("ɑ", 0.0, seconds / 2),
        Segment("n", seconds / 2, seconds),
        Segment("on", 0.0, seconds, "word"),
    )
    times = np.linspace(0, seconds, 5)
    curves = {"pitch": Curve(times, np.array([np.nan, 120, 130, 125, np.nan]), "Hz")}
    return Audio(wave.clip(-1, 1), rate, segments, curves)


def test_join_moves_segments_and_curves():
    first, second, third = make_audio(0.5), make_audio(0.25, seed=1), make_audio(1.0, seed=2)
    joined = Audio.join([first, second, third])
    assert joined.seconds == pytest.approx(1.75)
    np.testing.assert_array_equal(joined.waveform[:, 4000:6000], second.waveform)
    assert [s.label for s in joined.segments] == ["ɑ", "n", "on"] * 3
    assert [(s.start, s.end, s.kind) for s in joined.segments[3:6]] == [
        (0.5, 0.625, "phoneme"), (0.625, 0.75, "phoneme"), (0.5, 0.75, "word"),
    ]  # fmt: skip
    curve = joined.curves["pitch"]
    np.testing.assert_allclose(curve.times[5:10], second.curves["pitch"].times + 0.5)
    np.testing.assert_allclose(curve.times[10:], third.curves["pitch"].times + 0.75)
    np.testing.assert_array_equal(curve.values, np.tile(first.curves["pitch"].values, 3))
    assert curve.unit == "Hz"


def test_join_is_associative_and_one_piece_is_itself():
    a, b, c = (make_audio(0.3, seed=i) for i in range(3))
    left, right = Audio.join([Audio.join([a, b]), c]), Audio.join([a, Audio.join([b, c])])
    np.testing.assert_array_equal(left.waveform, right.waveform)
    assert [s.label for s in left.segments] == [s.label for s in right.segments]
    np.testing.assert_allclose(left.curves["pitch"].times, right.curves["pitch"].times)
    assert Audio.join([a]).segments == a.segments


def test_a_curve_of_some_pieces_keeps_their_times():
    bare = Audio(np.zeros((1, RATE), np.float32), RATE)
    joined = Audio.join([bare, make_audio(0.5)])
    assert joined.curves["pitch"].times[0] == 1.0


def test_join_refuses_nothing_and_mixed_rates():
    with refused(RequestError, "empty", "pieces"):
        Audio.join([])
    with refused(RequestError, "conflict", "sample_rate", value=16000, names="8000"):
        Audio.join([make_audio(), make_audio(rate=16000)])


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
@pytest.mark.parametrize("channels", [1, 2])
def test_saved_sound_is_the_same_within_sixteen_bits(tmp_path, suffix, channels):
    audio = make_audio(channels=channels)
    path = audio.save(tmp_path / "new" / f"sound{suffix}")
    samples, rate = soundfile.read(path, always_2d=True)
    assert rate == RATE
    np.testing.assert_allclose(samples.T, audio.waveform, atol=2**-15)


def tone(rate: int, channels: int = 1) -> Audio:
    """Two tones that every codec holds, for a number of samples that fits no codec's frames."""
    times = np.arange(round(0.7345 * rate)) / rate
    wave = 0.3 * np.sin(2 * np.pi * 440 * times) + 0.1 * np.sin(2 * np.pi * 1200 * times)
    return Audio(np.tile(wave.astype(np.float32), (channels, 1)), rate)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000])
@pytest.mark.parametrize(
    ("suffix", "least"), [(".WAV", 80), (".flac", 80), (".ogg", 30), (".opus", 15), (".mp3", 20), (".pcm", 80)]
)
@pytest.mark.parametrize("channels", [1, 2])
def test_formats_are_read_back_sample_by_sample(tmp_path, rate, suffix, least, channels):
    """As many samples, in their places: a sample earlier or later they fit worse, of Opus two: what its coder for
    speech resamples within is a part of a sample late, which no container says."""
    audio = tone(rate, channels)
    path = audio.save(tmp_path / f"sound{suffix}")
    if suffix == ".pcm":
        raw = {"samplerate": rate, "channels": channels, "format": "RAW", "subtype": "PCM_16", "endian": "LITTLE"}
        samples, read = soundfile.read(path, always_2d=True, **raw)
    else:
        samples, read = soundfile.read(path, always_2d=True)
    wanted = audio.waveform.T.astype(float)
    if suffix == ".opus" and rate not in OPUS_RATES:  # resampled to the next rate that Opus has
        assert read == next(own for own in OPUS_RATES if own > rate)
        wanted = tone(read, channels).waveform.T.astype(float)
        assert abs(len(samples) / read - audio.seconds) < 1 / rate
        samples, wanted = samples[: len(wanted)][:-200], wanted[: len(samples)][:-200]  # the end rings
    assert (read, samples.shape) == (read if suffix == ".opus" else rate, wanted.shape)
    noise = ((samples - wanted) ** 2).sum()
    assert 10 * np.log10((wanted**2).sum() / noise) > least
    near = 2 if suffix == ".opus" else 1
    assert all(((np.roll(samples, shift, axis=0) - wanted) ** 2).sum() > noise for shift in (-near, near))


@pytest.mark.parametrize("suffix", Audio.streamed)
def test_pieces_are_one_file(suffix):
    audio = tone(24000)
    pieces = [Audio(audio.waveform[:, a:b], 24000) for a, b in ((0, 1), (1, 9001), (9001, None))]
    made = b"".join(Audio.encode_pieces(iter(pieces), suffix.upper()))
    if suffix == ".pcm":
        assert made == audio.pcm()
    elif suffix == ".wav":
        assert made[44:] == audio.pcm() and made[40:44] == b"\xff\xff\xff\xff"
    elif suffix == ".flac":
        whole = audio.encoded(suffix)
        assert made[:4] == b"fLaC" and made[42:] == whole[42:]
    else:
        samples, rate = soundfile.read(io.BytesIO(made))
        delay = 3 * 1152 if suffix == ".mp3" else 0  # of which a table at the beginning would have told
        assert rate == 24000 and 0 <= len(samples) - audio.waveform.shape[1] <= delay
    assert b"".join(Audio.encode_pieces(iter([]), suffix)) == b""


def test_pieces_of_what_cannot_be_are_refused():
    with refused(RequestError, "unsupported", "stream", value=".ogg", names=".wav, .flac, .opus, .mp3, .pcm"):
        list(Audio.encode_pieces(iter([]), ".ogg"))
    with refused(RequestError, "unsupported", "stream", value=".png"):
        list(Image.encode_pieces(iter([]), ".png"))
    with refused(RequestError, "unsupported", "x.aac", value=".aac"):
        list(Audio.encode_pieces(iter([]), ".aac"))
    assert b"".join(Text.encode_pieces(iter([Text("Grü"), Text("ße")]), ".txt")) == "Grüße".encode()


@pytest.mark.parametrize(("suffix", "rate", "channels"), [(".opus", 8000, 300), (".mp3", 96000, 1), (".mp3", 8000, 3)])
def test_what_a_format_cannot_hold_is_named(tmp_path, suffix, rate, channels):
    with refused(RequestError, "unsupported", "waveform", value=(channels, rate), names=[str(rate), ".wav"]):
        make_audio(0.1, channels, rate).save(tmp_path / f"x{suffix}")
    assert not list(tmp_path.iterdir())


def test_a_kind_without_times_says_so(tmp_path):
    with refused(RequestError, "unsupported", "times", value="Text"):
        Text("a").save_times(tmp_path / "x.srt")
    with refused(RequestError, "unsupported", "times", value="Audio"):
        Audio(np.zeros((1, 8), np.float32), RATE).save_times(tmp_path / "x.srt")
    assert Text("a").times() is None and make_audio().times().length == make_audio().waveform.shape[1]


def test_what_is_too_loud_is_clipped_not_wrapped(tmp_path):
    loud = Audio(np.array([[0.0, 1.5, -2.0, 0.5]], np.float32), RATE)
    samples, _ = soundfile.read(loud.save(tmp_path / "loud.wav"))
    np.testing.assert_allclose(samples, [0, 1, -1, 0.5], atol=2**-14)


@pytest.mark.parametrize(
    ("name", "code", "value", "told"),
    [
        ("x.txt", "unsupported", ".txt", "use one of .wav, .flac, .ogg, .opus, .mp3, .pcm"),
        ("x", "unsupported", "", "use one of .wav, .flac, .ogg, .opus, .mp3, .pcm"),
        ("file/x.wav", "write", "file exists", "choose another place"),
        ("folder.wav", "write", "is a directory", "choose another place"),
    ],
)
def test_a_place_that_cannot_be_written_is_named(tmp_path, name, code, value, told):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.wav").mkdir()
    with refused(RequestError, code, name, value=value, names=told):
        make_audio().save(tmp_path / name)


def test_it_shows_itself_in_a_notebook():
    audio = make_audio()
    shown = audio._repr_html_()
    assert 'title="Audio(0.50 s, 8000 Hz, 1 channel)"' in shown
    data = re.search(r"base64,([^\"]+)", shown)
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(data[1])))
    assert rate == RATE
    np.testing.assert_allclose(samples, audio.waveform[0], atol=2**-15)
    assert repr(make_audio(channels=2)) == "Audio(0.50 s, 8000 Hz, 2 channels)"


def test_a_waveform_has_channels():
    with pytest.raises(ValueError, match=r"waveform must be \[channels, samples\], got shape \(5,\)"):
        Audio(np.zeros(5, np.float32), RATE)


def test_a_kind_of_media_must_say_how_it_is_written_and_drawn(tmp_path):
    class Poem(Media):
        suffixes = (".txt",)

    with pytest.raises(TypeError, match="Poem does not say how it is written"):
        Poem().save(tmp_path / "x.txt")
    with pytest.raises(TypeError, match="Poem does not say how it is drawn"):
        Poem().plot()


def picture(width: int = 4, height: int = 3) -> Image:
    pixels = np.zeros((3, height, width), np.float32)
    pixels[0], pixels[1, 0] = 1.0, 0.5
    return Image(pixels)


def test_an_image_is_saved_as_it_is(tmp_path):
    from PIL import Image as Pillow

    image = picture()
    path = image.save(tmp_path / "deep" / "x.png")
    with Pillow.open(path) as opened:
        back = np.asarray(opened)
    assert back.shape == (3, 4, 3) and back.dtype == np.uint8
    assert back[0, 0].tolist() == [255, 128, 0] and back[2, 3].tolist() == [255, 0, 0]
    assert np.array_equal(Image(back.transpose(2, 0, 1)).bytes, image.bytes)
    for suffix in (".jpg", ".webp"):
        with Pillow.open(image.save(tmp_path / f"x{suffix}")) as opened:
            assert opened.size == (4, 3)
    with refused(RequestError, "unsupported", "x.bmp", value=".bmp"):
        image.save(tmp_path / "x.bmp")


def test_an_image_shows_itself():
    assert repr(picture()) == "Image(4 × 3)"
    assert "data:image/png;base64," in picture()._repr_html_() and "pixelated" in picture()._repr_html_()
    assert picture().plot().axes
    large = picture().enlarged(3).bytes
    assert large.shape == (9, 12, 3)
    assert np.array_equal(large, picture().bytes.repeat(3, 0).repeat(3, 1))  # each pixel is a square
    with refused(RequestError, "range", "times", value=0):
        picture().enlarged(0)


def test_a_grid_of_images():
    white = Image(np.full((3, 3, 4), 200, np.uint8))
    grid = Image.grid([picture(), white, picture()], columns=2, gap=1)
    assert (grid.width, grid.height) == (9, 7)
    assert grid.bytes[0, 5].tolist() == [200, 200, 200]
    assert grid.bytes[3].tolist() == [[255, 255, 255]] * 9
    assert grid.bytes[4, 0].tolist() == [255, 128, 0] and grid.bytes[4, 5].tolist() == [255, 255, 255]
    with refused(RequestError, "shape", "images", value=[(3, 4), (4, 3)], names=["3 × 4", "4 × 3"]):
        Image.grid([picture(), picture(3, 4)])
    with refused(RequestError, "empty", "images"):
        Image.grid([])
    for name in ("columns", "gap"):
        with refused(RequestError, "range", name, value=-1):
            Image.grid([white], **{name: -1})


def test_an_image_must_have_three_channels():
    for pixels in (np.zeros((1, 2, 2)), np.zeros((2, 2)), np.zeros((3, 0, 2)), np.zeros((3, 2, 2), np.int64)):
        with pytest.raises(ValueError, match="pixels must be"):
            Image(pixels)


def filled() -> Text:
    return Text("a<b\r\nç", (5, 6, 7), ("a<b", "\r\n", "ç"), (-1, 1, 0), {"evaluations": 2})


def test_a_text_is_saved_as_it_is(tmp_path):
    path = filled().save(tmp_path / "deep" / "x.txt")
    assert path.read_bytes() == "a<b\r\nç".encode()
    whole = json.loads(filled().save(tmp_path / "x.json").read_text(encoding="utf-8"))
    assert whole == {
        "text": "a<b\r\nç", "tokens": [5, 6, 7], "pieces": ["a<b", "\r\n", "ç"], "order": [-1, 1, 0],
        "facts": {"evaluations": 2},
    }  # fmt: skip
    assert Text("a\ud800").save(tmp_path / "lone.txt").read_bytes() == b"a?"
    assert Text("").save(tmp_path / "empty.txt").read_bytes() == b""
    with refused(RequestError, "unsupported", "x.pdf", value=".pdf", names=[".txt", ".json"]):
        filled().save(tmp_path / "x.pdf")


def test_a_text_shows_in_which_order_it_was_filled():
    text = filled()
    assert str(text) == text.text and text.num_steps == 2 and Text("x").num_steps == 0
    assert repr(text) == "Text('a<b\\r\\nç', 6 characters, 2 steps)"
    assert repr(Text("x" * 50)).startswith(f"Text('{'x' * 39}…', 50")
    shown = text._repr_html_()
    assert "a&lt;b" in shown and "a<b" not in shown
    titles = re.findall(r'<span title="([^"]+)" style="([^"]*)"', shown)
    assert [name for name, _ in titles] == ["given", "step 1", "step 0"]
    assert titles[0][1] == "" and titles[1][1] != titles[2][1]
    assert "<span" not in Text("a<b")._repr_html_() and "a&lt;b" in Text("a<b")._repr_html_()
    axes = Text("$x$", (1, 2, 3), ("$", "x", "$"), (0, -1, 1)).plot().axes[0]
    filled_points, given = (points.get_offsets().tolist() for points in axes.collections)
    assert filled_points == [[0, 0], [2, 1]] and given == [[1, -1]]
    axes.figure.draw_without_rendering()  # a lone dollar would be half a formula
    with pytest.raises(ValueError, match="does not say in which order"):
        Text("x").plot()


def test_a_text_that_ended_at_once_is_an_empty_page(tmp_path):
    """A model that is little trained may say so; a preview of it must not end the training."""
    page = Text("").plot()
    assert not page.axes[0].collections[0].get_offsets().any()
    page.savefig(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 0


def test_a_text_has_a_piece_and_a_step_for_each_token():
    assert Text("ab", (1, 2), ("a", "b")).order == ()
    with pytest.raises(ValueError, match="not 2 tokens, 1 steps"):
        Text("ab", (1, 2), (), (0,))


def test_a_text_in_a_terminal_shows_what_is_new_and_commands_nothing():
    line = Text("ab\x1b[2J", pieces=("a", "b", "\x1b[2J"), order=(-1, 0, 1)).__rich__()
    assert line.plain == "ab␛[2J"
    assert [(span.start, span.style) for span in line.spans] == [(0, "dim"), (2, "bold green")]
    assert Text("plain").__rich__().plain == "plain"


# ---- written whole or not at all ----------------------------------------------------------------


@contextmanager
def files_end_at(size: int):
    """Let no file of this process grow beyond a size, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


NOISY = Image(np.random.default_rng(0).integers(0, 255, (3, 64, 64), np.uint8))
FORMATS = [
    *((make_audio(2.0, rate=16000), suffix) for suffix in Audio.suffixes),
    *((NOISY, suffix) for suffix in Image.suffixes),
    *((Text("word " * 1000), suffix) for suffix in Text.suffixes),
]


@pytest.mark.parametrize(("made", "suffix"), FORMATS)
def test_a_full_disk_leaves_the_old_file_and_no_cut_one(tmp_path, made, suffix):
    path = made.save(tmp_path / f"x{suffix}")
    whole = path.read_bytes()
    path.write_bytes(b"precious")
    for share in (0.0, 0.5, 0.999):
        with files_end_at(int(share * len(whole))), refused(RequestError, "write", path, value="file too large"):
            made.save(path)
        assert path.read_bytes() == b"precious"
    with files_end_at(len(whole) + 100):  # an Ogg stream has a random number of its own
        made.save(path)
    assert len(path.read_bytes()) == pytest.approx(len(whole), abs=100)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    def full(self, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    for made, suffix in FORMATS:
        with refused(RequestError, "write", f"x{suffix}", value="no space left on device"):
            made.save(tmp_path / f"x{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_a_kind_that_fails_half_way_leaves_nothing(tmp_path):
    class Poem(Media):
        suffixes = (".txt",)

        def _write(self, path):
            path.write_text("Half a")
            raise RequestError("no rhyme", code="failed")

    (tmp_path / "x.txt").write_text("precious")
    with refused(RequestError, "failed"):
        Poem().save(tmp_path / "x.txt")
    assert (tmp_path / "x.txt").read_text() == "precious" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("suffix", Audio.suffixes)
def test_what_is_too_loud_is_clipped_before_it_is_encoded(tmp_path, suffix):
    times = np.arange(RATE, dtype=np.float32) / RATE
    loud = Audio(3 * np.sin(2 * np.pi * 440 * times)[None], RATE)
    raw = {"samplerate": RATE, "channels": 1, "format": "RAW", "subtype": "PCM_16", "endian": "LITTLE"}
    samples, _ = soundfile.read(loud.save(tmp_path / f"x{suffix}"), **(raw if suffix == ".pcm" else {}))
    # An encoder that drops what is not heard overshoots by a little; unclipped, the peak would be 3.
    assert abs(samples).max() < (1.2 if suffix in (".ogg", ".opus", ".mp3") else 1.0001)


def test_sound_that_is_none_is_refused(tmp_path):
    with refused(RequestError, "damaged", "waveform"):
        Audio(np.full((1, 100), np.nan, np.float32), RATE).save(tmp_path / "x.wav")
    for suffix in Audio.suffixes:
        with refused(RequestError, "empty", "waveform"):
            Audio(np.zeros((1, 0), np.float32), RATE).save(tmp_path / f"x{suffix}")
    with refused(RequestError, "unsupported", "waveform", value=(1, 96000), names=["96000", ".wav"]):
        make_audio(0.1, rate=96000).save(tmp_path / "x.mp3")
    with refused(RequestError, "unsupported", "pixels", value=(70000, 1), names=["70000 × 1", ".png"]):
        Image(np.zeros((3, 1, 70000), np.uint8)).save(tmp_path / "x.jpg")
    assert list(tmp_path.iterdir()) == []


# ---- hooks --------------------------------------------------------------------------------------


class Board:
    """A TensorBoard writer that keeps what it is given."""

    def __init__(self):
        self.kept = []

    def add_figure(self, tag, figure, step):
        self.kept.append(("figure", tag, step, bool(figure.axes)))

    def add_audio(self, tag, sound, step, sample_rate):
        self.kept.append(("audio", tag, step, sample_rate, sound.shape))

    def add_text(self, tag, text, step):
        self.kept.append(("text", tag, step, text))


class Score(Media):
    """A medium that is no sound and can be heard."""

    suffixes = (".txt",)

    def plot(self):
        return picture().plot()

    def sound(self):
        return make_audio(0.25, channels=2)


def test_what_a_training_log_keeps_of_each_kind():
    board = Board()
    figure = ("figure", "p/0", 7, True)
    for made, kept in (
        (make_audio(channels=2), [figure, ("audio", "p/0", 7, RATE, (1, RATE // 2))]),
        (Score(), [figure, ("audio", "p/0", 7, RATE, (1, RATE // 4))]),
        (picture(), [figure]),
        (filled(), [figure, ("text", "p/0", 7, "    a<b\r\n    ç")]),
        (Text("no order"), [("text", "p/0", 7, "    no order")]),
    ):
        board.kept.clear()
        made.log(board, "p/0", 7)
        assert board.kept == kept


def test_each_kind_says_how_long_it_lasts_how_it_sounds_and_what_a_terminal_shows():
    from rich.console import Console

    audio = make_audio(0.5)
    assert (audio.seconds, audio.sound()) == (0.5, audio)
    for silent in (picture(), filled(), Media()):
        assert silent.seconds is None and silent.sound() is None
    console = Console(file=io.StringIO(), width=80)
    console.print(audio, picture())
    assert console.file.getvalue() == "Audio(0.50 s, 8000 Hz, 1 channel) Image(4 × 3)\n"


def test_samples_are_those_of_a_wave_file():
    audio = make_audio(channels=2)
    loud = Audio(audio.waveform * 4, RATE)
    for sound in (audio, loud):
        samples, rate = soundfile.read(io.BytesIO(sound.encoded(".wav")), dtype="int16")
        assert sound.pcm() == samples.astype("<i2").tobytes() and rate == RATE
    for wave in (np.zeros((1, 0), np.float32), np.full((1, 3), np.nan, np.float32)):
        with refused(RequestError, "damaged" if wave.size else "empty", "waveform"):
            Audio(wave, RATE).pcm()


def test_every_kind_comes_out_as_a_file_in_memory(tmp_path):
    for made, suffix in ((make_audio(), ".flac"), (picture(), ".webp"), (filled(), ".json")):
        path = made.save(tmp_path / f"x{suffix}")
        assert made.as_file(suffix).read() == path.read_bytes()
        first = made.as_file()
        assert isinstance(first, io.BytesIO) and first.tell() == 0 and first.read()
        with refused(RequestError, "unsupported", names=suffix):
            made.as_file(".exe")


def test_words_are_the_segments_that_are_words():
    segments = (Segment("h", 0.0, 0.1), Segment("hello", 0.0, 0.4, "word"), Segment("you", 0.4, 0.5, "word"))
    audio = Audio(np.zeros((1, RATE), np.float32), RATE, segments)
    assert audio.words == segments[1:] and Audio(audio.waveform, RATE).words == ()


def test_pieces_that_follow_know_where_they_begin():
    """Offsets are counted in samples: no rounding adds up."""
    pieces = [Audio(np.zeros((1, 7), np.float32), 3) for _ in range(1000)]
    placed = [pieces[0].following(None)]
    for piece in pieces[1:]:
        placed.append(piece.following(placed[-1]))
    assert [piece.offset for piece in placed] == [7 * i / 3 for i in range(1000)]
    assert Audio.join(placed[5:]).offset == placed[5].offset
    assert filled().following(None).text == filled().text

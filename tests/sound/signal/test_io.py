"""Reading what people have, and refusing what cannot be trusted."""

import struct

import numpy as np
import pytest
import soundfile
import torch
from refused import refused
from unisono.errors import DataError
from unisono_sound.signal import MelSpec, pitch, probe_audio, read_audio, resample, write_audio


def sine(hz=440.0, seconds=0.5, rate=22050):
    return (0.5 * torch.sin(2 * torch.pi * hz * torch.arange(int(seconds * rate)) / rate)).float()


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "opus", "mp3"])
def test_formats_round_trip(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    write_audio(path, sine(), 22050)
    wave, rate = read_audio(path)
    assert rate == (48000 if suffix == "opus" else 22050) and wave.dtype == torch.float32 and wave.ndim == 1
    lossless = suffix in ("wav", "flac")
    # 16 bits; a lossy codec may shift and pad, so its spectrum is compared instead
    if lossless:
        torch.testing.assert_close(wave, sine(), atol=2 / 32768, rtol=0)
    hz = np.abs(np.fft.rfft(wave.numpy())).argmax() * rate / len(wave)
    assert abs(hz - 440) < 4


@pytest.mark.parametrize("rate", [8000, 16000, 24000, 44100, 48000])
def test_any_rate_is_resampled(tmp_path, rate):
    path = tmp_path / "a.wav"
    write_audio(path, sine(rate=rate, seconds=1.0), rate)
    wave, new_rate = read_audio(path, sample_rate=22050)
    assert new_rate == 22050
    assert abs(len(wave) - 22050) <= 1
    middle = slice(2000, 20000)
    torch.testing.assert_close(wave[middle], sine(seconds=1.0)[middle], atol=2e-3, rtol=0)


def test_stereo_44100_is_mixed_down(tmp_path):
    path = tmp_path / "stereo.wav"
    left, right = sine(440, rate=44100), sine(880, rate=44100)
    write_audio(path, torch.stack([left, right]), 44100)
    assert probe_audio(path).num_channels == 2
    assert probe_audio(path).seconds == pytest.approx(0.5)
    wave, _ = read_audio(path)
    torch.testing.assert_close(wave, (left + right) / 2, atol=2 / 32768, rtol=0)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "FLOAT"])
def test_sample_formats(tmp_path, subtype):
    path = tmp_path / "a.wav"
    soundfile.write(path, sine().numpy(), 22050, subtype=subtype)
    wave, _ = read_audio(path)
    torch.testing.assert_close(wave, sine(), atol=1 / 100, rtol=0)


def test_truncated_wav(tmp_path):
    path = tmp_path / "cut.wav"
    write_audio(path, sine(), 22050)
    path.write_bytes(path.read_bytes()[:9000])
    for read in (read_audio, probe_audio):
        with refused(DataError, "damaged", "cut.wav", names="22050"):
            read(path)


def test_truncated_flac(tmp_path):
    path = tmp_path / "cut.flac"
    write_audio(path, torch.randn(20000, generator=torch.Generator().manual_seed(0)) / 5, 22050)
    path.write_bytes(path.read_bytes()[:9000])
    with refused(DataError, "damaged", "cut.flac"):
        read_audio(path)


def test_truncated_in_the_header(tmp_path):
    path = tmp_path / "head.wav"
    write_audio(path, sine(), 22050)
    path.write_bytes(path.read_bytes()[:30])
    with refused(DataError, "damaged", "head.wav"):
        read_audio(path)


def test_a_piped_wav_of_unknown_length_is_fine(tmp_path):
    path = tmp_path / "pipe.wav"
    write_audio(path, sine(), 22050)
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = struct.pack("<I", 0xFFFFFFFF)
    path.write_bytes(data)
    assert len(read_audio(path)[0]) == len(sine())


@pytest.mark.parametrize("content", ["header", "nothing"])
def test_zero_length(tmp_path, content):
    path = tmp_path / "zero.wav"
    if content == "header":
        soundfile.write(path, np.zeros(0), 22050)
    else:
        path.touch()
    for read in (read_audio, probe_audio):
        with refused(DataError, "empty", "zero.wav"):
            read(path)


def test_not_audio_and_missing_and_folder(tmp_path):
    (tmp_path / "text.wav").write_text("not sound at all, but long enough to look at")
    with refused(DataError, "damaged", "text.wav"):
        read_audio(tmp_path / "text.wav")
    with refused(DataError, "missing", "none.wav", value="no such audio file: does not exist"):
        read_audio(tmp_path / "none.wav")
    with refused(DataError, "format", value="no such audio file: is a folder, not a file"):
        read_audio(tmp_path)


def test_non_finite_samples(tmp_path):
    path = tmp_path / "nan.wav"
    soundfile.write(path, np.array([0.0, np.nan, 0.1]), 22050, subtype="FLOAT")
    with refused(DataError, "damaged", "nan.wav", value="holds NaN or infinite samples"):
        read_audio(path)
    with refused(DataError, "value", "out.wav"):
        write_audio(tmp_path / "out.wav", torch.tensor([0.0, float("nan")]), 22050)
    assert not (tmp_path / "out.wav").exists()


def test_writing_elsewhere(tmp_path):
    with refused(DataError, "unsupported", "a.xyz", value=".xyz"):
        write_audio(tmp_path / "a.xyz", sine(), 22050)
    with refused(DataError, "write", "a.wav"):
        write_audio(tmp_path / "no" / "a.wav", sine(), 22050)


def test_writing_clips_beyond_one(tmp_path):
    write_audio(tmp_path / "a.wav", torch.tensor([2.0, -2.0, 0.5]), 22050)
    wave, _ = read_audio(tmp_path / "a.wav")
    torch.testing.assert_close(wave, torch.tensor([1.0, -1.0, 0.5]), atol=1e-4, rtol=0)


def test_same_rate_is_untouched():
    wave = sine()
    assert resample(wave, 22050, 22050) is wave


def glide(start, stop, seconds, rate, harmonics=10):
    progress = torch.linspace(0, 1, int(seconds * rate), dtype=torch.float64)
    hz = start * (stop / start) ** progress
    phase = 2 * torch.pi * hz.cumsum(0) / rate
    wave = sum(torch.sin(k * phase) / k for k in range(1, harmonics + 1))
    return (0.3 * wave / wave.abs().max()).float(), hz


@pytest.mark.parametrize(("start", "stop"), [(90, 180), (300, 120), (220, 220), (150, 450)])
@pytest.mark.parametrize("rate", [16000, 22050, 48000])
def test_pitch_of_a_glide(start, stop, rate):
    pytest.importorskip("swift_f0")
    spec = MelSpec(sample_rate=rate, n_fft=1024, hop_length=256, f_max=8000.0)
    wave, hz = glide(start, stop, 1.5, rate)
    measured = pitch(wave, spec)
    assert measured.shape == (spec.frames(len(wave)),)
    true = hz[(torch.arange(len(measured)) + 0.5).mul(256).long()]
    inner = slice(8, -8)  # at the very ends the detector sees half a window of nothing
    assert (measured[inner] > 0).all()
    # 1 % is a sixth of a semitone; an offset of one frame would show in the steep glides
    assert ((measured[inner] / true[inner] - 1).abs() < 0.01).all()


def test_a_frame_has_the_pitch_of_its_centre_in_a_steep_glide():
    """A frame is centred half a hop behind its first sample: in a glide of two octaves a second that is 1.6 %."""
    pytest.importorskip("swift_f0")
    spec = MelSpec(sample_rate=22050, n_fft=1024, hop_length=512, f_max=8000.0)
    bias = []
    for start, stop in ((100, 400), (400, 100)):
        wave, hz = glide(start, stop, 1.0, 22050)
        measured = pitch(wave, spec)
        centre = (torch.arange(len(measured)) * 512 + 256).clamp(max=len(hz) - 1)
        bias.append(float((measured[8:-8] / hz[centre][8:-8]).log2().median()) * 1200)
    # in opposite glides an error in time has opposite signs; half a hop would be 27 cents on either side
    assert abs(bias[0] - bias[1]) / 2 < 8


def test_pitch_of_silence_and_of_sound_between_silences():
    pytest.importorskip("swift_f0")
    spec = MelSpec()
    assert pitch(torch.zeros(22050), spec).eq(0).all()
    wave, _ = glide(200, 200, 0.5, 22050)
    quiet = torch.zeros(11025)
    measured = pitch(torch.cat([quiet, wave, quiet]), spec)
    voiced = measured > 0
    assert voiced[48:80].all() and not voiced[:38].any() and not voiced[-38:].any()


def test_pitch_without_the_extra(monkeypatch):
    import sys

    from unisono.errors import MissingExtra
    from unisono_sound.signal import pitch as _  # noqa: F401

    detector = sys.modules["unisono_sound.signal.pitch"]._detector
    monkeypatch.setitem(sys.modules, "swift_f0", None)
    with refused(MissingExtra, "dependency", "swift-f0", names='pip install "unisono[tts]"'):
        detector.__wrapped__()


def written(path, fmt, subtype, rate=8000, channels=1):
    noise = np.random.default_rng(0).standard_normal((12000, channels)).astype(np.float32) / 10
    soundfile.write(path, noise, rate, subtype, format=fmt)
    return path


CONTAINERS = [
    (fmt, subtype)
    for fmt in ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "NIST", "FLAC", "OGG", "MP3")
    for subtype in soundfile.available_subtypes(fmt)
    if soundfile.check_format(fmt, subtype) and not subtype.startswith("DWVW")
]


@pytest.mark.parametrize("fmt, subtype", CONTAINERS)
def test_every_container_is_read_whole_or_refused(tmp_path, fmt, subtype):
    """GSM 6.10 cannot be sought in; half an Ogg, AU or W64 reads as a shorter sound where nothing is checked."""
    try:
        whole = written(tmp_path / "whole", fmt, subtype)
    except soundfile.LibsndfileError:
        pytest.skip("libsndfile does not write this")
    assert 12000 <= len(read_audio(whole)[0]) <= 13000
    data = whole.read_bytes()
    cut = tmp_path / "cut"
    for share in (0.15, 0.5, 0.9, 0.999):
        cut.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(DataError) as caught:
            read_audio(cut)
        assert str(cut) in str(caught.value) and "\n" not in str(caught.value)
        assert caught.value.fault.reason in ("truncated", "unreadable", "empty")
        with pytest.raises(DataError):
            probe_audio(cut) if fmt != "FLAC" else read_audio(cut)


@pytest.mark.parametrize("fmt, endian", [("AU", "LITTLE"), ("AIFF", "LITTLE"), ("WAV", "BIG"), ("CAF", "LITTLE")])
def test_the_other_order_of_bytes_is_checked_too(tmp_path, fmt, endian):
    soundfile.write(tmp_path / "x", np.full(999, 0.1), 8000, "PCM_16", endian=endian, format=fmt)
    data = (tmp_path / "x").read_bytes()
    assert len(read_audio(tmp_path / "x")[0]) == 999
    (tmp_path / "x").write_bytes(data[:-300])
    with pytest.raises(DataError) as caught:
        read_audio(tmp_path / "x")
    assert caught.value.fault.reason == "truncated"


@pytest.mark.parametrize("size", [3, 4])
def test_chunks_of_an_odd_length_are_padded(tmp_path, size):
    """A chunk of an odd length before the sound hides no cut (RIFF: chunks begin at even bytes)."""
    import struct

    write_audio(tmp_path / "plain.wav", sine(), 22050)
    plain = (tmp_path / "plain.wav").read_bytes()
    assert plain[36:40] == b"data"
    beside = b"note" + struct.pack("<I", size) + b"abcd"
    made = plain[:4] + struct.pack("<I", len(plain) - 8 + len(beside)) + plain[8:36] + beside + plain[36:]
    (tmp_path / "a.wav").write_bytes(made)
    assert torch.equal(read_audio(tmp_path / "a.wav")[0], read_audio(tmp_path / "plain.wav")[0])
    (tmp_path / "a.wav").write_bytes(made[: len(made) * 2 // 3])
    with refused(DataError, "damaged", "a.wav"):
        read_audio(tmp_path / "a.wav")


@pytest.mark.parametrize("suffix", ["ogg", "opus", "mp3"])
def test_half_a_lossy_file_is_truncated(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    write_audio(path, sine(seconds=3.0), 22050)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    for read in (read_audio, probe_audio):
        with refused(DataError, "damaged") as caught:
            read(path)
        assert caught.value.fault.reason == "truncated"


def test_an_ogg_cut_between_pages_lacks_its_end(tmp_path):
    path = tmp_path / "a.ogg"
    write_audio(path, torch.randn(200_000, generator=torch.Generator().manual_seed(0)) / 8, 22050)
    data = path.read_bytes()
    pages = [i for i in range(len(data)) if data[i : i + 4] == b"OggS"]
    assert len(pages) > 5
    path.write_bytes(data[: pages[-1]])
    with refused(DataError, "damaged", "a.ogg"):
        read_audio(path)
    path.write_bytes(data[: pages[3]] + data[pages[4] :])
    with refused(DataError, "damaged", "a.ogg", value="truncated: Ogg page 4 follows page 2"):
        read_audio(path)


def test_an_mp3_of_whole_frames_only_is_counted(tmp_path):
    from unisono_sound.signal.containers import _frame_length

    path = tmp_path / "a.mp3"
    write_audio(path, sine(seconds=2.0), 22050)
    data = path.read_bytes()
    place, frames = 0, []
    while place + 4 <= len(data) and (length := _frame_length(data[place : place + 4])):
        frames.append(place)
        place += length
    assert place == len(data), "frames tile the file"
    path.write_bytes(data[: frames[len(frames) // 2]])
    with refused(DataError, "damaged", "a.mp3", names=[f"{len(frames) - 1} frames", f"{len(frames) // 2} are there"]):
        read_audio(path)
    # a tag behind the sound is none of it
    path.write_bytes(data + b"TAG" + bytes(125))
    assert len(read_audio(path)[0]) >= 44100


def test_a_forged_header_asks_for_no_memory(tmp_path):
    path = tmp_path / "a.mp3"
    write_audio(path, sine(), 22050)
    data = bytearray(path.read_bytes())
    place = max(data.find(b"Xing"), data.find(b"Info"))
    assert place > 0 and data[place + 7] & 1
    data[place + 8 : place + 12] = b"\xff\xff\xff\xf0"
    path.write_bytes(data)
    with refused(DataError, "damaged", "a.mp3", names=str(0xFFFFFFF0)):
        read_audio(path)
    flac = tmp_path / "a.flac"
    write_audio(flac, sine(), 22050)
    data = bytearray(flac.read_bytes())
    data[21] |= 0x0F
    data[22:26] = b"\xff" * 4  # STREAMINFO's 36 bits of total samples
    flac.write_bytes(data)
    with refused(DataError, "damaged", "a.flac"):
        read_audio(flac)


def test_more_than_fits_into_memory_is_refused(tmp_path, monkeypatch):
    import unisono_sound.signal.io as module

    write_audio(tmp_path / "a.wav", torch.zeros(2, 5000), 8000)
    monkeypatch.setattr(module, "MOST_VALUES", 9999)
    monkeypatch.setattr(module, "_BLOCK_VALUES", 1000)
    with refused(DataError, "limit", "a.wav", value="holds more than 4999 samples") as caught:
        read_audio(tmp_path / "a.wav")
    assert caught.value.fault.reason == "too large"
    monkeypatch.setattr(module, "MOST_VALUES", 10000)
    assert len(read_audio(tmp_path / "a.wav")[0]) == 5000


@pytest.mark.parametrize("rate", [1, 999, 2_000_000])
def test_a_rate_that_is_no_rate(tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", np.zeros(100, np.float32), rate)
    with refused(DataError, "damaged", "a.wav", names=str(rate)):
        read_audio(tmp_path / "a.wav", 22050)


def test_only_regular_files_are_read(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "link.wav").symlink_to(tmp_path / "nowhere")
    places = {
        "/dev/zero": "format",
        tmp_path / "pipe.wav": "format",
        tmp_path / "folder.wav": "format",
        tmp_path / "link.wav": "missing",
        tmp_path / ("a" * 300): "missing",
        "a\0b.wav": "damaged",
    }
    for place, code in places.items():
        for read in (read_audio, probe_audio):
            with refused(DataError, code, place):
                read(place)


def test_damaged_bytes_never_leave_as_a_librarys_exception(tmp_path):
    draw = np.random.default_rng(1)
    for suffix in ("wav", "flac", "ogg", "opus", "mp3"):
        path = tmp_path / f"a.{suffix}"
        write_audio(path, sine(seconds=0.3), 24000)
        data = path.read_bytes()
        for _ in range(25):
            damaged = bytearray(data)
            for _ in range(4):
                damaged[draw.integers(min(len(data), 400))] = draw.integers(256)
            path.write_bytes(damaged)
            try:
                read_audio(path, 16000)
            except DataError as error:
                assert "object at 0x" not in str(error)


def test_other_containers_are_refused_by_name(tmp_path):
    written(tmp_path / "a.mat", "MAT5", "PCM_16")
    with refused(DataError, "damaged", "a.mat"):
        read_audio(tmp_path / "a.mat")


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "opus", "mp3", "WAV", "OPUS", "Ogg"])
@pytest.mark.parametrize("hz", [220.0, 440.5, 3000.0])
def test_a_loud_waveform_stays_within_one(tmp_path, suffix, hz):
    """Lossy formats overshoot, Opus at a loud end up to three times; none is much quieter than it must be."""
    path = tmp_path / f"a.{suffix}"
    write_audio(path, 6 * sine(hz, rate=24000), 24000)
    wave, _ = read_audio(path)
    assert len(wave) == 12000 and 0.8 < wave.abs().max() <= 1.0


@pytest.mark.parametrize("suffix", ["ogg", "opus", "mp3"])
def test_a_spike_is_clipped_and_leaves_the_rest_its_level(tmp_path, suffix):
    """Beyond ±1 is cut off, as in wav; to be made quieter by a third of the whole would be another sound."""
    wave = 0.3 * sine() / sine().abs().max()
    wave[200:260] = 3.0
    write_audio(tmp_path / f"a.{suffix}", wave, 22050)
    heard, _ = read_audio(tmp_path / f"a.{suffix}", 22050)
    end = heard[len(heard) * 2 // 3 : len(heard) * 9 // 10]
    assert float(end.square().mean().sqrt()) > 0.55 * 0.3 / 2**0.5


def test_a_quiet_waveform_keeps_its_level(tmp_path):
    for suffix in ("ogg", "opus", "mp3"):
        path = tmp_path / f"a.{suffix}"
        write_audio(path, sine(rate=24000), 24000)
        wave, _ = read_audio(path)
        assert wave[2000:10000].square().mean().sqrt() == pytest.approx(0.5 / 2**0.5, rel=0.03), suffix


def test_writing_is_whole_or_not_at_all(tmp_path, monkeypatch):
    import resource
    import signal

    path = tmp_path / "a.wav"
    write_audio(path, sine(), 22050)
    before = path.read_bytes()
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        for suffix in ("wav", "ogg", "opus", "mp3", "flac"):
            with refused(DataError, "write", f"a.{suffix}", value="file too large"):
                write_audio(tmp_path / f"a.{suffix}", torch.randn(40000) / 5, 22050)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["a.wav"]
    with refused(DataError, "write", "b.wav", names="[3, 4, 5]"):
        write_audio(tmp_path / "b.wav", torch.zeros(3, 4, 5), 22050)
    with refused(DataError, "write", "b.wav", value=-1, names="[10]"):
        write_audio(tmp_path / "b.wav", torch.zeros(10), -1)

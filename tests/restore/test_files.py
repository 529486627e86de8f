"""Files restored block by block: formats, bits, notes, folders that go on, and targets that cannot be written."""

import resource

import numpy as np
import pytest
import soundfile
from refused import refused
from unisono.errors import DataError, RequestError
from unisono_restore.files import restore_file, restore_folder
from unisono_restore.overlap import OverlapSave
from unisono_restore.restorer import Restorer

RATE = 8000


class Louder(Restorer):
    """Makes everything three times as loud."""

    def pieces(self, streamed):
        return OverlapSave(RATE, 10)

    def restore(self, wave, known):
        return 3 * wave


@pytest.fixture
def model() -> Louder:
    made = Louder()
    made.build({"sample_rate": RATE})
    return made


def noise(*shape: int) -> np.ndarray:
    return (0.05 * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)


@pytest.mark.parametrize(("subtype", "atol"), [("PCM_16", 1e-4), ("PCM_24", 4e-7), ("FLOAT", 0)])
def test_bits_and_notes_are_the_sources(model, tmp_path, subtype, atol):
    wave = noise(20001, 2)
    with soundfile.SoundFile(tmp_path / "in.wav", "w", RATE, 2, subtype) as file:
        file.title, file.artist = "a title", "somebody"
        file.write(wave)
    held = soundfile.read(tmp_path / "in.wav", dtype="float32")[0]
    made = restore_file(model, tmp_path / "in.wav", tmp_path / "out.wav")
    assert (made.seconds, made.clipped) == (20001 / RATE, 0)
    with soundfile.SoundFile(tmp_path / "out.wav") as file:
        assert (file.subtype, file.samplerate, file.title, file.artist) == (subtype, RATE, "a title", "somebody")
        np.testing.assert_allclose(file.read(dtype="float32"), 3 * held, atol=atol)


@pytest.mark.parametrize("suffix", [".wav", ".w64", ".flac", ".ogg", ".mp3"])
def test_every_format_holds_the_sound(model, tmp_path, suffix):
    time = np.arange(RATE) / RATE
    soundfile.write(tmp_path / "in.flac", 0.1 * np.sin(2 * np.pi * 300 * time), RATE)
    restore_file(model, tmp_path / "in.flac", tmp_path / f"out{suffix}", strength=0.5)
    wave, rate = soundfile.read(tmp_path / f"out{suffix}")
    assert rate == RATE and abs(len(wave) - RATE) <= (0 if suffix in (".wav", ".w64", ".flac") else 2000)
    assert np.sqrt(np.mean(wave[2000:6000] ** 2)) == pytest.approx(0.2 / np.sqrt(2), rel=0.05)


def test_notes_that_the_format_lacks_are_named(model, tmp_path):
    with soundfile.SoundFile(tmp_path / "in.wav", "w", RATE, 1) as file:
        file.title = "a title"
        file.write(noise(1000))
    made = restore_file(model, tmp_path / "in.wav", tmp_path / "out.w64")
    assert made.left_out == ("title",) and str(made).endswith("0.12 s, 0 samples clipped, without title")


def test_what_the_format_cannot_hold_is_clipped_and_counted(model, tmp_path):
    wave = np.array([0.1, 0.5, -0.5, 0.2, 0.4])
    soundfile.write(tmp_path / "in.wav", wave, RATE)
    assert restore_file(model, tmp_path / "in.wav", tmp_path / "out.flac").clipped == 3
    soundfile.write(tmp_path / "float.wav", wave, RATE, subtype="FLOAT")
    assert restore_file(model, tmp_path / "float.wav", tmp_path / "float-out.wav").clipped == 0
    assert soundfile.read(tmp_path / "float-out.wav")[0].max() == pytest.approx(1.5)


def test_memory_does_not_grow_with_a_recording(model, tmp_path):
    with soundfile.SoundFile(tmp_path / "long.flac", "w", RATE, 1) as file:
        for _ in range(20):
            file.write(noise(60 * RATE // 2))
    restore_file(model, tmp_path / "long.flac", tmp_path / "first.flac")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    made = restore_file(model, tmp_path / "long.flac", tmp_path / "out.flac")
    assert made.seconds == 600
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 6 * 1024  # KiB; its samples are 18 MiB


def test_a_damaged_source_leaves_nothing(model, tmp_path):
    soundfile.write(tmp_path / "in.wav", np.append(noise(30000), np.nan), RATE, subtype="FLOAT")
    with refused(RequestError, "damaged", "audio"):
        restore_file(model, tmp_path / "in.wav", tmp_path / "out.wav")
    assert [path.name for path in tmp_path.iterdir()] == ["in.wav"]


def test_a_target_that_stands_or_cannot_be_written_is_refused(model, tmp_path):
    soundfile.write(tmp_path / "in.wav", noise(1000), RATE)
    with refused(DataError, "unsupported", "out.aac", value=".aac"):
        restore_file(model, tmp_path / "in.wav", tmp_path / "out.aac")
    restore_file(model, tmp_path / "in.wav", tmp_path / "out.wav")
    with refused(DataError, "exists", "out.wav"):
        restore_file(model, tmp_path / "in.wav", tmp_path / "out.wav")
    restore_file(model, tmp_path / "in.wav", tmp_path / "out.wav", overwrite=True)
    with refused(DataError, "write", "out.wav"):
        restore_file(model, tmp_path / "in.wav", tmp_path / "in.wav" / "out.wav")


def test_a_folder_is_restored_in_place_and_goes_on(model, tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    (source / "deep").mkdir(parents=True)
    for name in ("a.wav", "deep/b.flac"):
        soundfile.write(source / name, noise(3000), RATE)
    (source / "c.wav").write_bytes((source / "a.wav").read_bytes()[:2000])
    found = list(restore_folder(model, source, target))
    errors = [each for each in found if isinstance(each, Exception)]
    assert [error.code for error in errors] == ["damaged"] and len(found) == 3
    assert sorted(p.relative_to(target).as_posix() for p in target.rglob("*.*")) == ["a.wav", "deep/b.flac"]
    (target / "a.wav").unlink()
    again = [each for each in restore_folder(model, source, target) if not isinstance(each, Exception)]
    assert [each.target for each in again] == [target / "a.wav"]
    flac = list(restore_folder(model, source / "deep", tmp_path / "other", suffix=".wav"))
    assert flac[0].target == tmp_path / "other" / "b.wav"
    with refused(RequestError, "conflict", "target"):
        list(restore_folder(model, source, source))

"""Crops for vocoders: a crop equals the whole there, epochs tile, what goes wrong is listed."""

import flat
import numpy as np
import pytest
import torch
from refused import refused
from unisono.data import item_generator
from unisono.errors import DataError
from unisono_codec.vocoders.data import AudioData, ToneData, crop, make_tone, tone_pitch
from unisono_sound.signal import LogMel, MelSpec, read_audio, write_audio

SMALL = MelSpec(sample_rate=16000, n_fft=512, win_length=512, hop_length=128, n_mels=40)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNISONO_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "voice"
    (root / "wavs").mkdir(parents=True)
    for i in range(6):
        write_audio(root / "wavs" / f"{i}.wav", make_tone(i, 16000 + 1500 * i + 7, 16000), 16000)
    return root


def prepared(root, **kwargs):
    options = {"mel": SMALL, "crop_frames": 20, "batch_size": 4, "val_size": 2, **kwargs}
    data = flat.make(AudioData, root=str(root) if not isinstance(root, dict) else root, **options)
    data.prepare(progress=False)
    return data


def test_batches(folder):
    data = prepared(folder)
    assert data.audit.kept == 6
    held_out = data.describe()["held_out"]
    assert data.describe() == {"mel_spec": SMALL.to_dict(), "pitch": False, "held_out": held_out}
    assert len(held_out) == 2 and set(held_out) < {f"wavs/{i}" for i in range(6)}
    assert MelSpec.from_dict(data.describe()["mel_spec"]) == SMALL
    for loader in (data.train_dataloader(), data.val_dataloader()):
        for batch in loader:
            b = len(batch["mel"])
            assert batch["mel"].shape == (b, 20, 40)
            assert batch["wave"].shape == (b, 20 * 128)
            assert batch["mel"].dtype == batch["wave"].dtype == torch.float32


def test_every_crop_equals_the_whole(folder):
    data = prepared(folder)
    log_mel = LogMel(SMALL)
    for recording in data.train_set.recordings:
        whole = recording.features.load("wave").float() / 32768
        mel = log_mel(whole[None])[0]
        assert len(mel) == recording.num_frames
        last = recording.num_frames - 20
        for start in (0, 1, 2, last // 2, last - 2, last - 1, last):
            wave, cropped = crop(recording, log_mel, start, 20)
            assert torch.equal(wave, whole[start * 128 : (start + 20) * 128])
            torch.testing.assert_close(cropped, mel[start : start + 20], atol=1e-5, rtol=0)


def test_pitch_is_cropped_with_the_sound(folder):
    data = prepared(folder, pitch=True, val_size=0)
    assert data.describe()["pitch"]
    for index in range(0, len(data.train_set), 7):
        item = data.train_set.item(index, torch.Generator().manual_seed(index))
        first = int(item["start"])
        number = data.train_set.places[index][0]
        truth = tone_pitch(number, 16000 + 1500 * number + 7)[first + 64 :: 128][:20]
        assert item["voiced"].float().mean() > 0.8
        cents = 1200 * (item["pitch"] / truth).log2().abs()
        assert cents.median() < 30
        assert torch.isfinite(item["pitch"]).all() and (item["pitch"] >= 50).all()


def test_a_recording_without_pitch_has_a_pitch_all_the_same(tmp_path):
    (tmp_path / "v").mkdir()
    noise = 0.1 * torch.randn(16000, generator=torch.Generator().manual_seed(0))
    write_audio(tmp_path / "v" / "hiss.wav", noise, 16000)
    item = prepared(tmp_path / "v", pitch=True, val_size=0).train_set.item(0, torch.Generator().manual_seed(0))
    assert not item["voiced"].any()
    assert (item["pitch"] == 150).all()


def test_one_crop_may_be_the_whole_recording(tmp_path):
    (tmp_path / "v").mkdir()
    for i in range(3):
        write_audio(tmp_path / "v" / f"{i}.wav", make_tone(i, 20 * 128 + 5, 16000), 16000)
    data = prepared(tmp_path / "v", val_size=1, batch_size=2)
    wave, mel = crop(data.train_set.recordings[0], LogMel(SMALL), 0, 20)
    assert wave.shape == (2560,) and mel.shape == (20, 40)


def test_cached_samples_are_the_recordings(folder):
    data = prepared(folder, val_size=0)
    for i, recording in enumerate(data.train_set.recordings):
        wave, _ = read_audio(folder / "wavs" / f"{i}.wav")
        assert torch.equal(recording.features.load("wave").float() / 32768, wave)


def test_an_epoch_tiles_the_recordings(folder):
    data = prepared(folder, val_size=0)
    crops = data.train_set
    assert len(crops) == sum(r.num_frames // 20 for r in crops.recordings)
    for index in range(len(crops)):
        which, stretch, num_stretches = crops.places[index]
        starts = crops.recordings[which].num_frames - 19
        whole = crops.recordings[which].features.load("wave").float() / 32768
        # the crop's place is found again by its samples
        wave = crops.item(index, item_generator(0, 0, index))["wave"]
        (start,) = [s for s in range(starts) if torch.equal(whole[s * 128 : s * 128 + 2560], wave)]
        assert stretch * starts // num_stretches <= start < (stretch + 1) * starts // num_stretches


def test_memory_and_disk_give_the_same(folder):
    disk, memory = prepared(folder), prepared(folder, in_memory=True)
    for a, b in zip(disk.train_dataloader(), memory.train_dataloader(), strict=True):
        assert torch.equal(a["mel"], b["mel"]) and torch.equal(a["wave"], b["wave"])


def test_gain_scales_sound_and_mel_alike(folder):
    plain, loud = prepared(folder), prepared(folder, gain_db=12.0)
    gains = []
    for index in range(len(plain.train_set)):
        # the gain is drawn after the place: same places
        a = plain.train_set.item(index, item_generator(0, 0, index))
        b = loud.train_set.item(index, item_generator(0, 0, index))
        gain = b["wave"].norm() / a["wave"].norm()
        torch.testing.assert_close(b["wave"], a["wave"] * gain)
        audible = a["mel"] > -8
        difference = (b["mel"] - a["mel"])[audible]
        torch.testing.assert_close(difference, gain.log().expand_as(difference), atol=0.01, rtol=0)
        gains.append(20 * float(gain.log10()))
    assert min(gains) >= -12 and max(gains) <= 12 and max(gains) - min(gains) > 8
    val = zip(plain.val_dataloader(), loud.val_dataloader(), strict=True)
    assert all(torch.equal(a["wave"], b["wave"]) for a, b in val)


def test_ljspeech_layout_and_two_speakers(folder):
    (folder / "metadata.csv").write_text("".join(f"{i}|text {i}\n" for i in range(6)))
    assert prepared(folder).audit.by_group().keys() == {"voice"}
    both = prepared({"kim": str(folder), "lee": str(folder)}, val_size=2)
    assert both.audit.by_group().keys() == {"kim", "lee"}
    assert both.audit.kept == 12
    assert len(both.val_set) == 2  # both speakers' recording of one text


def test_broken_recordings_are_listed_and_stop_nothing(folder):
    wavs = folder / "wavs"
    (wavs / "zero.wav").touch()
    (wavs / "cut.wav").write_bytes((wavs / "5.wav").read_bytes()[:5000])
    write_audio(wavs / "silent.wav", torch.zeros(16000), 16000)
    write_audio(wavs / "clipped.wav", (9 * make_tone(1, 16000, 16000)).clamp(-1, 1), 16000)
    write_audio(wavs / "short.wav", make_tone(1, 19 * 128, 16000), 16000)
    stereo = torch.stack([make_tone(1, 44100, 44100), make_tone(2, 44100, 44100)])
    write_audio(wavs / "stereo.flac", stereo, 44100)
    audit = prepared(folder).audit
    assert audit.kept == 7
    assert {item.id.split("/")[-1]: item.reason for item in audit.dropped} == {
        "zero": "unreadable",
        "cut": "unreadable",
        "silent": "silent",
        "clipped": "clipped",
        "short": "too short",
    }


def test_nothing_usable(tmp_path):
    (tmp_path / "v").mkdir()
    write_audio(tmp_path / "v" / "a.wav", torch.zeros(16000), 16000)
    with refused(DataError, "empty", "data.root", names="silent"):
        prepared(tmp_path / "v", val_size=0)
    with refused(DataError, "missing", "nowhere", value="no such folder or file"):
        prepared(tmp_path / "nowhere")
    with refused(DataError, "range", "data.crop_frames", value=0):
        flat.make(AudioData, root="x", crop_frames=0)
    with refused(DataError, "range", "data.heard.gain_db", value=-1.0):
        flat.make(AudioData, root="x", gain_db=-1.0)


def test_predicted_mels_are_cropped_with_the_sound(folder, tmp_path):
    mels = tmp_path / "mels"
    (mels / "wavs").mkdir(parents=True)
    plain = prepared(folder, val_size=0)
    for i, recording in enumerate(plain.train_set.recordings):
        # a predicted mel that says of each frame which it is
        frames = np.arange(recording.num_frames)[:, None] + np.zeros((1, 40))
        np.save(mels / "wavs" / f"{i}.npy", frames.astype([np.float16, np.float32][i % 2]))
    tuned = prepared(folder, mels=str(mels), val_size=0)
    for index in range(len(tuned.train_set)):
        item = tuned.train_set.item(index, item_generator(0, 0, index))
        same = plain.train_set.item(index, item_generator(0, 0, index))
        assert torch.equal(item["wave"], same["wave"])
        assert item["mel"].dtype == torch.float32 and item["mel"].shape == (20, 40)
        first = int(item["mel"][0, 0])
        which = tuned.train_set.places[index][0]
        whole = tuned.train_set.recordings[which].features.load("wave").float() / 32768
        assert torch.equal(item["wave"], whole[first * 128 : (first + 20) * 128])
        assert torch.equal(item["mel"][:, 0] - first, torch.arange(20.0))


@pytest.mark.parametrize("share", [0.2, 0.7])
def test_of_predicted_mels_the_asked_share_is_used(folder, tmp_path, share):
    mels = tmp_path / "mels"
    (mels / "wavs").mkdir(parents=True)
    plain = prepared(folder, val_size=0)
    for i, recording in enumerate(plain.train_set.recordings):
        np.save(mels / "wavs" / f"{i}.npy", np.full((recording.num_frames, 40), 7, np.float32))
    mixed = prepared(folder, mels=str(mels), mels_share=share, val_size=0, gain_db=12.0)
    count, total = 0, 0
    for epoch in range(30):
        for index in range(len(mixed.train_set)):
            item = mixed.train_set.item(index, item_generator(0, epoch, index))
            predicted = bool((item["mel"] == 7).all())
            count, total = count + predicted, total + 1
            if not predicted:  # a recording's own mel, at the level of its sound
                assert (item["mel"] != 7).any()
    # four standard errors of a share
    assert abs(count / total - share) < 4 * (share * (1 - share) / total) ** 0.5
    validated = prepared(folder, mels=str(mels), mels_share=share, val_size=2)
    held = [validated.val_set.item(i, item_generator(0, 0, i)) for i in range(len(validated.val_set))]
    assert all((item["mel"] == 7).all() for item in held), "validation hears what the acoustic model says"
    for wrong in (0.0, 1.5):
        with refused(DataError, "range", "data.heard.mels_share", value=wrong):
            flat.make(AudioData, root="x", mels_share=wrong)


def test_missing_and_wrong_mels_are_listed(folder, tmp_path):
    mels = tmp_path / "mels" / "wavs"
    mels.mkdir(parents=True)
    plain = prepared(folder, val_size=0)
    frames = [recording.num_frames for recording in plain.train_set.recordings]
    for i in (0, 1, 2):
        np.save(mels / f"{i}.npy", np.zeros((frames[i], 40), np.float32))
    np.save(mels / "3.npy", np.zeros((frames[3] + 1, 40), np.float32))
    np.save(mels / "4.npy", np.array([{"not": "numbers"}]), allow_pickle=True)
    audit = prepared(folder, mels=str(tmp_path / "mels"), val_size=0).audit
    assert audit.kept == 3
    assert {item.id: item.reason for item in audit.dropped} == {
        "wavs/3": "wrong mel",
        "wavs/4": "unreadable mel",
        "wavs/5": "no predicted mel",
    }


def test_tones_are_made_on_the_spot():
    data = ToneData(num_items=9, mel=SMALL, crop_frames=16, batch_size=4, val_size=3)
    assert data.prepare().kept == 9
    (val,) = list(data.val_dataloader())
    assert val["mel"].shape == (3, 16, 40) and val["wave"].shape == (3, 16 * 128)
    batches = list(data.train_dataloader())
    assert len(batches) == 2
    for batch in batches:
        assert batch["wave"].abs().max() < 0.5 and batch["wave"].std(dim=1).min() > 0.01
    again = ToneData(num_items=9, mel=SMALL, crop_frames=16, batch_size=4, val_size=3)
    again.prepare()
    assert torch.equal(next(iter(again.train_dataloader()))["wave"], batches[0]["wave"])
    assert data.describe()["mel_spec"] == SMALL.to_dict()


def test_tones_sound_at_their_pitch():
    pytest.importorskip("swift_f0")
    from unisono_sound.signal import pitch

    hz = pitch(make_tone(3, 22050, 22050), MelSpec())
    assert (hz > 0).float().mean() > 0.8
    assert 60 < hz[hz > 0].median() < 500

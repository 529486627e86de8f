"""Corpora of speakers: what stands beside a recording, what is held out, what is known of each voice."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from converters import MEL, buzz
from refused import refused
from unisono.errors import DataError
from unisono_convert.corpus.data import SpeakerData
from unisono_convert.corpus.read import letters_of
from unisono_sound.signal import MelSpec

SPEC = MelSpec(**MEL)
VOICES = {"ann": 220.0, "bob": 110.0, "cid": 150.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Three speakers in folders of their own, four buzzes each."""
    root = tmp_path_factory.mktemp("speakers")
    for name, hertz in VOICES.items():
        (root / name).mkdir()
        for number in range(4):
            wave = buzz(0.4 + 0.1 * number, hertz * (1 + 0.01 * number))
            soundfile.write(root / name / f"{number}.wav", wave.numpy(), 8000)
    return root


def made(root, **options) -> SpeakerData:
    data = SpeakerData(str(root), mel=SPEC, val_size=2, batch_size=3, num_processes=1, **options)
    data.prepare(progress=False)
    return data


def test_folders_side_by_side_are_speakers_and_each_has_its_own_statistics(folder):
    data = made(folder)
    facts = data.describe()
    assert facts.speakers == ("ann", "bob", "cid") and len(data.train_set) == 10 and len(data.val_set) == 2
    assert set(facts.held_out) == {recording.utterance.id for recording in data.val_set.recordings}
    for name, hertz in VOICES.items():
        own = [r for r in data.train_set.recordings if r.utterance.speaker == name]
        mel = torch.cat([r.features.load("mel") for r in own]).double()
        pitch = torch.cat([r.features.load("pitch") for r in own])
        logs = pitch[pitch > 0].double().log()
        np.testing.assert_allclose(facts.voices[name].mean, mel.mean(0), rtol=1e-5)
        np.testing.assert_allclose(facts.voices[name].std, mel.std(0, correction=0), rtol=1e-4)
        assert facts.pitch[name].mean == pytest.approx(float(logs.mean()), rel=1e-6)
        assert np.exp(facts.pitch[name].mean) == pytest.approx(hertz, rel=0.1)


def test_speakers_can_be_weighted(folder):
    data = made(folder)
    data.mixing = {"ann": 1, "bob": 2, "cid": 0}
    seen = [name for batch in data.train_dataloader() for name in batch["speaker"].tolist()]
    assert len(seen) == 9 and set(seen) == {0, 1} and abs(seen.count(1) - 6) <= 1


def test_same_is_another_recording_of_the_speaker_and_other_of_somebody_else(folder):
    data = made(folder, crop_frames=20, reference_frames=1000)
    length = {r.features.load("mel").sum().item(): r for r in data.train_set.pool}
    for index, recording in enumerate(data.train_set.recordings):
        for seed in range(4):
            item = data.train_set.item(index, torch.Generator().manual_seed(seed))
            same, other, another = (length[item[name].sum().item()] for name in ("same", "other", "another"))
            assert same is not recording and same.speaker == recording.speaker == item["speaker"]
            assert other.speaker == another.speaker == item["target"] != item["speaker"]
            assert item["mel"].shape == (20, 16) and item["pitch"].shape == (20,) and not item["whole"]
            again = data.train_set.item(index, torch.Generator().manual_seed(seed))
            assert all(torch.equal(item[name], again[name]) for name in ("mel", "same", "other", "another"))


def test_without_labels_same_is_the_recording_itself_and_nobody_has_a_name(folder):
    data = made(folder, labelled=False, reference_frames=1000)
    facts = data.describe()
    assert facts.speakers == () and facts.pitch == {} and facts.voices == {}
    item = data.train_set.item(0, torch.Generator().manual_seed(0))
    assert torch.equal(item["same"], item["mel"]) and item["whole"] and item["speaker"] == 0
    assert not torch.equal(item["other"][:30], item["mel"][:30])


def test_batches_are_padded_with_their_lengths(folder):
    batch = next(iter(made(folder).train_dataloader()))
    for name in ("mel", "same", "other", "another"):
        lengths = batch[f"{name}_lengths"]
        assert batch[name].shape[:2] == (3, int(lengths.max()))
        assert all(not row[length:].any() for row, length in zip(batch[name], lengths.tolist(), strict=True))


def test_held_out_speakers_are_neither_heard_nor_known(folder):
    data = made(folder, held_out_speakers=("bob",))
    assert data.describe().speakers == ("ann", "cid") and data.describe().held_out_speakers == ("bob",)
    known = {r.utterance.speaker for part in (data.train_set, data.val_set) for r in part.recordings}
    assert known == {"ann", "cid"} and data.audit.reasons["held-out speaker"] == 4
    with refused(DataError, "unknown", "data.held_out_speakers", value="bop", names="bob"):
        made(folder, held_out_speakers=("bop",))


def test_one_speaker_and_wrong_numbers_are_refused(folder):
    with refused(DataError, "empty", "data.root", names="ann"):
        made(folder / "ann")
    for name, value in (("crop_frames", 0), ("reference_frames", 0), ("val_size", 1.5)):
        with refused(DataError, "range", f"data.{name}", value=value):
            SpeakerData(str(folder), **{name: value})


def test_letters_are_small_and_without_punctuation():
    assert letters_of(["Zero!", "O, ne", "…"]) == (" ", "e", "n", "o", "r", "z")


def test_losses_of_pureformer_take_what_the_data_make(folder):
    from converters import make_converter

    data = made(folder)
    facts = data.describe().to_json()
    shares = (0.0, 1.0)
    found = []
    for share in shares:
        model = make_converter("convert/pureformer-tiny", f"--model.objective.centre_share={share}", **facts)
        parts = model.train().losses(next(iter(data.train_dataloader())))
        names = ("mel", "divergence", "triplet", "speaker")
        torch.testing.assert_close(parts["loss"], torch.stack([parts[name] for name in names]).sum())
        parts["mel"].backward()
        found.append((model.speaker.out.weight.grad, model.centres.grad))
    (by_voice, no_centres), (no_voice, by_centres) = found
    assert by_voice.any() and (no_centres is None or not no_centres.any())
    assert by_centres.any() and (no_voice is None or not no_voice.any())  # all are styled by their speakers' centres


def test_the_noise_of_an_item_does_not_depend_on_its_batch():
    from converters import drawn, make_converter
    from unisono_convert.pureformer.encoders import Code

    model = make_converter()
    mask = torch.arange(9) < torch.tensor([9, 5])[:, None]
    both = Code(drawn(2, 9, 3), drawn(2, 9, 3), mask)
    alone = Code(*(part[1:, :5] for part in both))
    assert torch.equal(model._noise(both, [7, 8])[1, :5], model._noise(alone, [8])[0])

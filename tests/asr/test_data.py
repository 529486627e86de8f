"""Corpora: units of a corpus, speeds and noise, what is held out and what is dropped."""

import math
from pathlib import Path

import pytest
import torch
from recognisers import drawn
from refused import refused
from unisono.errors import DataError, RecipeError
from unisono.recipe import Recipe
from unisono_asr.data import RecognitionData
from unisono_asr.facts import RecognitionFacts
from unisono_asr.features import SPEECH, at_speed, extract, with_noise
from unisono_asr.items import UnitOptions, Variation, least_steps
from unisono_asr.noise import Noise
from unisono_sound.corpus import AudioLimits, FrontEndOptions, ReadingOptions, Utterance
from unisono_sound.signal import LogMel, write_audio

DATA = Path(__file__).parents[2] / "../shared/data"
LINES = ("the cat sat", "a cat sat", "the mat", "a cat and a mat", "the cat and the mat", "that is a mat")


def write_corpus(folder, lines=LINES, seconds=1.5, speakers=("ann", "bob")):
    """Buzzes with texts, two takes of each sentence, by several speakers."""
    time = torch.arange(round(seconds * 16000)) / 16000
    rows = ["id|audio|text|speaker"]
    for index, line in enumerate(line for line in lines for _ in range(2)):
        wave = 0.1 * torch.sin(2 * math.pi * (110 + 30 * index) * time)
        write_audio(folder / f"{index}.wav", wave, 16000)
        rows.append(f"{index}|{index}.wav|{line}|{speakers[index % len(speakers)]}")
    (folder / "corpus.csv").write_text("\n".join(rows) + "\n", "utf-8")
    return str(folder / "corpus.csv")


def corpus(root, **options):
    reading = ReadingOptions(front_end="characters")
    units = options.pop("units", UnitOptions(kind="characters"))
    return RecognitionData(root, reading=reading, units=units, num_processes=1, batch_size=2, **options)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("buzzes"))


def test_a_sentence_is_held_out_with_all_of_its_takes(root):
    data = corpus(root, val_size=2)
    data.prepare(progress=False)
    kept, held = ({item.utterance.text for item in part.items} for part in (data.train_set, data.val_set))
    assert held and not kept & held and len(data.val_set) == 2 * len(held)
    facts = data.describe()
    assert set(facts.held_out) == held and RecognitionFacts.from_json(facts.to_json()) == facts
    assert facts.units.tokens[:3] == ("<blank>", " ", "a") and facts.vocabulary == ()


def test_items_hold_what_is_said(root):
    data = corpus(root, val_size=2)
    data.prepare(progress=False)
    for part in (data.train_set, data.val_set):
        for index in range(len(part)):
            item = part.item(index, torch.Generator().manual_seed(index))
            assert data.units.text(item["targets"].tolist()) == item["text"]
    batch = data.collate([data.train_set.item(index, torch.Generator().manual_seed(0)) for index in range(3)])
    assert batch["mel"].shape == (3, int(batch["mel_lengths"].max()), 80)
    assert batch["targets"].shape == (3, int(batch["target_lengths"].max()))


def test_each_pass_draws_a_speed_and_the_held_out_have_their_own(root):
    data = corpus(root, val_size=2)
    data.prepare(progress=False)
    lengths = {len(data.train_set.item(0, torch.Generator().manual_seed(seed))["mel"]) for seed in range(20)}
    assert lengths == {150, 166, 136}
    assert {len(data.val_set.item(0, torch.Generator().manual_seed(seed))["mel"]) for seed in range(20)} == {150}
    same = [data.train_set.item(0, torch.Generator().manual_seed(5))["mel"] for _ in range(2)]
    assert torch.equal(*same)


def test_speed_moves_pitch_and_length():
    time = torch.arange(16000) / 16000
    for speed in (0.9, 1.1):
        wave = at_speed(torch.sin(2 * math.pi * 400 * time), 16000, speed)
        assert len(wave) == pytest.approx(16000 / speed, abs=2)
        assert int(torch.fft.rfft(wave).abs().argmax()) * 16000 / len(wave) == pytest.approx(400 * speed, abs=2)


def test_features_of_all_speeds_are_log_mels(root):
    audio = Path(root).with_name("0.wav")
    made, facts = extract(Utterance("0", audio), SPEECH, AudioLimits(), 0.0, 0.0, None, (0.9, 1.0, 1.1))
    assert set(made) == {"mel", "mel_0.9", "mel_1.1"} and facts["seconds"] == pytest.approx(1.5)
    time = torch.arange(24000) / 16000
    wave = 0.1 * torch.sin(2 * math.pi * 110 * time)
    heard = LogMel(SPEECH)(wave[None])[0]
    loud = heard > -6  # the file has 16 bits
    assert loud.any() and (made["mel"] - heard)[loud].abs().max() < 0.02


@pytest.mark.parametrize("snr", [0.0, 10.0])
def test_noise_is_added_at_its_ratio(snr):
    mel, noise = drawn(50, 80) - 4, drawn(50, 80, seed=1) - 2
    power = with_noise(mel, noise, snr).mul(2).double().exp()
    speech = mel.mul(2).double().exp()
    added = (power - speech).mean()
    assert float(10 * torch.log10(speech.mean() / added)) == pytest.approx(snr, abs=0.01)
    assert (power - speech)[3, 7] / added == pytest.approx(
        float(noise[3, 7].mul(2).exp() / noise.mul(2).exp().mean()), rel=1e-2
    )


def test_noise_goes_round():
    noise = Noise(torch.arange(5.0)[:, None])
    assert noise.stretch(7, 0.61)[:, 0].tolist() == [3, 4, 0, 1, 2, 3, 4]


def test_items_are_heard_in_noise(root, tmp_path):
    write_audio(tmp_path / "hiss.wav", 0.1 * drawn(16000), 16000)
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    for source in ("white", "pink", str(tmp_path)):
        variation = Variation(speeds=(1.0,), noise=source, noise_share=0.5, snr_db=(0.0, 0.0))
        data = corpus(root, val_size=2, variation=variation)
        audit = data.prepare(progress=False)
        mels = [data.train_set.item(0, torch.Generator().manual_seed(seed))["mel"] for seed in range(20)]
        changed = [not torch.equal(mel, data.train_set.items[0].features.load("mel")) for mel in mels]
        assert 3 < sum(changed) < 17
        assert not any(torch.isnan(mel).any() for mel in mels)
        assert audit.reasons.get("unreadable", 0) == (source == str(tmp_path))


def test_noise_that_is_not_there_is_refused(root, tmp_path):
    write_audio(tmp_path / "silence.wav", torch.zeros(16000), 16000)
    with refused(DataError, "empty", "data.variation.noise"):
        corpus(root, variation=Variation(noise=str(tmp_path))).prepare(progress=False)


def test_a_speaker_is_held_out(root):
    data = corpus(root, held_out_speakers=("bob",))
    data.prepare(progress=False)
    sides = [{item.utterance.speaker for item in part.items} for part in (data.train_set, data.val_set)]
    assert sides == [{"ann"}, {"bob"}] and len(data.train_set) + len(data.val_set) == 2 * len(LINES)
    with refused(DataError, "unknown", "data.held_out_speakers", value="bert", names="bert"):
        corpus(root, held_out_speakers=("bert",)).prepare(progress=False)


def test_what_has_no_room_and_what_was_never_trained_on_is_dropped(tmp_path):
    root = write_corpus(tmp_path, (*LINES, "the cat and the mat and the cat and the mat and that is that"), seconds=1.0)
    audit = corpus(root, val_size=2).prepare(progress=False)
    assert audit.reasons["more units than steps"] == 2
    lines = (*LINES, "zebra")
    for seed in range(2, 14):  # until the sentence with the strange letter is held out
        (tmp_path / str(seed)).mkdir()
        data = corpus(write_corpus(tmp_path / str(seed), lines), val_size=seed)
        audit = data.prepare(progress=False)
        if "unit not in training" in audit.reasons:
            break
    assert audit.reasons["unit not in training"] == 2


def test_a_speed_without_room_is_not_drawn(tmp_path):
    line = "the cat and the mat and the cat and"  # 35 units and no room at 1.1 of 1.5 s
    data = corpus(write_corpus(tmp_path, (line, *LINES)), val_size=1)
    data.prepare(progress=False)
    places = [place for place, item in enumerate(data.train_set.items) if item.utterance.text == line]
    if places:
        lengths = {len(data.train_set.item(places[0], torch.Generator().manual_seed(s))["mel"]) for s in range(20)}
        assert lengths == {150, 166}


def test_steps_that_a_transcript_needs():
    assert [least_steps(ids) for ids in ([1], [1, 2, 1], [1, 1, 2, 2, 2])] == [1, 3, 8]


@pytest.mark.parametrize(
    "options, code, path",
    [
        ({"speeds": (0.9, 1.1)}, "range", "data.variation.speeds"),
        ({"speeds": (1.0, 3.0)}, "range", "data.variation.speeds"),
        ({"noise_share": 2.0}, "range", "data.variation.noise_share"),
        ({"snr_db": (9.0, 3.0)}, "range", "data.variation.snr_db"),
    ],
)
def test_variations_that_cannot_be_are_refused(options, code, path):
    with refused(DataError, code, path):
        Variation(**options)


def test_phones_have_a_vocabulary():
    recipe = Recipe.read("asr/ctc-tiny")
    data = recipe.build_data()
    data.prepare(progress=False)
    facts = data.describe()
    assert facts.units.kind == "phones" and facts.units.tokens[1] == " " and "ˈ" not in "".join(facts.units.tokens)
    item = data.train_set.items[0]
    words = [word.strip(".,?!").lower() for word in item.utterance.text.split()]
    said = " ".join(data.units.tokens[number] for number in data.train_set.targets[0]).split("   ")
    assert len(words) == len(said) > 3
    assert set(zip(words, said, strict=True)) <= {(word, phones) for word, phones, _ in facts.vocabulary}
    counts = [count for *_, count in facts.vocabulary]
    assert counts == sorted(counts, reverse=True)


def test_a_front_end_that_there_is_not_is_refused():
    with refused(RecipeError, "unknown"):
        Recipe.read("asr/ctc-tiny", ["--data.units.knd=phones"])
    assert FrontEndOptions().front_end == "espeak"


@pytest.mark.skipif(not (DATA / "fsdd.zip").exists(), reason="../shared/data/fsdd.zip is absent")
def test_digits_of_the_free_spoken_digit_dataset(tmp_path):
    from zipfile import ZipFile

    with ZipFile(DATA / "fsdd.zip") as packed:
        names = [name for name in packed.namelist() if "_theo_1" in name or "_theo_2." in name or "_jackson_1" in name]
        for name in names:
            packed.extract(name, tmp_path)
    (folder,) = {path.parent.parent for path in tmp_path.rglob("*.wav")}
    recipe = Recipe.read("asr/digits", [f"--data.root={folder}", "--data.num_processes=1"])
    data = recipe.build_data()
    data.prepare(progress=False)
    assert {item.utterance.text for item in data.val_set.items} <= {
        data.units.text(ids) for ids in data.val_set.targets
    }
    assert len(data.train_set) > 100 and not data.audit.dropped

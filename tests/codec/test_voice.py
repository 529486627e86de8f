"""Recordings as codes and semantic tokens: items, prompts, caches; and what a token voice's report counts."""

import inspect
import json
from types import SimpleNamespace

import flat
import numpy as np
import pytest
import soundfile
import torch

pytest.importorskip("espeakng_loader", reason="espeak-ng's wheel is not installed")

from refused import refused
from unisono import Synthesizer
from unisono.arguments import check_arguments
from unisono.errors import DataError, RecipeError
from unisono.recipe import Recipe
from unisono_codec.codecs.untrained import rvq
from unisono_codec.voices import voice_report
from unisono_codec.voices.data import SpokenData, VoiceData, check_codec, facts_of
from unisono_codec.voices.words import PromptedData
from unisono_sound.corpus import Manifest
from unisono_sound.signal import MelSpec

CODEC = rvq({})
RATE = CODEC.sample_rate


def spoken(**options):
    options = {"num_sentences": 8, "voices": ("plain", "f2"), "val_size": 2, "batch_size": 2, **options}
    data = flat.make(SpokenData, **options)
    data.attach("codec", rvq({}))
    return data


@pytest.fixture(scope="module")
def made():
    data = spoken()
    data.audit = data.prepare(progress=False)
    return data


def item(data, index, seed=0):
    return data.train_set.item(index, torch.Generator().manual_seed(seed))


def test_items_are_codes_of_the_recording_and_tokens_of_the_text(made):
    assert (len(made.train_set), len(made.val_set)) == (6, 2)
    for held in made.train_set.items:
        codes = held.features.load("codes")
        assert codes.shape == (held.num_frames, 3) and len(held.semantic) == held.num_frames
        # every symbol that lasts is there, in order
        kept = torch.unique_consecutive(held.semantic)
        order = iter(held.symbols.tolist())
        assert all(any(symbol == other for other in order) for symbol in kept.tolist())
        assert int(held.durations.sum()) == held.features.shapes["mel"][0]


def test_held_out_sentences_are_those_of_the_corpus(made):
    """Codes are added to the two sides of the split, and move nothing from one to the other."""
    items = [*made.val_set.items, *made.train_set.items]
    train, val = Manifest(tuple(item.utterance for item in items)).split(2)
    assert {item.utterance.id for item in made.val_set.items} == {u.id for u in val}
    assert {item.utterance.id for item in made.train_set.items} == {u.id for u in train}


def test_prompts_are_drawn_as_often_as_they_should(made):
    kinds = {"none": 0, "own": 0, "joined": 0}
    told = []
    for seed in range(120):
        got = item(made, seed % 6, seed)
        own = made.train_set.items[seed % 6].num_frames
        kinds["joined" if len(got["codes"]) > own else "own" if got["given"] else "none"] += 1
        assert len(got["codes"]) == len(got["semantic"]) > got["given"] >= 0
        assert not (got["hidden"] or got["anonymous"]) or got["given"]
        told += [(got["hidden"], got["anonymous"])] if got["given"] else []
    # half own prompts (a few of them empty), a quarter joined: three standard errors of 120
    assert abs(kinds["joined"] / 120 - 0.25) < 0.12 and abs(kinds["own"] / 120 - 0.5) < 0.14
    # half of the prompts hide their words, half their speaker, and one does not follow the other
    assert all(abs(sum(one) / len(told) - 0.5) < 1.5 / len(told) ** 0.5 for one in zip(*told, strict=True))
    assert len(set(told)) == 4


def test_a_joined_prompt_is_the_end_of_the_same_speakers(made):
    for seed in range(60):
        got = item(made, 0, seed)
        mine = made.train_set.items[0]
        if len(got["codes"]) <= mine.num_frames:
            continue
        given = got["given"]
        ends = [
            other for other in made.train_set.items
            if other.speaker == mine.speaker
            and torch.equal(other.features.load("codes")[-given:].long(), got["codes"][:given])
        ]  # fmt: skip
        assert ends and torch.equal(ends[0].semantic[-given:], got["semantic"][:given])
        assert torch.equal(got["codes"][given:], mine.features.load("codes").long())
        return
    raise AssertionError("no prompt was joined in 60 draws")


def test_long_items_are_cut():
    data = spoken(max_frames=40, max_prompt_frames=10, prompt_share=0.0, join_share=1.0)
    data.prepare(progress=False)
    starts = set()
    for seed in range(12):
        got = item(data, 1, seed)
        assert len(got["codes"]) <= 40 and 1 <= got["given"] <= 10
        starts.add(tuple(got["semantic"][got["given"] :].tolist()))
    assert len(starts) > 3


def test_batches_are_padded_and_facts_are_json(made):
    batch = made.collate([item(made, 0), item(made, 1)])
    assert batch["codes"].shape[:2] == batch["semantic"].shape
    assert batch["lengths"].tolist() == [len(item(made, i)["codes"]) for i in (0, 1)]
    facts = json.loads(json.dumps(made.describe().to_json()))
    assert facts["codec"] == facts_of(CODEC) and facts["duration_rate"] == RATE / 256
    assert facts["semantic"] == {"provider": "phonemes", "vocabulary": len(facts["symbols"]),
                                 "frame_rate": CODEC.frame_rate}  # fmt: skip
    assert facts["speakers"] == ["plain", "f2"]


def test_codes_are_made_once(made, monkeypatch):
    again = spoken()
    monkeypatch.setattr(type(CODEC), "encode", None)
    again.prepare(progress=False)
    assert torch.equal(again.train_set.items[0].features.load("codes"), made.train_set.items[0].features.load("codes"))


def test_durations_are_learnt_where_none_are_given(tmp_path, monkeypatch):
    (tmp_path / "wavs").mkdir()
    rng = np.random.default_rng(0)
    names = ("one", "two", "three", "four")
    for name in names:
        soundfile.write(tmp_path / "wavs" / f"{name}.wav", 0.1 * rng.standard_normal(RATE), RATE)
    (tmp_path / "metadata.csv").write_text("\n".join(f"{n}|{n}|Number {n}." for n in names), "utf-8")
    data = flat.make(VoiceData, root=str(tmp_path), val_size=1, batch_size=1, align_steps=2, trim_db=0.0)
    with refused(DataError, "missing", "components.codec", names="--components.codec=FOLDER"):
        data.prepare(progress=False)
    data.attach("codec", rvq({}))
    assert data.prepare(progress=False).kept == 4
    for held in [*data.train_set.items, *data.val_set.items]:
        assert int(held.durations.min()) >= 1 and len(held.semantic) == held.num_frames == 44


@pytest.mark.parametrize(
    ("options", "code", "path", "named"),
    [
        ({"semantic": "letters"}, "value", "data.reading.semantic", "hubert:FOLDER"),
        ({"semantic": "hubert"}, "value", "data.reading.semantic", "hubert:FOLDER"),
        ({"prompt_share": 0.8, "join_share": 0.3}, "range", "data.items.join_share", ["0.8", "0.3"]),
        ({"hide_share": 2.0}, "range", "data.items.hide_share", "2.0"),
        ({"max_prompt_frames": 512}, "range", "data.items.max_prompt_frames", "max_frames=512"),
        ({"align_steps": 0}, "range", "data.reading.align_steps", "1"),
    ],
)
def test_wrong_options(options, code, path, named):
    with refused(DataError, code, path, names=named):
        flat.make(VoiceData, root="somewhere", **options)


@pytest.mark.parametrize("kind", [VoiceData, PromptedData])
@pytest.mark.parametrize(
    "given",
    [
        {"reading": {"semantic": "hubert:here", "align_steps": 7, "front_end": "characters"}},
        {"semantic": "hubert:here", "align_steps": 7, "front_end": "characters"},  # format 1
        {"tokens": {"semantic": "hubert:here", "align_steps": 7}, "reading": {"front_end": "characters"}},
        {"tokens": {"semantic": "hubert:here"}, "align_steps": 7, "front_end": "characters"},
    ],
)
def test_semantic_tokens_are_read_where_recipes_have_had_them(kind, given):
    read = check_arguments(kind, {"root": "x", **given}, "data", "a recipe", kind.flat)
    wanted = {"front_end": "characters", "language": "en-us", "durations": None, "lexicon": None, "normalise": False}
    assert read["reading"] == {**wanted, "semantic": "hubert:here", "align_steps": 7} and "tokens" not in read
    assert given.get("tokens", {}).keys() <= {"semantic", "align_steps"}  # a recipe is not written to
    assert len(inspect.signature(kind).parameters) < 10


def test_a_codec_of_another_rate_is_refused():
    data = flat.make(VoiceData, root="somewhere", mel=MelSpec(sample_rate=16000, f_max=8000.0))
    with refused(DataError, "conflict", "data.mel.sample_rate", value=16000, names="22050"):
        data.attach("codec", rvq({}))
    with refused(DataError, "conflict", "codec", value="fingerprint"):
        check_codec(rvq({}), {**facts_of(CODEC), "fingerprint": "0" * 16})


def test_a_recipe_without_a_codec_says_so():
    with refused(RecipeError, "missing", "components.codec", value="???"):
        Recipe.read("codec/soundstorm-small", ["--data.root=somewhere"])


# ---- the report --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(made):
    model = Recipe.read("codec/soundstorm-tiny").build_model(made.describe())
    model.attach("codec", rvq({}))
    return model.eval()


def test_evaluations_are_counted_beside_those_of_one_at_a_time(model, made):
    sentences = [held.utterance for held in made.val_set.items]
    rows = {row.measure: row.values["synthesis"] for row in voice_report.cost(model, sentences).rows}
    told = [passage for sentence in sentences for passage in voice_report._told(model, sentence)]
    windows = sum(1 + len(passage.joints) for passage in told)
    assert rows["evaluations for a sentence"] == 18 * windows / 2
    tokens = sum(len(passage.own.codes) for passage in told) * 3
    assert rows["evaluations, one token at a time"] == tokens / 2
    assert rows["as many times fewer"] == pytest.approx(tokens / (18 * windows))
    assert rows["seconds, one token at a time"] > 0


def test_jumps_are_where_the_sound_changes():
    wave = torch.zeros(20 * 512)
    wave[:5120] = 0.1 * torch.sin(torch.arange(5120) * 0.05)
    wave[5120:] = 0.01 * torch.sin(torch.arange(5120) * 0.5)
    found = voice_report.jumps(wave, MelSpec(), 512)
    assert len(found["mel"]) == len(found["level"]) == 19
    assert found["mel"].argmax() in (8, 9, 10) and found["level"].argmax() == 9
    assert found["level"][9] == pytest.approx(20, abs=0.5)


def test_joints_are_found_and_the_window_is_put_back(model, made):
    before = model.max_frames
    section = voice_report.joints(model, [held.utterance for held in made.train_set.items[:3]], MelSpec())
    assert model.max_frames == before
    count = int(section.name.rpartition(": ")[2])
    rows = {row.measure: row.values["synthesis"] for row in section.rows}
    assert count > 0 and rows["jump of mel at joints, mean"] > 0
    assert rows["jump of mel at joints, of elsewhere"] == pytest.approx(
        rows["jump of mel at joints, mean"] / rows["jump of mel elsewhere, mean"]
    )


def test_jumps_at_joints_and_elsewhere_by_hand(monkeypatch):
    """The fourth frame after the prompt begins with the fourth jump; the nine others are elsewhere."""
    model = SimpleNamespace(codec=SimpleNamespace(frame_rate=50.0, hop_length=256), max_frames=100)
    jump = np.arange(1.0, 11.0)
    monkeypatch.setattr(voice_report, "_told", lambda *_: [SimpleNamespace(joints=[6], given=2)])
    monkeypatch.setattr(voice_report, "sound", lambda *_: SimpleNamespace(waveform=np.zeros((1, 9), np.float32)))
    monkeypatch.setattr(voice_report, "jumps", lambda *_: {"mel": jump, "level": 2 * jump})
    section = voice_report.joints(model, [None], MelSpec())
    rows = {row.measure: row.values["synthesis"] for row in section.rows}
    assert rows["jump of mel at joints, mean"] == 4 and rows["jump of level at joints, mean"] == 8
    assert rows["jump of mel elsewhere, mean"] == pytest.approx((55 - 4) / 9)
    assert rows["jump of level at joints, of elsewhere"] == pytest.approx(8 / (2 * 51 / 9))


def test_a_sweep_asks_for_held_out_sentences(model, made):
    class Deaf:
        name = "deaf"

        def transcribe(self, wave, rate):
            return "nothing at all"

    asked = voice_report.probe(Synthesizer(model), made.root, limit=2, recogniser=Deaf())
    assert {request["text"] for request in asked.requests} == set(model.facts["held_out"])
    assert all(request["speaker"] in ("plain", "f2") for request in asked.requests)
    made_sounds = Synthesizer(model)([dict(request) for request in asked.requests])
    assert asked.measure(made_sounds)["word error rate"] > 50

"""Pronouncing: corpora whose transcripts are read by a lexicon and in words, and what travels with the voice."""

import json

import numpy as np
import pytest
import soundfile
from refused import refused
from unisono.errors import DataError
from unisono_sound.corpus import PronunciationOptions, ReadingOptions, SpeechCorpus, SpeechFacts, pronouncing
from unisono_sound.text import CustomFrontEnd, front_end
from unisono_sound.voice import SpeechRequest, Voice

pytest.importorskip("espeakng_loader", reason="espeak-ng's wheel is not installed")
pytest.importorskip("num2words", reason="num2words is not installed")

TEXTS = {"one": "Nguyen paid $5.", "two": "Nothing to say.", "three": "It was in 1905."}


@pytest.fixture(scope="module")
def reader():
    return front_end("espeak", "en-us")


@pytest.fixture
def words(tmp_path):
    path = tmp_path / "words.tsv"
    path.write_text("nguyen\twˈɪn\n", encoding="utf-8")
    return str(path)


def test_without_wishes_it_is_the_front_end_itself(reader):
    assert pronouncing(reader, PronunciationOptions()) is reader


def test_words_are_said_as_asked_and_the_version_says_so(reader, words):
    made = pronouncing(reader, PronunciationOptions(lexicon=words, normalise=True))
    assert (made.name, made.language, list(made.table)) == (reader.name, reader.language, list(reader.table))
    assert made(TEXTS["one"]).symbols == reader("Win paid five dollars.").symbols
    assert [w.text for w in made(TEXTS["one"]).words] == ["Nguyen", "paid", "$5"]
    versions = {
        pronouncing(reader, PronunciationOptions(lexicon=path, normalise=rules)).version
        for path in (None, words)
        for rules in (False, True)
    }
    assert len(versions) == 4 and all(version.startswith(reader.version) for version in versions)


def test_what_cannot_be_is_refused(reader, words, tmp_path):
    own = CustomFrontEnd(lambda text: list(text), "m:f")
    with refused(DataError, "unsupported", "data.reading", value="m:f"):
        pronouncing(own, PronunciationOptions(lexicon=words))
    with refused(DataError, "missing", "nowhere.tsv"):
        pronouncing(reader, PronunciationOptions(lexicon=str(tmp_path / "nowhere.tsv")))
    with refused(DataError, "unsupported", "data.reading.normalise", value="de"):
        pronouncing(front_end("espeak", "de"), PronunciationOptions(normalise=True))


def test_a_corpus_is_read_by_its_lexicon_which_travels_in_the_facts(reader, words, tmp_path):
    noise = np.random.default_rng(0).normal(0, 0.1, 22050 * 3)
    (tmp_path / "wavs").mkdir()
    for name in TEXTS:
        soundfile.write(tmp_path / "wavs" / f"{name}.wav", noise, 22050)
    lines = "".join(f"{name}|{text}\n" for name, text in TEXTS.items())
    (tmp_path / "metadata.csv").write_text(lines, encoding="utf-8")
    corpus = SpeechCorpus(
        str(tmp_path / "metadata.csv"),
        reading=ReadingOptions(lexicon=words, normalise=True),
        num_processes=1,
        val_size=0,
    )
    corpus.prepare(progress=False)
    found = {item.utterance.id: item.symbols.tolist() for item in corpus.train_set.items}
    wanted = {"one": "Win paid five dollars.", "two": TEXTS["two"], "three": "It was in nineteen oh five."}
    assert found == {name: reader.table.encode(reader(text).symbols) for name, text in wanted.items()}
    facts = corpus.describe()
    assert facts.lexicon == (("nguyen", "wˈɪn", ""),)
    again = SpeechFacts.from_json(json.loads(json.dumps(facts.to_json())))
    assert again == facts
    voice = Voice.from_facts(again)
    (reading,) = voice.read(SpeechRequest(text=TEXTS["one"]), 220)
    assert reading.ids == found["one"]

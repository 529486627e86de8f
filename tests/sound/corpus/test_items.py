"""Items of a corpus of speech: packed, they are what they were, in order, and take few bytes."""

import gc
import pickle
import tracemalloc
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from unisono.data import Features
from unisono_sound.corpus import SpeechItem, SpeechSet, Utterance
from unisono_sound.corpus.items import Numbers, PackedItems, Strings

SPEAKERS = ["kim", "Zoë", ""]


def made(i, num_symbols=None, held=False, timed=None):
    """One of many: its numbers and names depend on its place."""
    n = 40 + i % 50 if num_symbols is None else num_symbols
    speaker, frames = i % len(SPEAKERS), 5 * n + i % 7
    shapes = {"mel": (frames, 80), "pitch": (frames,)} if i % 5 else {"energy": (frames,), "mel": (frames, 20)}
    features = Features(Path(f"/home/someone/.cache/unisono/features/{i % 256:02x}/{i:040x}.safetensors"), shapes)
    if held:
        features = Features(features.path, shapes, {"seconds": i}, {name: torch.zeros(s) for name, s in shapes.items()})
    text = f"Sentence {i} says {i * 7919 % 10007}, and goes on for as long as most of them do, é漢🙂."
    utterance = Utterance(f"wavs/{i}-\udcff", Path(f"/corpora/voice/wavs/{i}\udcff.wav"), text, SPEAKERS[speaker])
    symbols, words = torch.arange(i, i + n) % 300, torch.arange(n) // 5 - 1
    durations = torch.full((n,), 5) if (i % 3 == 0 if timed is None else timed) else None
    return SpeechItem.of(utterance, features, speaker, symbols, words, durations)


def assert_equal(one, other):
    assert (one.utterance, one.speaker, one.num_frames) == (other.utterance, other.speaker, other.num_frames)
    assert type(one.num_frames) is int and type(one.utterance.audio) is type(other.utterance.audio)
    for name in ("symbols", "words", "durations"):
        mine, theirs = getattr(one, name), getattr(other, name)
        assert (mine is None) == (theirs is None), name
        assert mine is None or (mine.dtype == torch.int64 and torch.equal(mine, theirs)), name
    assert (one.features.path, one.features.in_memory) == (other.features.path, other.features.in_memory)
    assert [*one.features.shapes.items()] == [*other.features.shapes.items()]  # in order


@pytest.mark.parametrize("held", [False, True])
def test_packed_items_are_what_they_were_in_order(held):
    items = [made(i, held=held and i % 2 == 0) for i in range(60)]
    packed = PackedItems(items)
    again = pickle.loads(pickle.dumps(packed))
    assert len(packed) == len(again) == 60
    for one, two, item in zip(packed, again, items, strict=True):
        assert_equal(one, item)
        assert_equal(two, item)
        if item.features.in_memory:
            assert one.features is item.features
    assert_equal(packed[-1], items[-1])
    assert [item.utterance for item in packed[50:10:-7]] == [item.utterance for item in items[50:10:-7]]
    for beyond in (60, -61):
        with pytest.raises(IndexError):
            packed[beyond]
    assert list(PackedItems([])) == []


def test_what_a_corpus_says_of_training_and_validation_is_kept():
    items = [made(i) for i in range(3)]
    for item, held in zip(items, (None, True, False), strict=True):
        object.__setattr__(item.utterance, "held_out", held)
    assert [item.utterance.held_out for item in PackedItems(items)] == [None, True, False]


def test_a_set_gives_what_its_items_hold():
    items = [made(i, held=True) for i in range(7)]
    data = SpeechSet(items)
    assert [data.size(i) for i in range(7)] == [item.num_frames for item in items]
    assert data.groups() == (["", "Zoë", "kim"], [2, 1, 0, 2, 1, 0, 2])
    for i, item in enumerate(items):
        found = data.item(i)
        assert (found["id"], found["text"], found["speaker"]) == (item.utterance.id, item.utterance.text, item.speaker)
        assert torch.equal(found["symbols"], item.symbols) and torch.equal(found["words"], item.words)
        assert found["mel"] is item.features.load("mel") or torch.equal(found["mel"], item.features.load("mel"))
        assert ("durations" in found) == (item.durations is not None)
        assert set(found) - {"durations"} == {"symbols", "words", "speaker", "id", "text", *item.features.shapes}


def test_a_packed_row_takes_less_than_a_kilobyte():
    """Its texts and paths are 230 bytes, its 65 symbols and words two arrays of one or two bytes each."""
    items = [made(i, timed=True) for i in range(2000)]
    tracemalloc.start()
    try:
        packed = PackedItems(items)
        del items
        gc.collect()
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 400 < used / len(packed) < 800


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(st.characters(), max_size=9)))
def test_strings_are_kept_as_they_are(strings):
    """Halves of characters, which names of files may have, among them."""
    store = Strings(strings)
    assert [store[i] for i in range(len(strings))] == strings


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(-(2**62), 2**62) | st.integers(-130, 300), max_size=5)))
def test_numbers_are_kept_as_they_are(rows):
    store = Numbers(rows)
    assert [store[i].tolist() for i in range(len(rows))] == rows


@pytest.mark.parametrize(
    ("numbers", "size"), [([-1, 127], 1), ([0, 255], 1), ([-1, 255], 2), ([70_000], 4), ([-(2**40)], 8), ([], 1)]
)
def test_numbers_take_as_few_bytes_as_they_need(numbers, size):
    assert Numbers([numbers]).store.itemsize == size

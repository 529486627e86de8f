"""Synthesizer: the three lines that a user writes."""

import copy
from typing import Literal

import numpy as np
import pytest
import soundfile
import torch
import unisono
from pydantic import Field, field_validator
from refused import refused
from unisono.errors import RequestError
from unisono.request import Request


def test_three_lines(voice_export, tmp_path):
    path = unisono.load(voice_export)("Hello world", pace=1.2, speaker="lj").save(tmp_path / "hello.wav")
    samples, rate = soundfile.read(path)
    assert rate == 22050
    assert len(samples) > 1000


def test_a_text_a_dict_and_a_request_are_one(voice):
    kind = voice.model.Request
    ways = [
        voice.request("Hello", pace=1.5),
        voice.request({"text": "Hello", "pace": 1.5}),
        voice.request({"text": "Hello"}, pace=1.5),
        voice.request(kind(text="Hello", pace=1.5)),
        voice.request(kind(text="Hello", pace=1.1), pace=1.5),
        voice.request(text="Hello", pace=1.5),
    ]
    assert all(type(way) is kind for way in ways)
    assert all(way == ways[0] for way in ways)


def test_lists_in_lists_out(voice):
    assert voice([]) == []
    one = voice(["Hello"])
    assert isinstance(one, list)
    np.testing.assert_array_equal(one[0].waveform, voice("Hello").waveform)
    made = voice(("Hello", {"text": "So long", "pace": 2.0}, voice.request("Bye")), speaker="lj")
    assert len(made) == 3
    made = voice(text for text in ("Hello", "Bye"))
    assert len(made) == 2


@pytest.mark.parametrize(
    ("first", "fields", "code", "path", "value", "names"),
    [
        (None, {}, "missing", "text", {}, "text is required"),
        ("Hello", {"pce": 2}, "unknown", "pce", 2, ["'pce'", "did you mean 'pace'"]),
        ("Hello", {"pace": "fast"}, "type", "pace", "fast", "pace='fast'"),
        ("Hello", {"pace": 0, "pitch_shift": 13}, "range", "pace", 0, ["pace=0", "0.25", "pitch_shift=13", "12"]),
        ("Hello", {"pace": True}, "type", "pace", True, "not true or false"),
        ({"text": "Hello", "texts": 1}, {}, "unknown", "texts", 1, "did you mean 'text'"),
        (5, {}, "type", "text", 5, "text=5"),
        (["Hello", 5], {}, "type", "text", 5, "text=5"),
    ],
)
def test_what_cannot_be_asked_is_named(voice, first, fields, code, path, value, names):
    with refused(RequestError, code, path, value=value, names=names):
        voice(first, **fields)


def test_a_request_of_another_model_is_refused(voice):
    with refused(RequestError, "type", value="Request", names="this one takes FastPitch.Request"):
        voice(Request())


def test_the_fields_of_an_error_are_its_first_problems():
    class Asked(Request):
        size: Literal["small", "large"] = "small"
        names: list[str] = Field(default=["a"], min_length=1, max_length=2)
        text: str = Field(default="x", min_length=1, max_length=3)
        count: int = Field(default=2, multiple_of=2)

        @field_validator("text")
        @classmethod
        def _spoken(cls, text: str) -> str:
            if text == "?":
                raise RequestError("nothing to say: add a word", code="empty", path="text")
            if text == "!":
                raise ValueError("too loud")
            return text

    for fields, code, path, value in (
        ({"size": "wide"}, "unknown", "size", "wide"),
        ({"names": []}, "empty", "names", []),
        ({"names": ["a", "b", "c"]}, "limit", "names", ["a", "b", "c"]),
        ({"names": ["a", 3]}, "type", "names.1", 3),
        ({"text": ""}, "empty", "text", ""),
        ({"text": "long"}, "limit", "text", "long"),
        ({"text": "?"}, "empty", "text", "?"),
        ({"text": "!"}, "value", "text", "!"),
        ({"count": 3}, "range", "count", 3),
        ({"count": 2.5}, "type", "count", 2.5),
        ({"seed": 2**63}, "range", "seed", 2**63),
        ({"seed": -1, "size": 3}, "range", "seed", -1),
    ):
        with refused(RequestError, code, path, value=value):
            Asked.parse(**fields)


def test_a_long_list_of_faults_is_a_short_sentence(voice):
    with refused(RequestError, "range", "word_paces.0", names="4995") as error:
        voice("Hello", word_paces=[float("nan")] * 5000)
    assert len(str(error.value)) < 800
    with pytest.raises(RequestError) as error:
        voice("Hello", word_paces="\ud83d")
    assert str(error.value).encode()


def test_snapshots_end_with_the_output(voice):
    *_, last = voice.snapshots("Hello", pace=2.0)
    np.testing.assert_array_equal(last.waveform, voice("Hello", pace=2.0).waveform)
    with refused(RequestError, "unknown", "pce", value=2, names="pace"):
        next(voice.snapshots("Hello", pce=2))


def test_fields_go_with_a_stream_too(voice):
    with refused(RequestError, "unknown", "pce", value=2):
        next(voice.stream("Hello", pce=2))
    assert sum(p.seconds for p in voice.stream("Hello", pace=4.0)) < sum(p.seconds for p in voice.stream("Hello"))


def test_synthesis_keeps_no_graph_and_leaves_the_global_generator(voice):
    before = torch.random.get_rng_state()
    voice("Hello")
    list(voice.stream("Hello"))
    assert torch.equal(before, torch.random.get_rng_state())
    assert not voice.model.training


def test_components_move_along(voice_export):
    loaded = unisono.load(voice_export)
    assert loaded.to("meta") is loaded
    assert {p.device.type for p in loaded.model.vocoder.parameters()} == {"meta"}


def test_it_says_what_it_is(voice_export):
    assert repr(unisono.load(voice_export)) == "Synthesizer(tts/fastpitch, cpu)"


def test_every_field_of_a_request_is_explained(voice):
    for name, field in voice.model.Request.model_fields.items():
        assert field.description, name
    schema = voice.model.Request.model_json_schema()
    assert schema["required"] == ["text"]
    assert schema["properties"]["pace"]["minimum"] == 0.25


def test_a_voice_is_asked_what_it_can_do(voice_export):
    voice = unisono.load(voice_export)
    assert voice.speakers == ("kathleen", "lj") and "speakers" in dir(voice)
    assert voice.fields["speaker"].choices == voice.speakers
    pace = voice.fields["pace"]
    assert (pace.required, pace.default, pace.limits) == (False, 1.0, ("≥ 0.25", "≤ 4"))
    assert pace.schema["maximum"] == 4 and voice.fields["text"].required
    with pytest.raises(AttributeError, match="speekers"):
        voice.speekers  # noqa: B018
    assert not hasattr(copy.copy(voice), "classes")


def test_words_and_offsets_of_a_stream_are_those_of_the_whole(voice_export):
    """A word's time in a piece, moved by the piece's offset, is its time in the joined sound."""
    pieces = list(unisono.load(voice_export).stream("One sentence, said first. And another one that follows it."))
    whole = unisono.Audio.join(pieces)
    assert len(pieces) > 1 and pieces[0].offset == 0 == whole.offset
    moved = [(word.label, word.start + piece.offset) for piece in pieces for word in piece.words]
    assert [label for label, _ in moved] == [word.label for word in whole.words]
    assert np.allclose([start for _, start in moved], [word.start for word in whole.words], atol=1e-9)
    ends = [piece.offset + piece.seconds for piece in pieces]
    assert np.allclose(ends[:-1], [piece.offset for piece in pieces[1:]])


def test_what_models_list_are_fields_of_their_requests_and_facts_of_their_data():
    from dataclasses import fields

    from unisono import plugin

    listing = 0
    for name in plugin.discover():
        for short in plugin.get(name).models:
            kind = plugin.resolve(f"{name}/{short}", "models")
            for field, fact in kind.choices.items():
                listing += 1
                assert field in kind.Request.model_fields, f"{name}/{short}: {field}"
                assert fact in {known.name for known in fields(kind.Facts)}, f"{name}/{short}: {fact}"
                assert not hasattr(unisono.Synthesizer, fact), f"{name}/{short}: {fact} is a Synthesizer's own"
    assert listing >= 6

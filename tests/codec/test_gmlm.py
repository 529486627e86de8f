"""G-MLM: which tokens are hidden and learnt, what never leaks, a prompt that is read once, what is refused."""

import math
from types import SimpleNamespace

import flat
import numpy as np
import pytest
import torch
from live import check_snapshots
from refused import refused
from unisono import Synthesizer
from unisono.data import Audit
from unisono.errors import CheckpointError, DataError, RecipeError, RequestError
from unisono.masked import Canvas, decode
from unisono.masked.model import StreamNetwork
from unisono.nn.attention import split_parts
from unisono.nn.rotary import rotate, rotation
from unisono.recipe import Recipe
from unisono_codec.codecs.untrained import grvq, rvq
from unisono_codec.voices.autoregressive import one_by_one
from unisono_codec.voices.data import facts_of
from unisono_codec.voices.listener import Heard
from unisono_codec.voices.prompted_evaluate import evaluate, probe
from unisono_codec.voices.prompting import prompt_of, words_of
from unisono_codec.voices.words import PromptedData, PromptedSet
from unisono_sound.signal import write_audio
from unisono_sound.text import IPA

CODEC = grvq({})
RATE, HOP = CODEC.sample_rate, CODEC.hop_length
WORDS = {
    word: IPA.encode(["<start>", *phones, "<end>"])
    for word, phones in (("one", ["w", "ˌʌ", "n"]), ("two", ["t", "ˈuː"]), ("three", ["θ", "ɹ", "ˈiː"]))
}


def codes(frames, seed=0):
    return torch.randint(16, (frames, 4), generator=torch.Generator().manual_seed(seed))


def facts(**changes):
    """What a corpus of digits would say of itself."""
    return {
        "symbols": list(IPA),
        "front_end": "espeak",
        "front_end_version": "made up",
        "language": "en-us",
        "speakers": ["ann", "bob"],
        "mel_spec": CODEC.facts["mel_spec"],
        "codec": facts_of(CODEC),
        "semantic": {"provider": "phonemes", "vocabulary": len(IPA), "frame_rate": CODEC.frame_rate},
        "duration_rate": RATE / 256,
        "loudness_dbfs": -23.0,
        "words": WORDS,
        "prompts": {"ann": codes(30, 1).tolist(), "bob": codes(50, 2).tolist()},
        "max_prompt_frames": 60,
        "max_frames": 128,
        "max_join": 2,
        **changes,
    }


def make(*overrides, **changes):
    model = Recipe.read("codec/gmlm-tiny", list(overrides)).build_model(facts(**changes))
    model.attach("codec", grvq({}))
    return model.eval()


@pytest.fixture(scope="module")
def model():
    return make()


@pytest.fixture(scope="module")
def levels():
    return make("--model.order=levels")


@pytest.fixture(scope="module")
def voice(model):
    return Synthesizer(model)


@pytest.fixture
def recording(tmp_path):
    """Return a function that writes a buzz of a length, rate and gain."""

    def write(seconds, rate=RATE, gain=0.3, hertz=150.0, name="prompt.wav"):
        time = torch.arange(round(seconds * rate)) / rate
        wave = sum(torch.sin(2 * math.pi * hertz * k * time) / k for k in range(1, 9)) * gain
        return str(write_audio(tmp_path / name, wave, rate) or tmp_path / name)

    return write


# ---- what is hidden ------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["groups", "levels"])
def test_a_set_is_drawn_evenly_and_hidden_by_the_cosine(order, model, levels):
    made, count = (model if order == "groups" else levels), 4000
    tokens = codes(25).expand(count, 25, 4)
    corrupted = made.corrupted(tokens, torch.full((count,), 25), list(range(count)))
    known, window, learnt = (
        x.view(count, 25, 4) for x in (corrupted.canvas.known, corrupted.window, corrupted.weights > 0)
    )
    first = torch.tensor([s == 0 for s in made.set_of])
    of_first = window[:, 0, first].all(-1)
    assert abs(of_first.double().mean() - 0.5) < 4 * 0.5 / count**0.5
    # the first set was drawn: the second is hidden whole, and nothing of it is learnt
    assert not known[of_first][..., ~first].any() and not learnt[of_first][..., ~first].any()
    # the second was drawn: the first is known whole
    assert known[~of_first][..., first].all() and not learnt[~of_first][..., first].any()
    share = learnt.sum((1, 2)).double() / 50
    assert abs(share.mean() - 2 / math.pi - 0.01) < 0.02  # ∫ cos(πu/2) du, rounded up
    assert torch.equal(learnt, window & ~known)


def test_the_streams_of_a_set_are_a_group_or_a_level(model, levels):
    assert model.streams == [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert model.set_of == [0, 1, 0, 1] and levels.set_of == [0, 0, 1, 1]
    group = model.layout(3).group.view(3, 4)
    assert group.tolist() == [[0, 1, 0, 1]] * 3
    assert model.layout(3, model.Request(text="one", num_steps=1)).group.unique().tolist() == [0]


def test_what_is_not_known_never_leaks(model):
    tokens, lengths = codes(20)[None], torch.tensor([20])
    corrupted = model.corrupted(tokens, lengths, [5])
    known = corrupted.canvas.known.view(1, 20, 4)
    memory = model.remember([codes(12, 9)])
    semantic = torch.randint(len(IPA), (1, 20), generator=torch.Generator().manual_seed(0))
    mask = torch.ones(1, 20, dtype=torch.bool)

    def seen(changed):
        with torch.no_grad():
            return model.net(changed, known, semantic, mask, memory)

    base = seen(tokens)
    assert torch.equal(base, seen(torch.where(known, tokens, (tokens + 3) % 16)))
    assert not torch.allclose(base, seen(torch.where(known, (tokens + 3) % 16, tokens)))


def test_every_hidden_token_costs_its_cross_entropy_and_no_other(model):
    tokens = torch.stack([codes(10, i) for i in range(6)])
    corrupted = model.corrupted(tokens, torch.full((6,), 10), list(range(6)))
    x = torch.randn(6, 10, 16, generator=torch.Generator().manual_seed(0))
    last = torch.arange(tokens.shape[2]) == tokens.shape[2] - 1
    parts = model.token_losses(x, tokens, corrupted, {"last": last})
    log = model.net.heads(x).log_softmax(-1)
    wanted = (corrupted.weights > 0).view(tokens.shape)
    loss = -log.gather(-1, tokens[..., None])[..., 0]
    assert torch.allclose(parts["tokens"], loss[wanted].mean(), atol=1e-6)
    assert torch.allclose(parts["last"], loss[wanted & last].mean(), atol=1e-6)
    assert torch.allclose(parts["accuracy"], (log.argmax(-1) == tokens)[wanted].float().mean())


# ---- decoding ------------------------------------------------------------------------------------


def test_evaluations_are_the_steps_that_were_asked_for(voice, levels):
    for steps in (1, 2, 6, 12):
        before = voice.model.evaluations
        voice("one two", num_steps=steps)
        assert voice.model.evaluations - before == steps
    before = voice.model.evaluations
    voice("one", set_steps=[1, 4])
    assert voice.model.evaluations - before == 5
    Synthesizer(levels)("one", num_steps=18)
    assert levels.evaluations == 18


def test_steps_are_shared_out_over_the_sets(model, levels):
    def split(made, **fields):
        return made.steps(made.Request(text="one", **fields))

    assert [split(model, num_steps=n) for n in (1, 2, 6, 7, 12)] == [(1,), (1, 1), (3, 3), (4, 3), (6, 6)]
    assert [split(levels, num_steps=n) for n in (1, 2, 18)] == [(1,), (1, 1), (17, 1)]
    assert split(model, set_steps=[2, 9]) == (2, 9)
    with refused(RequestError, "shape", "set_steps", value=3):
        split(model, set_steps=[1, 2, 3])


def test_neighbouring_sets_share_a_step_where_there_are_more_sets_than_steps():
    streams = [[group, 0] for group in range(5)]
    made = Recipe.read("codec/gmlm-tiny").build_model(facts(codec={**facts_of(CODEC), "streams": streams}))
    for steps, wanted in ((1, [0, 0, 0, 0, 0]), (2, [0, 0, 0, 1, 1]), (3, [0, 0, 1, 1, 2]), (5, [0, 1, 2, 3, 4])):
        assert made.layout(2, made.Request(text="one", num_steps=steps)).group.tolist() == 2 * wanted


def test_durations_weigh_what_the_recipe_says(model, monkeypatch):
    b, t = 3, 10
    batch = {
        "codes": torch.stack([codes(t, i) for i in range(b)]), "lengths": torch.full((b,), t),
        "prompt": torch.stack([codes(8, i + 9) for i in range(b)]), "prompt_lengths": torch.tensor([8, 5, 7]),
        "semantic": torch.ones(b, t, dtype=torch.int64), "symbols": torch.ones(b, 4, dtype=torch.int64),
        "durations": torch.full((b, 4), 3), "symbol_lengths": torch.tensor([4, 2, 3]), "row": torch.arange(b),
    }  # fmt: skip
    monkeypatch.setattr(model, "duration_weight", 0.25)
    with torch.no_grad():
        parts = model.losses(batch)
    assert parts["log_duration"] > 0
    assert parts["loss"] == pytest.approx(float(parts["tokens"] + 0.25 * parts["log_duration"]), rel=1e-6)


def test_groups_are_decoded_one_after_the_other(model):
    request, semantic = model.Request(text="one", num_steps=6), torch.zeros(1, 15, dtype=torch.int64)
    memory = model.remember([codes(9)])
    net = StreamNetwork(model.predict, 4, semantic, torch.ones(1, 15, dtype=torch.bool), memory)
    canvas = Canvas.blank(model.layout(15), [3])
    done = decode(net, canvas, model.strategy(request, canvas, net))
    age = done.age.view(15, 4)
    assert age[:, [0, 2]].max() == 2 and age[:, [1, 3]].min() == 3 and age.max() == 5


def test_a_prompt_is_read_once_whatever_is_said(model, voice):
    calls = []
    handle = model.net.encoder.register_forward_hook(lambda *_: calls.append(1))
    looked = [block.look_memory.register_forward_hook(lambda *_: calls.append(1)) for block in model.net.blocks]
    before = model.prompts_read
    try:
        voice("one two three two one", num_steps=12)  # three parts of at most two words
    finally:
        for hook in (handle, *looked):
            hook.remove()
    assert model.prompts_read - before == 1
    assert len(calls) == 1 + len(model.net.blocks)


def test_the_prompt_is_heard(voice):
    ann, bob = (voice("three one", speaker=name) for name in ("ann", "bob"))
    assert ann.waveform.shape != bob.waveform.shape or np.abs(ann.waveform - bob.waveform).max() > 1e-3


def test_durations_depend_on_the_prompt(model):
    memory = model.remember([codes(30, 1), codes(50, 2)])
    symbols, kept = torch.tensor([WORDS["one"]] * 2), torch.ones(2, len(WORDS["one"]), dtype=torch.bool)
    one, other = model.durations(symbols, kept, memory.mean)
    assert not torch.allclose(one, other, atol=1e-5)


def test_alone_is_in_a_batch(voice, recording):
    asked = [
        {"text": "one two three", "num_steps": 4, "speaker": "bob"},
        {"text": "3", "num_steps": 4, "seed": 5},
        {"text": "2 2", "num_steps": 2, "prompt": recording(0.4), "pace": 1.5},
        {"semantic": [5] * 23, "num_steps": 4, "temperature": 0.7},
    ]
    together = voice(asked)
    for request, made in zip(asked, together, strict=True):
        alone = voice(request)
        assert alone.waveform.shape == made.waveform.shape
        assert np.abs(alone.waveform - made.waveform).max() < 1e-4 * np.abs(alone.waveform).max()


def test_padding_of_prompts_is_not_heard(model):
    prompts, tokens = [codes(9, 1), codes(14, 2)], codes(7).expand(2, 7, 4)
    known, semantic = torch.zeros(2, 7, 4, dtype=torch.bool), torch.arange(7).expand(2, 7)
    mask = torch.ones(2, 7, dtype=torch.bool)
    together, alone = model.remember(prompts), model.remember(prompts[:1])
    torch.testing.assert_close(together.mean[:1], alone.mean, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        both = model.predict(tokens, known, semantic, mask, together)
        one = model.predict(tokens[:1], known[:1], semantic[:1], mask[:1], alone)
    torch.testing.assert_close(both[:1], one, atol=1e-5, rtol=1e-5)
    assert (both[0] - both[1]).abs().max() > 1e-3  # and the prompts are


def test_a_stream_says_the_same_part_by_part(voice):
    whole, pieces = voice("one two three", seed=2), list(voice.stream("one two three", seed=2))
    assert len(pieces) == 2
    joined = np.concatenate([piece.waveform for piece in pieces], 1)
    assert np.abs(joined - whole.waveform).max() < 1e-4 * np.abs(whole.waveform).max()


def test_a_live_view_ends_with_the_output(model):
    check_snapshots(model, {"text": "one"})


def test_words_have_their_places_in_time(voice):
    audio = voice("3 one")
    words = [part for part in audio.segments if part.kind == "word"]
    assert [part.label for part in words] == ["3", "one"]
    assert 0 < words[0].start < words[0].end < words[1].start < words[1].end < audio.seconds
    many = voice("3 one, two")
    assert many.text == "3 one, two" and [many.text[slice(*w.span)] for w in many.words] == ["3", "one", "two"]
    assert voice("3 one", pace=0.5).seconds > 1.7 * audio.seconds


# ---- one token at a time -------------------------------------------------------------------------


def test_one_at_a_time_is_the_whole_network_under_a_causal_mask(model):
    """The cache against the same blocks over all positions at once, attention and convolution looking back only."""
    net, q, frames = model.net, 4, 6
    condition = torch.randn(2, frames, 16, generator=torch.Generator().manual_seed(1))
    memory = model.remember([codes(9, 1), codes(14, 2)])
    made = one_by_one(net.blocks, net.embedding, net.heads, condition, seed=3, memory=memory)
    assert made.evaluations == frames * q and made.tokens.shape == (2, frames, q)
    inputs = []
    for frame in range(frames):
        for stream in range(q):
            known = (torch.arange(q) < stream).expand(2, 1, q)
            inputs.append(net.embedding(made.tokens[:, frame : frame + 1], known) + condition[:, frame : frame + 1])
    with torch.no_grad():
        x = torch.cat(inputs, 1)
        n = x.shape[1]
        places, causal = rotation(torch.arange(n), net.head_dim), torch.ones(n, n).tril().bool()
        for number, block in enumerate(net.blocks):
            x = x + 0.5 * block.before(x)
            query, key, value = split_parts(block.qkv(block.attention_norm(x)), block.num_heads)
            score = rotate(query, places) @ rotate(key, places).mT / net.head_dim**0.5
            seen = score.masked_fill(~causal, -torch.inf).softmax(-1) @ value
            x = x + block.attention_out(seen.transpose(1, 2).flatten(2))
            x = block.look(x, memory.keys[:, number], memory.values[:, number], memory.mask)
            near = torch.nn.functional.pad(block.gated(x).mT, (block.depthwise.kernel_size[0] - 1, 0))
            conv = torch.nn.functional.conv1d(near, block.depthwise.weight, block.depthwise.bias, groups=16)
            x = x + block.convolved(conv.mT)
            x = block.norm(x + 0.5 * block.after(x))
        log = net.heads(x).unflatten(1, (frames, q)).diagonal(0, 2, 3).mT  # the stream that each position is asked for
    generator = torch.Generator().manual_seed(3)
    for frame in range(frames):
        for stream in range(q):
            chance = log[:, frame, stream].softmax(-1)
            drawn = torch.multinomial(chance, 1, generator=generator)[:, 0]
            assert torch.equal(drawn, made.tokens[:, frame, stream])


def test_one_at_a_time_takes_the_likeliest_without_temperature(model):
    net, condition = model.net, torch.zeros(1, 3, 16)
    memory = model.remember([codes(9, 1)])
    runs = [
        one_by_one(net.blocks, net.embedding, net.heads, condition, seed=s, temperature=0, memory=memory).tokens
        for s in (0, 1)
    ]
    assert torch.equal(*runs)


# ---- data ----------------------------------------------------------------------------------------


def item(speaker, seed, frames):
    tokens = codes(frames, seed).to(torch.int16)
    return SimpleNamespace(
        utterance=SimpleNamespace(id=f"{speaker}{seed}", text="one"),
        speaker=speaker,
        num_frames=frames,
        semantic=torch.full((frames,), seed),
        symbols=torch.tensor([seed, seed]),
        durations=torch.tensor([frames, frames]),
        features=SimpleNamespace(load=lambda name, start=0, stop=None: tokens[start:stop]),
    )


@pytest.fixture
def prompted():
    data = flat.make(PromptedData, root="", max_frames=50, max_prompt_frames=30, max_join=3, max_prompts=2)
    items = [item(s, 10 * s + i, 12 + 3 * i) for s in (0, 1) for i in range(5)]
    pool = {s: [i for i in items if i.speaker == s] for s in (0, 1)}
    return PromptedSet(items, data, pool), items


def test_a_prompt_is_another_recording_of_the_same_speaker(prompted):
    chosen, items = prompted
    lengths = set()
    for index, own in enumerate(items):
        voice = {tuple(row) for other in items if other.speaker == own.speaker and other is not own
                 for row in other.features.load("codes").tolist()}  # fmt: skip
        for seed in range(20):
            made = chosen.item(index, torch.Generator().manual_seed(seed))
            assert {tuple(row) for row in made["prompt"].tolist()} <= voice
            assert 1 <= len(made["prompt"]) <= 30 and len(made["codes"]) == len(made["semantic"]) <= 50
            assert made["semantic"][0] == int(own.semantic[0])
            assert torch.equal(made["codes"][: own.num_frames], own.features.load("codes").long())
            used = set(made["semantic"].tolist())
            taken = {tuple(r) for i in items if int(i.semantic[0]) in used for r in i.features.load("codes").tolist()}
            if len(used) < 4:  # no recording is both said and looked at
                left = {tuple(row) for row in made["prompt"].tolist()} - taken
                assert left
            assert int(made["durations"].sum()) == 2 * len(made["codes"])
            lengths.add(len(used))
    assert lengths == {1, 2, 3}


def test_items_are_a_function_of_their_generator(prompted):
    chosen, _ = prompted
    one, same, other = (chosen.item(3, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(one["prompt"], same["prompt"]) and torch.equal(one["codes"], same["codes"])
    assert one["prompt"].shape != other["prompt"].shape or not torch.equal(one["prompt"], other["prompt"])


def test_a_speaker_with_one_recording_is_dropped_and_told(monkeypatch):
    data = flat.make(PromptedData, root="")
    items = [item(0, 1, 12), item(0, 2, 12), item(1, 3, 12)]

    def prepare(self, progress=True):
        self.train_set, self.val_set = SimpleNamespace(items=items), SimpleNamespace(items=[item(1, 4, 9)])
        return Audit()

    monkeypatch.setattr("unisono_codec.voices.data.VoiceData.prepare", prepare)
    audit = data.prepare()
    assert [i.utterance.id for i in data.train_set.items] == ["01", "02"]
    assert audit.reasons == {"no other recording of the speaker": 1} and len(data.val_set) == 1


# ---- wrong requests ------------------------------------------------------------------------------


def test_digits_are_read_as_they_are_written():
    assert [w for w, *_ in words_of("3, 1 two!", {"one": [], "two": [], "three": []})] == ["three", "one", "two"]
    assert [w for w, *_ in words_of("321", WORDS)] == ["three", "two", "one"]
    assert words_of(" Two", WORDS) == [("two", 1, 4)]


@pytest.mark.parametrize(
    ("text", "code", "value", "named"),
    [
        ("4", "unknown", "4", "one, two, three"),
        ("one ten", "unknown", "ten", "one, two, three"),
        ("thre", "unknown", "thre", "did you mean 'three'"),
        ("one-two", "unknown", "-", "one, two, three"),
        ("", "empty", "", "one, two, three"),
        (" ,. ", "empty", " ,. ", "one, two, three"),
    ],
)
def test_other_words_are_refused(voice, text, code, value, named):
    with refused(RequestError, code, "text", value=value, names=named):
        voice(text)


def test_prompts_that_cannot_be_used_are_refused(voice, recording, tmp_path):
    for name, wave, code, named in (
        ("empty", torch.zeros(0), "empty", "empty.wav"),
        ("short", torch.randn(200) * 0.1, "range", "0.1 s"),
        ("silent", torch.zeros(RATE // 2), "empty", "silent"),
    ):
        write_audio(tmp_path / f"{name}.wav", wave, RATE)
        with refused(RequestError, code, "prompt", names=named):
            voice("one", prompt=str(tmp_path / f"{name}.wav"))
    with refused(RequestError, "limit", "prompt", value=2.12, names=["2.1", "1.4"]):
        voice("one", prompt=recording(2.0))
    with refused(RequestError, "missing", "prompt"):
        voice("one", prompt=str(tmp_path / "nowhere.wav"))
    with refused(RequestError, "value", "PromptedRequest", names="either a prompt or a speaker"):
        voice("one", prompt=recording(0.5), speaker="ann")
    with refused(RequestError, "unknown", "speaker", value="anne", names="ann"):
        voice("one", speaker="anne")


def test_a_prompt_of_another_rate_is_resampled(model, recording):
    prompts = [
        prompt_of(model, model.Request(text="one", prompt=recording(0.6, rate, name=f"{rate}.wav")))
        for rate in (RATE, 8000)
    ]
    assert abs(len(prompts[0]) - len(prompts[1])) <= 1


@pytest.mark.parametrize(
    ("fields", "code", "path", "value", "named"),
    [
        ({"semantic": [5, 10_000]}, "range", "semantic", (5, 10_000), "533 kinds"),
        ({"semantic": [-1]}, "range", "semantic", (-1, -1), "532"),
        ({"semantic": []}, "empty", "semantic", None, ()),
        ({"semantic": [1] * 20, "semantic_rate": 50.0}, "conflict", "semantic_rate", 50.0, "43.0664"),
        ({"semantic": [1] * 129}, "limit", "semantic", 129, "128"),
    ],
)
def test_other_tokens_are_refused(voice, fields, code, path, value, named):
    with refused(RequestError, code, path, value=value, names=named):
        voice(fields)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"semantic": [1], "text": "one"}, "either text or semantic"),
        ({}, "either text or semantic"),
        ({"text": "one", "semantic_rate": 50.0}, "without semantic"),
        ({"text": "one", "set_steps": [0, 1]}, "at least 1"),
        ({"text": "one", "num_steps": 0}, "num_steps"),
    ],
)
def test_requests_that_contradict_themselves_are_refused(voice, fields, says):
    with refused(RequestError, *(("range", says) if says in fields else ("value", "PromptedRequest")), names=says):
        voice(fields)


def test_weights_in_half_precision_are_refused():
    half = make().half()
    for ask in (Synthesizer(half), lambda text: list(Synthesizer(half).stream(text))):
        with refused(RequestError, "unsupported", "dtype", value="float16", names="GroupMaskedLM"):
            ask("one")


def test_another_codec_is_refused():
    with refused(RecipeError, "conflict", "codec", value="streams"):
        make().attach("codec", rvq({}))
    with refused(RecipeError, "conflict", "model.order", value="groups"):
        make(codec=facts_of(rvq({})))
    with refused(RecipeError, "shape", "model.order_weights", value=3, names="2"):
        make("--model.order_weights=[1,1,1]")
    with refused(CheckpointError, "conflict", "run.init_from", value="semantic"):
        make().check_source(facts(semantic={"provider": "hubert", "vocabulary": 5, "frame_rate": 43.0}))


@pytest.mark.parametrize("name", ["max_join", "max_prompts"])
def test_data_that_joins_nothing_is_refused(name):
    with refused(DataError, "range", f"data.items.{name}", value=0):
        flat.make(PromptedData, root="", **{name: 0})


# ---- evaluation ----------------------------------------------------------------------------------


class Ear:
    """A listener that hears pitch: below 160 Hz it is ann, and every word is the same."""

    def hear(self, waves, rate):
        found = []
        for wave in waves:
            spectrum = torch.fft.rfft(wave, n=4 * rate).abs()
            low = float(spectrum[4 * 90 : 4 * 160].sum() / spectrum[4 * 90 : 4 * 350].sum())
            vector = np.array([low, 1 - low], np.float32) / math.hypot(low, 1 - low)
            found.append(Heard(vector, {"ann": low, "bob": 1 - low}, {"one": 0.9, "two": 0.1}))
        return found


@pytest.fixture
def corpus(recording, tmp_path):
    """Two speakers' held-out digits, in the layout that is read from names."""
    folder = tmp_path / "fsdd" / "recordings"
    folder.mkdir(parents=True)
    for speaker, hertz in (("ann", 120.0), ("bob", 230.0)):
        for digit in (1, 2):
            for number in (0, 1, 7):
                path = f"fsdd/recordings/{digit}_{speaker}_{number}.wav"
                recording(0.35 + 0.02 * number, 8000, 0.3, hertz + number, path)
    return folder.parent


def test_the_report_counts_what_a_known_listener_hears(corpus):
    model = make()
    model._components["listener"] = Ear()
    report = evaluate(Synthesizer(model), str(corpus), limit=6, num_steps=(2, 3), progress=False)
    assert report.systems == ["recording", "codec", "groups, 2 steps", "groups, 3 steps"]
    assert report.facts["recordings"] == 6 and report.facts["held out"] == "as the corpus says"
    asked = [row["word"] for row in report.items if row["system"] == "recording"]
    right = 100 * asked.count("one") / 6
    for system in report.systems:  # "one" is all that this listener ever hears
        assert report.value("heard as what was asked", system) == pytest.approx(right)
    assert report.value("taken for the speaker", "recording") == 100.0
    near, far = (report.value(f"similarity to {whom}", "recording") for whom in ("that speaker", "the others"))
    assert near > far
    assert report.value("evaluations", "groups, 3 steps") == 3
    assert report.value("prompts read", "groups, 3 steps") == 1
    slow = report.value("evaluations, one token at a time", "groups, 2 steps")
    assert slow % 4 == 0
    assert report.value("times fewer evaluations than one token at a time", "groups, 2 steps") == slow / 2


def test_a_sweep_asks_the_same_words_of_every_setting(corpus):
    model = make()
    model._components["listener"] = Ear()
    found = probe(Synthesizer(model), str(corpus), limit=4)
    made = Synthesizer(model)([{**request, "num_steps": 2} for request in found.requests])
    assert len(made) == 4 and set(found.measure(made)) == set(found.better)


def test_a_corpus_of_one_speaker_is_refused(corpus):
    model = make()
    model._components["listener"] = Ear()
    for path in (corpus / "recordings").glob("*_bob_*"):
        path.unlink()
    with refused(DataError, "empty", "data", value=4):
        evaluate(Synthesizer(model), str(corpus), progress=False)
    with refused(RequestError, "unsupported", "words"):
        any_text = make(words=None)
        any_text._components["listener"] = Ear()
        evaluate(Synthesizer(any_text), str(corpus), progress=False)

"""SoundStorm: what is masked and learnt, what never leaks, prompts, windows, and the voice around it."""

import math

import numpy as np
import pytest
import torch
from live import check_snapshots
from refused import refused
from unisono import Synthesizer
from unisono.errors import CheckpointError, DataError, RecipeError, RequestError
from unisono.export import save_export
from unisono.masked import Canvas, in_step
from unisono.masked.model import StreamNetwork
from unisono.recipe import Recipe
from unisono.train.warm_start import warm_start
from unisono_codec.codecs.untrained import rvq
from unisono_codec.voices.conformer import Conformer
from unisono_codec.voices.data import facts_of
from unisono_codec.voices.pacing import PromptAligner
from unisono_codec.voices.passages import CONTEXT_SECONDS, Prompt, SpokenRequest, sound
from unisono_codec.voices.sizes import ConformerSizes
from unisono_codec.voices.soundstorm import SoundStorm
from unisono_codec.voices.tokens import TokenEmbedding, TokenHeads
from unisono_sound.signal import write_audio
from unisono_sound.text import IPA
from unisono_sound.voice import SEAM_SECONDS

CODEC = rvq({})
RATE, HOP = CODEC.sample_rate, CODEC.hop_length
TINY = "codec/soundstorm-tiny"


def facts(**changes):
    """What a corpus would say of itself."""
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
        "sample_texts": ["This is what it sounds like."],
        **changes,
    }


def bare(*overrides, **changes):
    return Recipe.read(TINY, list(overrides)).build_model(facts(**changes))


def make(*overrides, **changes):
    model = bare(*overrides, **changes)
    model.attach("codec", rvq({}))
    return model.eval()


@pytest.fixture(scope="module")
def model():
    return make()


@pytest.fixture(scope="module")
def voice(model):
    pytest.importorskip("espeakng_loader", reason="espeak-ng's wheel is not installed")
    return Synthesizer(model)


def codes(b, t, seed=0, q=3, size=16):
    return torch.randint(size, (b, t, q), generator=torch.Generator().manual_seed(seed))


def wave_file(path, seconds, gain=0.2, seed=0, rate=RATE):
    noise = torch.randn(round(seconds * rate), generator=torch.Generator().manual_seed(seed))
    return str(write_audio(path, gain * noise / noise.abs().max(), rate) or path)


def test_a_live_view_ends_with_the_output(voice):
    check_snapshots(voice.model, {"text": "Hello."})


# ---- what is masked ----------------------------------------------------------------------------


def test_a_level_is_drawn_masked_by_the_cosine_and_all_above_it(model):
    rows, n = 3000, 40
    tokens, lengths = codes(rows, n), torch.full((rows,), n)
    corrupted = model.corrupted(tokens, lengths, torch.zeros(rows, n, dtype=torch.bool), range(rows))
    known = corrupted.canvas.known.view(rows, n, 3)
    learnt = corrupted.weights.view(rows, n, 3) > 0
    level = learnt.any(1).int().argmax(1)
    # one level of each row is learnt, every level as often: three standard errors of 3,000 draws
    assert torch.equal(learnt.any(1).sum(1), torch.ones(rows, dtype=torch.int64))
    shares = torch.bincount(level, minlength=3) / rows
    assert (shares - 1 / 3).abs().max() < 3 * math.sqrt(2 / 9 / rows)
    for row in range(3):
        mine = level == row
        assert bool(known[mine][:, :, :row].all()), "coarser levels are known"
        assert not bool(known[mine][:, :, row + 1 :].any()), "finer levels are hidden"
        assert torch.equal(~known[mine][:, :, row], learnt[mine][:, :, row]), "what is hidden is learnt"
    # ⌈cos(πu/2) · n⌉ is at most k where u ≥ arccos(k/n) · 2/π: Kolmogorov–Smirnov at 0.1 %
    count = learnt.sum((1, 2))
    law = torch.tensor([1 - math.acos(k / n) * 2 / math.pi for k in range(1, n + 1)])
    found = torch.stack([(count <= k).float().mean() for k in range(1, n + 1)])
    assert (found - law).abs().max() < 1.95 / math.sqrt(rows)
    assert abs(float((count / n).mean()) - 2 / math.pi) < 0.02


def test_weights_choose_levels_and_prompts_are_never_masked():
    model = make("--model.level_weights=[3, 1, 0]")
    rows, n = 1000, 30
    given = torch.arange(n) < torch.randint(n, (rows, 1), generator=torch.Generator().manual_seed(1))
    tokens = codes(rows, n)
    corrupted = model.corrupted(tokens, torch.full((rows,), n), given, range(rows))
    known, learnt = (x.view(rows, n, 3) for x in (corrupted.canvas.known, corrupted.weights > 0))
    assert bool(known[given].all()) and not bool(learnt[given].any())
    assert torch.equal(corrupted.canvas.tokens.view(rows, n, 3)[given], tokens[given])
    level = learnt.any(1).int().argmax(1)
    assert abs(float((level == 0).float().mean()) - 0.75) < 3 * math.sqrt(0.1875 / rows)
    assert not bool((level == 2).any())
    count, free = learnt.sum((1, 2)), (~given).sum(1)
    assert bool((count >= 1).all()) and bool((count <= free).all())


def test_hidden_tokens_do_not_leak(model):
    tokens, semantic = codes(2, 12), torch.randint(len(IPA), (2, 12))
    speaker, mask = torch.tensor([0, 1]), torch.ones(2, 12, dtype=torch.bool)
    known = torch.rand(2, 12, 3, generator=torch.Generator().manual_seed(3)) < 0.5
    known[..., 2] = False
    changed = torch.where(known, tokens, (tokens + 5) % 16)
    assert bool((changed != tokens).any())
    with torch.no_grad():
        assert torch.equal(
            model.net(tokens, known, semantic, speaker, mask), model.net(changed, known, semantic, speaker, mask)
        )


def test_the_loss_sees_neither_what_is_above_nor_what_is_padding(model):
    b, t = 4, 20
    lengths = torch.tensor([20, 11, 15, 7])
    batch = {
        "codes": codes(b, t), "lengths": lengths, "semantic": torch.zeros(b, t, dtype=torch.int64),
        "given": torch.tensor([0, 3, 0, 2]), "hidden": torch.tensor([False, True, False, False]),
        "anonymous": torch.tensor([False, False, False, True]), "speaker": torch.tensor([0, 1, 0, 1]),
        "symbols": torch.ones(b, 5, dtype=torch.int64), "durations": torch.full((b, 5), 3),
        "symbol_lengths": torch.tensor([5, 4, 3, 5]), "row": torch.arange(b),
    }  # fmt: skip
    with torch.no_grad():
        plain = model.losses(batch)
        given = torch.arange(t) < batch["given"][:, None]
        corrupted = model.corrupted(batch["codes"], lengths, given, model.row_seeds(batch))
        level = (corrupted.weights.view(b, t, 3) > 0).any(1).int().argmax(1)
        above = (torch.arange(3) > level[:, None])[:, None] & ~given[..., None]
        beyond = (torch.arange(t) >= lengths[:, None])[..., None]
        other = torch.where(above | beyond, (batch["codes"] + 7) % 16, batch["codes"])
        assert bool((other != batch["codes"]).any())
        changed = model.losses({**batch, "codes": other})
        for name in ("tokens", "accuracy", "tokens_0", "log_duration"):
            assert torch.equal(plain[name], changed[name]), name
        # prompts without their semantic tokens: what these are is not read
        semantic = batch["semantic"].clone()
        semantic[1, :3] = 9
        assert torch.equal(plain["tokens"], model.losses({**batch, "semantic": semantic})["tokens"])


def test_hidden_prompts_and_speakers_are_those_that_the_batch_names(model):
    b, t = 4, 12
    batch = {
        "codes": codes(b, t), "lengths": torch.full((b,), t), "semantic": 1 + torch.arange(t).expand(b, t),
        "given": torch.tensor([4, 4, 0, 4]), "hidden": torch.tensor([True, False, False, True]),
        "anonymous": torch.tensor([False, True, False, True]), "speaker": torch.tensor([1, 1, 0, 0]),
        "symbols": torch.ones(b, 5, dtype=torch.int64), "durations": torch.full((b, 5), 3),
        "symbol_lengths": torch.full((b,), 5), "row": torch.arange(b),
    }  # fmt: skip
    seen = []
    handle = model.net.register_forward_pre_hook(lambda _, given: seen.append(given))
    with torch.no_grad():
        model.losses(batch)
    handle.remove()
    _, known, semantic, speaker, _ = seen[0]
    wanted = batch["semantic"].clone()
    wanted[[0, 3], :4] = len(IPA)
    assert torch.equal(semantic, wanted) and speaker.tolist() == [1, 2, 0, 2]
    assert known[[0, 1, 3], :4].all()


# ---- the parts ---------------------------------------------------------------------------------


def test_a_conformer_sees_no_padding_and_no_absolute_place():
    torch.manual_seed(0)
    net = Conformer(ConformerSizes(dim=16, num_layers=2, num_heads=2, filter_dim=32, dropout=0.0)).eval()
    x = torch.randn(1, 10, 16)
    with torch.no_grad():
        alone = net(x, torch.ones(1, 10, dtype=torch.bool))
        padded = torch.cat([torch.randn(1, 6, 16), x, torch.randn(1, 4, 16)], 1)
        mask = torch.zeros(1, 20, dtype=torch.bool)
        mask[:, 6:16] = True
        assert torch.allclose(net(padded, mask)[:, 6:16], alone, atol=1e-4)
    for wrong in (dict(dim=18, num_heads=4), dict(dim=16, num_heads=2, kernel_size=4)):
        with pytest.raises(RecipeError):
            Conformer(ConformerSizes(**{"num_layers": 1, "filter_dim": 8, **wrong}))


@pytest.mark.parametrize("table_dim", [None, 4])
def test_frames_are_sums_over_streams(table_dim):
    torch.manual_seed(0)
    embed, tokens = TokenEmbedding(3, 16, 8, table_dim), codes(2, 5)
    known = torch.rand(2, 5, 3) < 0.5
    with torch.no_grad():
        whole = embed(tokens, known)
        table = embed.table.weight.view(3, 17, -1)
        parts = [table[i][torch.where(known[..., i], tokens[..., i], 16)] for i in range(3)]
        if table_dim:
            parts = [part @ w.mT for part, w in zip(parts, embed.widen.weight.split(table_dim, 1), strict=True)]
        assert torch.allclose(whole, sum(parts), atol=1e-5)


def test_a_head_of_each_stream():
    torch.manual_seed(0)
    heads, x = TokenHeads(3, 16, 8), torch.randn(2, 5, 8)
    torch.nn.init.normal_(heads.bias)
    stream = torch.randint(3, (2, 5))
    stream[stream == 1] = 2  # a stream that nobody asks for
    whole = heads(x)
    each = heads.of(x.flatten(0, 1), stream.flatten())
    wanted = whole.gather(2, stream[..., None, None].expand(2, 5, 1, 16)).view(10, 16)
    assert torch.allclose(each, wanted, atol=1e-6)


def test_an_aligner_that_knows_the_symbols_finds_their_frames():
    aligner = PromptAligner(4, 6, 8)
    frames = torch.tensor([3, 1, 5, 2])
    symbols = torch.tensor([2, 4, 2, 1])
    truth = torch.nn.functional.one_hot(torch.repeat_interleave(symbols, frames), 6).float()
    aligner.forward = lambda x, mask: 5 * truth[None]
    assert aligner.align(torch.zeros(11, 4), symbols).tolist() == frames.tolist()
    with refused(RequestError, "conflict", "prompt_text", value=4, names="3"):
        aligner.align(torch.zeros(3, 4), symbols)


# ---- decoding ----------------------------------------------------------------------------------


def filled(model, **fields):
    one = SpokenRequest(model, model.Request(**fields), fields.get("seed", 0))
    with torch.inference_mode():
        for _ in model.fill_all([one]):
            pass
    return one.finished


def test_evaluations_are_those_of_the_levels(model):
    own = make("--model.level_steps=[5, 3, 2]")
    asked = ({}, {"num_steps": 4}, {"level_steps": [3, 2, 1]})
    for voice, counts in ((model, (18, 6, 6)), (own, (10, 6, 6))):
        for fields, count in zip(asked, counts, strict=True):
            before = voice.evaluations
            filled(voice, semantic=[5] * 50, **fields)
            assert voice.evaluations - before == count


def test_a_voice_says_how_its_draws_are_made_where_a_request_does_not(model):
    def made(voice, **fields):
        (passage,) = filled(voice, semantic=[5] * 30, **fields)
        return passage.codes

    greedy = make("--model.temperature=0", "--model.choice_temperature=0")
    told = made(model, temperature=0.0, choice_temperature=0.0)
    assert not torch.equal(made(model), told)
    assert torch.equal(made(greedy), told)
    assert torch.equal(made(greedy, temperature=1.0, choice_temperature=1.0), made(model))


def test_a_prompt_is_not_touched_and_alone_is_as_in_a_batch(model):
    windows = []
    for seed, length, given in ((1, 30, 7), (2, 21, 0), (3, 40, 12)):
        one = SpokenRequest(model, model.Request(semantic=list(range(length)), seed=seed), seed)
        window = next(one.runs()[0])
        window.passage.codes[:given] = codes(1, given, seed)[0]
        window.passage.known[:given] = True
        windows.append((window, given))
    together = model.fill([window for window, _ in windows])
    for (window, given), tokens in zip(windows, together, strict=True):
        assert torch.equal(tokens[:given], window.passage.codes[:given])
        assert torch.equal(model.fill([window])[0], tokens)
        assert int(tokens.min()) >= 0 and int(tokens.max()) < 16


def test_decoding_asks_for_the_lowest_open_level_alone(model):
    semantic, lengths = torch.zeros(2, 6, dtype=torch.int64), torch.tensor([6, 6])
    mask = torch.arange(6) < lengths[:, None]
    denoiser = StreamNetwork(model.predict, 3, semantic, torch.tensor([0, 1]), mask)
    tokens, known = codes(2, 6), torch.zeros(2, 6, 3, dtype=torch.bool)
    known[1, :, 0] = True
    with torch.no_grad():
        logits = denoiser(tokens.flatten(1), known.flatten(1), None).view(2, 6, 3, 16)
        x = model.net(tokens, known, semantic, torch.tensor([0, 1]), torch.ones(2, 6, dtype=torch.bool))
        whole = model.net.heads(x)
        for row, level in ((0, 0), (1, 1)):
            assert torch.allclose(logits[row, :, level], whole[row, :, level], atol=1e-5)
        one = denoiser.rows(torch.tensor([1]))(tokens[1:].flatten(1), known[1:].flatten(1), None)
        assert torch.allclose(one.view(6, 3, 16)[:, 1], logits[1, :, 1], atol=1e-5)


def test_a_long_passage_is_filled_window_by_window(model):
    seen = []

    def spied(windows):
        seen.extend((w.start, w.stop, int(w.known.all(1).sum())) for w in windows)
        return model.fill(windows)

    one = SpokenRequest(model, model.Request(semantic=[3] * 150), 0)
    for _ in in_step(one.runs(), spied, 4):
        pass
    (passage,) = one.finished
    assert len(seen) == 3 and [known for *_, known in seen] == [0, 8, 8]  # of a quarter, half is made anew
    assert bool(passage.known.all()) and passage.joints == [seen[1][0] + 8, seen[2][0] + 8]


def test_a_prompt_to_the_end_of_the_first_window_stays_as_it_was_given(model):
    codes = torch.randint(16, (62, model.num_levels), generator=torch.Generator().manual_seed(1))
    one = SpokenRequest(model, model.Request(semantic=[3] * 80), 0)
    one.prompt = Prompt(codes, torch.full((62,), 3))
    for _ in model.fill_all([one]):
        pass
    (passage,) = one.finished
    assert torch.equal(passage.codes[:62], codes) and bool(passage.known.all()) and len(passage.codes) == 142


# ---- the voice ---------------------------------------------------------------------------------


def test_it_speaks_a_text(voice):
    audio = voice("Hello there, world.", seed=3)
    assert audio.sample_rate == RATE and audio.waveform.shape[1] % HOP == 0
    words = [s.label for s in audio.segments if s.kind == "word"]
    assert words == ["Hello", "there", "world"]
    assert np.array_equal(audio.waveform, voice("Hello there, world.", seed=3).waveform)
    assert not np.array_equal(audio.waveform, voice("Hello there, world.", seed=4).waveform)
    slow = voice("Hello there, world.", pace=0.5)
    assert abs(slow.seconds / audio.seconds - 2) < 0.1


def test_a_stream_joins_up_to_a_text_of_its_pieces(voice):
    text = "One sentence is here. And another one comes after it; it is longer than that. The end."
    pieces = list(voice.stream(text))
    assert len(pieces) >= 2
    words = [s.label for piece in pieces for s in piece.segments if s.kind == "word"]
    assert words == [s.label for s in voice(text).segments if s.kind == "word"]
    assert "".join(piece.text for piece in pieces) == text


def test_a_cut_within_a_phrase_is_no_pause(voice):
    """At a cut only ``SEAM_SECONDS`` of the opening and closing silence stay; sound and times agree."""
    text = "so we went down to the river and looked at the boats that were lying in the mud " * 4
    passages = filled(voice.model, text=text)
    assert len(passages) > 1
    for number, passage in enumerate(passages):
        heard = sound(voice.model, passage)
        phonemes = [s for s in heard.segments if s.kind == "phoneme"]
        frames = passage.frames.double().numpy() * HOP / RATE
        first = frames[0] if number == 0 else min(frames[0], SEAM_SECONDS)
        last = frames[-1] if number == len(passages) - 1 else min(frames[-1], SEAM_SECONDS)
        expected = frames[1:-1].sum() + first + last
        assert heard.seconds == pytest.approx(expected + passage.pause, abs=2 / RATE)
        assert phonemes[0].start == 0 and phonemes[-1].end == pytest.approx(expected, abs=1e-4)


def test_each_passage_begins_with_the_end_of_the_speakers_last(voice):
    model = voice.model
    turns = [("ann", "It is me."), ("bob", "And it is me."), ("ann", "Good bye.")]
    first, second, third = filled(model, turns=turns)
    assert (first.speaker, second.speaker, third.speaker) == (0, 1, 0)
    assert first.given == second.given == 0
    context = min(round(CONTEXT_SECONDS * CODEC.frame_rate), len(first.codes))
    assert third.given == context
    assert torch.equal(third.codes[:context], first.codes[-context:])
    assert torch.equal(third.semantic[:context], first.semantic[-context:])
    assert first.pause >= 0.3 and third.pause == 0
    audio = voice(None, turns=turns)
    words = [s.label for s in audio.segments if s.kind == "word"]
    assert words == ["It", "is", "me", "And", "it", "is", "me", "Good", "bye"]
    assert audio.text == "It is me.\nAnd it is me.\nGood bye."
    assert [audio.text[slice(*word.span)] for word in audio.words] == words
    assert len(audio.times().stretches("word")) == len(words)


def test_a_recording_lends_its_voice(voice, tmp_path):
    model = voice.model
    path = wave_file(tmp_path / "prompt.wav", 0.5)
    (passage,) = filled(model, text="Hello there.", prompt=path)
    assert passage.given == math.ceil(0.5 * RATE / HOP) and passage.speaker == 2  # nobody known
    assert passage.semantic[: passage.given].unique().tolist() == [len(IPA)]  # nobody knows what it says
    wave, _ = model_wave(model, path)
    assert torch.equal(passage.codes[: passage.given], CODEC.encode(wave[None])[0])
    (named,) = filled(model, text="Hello there.", prompt=path, prompt_text="Hi.", speaker="bob")
    assert named.speaker == 1 and int(named.semantic[: named.given].max()) < len(IPA)
    audio = voice("Hello there.", prompt=path)
    assert audio.waveform.shape[1] == (len(passage.codes) - passage.given) * HOP  # the prompt is not heard again


def model_wave(model, path):
    from unisono_sound.corpus import level
    from unisono_sound.signal import read_audio

    wave, rate = read_audio(path, RATE)
    return level(wave, rate, model.facts["loudness_dbfs"]), rate


def test_a_mixed_batch_is_each_request_alone(voice, tmp_path):
    path = wave_file(tmp_path / "prompt.wav", 0.4)
    requests = [
        voice.request("A short one."),
        voice.request("Another one, which is longer. And has two sentences.", num_steps=3, seed=5),
        voice.request("Hello.", prompt=path),
        voice.request({"semantic": [7] * 90, "semantic_rate": CODEC.frame_rate}),
    ]
    calls = []
    together = voice(requests, on_step=lambda done, total: calls.append((done, total)))
    for request, audio in zip(requests, together, strict=True):
        assert np.array_equal(voice(request).waveform, audio.waveform)
    assert calls[-1][0] == calls[-1][1] and [c[0] for c in calls] == sorted({c[0] for c in calls})


# ---- wrong input -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "one of text, turns or semantic"),
        ({"text": "a", "semantic": [1]}, "one of text, turns or semantic"),
        ({"turns": []}, "at least one"),
        ({"turns": [("ann", "a")], "speaker": "bob"}, "no speaker"),
        ({"text": "a", "prompt_text": "b"}, "without a prompt"),
        ({"text": "a", "semantic_rate": 50.0}, "without semantic"),
        ({"text": "a", "level_steps": [1, 0]}, "at least 1"),
    ],
)
def test_requests_that_contradict_themselves(fields, message):
    with refused(RequestError, "value", "VoiceRequest", value=fields, names=message):
        SoundStorm.Request.parse(**fields)


@pytest.mark.parametrize(
    ("fields", "code", "path", "value", "named"),
    [
        ({"semantic": [0, len(IPA)]}, "range", "semantic", (0, len(IPA)), "533 kinds"),
        ({"semantic": [-1]}, "range", "semantic", (-1, -1), "532"),
        ({"semantic": []}, "empty", "semantic", None, ()),
        ({"semantic": [1] * 9, "semantic_rate": 50.0}, "conflict", "semantic_rate", 50.0, "43.0664"),
        ({"text": "a", "level_steps": [2, 2]}, "shape", "level_steps", 2, "3 levels"),
        ({"text": "a", "speaker": "cat"}, "unknown", "speaker", "cat", "ann, bob"),
        ({"text": "   "}, "empty", "text", "   ", ()),
        ({"turns": [("cat", "hello")]}, "unknown", "speaker", "cat", "ann, bob"),
    ],
)
def test_what_cannot_be_said_is_refused(voice, fields, code, path, value, named):
    with refused(RequestError, code, path, value=value, names=named):
        voice(None, **fields)


@pytest.mark.parametrize(
    ("seconds", "gain", "kind", "code", "named"),
    [
        (0.0, 0.2, DataError, "empty", "prompt.wav"),
        (0.01, 0.2, RequestError, "range", ["0.01 s", "0.2 s"]),
        (0.5, 0.0, RequestError, "empty", ()),
        (2.0, 0.2, RequestError, "limit", ["2.0 s", "1.5 s"]),
    ],
)
def test_prompts_that_are_none(voice, tmp_path, seconds, gain, kind, code, named):
    if seconds:
        path = wave_file(tmp_path / "prompt.wav", seconds, gain)
    else:
        path = str(tmp_path / "prompt.wav")
        write_audio(path, torch.zeros(0), RATE)
    with refused(kind, code, "prompt" if kind is RequestError else path, names=named):
        voice("Hello.", prompt=path)


def test_a_prompt_with_holes_is_refused(voice, tmp_path):
    import soundfile

    path = str(tmp_path / "prompt.wav")
    wave = np.full(RATE, 0.1, np.float32)
    wave[500] = np.nan
    soundfile.write(path, wave, RATE, subtype="FLOAT")
    with refused(DataError, "damaged", "prompt.wav", value="holds NaN or infinite samples"):
        voice("Hello.", prompt=path)


def test_semantic_tokens_of_sound_have_no_text(tmp_path):
    model = make(semantic={"provider": "hubert", "vocabulary": 20, "frame_rate": CODEC.frame_rate})
    voice = Synthesizer(model)
    assert len(voice({"semantic": [1, 2, 3, 19]}).waveform[0]) == 4 * HOP
    prompted = {"semantic": [1], "prompt": wave_file(tmp_path / "p.wav", 0.5), "prompt_text": "a"}
    for fields in ({"text": "Hello."}, prompted):
        with refused(RequestError, "unsupported", names="hubert"):
            voice(None, **fields)


def test_weights_in_half_precision_are_refused(voice):
    half = make().bfloat16()
    for ask in (Synthesizer(half), lambda text: list(Synthesizer(half).stream(text))):
        with refused(RequestError, "unsupported", "dtype", value="bfloat16", names="SoundStorm"):
            ask("Hello.")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fingerprint": "0" * 16}, "fingerprint"),
        ({"hop_length": 256}, "hop_length"),
        ({"sample_rate": 16000}, "sample_rate"),
        ({"codebook_size": 1024}, "codebook_size"),
    ],
)
def test_another_codec_is_refused(change, message):
    model = Recipe.read(TINY).build_model(facts(codec={**facts_of(CODEC), **change}))
    with refused(RecipeError, "conflict", "codec", value=message):
        model.attach("codec", rvq({}))


def test_sizes_that_do_not_fit_the_codec():
    for override, code, path, value, named in (
        ("--model.num_levels=4", "range", "model.num_levels", 4, "3 levels"),
        ("--model.level_weights=[1, 1]", "shape", "model.level_weights", 2, "3 levels"),
        ("--model.max_frames=8", "range", "model.max_frames", 8, "16"),
        ("--model.temperature=-1", "range", "model.decoding.temperature", -1.0, "0"),
        ("--model.level_steps=[4, 1]", "shape", "model.decoding.level_steps", 2, "3 levels"),
        ("--model.level_steps=[4, 0, 1]", "range", "model.decoding.level_steps", [4, 0, 1], "1"),
    ):
        with refused(RecipeError, code, path, value=value, names=named):
            make(override)
    grouped = {**facts_of(CODEC), "streams": [[0, 0], [1, 0], [0, 1], [1, 1]]}
    with refused(RecipeError, "unsupported", "codec"):
        Recipe.read(TINY).build_model(facts(codec=grouped))
    model = make()
    with refused(CheckpointError, "conflict", "run.init_from", value="codec"):
        model.check_source(facts(codec=grouped))


def test_fewer_levels_than_the_codec_has():
    model = make("--model.num_levels=2")
    (passage,) = filled(model, semantic=[3] * 20)
    assert passage.codes.shape == (20, 2)
    assert len(Synthesizer(model)({"semantic": [3] * 20}).waveform[0]) == 20 * HOP


@pytest.mark.parametrize("table_dim", ["null", "6"])
def test_a_voice_of_fewer_levels_begins_with_the_first_of_one_of_more(tmp_path, table_dim):
    many = bare("--model.num_levels=3", f"--model.table_dim={table_dim}")
    few = bare("--model.num_levels=2", f"--model.table_dim={table_dim}", "--seed=5")
    started = warm_start(few, str(save_export(many, tmp_path / "many")))
    assert not (started.fresh or started.other_shape or started.unused)
    many.eval(), few.eval()
    x, level = torch.randn(6, few.sizes.dim), torch.tensor([0, 1, 1, 0, 1, 0])
    assert torch.equal(few.net.heads.of(x, level), many.net.heads.of(x, level))
    codes, known = torch.randint(few.codebook_size, (1, 7, 3)), torch.ones(1, 7, 3, dtype=torch.bool)
    known[..., 2] = False  # the third level then adds the same to every frame
    ours, theirs = few.net.embedding(codes[..., :2], known[..., :2]), many.net.embedding(codes, known)
    torch.testing.assert_close(ours - ours[:, :1], theirs - theirs[:, :1])
    more = bare("--model.num_levels=3", f"--model.table_dim={table_dim}")
    assert "net.heads.weight" in warm_start(more, str(save_export(few, tmp_path / "few"))).other_shape


def test_a_blank_canvas_has_a_group_for_each_level(model):
    canvas = Canvas.blank(model.layout(5), [0])
    assert canvas.layout.group_sizes == (5, 5, 5)

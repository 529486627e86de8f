"""Glow-TTS: its likelihood against closed forms and enumeration, and what it promises of what it says."""

import copy
import itertools
import math

import pytest
import torch
from refused import refused
from torch.distributions import Normal
from unisono import Audio, Synthesizer
from unisono.data import to_plain
from unisono.errors import RecipeError, UnisonoError
from unisono.nn.adapters import AdapterSpec, target_names
from unisono.recipe import Recipe
from unisono_sound.signal.mel import LOG_FLOOR
from unisono_tts.encoders import EncoderSizes
from unisono_tts.glow.blanks import apart, for_both, of_symbols
from unisono_tts.glow.decoder import FlowSizes
from unisono_tts.glow.model import GlowTTS
from unisono_tts.glow.prior import log_likelihoods
from unisono_tts.speaking import speak_batch
from unisono_tts.streaming import FIRST_PIECE_CHARACTERS

TEXT = "One small step for man, one giant leap for everyone."
MARKED = "Well [0.35s] no [0.2s] never."
OPTIONS = ["--model.learnt_std=true", "--model.blanks=true"]


@pytest.fixture(scope="session")
def build(make_voice):
    """Return a function that builds the tiny model, with changes of the recipe."""

    def built(*overrides: str, speakers=("kathleen", "lj"), **facts) -> GlowTTS:
        known = make_voice("tts/fastspeech-tiny", speakers, **{"given_durations": False, **facts}).facts
        with torch.random.fork_rng(devices=[]):
            torch.random.manual_seed(0)
            return Recipe.read("tts/glow-tiny", list(overrides)).build_model(to_plain(known, "facts")).eval()

    return built


@pytest.fixture(scope="session")
def make(build):
    """Return a function that makes a model of drawn weights, also where they begin at 0, after its first batch."""

    def made(*overrides: str, **facts) -> GlowTTS:
        model = build(*overrides, **facts)
        with torch.random.fork_rng(devices=[]):
            torch.random.manual_seed(1)
            for name, weight in model.named_parameters():
                if name.endswith((".net.last.weight", ".net.last.bias", "log_std.weight")):
                    torch.nn.init.normal_(weight, 0, 0.1)
            torch.nn.init.normal_(model.durations.out.weight, 0, 0.1)
            torch.nn.init.constant_(model.durations.out.bias, math.log1p(5.3))
            with torch.no_grad():
                model.train().losses(batch())
        return model.eval()

    return made


def batch(lengths=(40, 13, 27), symbols=(6, 3, 5)) -> dict:
    """Items of even and odd length, padded in both directions with what must not count."""
    generator = torch.Generator().manual_seed(1)
    result = {
        "id": [f"item {i}" for i in range(len(lengths))],
        "row": torch.arange(len(lengths)),
        "symbols": torch.randint(4, 60, (len(lengths), max(symbols)), generator=generator),
        "mel": 2 * torch.randn(len(lengths), max(lengths), 80, generator=generator) - 5,
        "speaker": torch.arange(len(lengths)) % 2,
        "symbol_lengths": torch.tensor(symbols),
        "mel_lengths": torch.tensor(lengths),
    }
    for row, length in enumerate(lengths):
        result["mel"][row, length:] = 1e4
    return result


def one(whole: dict, row: int) -> dict:
    """One item of a batch, without padding."""
    frames, symbols = int(whole["mel_lengths"][row]), int(whole["symbol_lengths"][row])
    cut = {"mel": frames, "symbols": symbols}
    return {
        name: (value[row : row + 1, : cut[name]] if name in cut else value[row : row + 1])
        for name, value in whole.items()
    }


@pytest.fixture(scope="module")
def model(make):
    return make()


def say(model: GlowTTS, *requests: dict):
    readings = [
        next(iter(model.voice.read(model.Request.parse(**{"text": TEXT, **fields}), 220))) for fields in requests
    ]
    lengths = torch.tensor([len(reading.ids) for reading in readings])
    ids = torch.zeros(len(readings), int(lengths.max()), dtype=torch.int64)
    for row, reading in enumerate(readings):
        ids[row, : len(reading.ids)] = torch.tensor(reading.ids)
    with torch.inference_mode():
        return model.say(ids, lengths, readings)


# ---- likelihood --------------------------------------------------------------------------------


def test_scores_by_matrices_are_the_gaussians():
    z, mean, log_std = (torch.randn(2, n, 5, dtype=torch.float64) for n in (7, 3, 3))
    expected = torch.stack(
        [
            torch.stack([Normal(mean[i, s], log_std[i, s].exp()).log_prob(z[i]).sum(-1) for s in range(3)], -1)
            for i in range(2)
        ]
    )
    torch.testing.assert_close(log_likelihoods(z, mean, log_std), expected, atol=1e-10, rtol=0)
    with torch.autocast("cpu", torch.bfloat16):
        single = log_likelihoods(z.float(), mean.float(), log_std.float())
    torch.testing.assert_close(single.double(), expected, atol=1e-3, rtol=1e-5)


@pytest.mark.parametrize("blanks", [False, True])
def test_the_alignment_is_the_likeliest_of_all(blanks, make):
    model = make(f"--model.blanks={str(blanks).lower()}")
    item = one(batch((9, 9), (3, 3)), 0)
    fitted = model.fit(item, None)
    tokens = 5 if blanks else 3
    best, chosen = -math.inf, None
    scores = log_likelihoods(fitted.latents, fitted.mean, fitted.log_std)[0]
    for ends in itertools.combinations(range(1, 9), tokens - 1):
        durations = torch.diff(torch.tensor([0, *ends, 9]))
        owner = torch.repeat_interleave(torch.arange(tokens), durations)
        total = scores[torch.arange(9), owner].sum().item()
        if total > best:
            best, chosen = total, durations
    assert chosen is not None and torch.equal(fitted.alignment.durations[0], chosen)


def test_loss_is_that_of_a_gaussian_where_the_flow_is_a_rotation(build):
    """Before the first batch, with couplings of nothing, the flow's determinant is 1 and lengths are even."""
    model = build("--model.given_durations=true", given_durations=True)
    whole = batch((40, 12), (6, 3))
    whole["durations"] = torch.tensor([[4, 0, 9, 7, 1, 19], [3, 7, 2, 0, 0, 0]])
    fitted = model.fit(whole, [torch.Generator().manual_seed(seed) for seed in model.row_seeds(whole)])
    assert fitted.log_det.abs().max() < 1e-3  # of 1,600 rotations in single precision
    mean = torch.zeros(2, 40, 80)
    for row in range(2):
        rows = torch.repeat_interleave(fitted.mean[row], whole["durations"][row], dim=0)
        mean[row, : len(rows)] = rows
    density = Normal(mean, torch.ones(())).log_prob(fitted.latents)
    expected = -(density[0].sum() + density[1, :12].sum()) / (52 * 80)
    torch.testing.assert_close(model.losses(whole)["likelihood"], expected)


@pytest.mark.parametrize("options", [[], OPTIONS], ids=["published", "options"])
def test_an_item_alone_has_the_loss_that_it_has_in_a_batch(options, make):
    model, whole = make(*options), batch()
    together = model.losses(whole)
    alone = [model.losses(one(whole, row)) for row in range(3)]
    for name, weights in (("likelihood", whole["mel_lengths"]), ("log_duration", 0)):
        if name == "log_duration":
            weights = model.tokens(whole["symbols"], whole["symbol_lengths"])[1]
        expected = sum(part[name] * weight for part, weight in zip(alone, weights, strict=True)) / weights.sum()
        torch.testing.assert_close(together[name], expected, atol=1e-5, rtol=1e-5)


def test_odd_lengths_are_a_bound_on_the_likelihood_of_what_is_real(make):
    """The mean over many fillings, less the noise's entropy, is not above the density that sums them exactly."""
    model = make(speakers=("one",))
    item = one(batch((3, 3), (1, 1)), 0)
    losses = []
    for row in range(32):
        item["row"] = torch.tensor([row])
        losses.append(model.losses(item)["likelihood"].item() * 3 * 80)
    target = (item["mel"] - model.mel_mean) / model.mel_std
    mean = model.read(item["symbols"], torch.ones(1, 1, dtype=torch.bool), None)[0].expand(1, 4, 80)
    generators = [torch.Generator().manual_seed(10_000 + i) for i in range(512)]
    filled = model.decoder.fill(target.expand(512, -1, -1), torch.full((512,), 3), generators)
    z, log_det = model.decoder(filled, torch.full((512,), 4), None)
    log_p = Normal(mean, torch.ones(())).log_prob(z).sum((1, 2)) + log_det
    log_q = Normal(target[:, 2], 0.2).log_prob(filled[:, 3]).sum(-1)
    exact = (log_p - log_q).logsumexp(0) - math.log(512)
    bound = -sum(losses) / 32
    assert bound < exact
    torch.testing.assert_close(torch.tensor(bound), (log_p - log_q).mean(), atol=1.5, rtol=0)  # of some 300 nats


def test_the_floor_of_mels_gets_noise_in_training_alone(model):
    item = one(batch(), 0)  # of even length, so that nothing is filled
    item["mel"] = item["mel"].clamp(min=-11)
    drawn = [model.fit(item, [torch.Generator().manual_seed(seed)]).latents for seed in (0, 1)]
    assert torch.equal(*drawn), "what is not at the floor stays"
    item["mel"][:, 4:7] = math.log(LOG_FLOOR)
    plain = model.fit(item, None).latents
    noisy = [model.fit(item, [torch.Generator().manual_seed(seed)]).latents for seed in (0, 0, 1)]
    assert torch.equal(noisy[0], noisy[1]) and not torch.equal(noisy[0], noisy[2])
    assert not torch.equal(plain[:, 4:7], noisy[0][:, 4:7])


@pytest.mark.parametrize("blanks", [False, True])
def test_validation_tells_how_far_borders_are_from_known_ones(make, blanks):
    model, whole = make(f"--model.blanks={str(blanks).lower()}", given_durations=True), batch()
    whole["durations"] = torch.tensor([[4, 2, 9, 7, 1, 17], [3, 8, 2, 0, 0, 0], [20, 1, 1, 1, 4, 0]])
    found = model.fit(whole, [torch.Generator().manual_seed(s) for s in model.row_seeds(whole)]).alignment.durations
    off, symbols = 0, 0
    for row, count in enumerate(whole["symbol_lengths"].tolist()):
        own, ends = found[row].tolist(), 0
        for place in range(count):
            ends += sum(own[2 * place : 2 * place + 2]) if blanks else own[place]
            off += abs(ends - int(whole["durations"][row, : place + 1].sum()))
            symbols += 1
    assert model.losses(whole)["border_frames"].item() == pytest.approx(off / symbols)
    assert "border_frames" not in model.train().losses(whole)


def test_a_recording_with_fewer_frames_than_tokens_is_refused(make):
    model = make("--model.blanks=true")
    whole = batch((40, 5), (6, 5))  # five symbols and four blanks
    with refused(UnisonoError, "limit", "tgt_lengths", value=5, names="item 1"):
        model.losses(whole)


def test_the_alignment_of_a_plain_world_is_learnt(build):
    """Twelve symbols, each a spectrum with noise, of 2 to 9 frames: borders are found to the frame in 60 steps."""
    generator = torch.Generator().manual_seed(0)
    sounds = 2 * torch.randn(12, 80, generator=generator) - 5

    def world(items: int) -> dict:
        steps = torch.randint(1, 12, (items, 10), generator=generator)
        symbols = steps.cumsum(1) % 12  # no symbol follows itself
        durations = torch.randint(2, 10, (items, 10), generator=generator)
        mel = torch.zeros(items, int(durations.sum(1).max()), 80)
        for row in range(items):
            heard = sounds[torch.repeat_interleave(symbols[row], durations[row])]
            mel[row, : len(heard)] = heard + torch.randn(heard.shape, generator=generator)
        lengths = {"symbol_lengths": torch.full((items,), 10), "mel_lengths": durations.sum(1)}
        known = {"id": [str(i) for i in range(items)], "row": torch.arange(items), "speaker": torch.zeros(items).long()}
        return {**known, **lengths, "symbols": symbols + 10, "mel": mel, "durations": durations}

    model = build(speakers=("one",)).train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        model.losses(world(8))["loss"].backward()
        optimizer.step()
    held_out = world(16)
    found = model.eval().fit(held_out, None).alignment.durations
    off = (found.cumsum(1) - held_out["durations"].cumsum(1)).abs().float()
    assert off.median() == 0 and off.quantile(0.95) <= 2


def test_what_predicts_durations_teaches_the_encoder_nothing(make):
    model = make()
    model.losses(batch())["log_duration"].backward()
    reached = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert {name.partition(".")[0] for name in reached} == {"durations", "speaker"}


def test_the_start_is_of_the_first_training_batch_and_travels(model, build):
    other = build()
    assert not any(value.any() for name, value in other.state_dict().items() if name.endswith(".seen"))
    other.load_state_dict(model.state_dict())
    kept = copy.deepcopy(model.state_dict())
    other.train().losses({**batch(), "mel": 3 * batch()["mel"]})
    for name, value in other.state_dict().items():
        assert torch.equal(value, kept[name]), name


# ---- the flow ----------------------------------------------------------------------------------


def test_mels_of_any_length_come_back(model):
    whole = batch()
    target = (whole["mel"] - model.mel_mean) / model.mel_std
    frames = whole["mel_lengths"]
    condition = model.condition(whole["speaker"])
    filled = model.decoder.fill(target, frames, None)
    z, _ = model.decoder(filled, model.decoder.whole(frames), condition)
    back = model.decoder.inverse(z, model.decoder.whole(frames), condition)
    for row, length in enumerate(frames.tolist()):
        torch.testing.assert_close(back[row, :length], target[row, :length], atol=1e-4, rtol=0)


def test_published_size(build):
    """28.6 million weights in the paper, without speakers; counted by layers, which are alike."""
    facts = to_plain(build(speakers=("one",)).facts, "facts")

    def count(layers: int, blocks: int) -> int:
        model = GlowTTS(encoder=EncoderSizes(num_layers=layers), decoder=FlowSizes(num_blocks=blocks))
        model.build(facts)
        return sum(p.numel() for p in model.parameters())

    least = count(1, 1)
    whole = least + 5 * (count(2, 1) - least) + 11 * (count(1, 2) - least)
    assert GlowTTS().encoder_sizes.num_layers == 6 and GlowTTS().decoder_sizes.num_blocks == 12
    assert whole / 1e6 == pytest.approx(28.6, abs=0.1)


def test_adapters_are_of_the_encoder_alone(build):
    """Layers of the flow have weight norms, and their weights are no parameters of their own."""
    assert target_names(build(), AdapterSpec()) == ["encoder.layers.0.attention.qkv", "encoder.layers.0.attention.out"]


# ---- speaking ----------------------------------------------------------------------------------


def test_temperature_is_how_much_seeds_differ(model):
    spoken = [say(model, *({"seed": seed, "temperature": t} for seed in range(6))) for t in (0.0, 0.333, 1.0)]
    spreads = [made.mel.var(0).mean().item() for made in spoken]
    assert spreads[0] < 1e-9 < spreads[1] < spreads[2]
    default = say(model, {}).mel
    torch.testing.assert_close(default[0], spoken[1].mel[0], atol=1e-4, rtol=0)


def test_noise_is_the_requests_own(model):
    fields = [{"seed": 3}, {"text": "No.", "seed": 5}, {"seed": 4, "speaker": "lj"}]
    together, alone = say(model, *fields), [say(model, field) for field in fields]
    for row, own in enumerate(alone):
        length = int(own.alignment.tgt_lengths[0])
        assert int(together.alignment.tgt_lengths[row]) == length
        torch.testing.assert_close(together.mel[row, :length], own.mel[0, :length], atol=1e-4, rtol=0)


def test_lengths_are_those_of_the_symbols_odd_ones_too(model):
    lengths = set()
    for pace in (0.9, 1.0, 1.1, 1.3):
        spoken = say(model, {"pace": pace})
        total = int(spoken.alignment.durations.sum())
        assert spoken.mel.shape[1] == int(spoken.alignment.tgt_lengths[0]) == total
        lengths.add(total % 2)
    assert lengths == {0, 1}


def test_rounding_keeps_the_pace_and_as_published_it_rounds_up(model):
    published = copy.copy(model)
    published.rounding = "ceil"
    cumulative, ceiled = say(model, {}).alignment.durations[0], say(published, {}).alignment.durations[0]
    ids = next(iter(model.voice.read(model.Request(text=TEXT), 220))).ids
    tokens = torch.tensor([ids])
    with torch.inference_mode():
        log_duration = model.read(tokens, torch.ones_like(tokens).bool(), model.condition(torch.tensor([0])))[2]
    predicted = log_duration[0].double().expm1().clamp(min=0)
    assert torch.equal(ceiled, predicted.ceil().long())
    assert abs(int(cumulative.sum()) - predicted.sum().item()) <= 0.5
    assert int(ceiled.sum()) - predicted.sum().item() > len(ids) / 4


@pytest.mark.parametrize("options", [[], OPTIONS], ids=["published", "options"])
def test_pauses_that_are_asked_for_are_exact(options, make):
    model = make(*options)
    readings = list(model.voice.read(model.Request(text=MARKED), 220))
    spoken = say(model, {"text": MARKED})
    assert readings[0].held
    for place, held in readings[0].held.items():
        assert int(spoken.alignment.durations[0, place]) == held.frames


def test_blanks_stand_between_symbols_and_belong_to_the_one_before(make):
    model = make("--model.blanks=true")
    blank = len(model.voice.symbols)
    tokens, lengths = model.tokens(torch.tensor([[5, 6, 7], [8, 0, 0]]), torch.tensor([3, 1]))
    assert tokens[0].tolist() == [5, blank, 6, blank, 7] and lengths.tolist() == [5, 1]
    spoken = say(model, {})
    ids = next(iter(model.voice.read(model.Request(text=TEXT), 220))).ids
    assert spoken.alignment.durations.shape[1] == len(ids)
    assert spoken.mel.shape[1] == int(spoken.alignment.durations.sum())
    with refused(RecipeError, "conflict", "model.blanks", value=True):
        make("--model.blanks=true", "--model.given_durations=true", given_durations=True)


def test_a_symbol_whose_length_is_asked_for_has_no_blank():
    durations = torch.tensor([[3, 1, 4, 0, 2], [5, 0, 0, 0, 0]])
    assert of_symbols(durations).tolist() == [[4, 4, 2], [5, 0, 0]]
    assert apart(durations, torch.tensor([[4, 9, 2], [0, 0, 0]])).tolist() == [[3, 1, 9, 0, 2], [0, 0, 0, 0, 0]]
    assert for_both(torch.tensor([[1.5, 2.0]])).tolist() == [[1.5, 1.5, 2.0]]


def test_speakers_share_the_symbols_means_and_nothing_else(model, make):
    ids = torch.tensor([[5, 6, 7], [5, 6, 7]])
    mask = torch.ones(2, 3, dtype=torch.bool)
    condition = model.condition(torch.tensor([0, 1]))
    torch.testing.assert_close(condition.norm(dim=1), torch.ones(2))
    mean, _, log_duration = model.read(ids, mask, condition)
    assert torch.equal(mean[0], mean[1]) and not torch.allclose(log_duration[0], log_duration[1])
    z = torch.randn(1, 8, 80).expand(2, -1, -1)
    mels = model.decoder.inverse(z, torch.tensor([8, 8]), condition)
    assert not torch.allclose(mels[0], mels[1], atol=1e-3)
    assert make(speakers=("one",)).speaker is None


def test_a_learnt_deviation_is_sampled_and_scored(make):
    model = make("--model.learnt_std=true")
    wider = copy.deepcopy(model)
    torch.nn.init.constant_(wider.prior.log_std.bias, 0.7)
    spreads = [say(m, *({"seed": seed} for seed in range(6))).mel.var(0).mean().item() for m in (model, wider)]
    assert spreads[1] > 2 * spreads[0]
    assert not torch.allclose(model.losses(batch())["likelihood"], wider.losses(batch())["likelihood"])


def test_teacher_forced_mels_lie_on_the_recordings(model):
    whole = batch()
    forced = model.teacher_forced(whole)
    assert [len(mel) for mel in forced] == whole["mel_lengths"].tolist()
    alone = model.teacher_forced(one(whole, 1))
    torch.testing.assert_close(alone[0], forced[1], atol=1e-4, rtol=0)


def test_streams_and_generators(model, make_vocoder):
    model.attach("vocoder", make_vocoder())
    voice = Synthesizer(model)
    text = "The ship left at dawn, and nobody waved. By noon the wind had turned; the crew knew it!"
    request = voice.request(text, seed=7)
    with torch.inference_mode():
        readings = model.voice.read(request, model.max_piece_characters, FIRST_PIECE_CHARACTERS)
        wanted = Audio.join([speak_batch(model, [reading])[0] for reading in readings])
    joined = Audio.join(list(voice.stream(text, seed=7)))
    assert joined.waveform.shape == wanted.waveform.shape
    torch.testing.assert_close(torch.tensor(joined.waveform), torch.tensor(wanted.waveform), atol=2e-3, rtol=0)
    with torch.inference_mode():
        drawn = [model.synthesize([request], torch.Generator().manual_seed(seed))[0].waveform for seed in (0, 0, 1)]
    assert (drawn[0] == drawn[1]).all() and drawn[0].shape == drawn[2].shape and (drawn[0] != drawn[2]).any()

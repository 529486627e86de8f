"""Parallel Tacotron: its parts against loops and closed forms, its losses, stages and requests, for any weights."""

import pytest
import torch
from refused import refused
from unisono.data import to_plain
from unisono.duration import Alignment, soft_dtw_l1
from unisono.errors import RecipeError, UnisonoError
from unisono.nn.fft import sinusoids
from unisono.nn.variational import kl_divergence
from unisono.recipe import Recipe
from unisono_tts.parallel_tacotron.losses import pooled, warped_distances
from unisono_tts.parallel_tacotron.network import RepeatUpsampling
from unisono_tts.parallel_tacotron.sizes import SoftDTWOptions

TEXT = "One small step for man, one giant leap for everyone."
WARPED = ["--model.upsampling=learned", "--model.objective.reconstruction=soft-dtw", "--model.soft_dtw.band=20"]
KINDS = {
    "phoneme": [],
    "phoneme, standard prior": ["--model.latents.prior=standard"],
    "phoneme, own frames": ["--model.latents.posterior=durations"],
    "global, a prior of each speaker": ["--model.latents.level=global"],
    "learned upsampling": ["--model.upsampling=learned"],
    "soft-DTW": WARPED,
}


@pytest.fixture(scope="module")
def make(make_voice):
    """Return a function that makes a tiny model, the same weights for the same changes."""

    def build(*overrides, speakers=("kathleen", "lj"), **facts):
        known = to_plain(make_voice("tts/fastspeech-tiny", speakers, **facts).facts, "facts")
        model = Recipe.read("tts/parallel-tacotron-tiny", list(overrides)).build_model(known).eval()
        with torch.no_grad():  # latents at random weights change little
            model.net.bottleneck.project.weight[:, : model.latents.dim] *= 20
        return model

    return build


@pytest.fixture(scope="module")
def models(make):
    return {name: make(*overrides) for name, overrides in KINDS.items()}


def make_batch(num_frames=40):
    """Two items, the second padded in both directions with what must not count."""
    g = torch.Generator().manual_seed(0)
    batch = {
        "id": ["a", "b"],
        "row": torch.arange(2),
        "symbols": torch.randint(1, 100, (2, 6), generator=g),
        "durations": torch.tensor([[4, 1, 9, 7, 1, 18], [3, 8, 2, 0, 0, 0]]),
        "mel": torch.randn(2, num_frames, 80, generator=g),
        "speaker": torch.tensor([0, 1]),
        "symbol_lengths": torch.tensor([6, 3]),
        "mel_lengths": torch.tensor([40, 13]),
    }
    batch["mel"][1, 13:] = 1e4
    return batch


def alone(batch, row):
    symbols, frames = int(batch["symbol_lengths"][row]), int(batch["mel_lengths"][row])
    own = {k: v[row : row + 1] for k, v in batch.items()}
    own["mel"] = own["mel"][:, :frames]
    return own | {k: own[k][:, :symbols] for k in ("symbols", "durations")}


def say(model, readings):
    lengths = torch.tensor([len(reading.ids) for reading in readings])
    ids = torch.zeros(len(readings), int(lengths.max()), dtype=torch.int64)
    for row, reading in enumerate(readings):
        ids[row, : len(reading.ids)] = torch.tensor(reading.ids)
    with torch.inference_mode():
        return model.say(ids, lengths, readings)


def read(model, **fields):
    (reading,) = model.voice.read(model.Request.parse(**{"text": TEXT, **fields}), 220)
    return reading


# ---- parts ------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_repetition_adds_three_signals_of_the_place():
    torch.manual_seed(0)
    upsampling, x = RepeatUpsampling(8).double(), torch.randn(2, 3, 8, dtype=torch.float64)
    durations = torch.tensor([[2, 0, 3], [4, 1, 9]])
    alignment = Alignment.from_durations(durations, torch.tensor([3, 2]))
    made = upsampling(x, alignment)
    codes = sinusoids(10, 8).double()
    for row, count in enumerate((3, 2)):
        frames = []
        for symbol in range(count):
            lasting = int(durations[row, symbol])
            for place in range(lasting):
                signals = torch.cat([codes[place], codes[lasting], torch.tensor([(place + 0.5) / lasting])])
                frames.append(x[row, symbol] + upsampling.signals(signals))
        # Codes are made in single precision.
        torch.testing.assert_close(made[row, : len(frames)], torch.stack(frames), atol=1e-6, rtol=0)
        assert made[row, len(frames) :].abs().sum() == 0


@torch.no_grad()
@pytest.mark.parametrize("name", KINDS)
def test_an_item_alone_equals_the_item_in_a_batch(models, name):
    """Posterior, prior, durations and every block's mel, with padding that is far from zero."""
    model, batch = models[name], make_batch()

    def parts(batch):
        known = Alignment.from_durations(batch["durations"], batch["symbol_lengths"], batch["mel_lengths"])
        net, target = model.net, (batch["mel"] - model.mel_mean) / model.mel_std
        text, speaker = net.encode(batch["symbols"], known.src_mask, batch["speaker"])
        prior = net.prior(text, known.src_mask, batch["speaker"], speaker)
        posterior = net.posterior(target, speaker, text, (known.src_mask, known.tgt_mask), known)
        x, v, frames = net.plan(text, posterior.mean, speaker, known.src_mask)
        mels = net.decode(x, v, known, model.learning)
        return [posterior.mean, posterior.log_variance, prior.mean, prior.log_variance, frames, *mels]

    together = parts(batch)
    assert len(together) == 7
    for row in range(2):
        for left, right in zip(together, parts(alone(batch, row)), strict=True):
            torch.testing.assert_close(left[row, : right.shape[1]], right[0], atol=2e-5, rtol=1e-4)
    for mel in together[5:]:
        assert mel[1, 13:].abs().sum() == 0


@torch.no_grad()
def test_learned_upsampling_weighs_the_symbols_of_a_frame_with_a_sum_of_one(models):
    model = models["learned upsampling"]
    v = torch.randn(2, 6, 32, generator=torch.Generator().manual_seed(0))
    durations = torch.tensor([[4.2, 1.1, 9.0, 7.3, 0.4, 18.0], [3.0, 8.0, 2.0, 0, 0, 0]])
    _, alignment = model.net.upsampler(v, durations, torch.tensor([6, 3]))
    sums = alignment.matrix().sum(-1)
    torch.testing.assert_close(sums, alignment.tgt_mask.to(sums), atol=1e-6, rtol=0)
    assert alignment.matrix()[1, :, 3:].abs().sum() == 0


# ---- losses -----------------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("name", KINDS)
def test_losses_are_means_over_frames_symbols_and_items_and_ignore_padding(models, name):
    model, batch = models[name], make_batch()
    model.training_noise = lambda batch, posterior: torch.zeros_like(posterior.mean)
    together = model.losses(batch)
    rows = [model.losses(alone(batch, row)) for row in range(2)]
    del model.training_noise
    by_item = name == "soft-DTW"
    for part in ("mel", "mel_before", "duration", "nats"):
        frames = part.startswith("mel")
        shares = (0.5, 0.5) if by_item and part != "nats" else (40 / 53, 13 / 53) if frames else (6 / 9, 3 / 9)
        if part == "nats" and name.startswith("global"):
            shares = (0.5, 0.5)
        wanted = sum(share * float(row[part]) for share, row in zip(shares, rows, strict=True))
        assert float(together[part]) == pytest.approx(wanted, rel=1e-4), part
    counted = [v for k, v in together.items() if k not in ("loss", "nats", "outside", "mel_expected")]
    assert float(together["loss"]) == pytest.approx(float(sum(counted)), rel=1e-5)


@torch.no_grad()
def test_each_block_is_compared_with_the_recording(models):
    model, batch = models["phoneme"], make_batch()
    model.training_noise = lambda batch, posterior: torch.zeros_like(posterior.mean)
    parts = model.losses(batch)
    del model.training_noise
    known = Alignment.from_durations(batch["durations"], batch["symbol_lengths"], batch["mel_lengths"])
    target = (batch["mel"] - model.mel_mean) / model.mel_std
    text, speaker = model.net.encode(batch["symbols"], known.src_mask, batch["speaker"])
    posterior = model.net.posterior(target, speaker, text, (known.src_mask, known.tgt_mask), known)
    x, v, frames = model.net.plan(text, posterior.mean, speaker, known.src_mask)
    first, second = model.net.decode(x, v, known, False)
    errors = [float((mel - target).abs()[known.tgt_mask].mean()) for mel in (first, second)]
    assert [float(parts["mel_before"]), float(parts["mel"])] == pytest.approx(errors, rel=1e-5)
    wanted = 0.1 * float((frames - known.durations).abs()[known.src_mask].mean())
    assert float(parts["duration"]) == pytest.approx(wanted, rel=1e-5)
    nats = kl_divergence(posterior).sum(-1)[known.src_mask].mean()
    assert float(parts["nats"]) == pytest.approx(float(nats), rel=1e-5)


def test_the_prior_of_the_text_learns_the_posterior_and_does_not_pull_it(make):
    model = make()
    parts = model.losses(make_batch())
    parts["prior"].backward()
    reached = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert reached and all(name.startswith("net.prior.") for name in reached)


def test_the_divergence_from_a_speakers_prior_moves_that_speaker(make):
    model = make("--model.latents.level=global")
    with torch.no_grad():
        model.net.prior.table.weight[1] = 0.5
    batch = make_batch()
    known = Alignment.from_durations(batch["durations"], batch["symbol_lengths"], batch["mel_lengths"])
    parts = model.latent_losses(*gaussians(model, batch, known), known.src_mask)
    posterior, prior = gaussians(model, batch, known)
    assert prior.mean[1].eq(0.5).all() and prior.mean[0].eq(0).all()
    wanted = kl_divergence(posterior, prior).sum(-1).mean()
    assert float(parts["nats"]) == pytest.approx(float(wanted.detach()), rel=1e-5)
    kl_divergence(posterior, prior).sum().backward()
    assert (model.net.prior.table.weight.grad.abs().sum(1) > 0).all()


def gaussians(model, batch, known):
    target = (batch["mel"] - model.mel_mean) / model.mel_std
    text, speaker = model.net.encode(batch["symbols"], known.src_mask, batch["speaker"])
    posterior = model.net.posterior(target, speaker, text, (known.src_mask, known.tgt_mask), known)
    return posterior, model.net.prior(text, known.src_mask, batch["speaker"], speaker)


def test_soft_dtw_reaches_durations_and_needs_none(make):
    model = make(*WARPED)
    batch = make_batch()
    del batch["durations"]
    parts = model.losses(batch)
    assert float(parts["outside"]) == 0
    (parts["mel"] + parts["mel_before"]).backward()
    assert model.net.durations.out.weight.grad.abs().sum() > 0
    assert model.aligner is None


@pytest.mark.parametrize("name", KINDS)
def test_losses_in_half_precision_are_near_those_in_single(models, name):
    model, batch = models[name], make_batch()
    single = model.losses(batch)
    with torch.autocast("cpu", torch.bfloat16):
        half = model.losses(batch)
    assert half["loss"].dtype == torch.float32
    for part in ("mel", "mel_before", "duration"):
        # Three digits, through a dozen layers.
        assert float(half[part].detach()) == pytest.approx(float(single[part].detach()), rel=0.05), part


def test_warped_distances_are_per_frame_and_bin_and_leave_out_what_no_band_holds():
    g = torch.Generator().manual_seed(0)
    said, target = torch.randn(2, 14, 5, generator=g), torch.randn(2, 12, 5, generator=g)
    lengths, wanted = torch.tensor([14, 4]), torch.tensor([12, 12])
    options = SoftDTWOptions(gamma=0.1, warp_penalty=2.0, band=3)
    (distance,), inside = warped_distances([said.requires_grad_()], lengths, target, wanted, options)
    assert inside.tolist() == [True, False] and distance[1] == 0
    value = soft_dtw_l1(said[:1], target[:1], lengths[:1], wanted[:1], gamma=0.1, warp_penalty=2.0, band=3)
    torch.testing.assert_close(distance[0], value[0] / (12 * 5))
    distance.sum().backward()
    assert said.grad[0].abs().sum() > 0 and said.grad[1].abs().sum() == 0


def test_pooling_takes_means_of_what_is_there():
    mel = torch.arange(10.0).reshape(2, 5, 1)
    made, lengths = pooled(mel, torch.tensor([5, 3]), 2)
    assert lengths.tolist() == [3, 2]
    assert made[..., 0].tolist() == [[0.5, 2.5, 4.0], [5.5, 7.0, 0.0]]


def test_latents_hold_what_the_text_does_not_say(make):
    """Two items of one text and two sounds: trained, the mels differ as the sounds do, and the divergence stays up."""
    model = make("--model.latents.prior=standard", "--model.objective.kl_weight=0.001").train()
    batch = make_batch()
    for name in ("symbols", "durations", "mel", "speaker", "symbol_lengths", "mel_lengths"):
        batch[name] = batch[name][:1].repeat(2, *[1] * (batch[name].ndim - 1))
    sounds = torch.randn(2, 6, 1, generator=torch.Generator().manual_seed(1))
    known = Alignment.from_durations(batch["durations"], batch["symbol_lengths"], batch["mel_lengths"])
    batch["mel"] = model.mel_mean + model.mel_std * known.expand(sounds).expand(-1, -1, 80)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    history = []
    for _ in range(120):
        optimizer.zero_grad()
        parts = model.losses(batch)
        parts["loss"].backward()
        optimizer.step()
        history.append({name: float(value.detach()) for name, value in parts.items()})
    # The text alone can say the mean of the two at best.
    apart = float((sounds[0] - sounds[1]).abs().mean() / 2)
    assert history[-1]["mel"] < 0.5 * apart < history[0]["mel"]
    assert history[-1]["nats"] > 0.5


# ---- stages -----------------------------------------------------------------------------------------------------


def test_stages_begin_at_their_steps(make, monkeypatch):
    stages = ["--model.stages.learned_from=10", "--model.stages.soft_dtw_from=20"]
    model = make(*WARPED, *stages, given_durations=False).train()
    assert not model.eval().learning and model.train()
    seen = {}
    for step in (0, 9, 10, 19, 20):
        monkeypatch.setattr(type(model), "global_step", step)
        parts = model.losses(make_batch())
        seen[step] = int(model.upsamples), "align" in parts, "outside" in parts, "upsampling" in parts
        model.zero_grad()
        parts["loss"].backward()
        assert not [name for name, p in model.named_parameters() if p.grad is None], step
    assert seen == {
        0: (0, True, False, True),
        9: (0, True, False, True),
        10: (1, True, False, False),
        19: (1, True, False, False),
        20: (1, False, True, False),
    }


def test_learned_upsampling_learns_which_symbol_a_frame_is_of_before_it_takes_over(make):
    model = make("--model.upsampling=learned", "--model.stages.learned_from=1000").train()
    batch = make_batch()
    batch["mel"][1, 13:] = 0
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    errors = []
    for _ in range(100):
        optimizer.zero_grad()
        parts = model.losses(batch)
        parts["loss"].backward()
        optimizer.step()
        errors.append(float(parts["upsampling"].detach()))
    assert errors[-1] < 0.5 * errors[0]
    known = Alignment.from_durations(batch["durations"], batch["symbol_lengths"], batch["mel_lengths"])
    posterior, _ = gaussians(model.eval(), batch, known)
    text, speaker = model.net.encode(batch["symbols"], known.src_mask, batch["speaker"])
    _, v, _ = model.net.plan(text, posterior.mean, speaker, known.src_mask)
    weights = model.net.upsampler(v, known.durations, known.src_lengths)[1].matrix()
    right = weights.gather(2, known.index[..., None])[known.tgt_mask]
    assert float(right.detach().mean()) > 0.5  # at first it is about one in four


def test_an_export_says_by_the_upsampling_that_was_trained(make):
    model = make("--model.upsampling=learned", "--model.stages.learned_from=10")
    reading = read(model)
    before = say(model, [reading]).mel
    state = {name: value.clone() for name, value in model.state_dict().items()}
    state["upsamples"] = torch.tensor(1)
    model.load_state_dict(state)
    assert (say(model, [reading]).mel - before).abs().max() > 1e-3


CONFLICTS = {
    "soft-DTW of whole durations": (["--model.objective.reconstruction=soft-dtw"], "model.objective.reconstruction"),
    "soft-DTW before learned upsampling": ([*WARPED, "--model.stages.learned_from=5"], "model.stages.soft_dtw_from"),
    "soft-DTW and a symbol's own frames": ([*WARPED, "--model.latents.posterior=durations"], "model.latents.posterior"),
}


@pytest.mark.parametrize("name", CONFLICTS)
def test_what_excludes_each_other_is_refused(make, name):
    overrides, path = CONFLICTS[name]
    with refused(RecipeError, "conflict", path):
        make(*overrides)


@pytest.mark.parametrize("name", ["encoder_heads", "lconv_heads"])
def test_heads_divide_the_channels(make, name):
    with refused(RecipeError, "value", f"model.network.{name}", value=5, names=["5", "32"]):
        make(f"--model.network.{name}=5")


# ---- requests ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_a_temperature_of_zero_is_the_prior_s_mean_for_any_seed(models, name):
    model = models[name]
    plain = say(model, [read(model, seed=1)])
    assert torch.equal(plain.mel, say(model, [read(model, seed=2)]).mel)
    drawn = [say(model, [read(model, seed=seed, latent_temperature=1.0)]).mel for seed in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1])
    size = min(drawn[0].shape[1], drawn[2].shape[1], plain.mel.shape[1])
    assert (drawn[0][:, :size] - drawn[2][:, :size]).abs().max() > 1e-3
    assert (drawn[0][:, :size] - plain.mel[:, :size]).abs().max() > 1e-3


def test_a_draw_does_not_depend_on_who_shares_the_batch(models):
    for name in ("phoneme", "global, a prior of each speaker", "learned upsampling"):
        model = models[name]
        readings = [
            read(model, seed=3, latent_temperature=1.0),
            read(model, text="No.", seed=4, latent_temperature=0.5, speaker="lj"),
        ]
        together = say(model, readings)
        for row, reading in enumerate(readings):
            one = say(model, [reading])
            frames = int(one.alignment.tgt_lengths[0])
            assert int(together.alignment.tgt_lengths[row]) == frames
            torch.testing.assert_close(together.mel[row, :frames], one.mel[0], atol=1e-4, rtol=1e-4)


def test_pieces_of_one_request_share_an_item_s_latent(models):
    model = models["global, a prior of each speaker"]
    request = model.Request(text="Well, that is it. Nobody knows. Perhaps it is so.", seed=5, latent_temperature=1.0)
    readings = list(model.voice.read(request, 20))
    assert len(readings) > 1
    noise = model.drawn(readings, torch.tensor([len(r.ids) for r in readings]))
    assert (noise == noise[:1]).all() and noise.abs().sum() > 0


@pytest.mark.parametrize("name", ["phoneme", "learned upsampling"])
@pytest.mark.parametrize("pace", [0.5, 2.0])
def test_pace_divides_the_number_of_frames(models, name, pace):
    model = models[name]
    plain, faster = (say(model, [read(model, pace=p)]) for p in (1.0, pace))
    exact = int(plain.alignment.tgt_lengths[0])
    assert int(faster.alignment.tgt_lengths[0]) == pytest.approx(exact / pace, abs=0.5 + 0.5 / pace)
    assert faster.mel.shape[1] == int(faster.alignment.durations.sum())


@pytest.mark.parametrize("name", ["phoneme", "learned upsampling"])
def test_a_pause_lasts_as_long_as_is_asked(models, name):
    model = models[name]
    held_reading = read(model, text="One, [0.5s] two.")
    plain, held = say(model, [read(model, text="One, two.")]), say(model, [held_reading])
    longer = int(held.alignment.tgt_lengths[0]) - int(plain.alignment.tgt_lengths[0])
    places = [i for i, h in held_reading.held.items() if h.frames]
    assert places and all(int(held.alignment.durations[0, i]) == held_reading.held[i].frames for i in places)
    assert held.mel.shape[1] == int(held.alignment.durations.sum()) and longer != 0


def test_one_speaker_has_no_embedding(make):
    assert make(speakers=("one",)).net.speaker is None
    assert make(speakers=("one", "two", "three")).net.speaker.num_embeddings == 3


# ---- after training ---------------------------------------------------------------------------------------------


def test_exports_hold_neither_posterior_nor_aligner(make):
    from unisono.export import export_state

    model = make(given_durations=False)
    kept, whole = export_state(model), model.state_dict()
    assert {name.split(".")[0] for name in whole} == {"net", "aligner", "upsamples"}
    assert not [name for name in kept if name.startswith(("aligner.", "net.posterior."))] and "upsamples" in kept


def test_teacher_forced_mels_have_the_recordings_lengths(models, make):
    assert [len(mel) for mel in models["phoneme"].teacher_forced(make_batch())] == [40, 13]
    with refused(UnisonoError, "unsupported", "model.stages.soft_dtw_from"):
        make(*WARPED, given_durations=False).teacher_forced(make_batch())


def test_the_recipes_have_the_published_sizes(make_voice):
    facts = to_plain(make_voice("tts/fastspeech-tiny", given_durations=False).facts, "facts")
    for name, learned in (("tts/parallel-tacotron", False), ("tts/parallel-tacotron-2", True)):
        model = Recipe.read(name, ["--data.root=x"]).build_model(facts)
        assert model.network.dim == 256 and model.latents.dim == 8
        assert (model.network.decoder_layers, model.network.lconv_heads) == (6, 8)
        assert (model.net.upsampler is not None) == learned

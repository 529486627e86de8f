"""AP-BWE as it is asked: the low band exact, any length and rate, pieces equal to the whole, refusals; its losses."""

import numpy as np
import pytest
import soxr
import torch
from refused import refused
from unisono.errors import CheckpointError, DataError, RecipeError, RequestError
from unisono_restore.ap_bwe.band import KEPT, Band, above
from unisono_restore.ap_bwe.model import APBWE
from unisono_restore.ap_bwe.sizes import BandGame, BandObjective, BandSizes
from unisono_restore.sounds import sound_of_samples
from unisono_sound.signal.phase import TransformSizes

RATE, FROM = 8000, 4000
FACTS = {"sample_rate": RATE, "from_rate": FROM, "lowest_cutoff": 1500.0, "highest_cutoff": 2000.0}


def make_model(**groups) -> APBWE:
    torch.manual_seed(0)
    model = APBWE(
        network=BandSizes(dim=16, intermediate_dim=24, num_blocks=2),
        spectrum=TransformSizes(n_fft=128, win_length=80, hop_length=20),
        game=BandGame(
            periods=(2, 3), period_channels=(4, 8), resolutions=((128, 32), (256, 64)), resolution_channels=4
        ),
        **groups,
    )
    model.build(FACTS)
    torch.nn.init.normal_(model.net.amplitude_head.weight, std=0.1)
    return model.eval()


@pytest.fixture(scope="module")
def model() -> APBWE:
    return make_model()


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def narrow(length: int, seed: int = 0) -> np.ndarray:
    return soxr.resample(noise(length // 2 + 1, seed=seed), FROM, RATE, quality="HQ")[:length]


def ask(model: APBWE, samples: np.ndarray, **fields) -> np.ndarray:
    (made,) = model.synthesize([model.Request(samples=samples, **fields)])
    return made.waveform


def spectrum(wave: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies, and levels such that a sine of full scale has 1."""
    window = np.blackman(len(wave))
    return np.fft.rfftfreq(len(wave), 1 / RATE), np.abs(np.fft.rfft(wave * window)) / (window.sum() / 2)


@pytest.mark.parametrize("cutoff", [1500.0, 1800.0, 2000.0, 3000.0])
def test_the_low_band_comes_out_as_it_went_in(model, cutoff):
    wave = narrow(16000)
    made = ask(model, wave, cutoff=cutoff)[0]
    hz, difference = spectrum(made - wave)
    assert difference[hz <= KEPT * cutoff].max() < 1e-5
    assert difference[hz > cutoff].max() > 1e-6  # and above something was made
    assert np.abs(made).max() < 10


def test_what_was_there_fades_into_what_is_made(model):
    wave, cutoff = torch.from_numpy(narrow(8000))[None], 1800.0
    band = Band.of(cutoff, FACTS["highest_cutoff"], RATE)
    with torch.no_grad():
        made, joined = model.net(wave - above(wave, band.unheard)), model.restore(wave, (band,))
    hz, level = spectrum((joined - made)[0].numpy())
    assert level[hz >= cutoff].max() < 1e-5
    assert level[hz <= KEPT * cutoff].max() > 1e-3


@pytest.mark.parametrize("length", [*range(1, 24), 39, 40, 41, 59, 60, 61, 160])
def test_every_length_is_kept(model, length):
    assert ask(model, noise(length)).shape == (1, length)


@pytest.mark.parametrize("rate", [4000, 6000, 11025, 44100, 192000])
def test_any_rate_is_taken(model, rate):
    made = ask(model, noise(rate // 5), sample_rate=rate)
    assert made.shape == (1, round(rate // 5 * RATE / rate)) and np.isfinite(made).all()


def test_a_wide_sound_is_returned_as_it_came(model):
    wave = noise(5000)
    np.testing.assert_array_equal(ask(model, wave)[0], wave)
    assert model.survey(model.Request(samples=wave), sound_of_samples(wave, RATE)) == (None,)
    half = narrow(5000)
    assert not np.array_equal(ask(model, half)[0], half)
    np.testing.assert_array_equal(ask(model, half, cutoff=4000.0)[0], half)


def test_a_measured_end_is_the_end_that_is_told(model):
    wave = narrow(9000)
    (measured,) = model.survey(model.Request(samples=wave), sound_of_samples(wave, RATE))
    told = Band.of(2000.0, FACTS["highest_cutoff"], RATE)
    assert abs(len(measured.made) - len(told.made)) <= 4


def test_pieces_join_to_the_whole(model):
    wave = torch.from_numpy(narrow(12000))
    request = model.Request(samples=wave.tolist(), cutoff=1800.0)
    band = Band.of(1800.0, FACTS["highest_cutoff"], RATE)
    with torch.no_grad():
        whole = model.restore(wave[None], (band,))
    pieces = [torch.from_numpy(piece.waveform) for piece in model.stream(request)]
    assert len(pieces) == 6
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, atol=1e-5, rtol=0)
    assert model.latency_seconds < 0.4


def test_what_is_far_away_does_not_matter(model):
    wave = torch.from_numpy(narrow(6000))[None]
    context = model.pieces(streamed=True).context
    changed = wave.clone()
    changed[0, 3000] += 0.5
    band = Band.of(1500.0, FACTS["highest_cutoff"], RATE)
    with torch.no_grad():
        differs = (model.restore(wave, (band,)) - model.restore(changed, (band,)))[0].abs() > 1e-6
    places = differs.nonzero()[:, 0]
    assert 3000 - context <= int(places.min()) and int(places.max()) <= 3000 + context


def test_channels_are_each_their_own(model):
    waves = np.stack([narrow(3000, seed=i) for i in range(8)])
    made = ask(model, waves, cutoff=2000.0)
    for channel, wave in zip(made, waves, strict=True):
        np.testing.assert_allclose(channel, ask(model, wave, cutoff=2000.0)[0], atol=1e-4)


def test_channels_that_end_elsewhere_are_each_measured(model):
    """A wide channel comes back as it came, and leaves a narrow one beside it to be restored."""
    lower = soxr.resample(soxr.resample(noise(6000), RATE, 3300, quality="HQ"), 3300, RATE, quality="HQ")[:6000]
    waves = np.stack([noise(6000, seed=1), narrow(6000), np.zeros(6000, np.float32), lower])
    made = ask(model, waves)
    np.testing.assert_array_equal(made[0], waves[0])
    assert not made[2].any() and np.abs(made[1] - waves[1]).max() > 1e-3
    for channel, wave in zip(made, waves, strict=True):
        np.testing.assert_allclose(channel, ask(model, wave)[0], atol=1e-4)


def test_silence_clipping_and_offset(model):
    assert not ask(model, np.zeros((2, 4000), np.float32)).any()
    clipped = np.clip(20 * narrow(4000), -1, 1)
    assert np.isfinite(ask(model, clipped, cutoff=2000.0)).all()
    offset = narrow(16000) + 0.3
    made = ask(model, offset, cutoff=2000.0)[0]
    assert abs(made[4000:12000].mean() - offset[4000:12000].mean()) < 1e-4


@pytest.mark.parametrize(
    ("fields", "code", "path"),
    [
        ({"sample_rate": 2000}, "unsupported", "sample_rate"),
        ({"cutoff": 1000.0}, "range", "cutoff"),
        ({"cutoff": 4001.0}, "range", "cutoff"),
    ],
)
def test_a_sound_narrower_than_what_is_known_is_refused(model, fields, code, path):
    with refused(RequestError, code, path):
        ask(model, noise(1000), **fields)
    with refused(RequestError, "range", "cutoff"):
        model.Request.parse(samples=[0.1], cutoff=0.0)


def test_a_start_from_other_rates_is_refused(model):
    model.check_source(FACTS)
    with refused(CheckpointError, "conflict", "run.init_from", value=3000):
        model.check_source({**FACTS, "from_rate": 3000})


# ---- training --------------------------------------------------------------------------------------------------------


def losses(model: APBWE, wave: np.ndarray, heard: np.ndarray) -> dict[str, float]:
    batch = {"wave": torch.from_numpy(wave), "heard": torch.from_numpy(heard)}
    return {name: float(value.detach()) for name, value in model.losses(batch).items()}


def test_a_perfect_prediction_costs_nothing(model, monkeypatch):
    wave = noise(2, 1000)
    truth = model.net.transform(torch.from_numpy(wave))
    perfect = model.net.analysed(truth)._replace(phase=truth.angle())
    monkeypatch.setattr(model.net, "predict", lambda heard, mask=None: perfect)
    parts = losses(model, wave, wave)
    assert parts["amplitude"] == 0 and parts["phase"] < 1e-2 and parts["complex"] < 1e-6
    assert parts["consistency"] < 1e-6


def test_the_loss_is_the_weighted_sum_of_its_parts():
    model = make_model(objective=BandObjective(amplitude=2, phase=3, complex=5, consistency=7))
    parts = losses(model, noise(2, 1000), narrow(2000).reshape(2, 1000))
    expected = 2 * parts["amplitude"] + 3 * parts["phase"] + 5 * parts["complex"] + 7 * parts["consistency"]
    assert parts["loss"] == pytest.approx(expected, rel=1e-6)
    published = BandObjective()
    assert (published.amplitude, published.phase, published.complex, published.consistency) == (45, 100, 90, 90)


def test_an_untrained_generator_misses_the_upper_band_only():
    model = APBWE(network=BandSizes(dim=16, intermediate_dim=24, num_blocks=2), spectrum=make_model().spectrum)
    model.build(FACTS)
    wave = noise(1, 4000)
    assert losses(model, wave, wave)["amplitude"] == 0
    assert losses(model, wave, narrow(4000)[None])["amplitude"] > 1


def test_sizes_and_crops_that_cannot_be_are_refused():
    for name in ("dim", "intermediate_dim", "num_blocks"):
        with refused(RecipeError, "range", f"model.network.{name}", value=0):
            BandSizes(**{name: 0})
    model = make_model()
    short = {"wave": torch.zeros(1, 96), "heard": torch.zeros(1, 96)}
    assert model.losses(short)["loss"].isfinite()  # without discriminators any length serves
    model.configure_model()
    with refused(DataError, "shape", "data.crops.samples", value=96, names="97"):
        model.losses(short)


def test_every_discriminator_weighs_as_published(model):
    judges = {name: (len(judge.judges), weight) for name, (judge, weight) in model.judges().items()}
    # Losses are averaged over the discriminators of a kind, published ones added up.
    assert judges == {"period": (2, 2), "amplitude": (2, pytest.approx(0.2)), "phase": (2, pytest.approx(0.2))}

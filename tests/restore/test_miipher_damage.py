"""Damage and cuts: what befalls a crop is drawn from its generator alone, and is what it is called."""

import math
from itertools import pairwise

import pytest
import torch
from refused import refused
from unisono.errors import DataError
from unisono_restore.miipher.cuts import QuietCuts
from unisono_restore.miipher.damage import Damage, DamageOptions, make_noise

RATE = 16000
NONE = {"clean": 0.0, "reverb": 0.0, "noise": 0.0, "band": 0.0, "clip": 0.0, "code": 0.0, "loss": 0.0}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def speech(count: int = RATE) -> torch.Tensor:
    wave = 0.1 * torch.randn(count, generator=seeded(1))
    return wave * (1 + torch.sin(torch.arange(count) * 2 * math.pi * 4 / RATE))


def damaged(seed: int = 0, **options) -> torch.Tensor:
    return Damage(DamageOptions(**{**NONE, **options}), RATE)(speech(), seeded(seed))


def test_a_crop_and_a_generator_say_all():
    whole = Damage(DamageOptions(), RATE)
    made = [whole(speech(), seeded(seed)) for seed in (3, 3, 4)]
    assert torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])
    assert all(len(wave) == RATE and wave.isfinite().all() for wave in made)
    assert torch.equal(damaged(), speech())
    silence = torch.zeros(500)
    assert torch.equal(whole(silence, seeded(0)), silence)


def test_a_share_stays_clean():
    every = Damage(DamageOptions(**{**NONE, "clean": 0.3, "clip": 1.0}), RATE)
    wave = speech(400)
    clean = sum(torch.equal(every(wave, seeded(seed)), wave) for seed in range(500))
    assert 110 < clean < 190  # 150 expected; four deviations of a binomial are 41


@pytest.mark.parametrize("kind", ["white", "pink", "brown", "speech", "hum"])
def test_noise_has_the_ratio_that_is_asked(kind):
    found = damaged(noise=1.0, snr_db=(7.0, 7.0), noises=(kind,))
    ratio = 20 * math.log10(float(speech().norm() / (found - speech()).norm()))
    assert ratio == pytest.approx(7.0, abs=0.01)


def test_noises_have_their_slopes():
    for kind, slope in (("white", 0.0), ("pink", -3.0), ("brown", -6.0)):
        power = torch.fft.rfft(make_noise(kind, torch.zeros(2**18), RATE, seeded(2))).abs().square()
        octaves = [float(power[2**k : 2 ** (k + 1)].mean().log10()) * 10 for k in range(12, 17)]
        falls = [b - a for a, b in pairwise(octaves)]
        assert falls == pytest.approx([slope] * 4, abs=0.3)


def test_damages_are_what_they_are_called():
    spectrum = torch.fft.rfft(damaged(band=1.0, lowest_cutoff=2000.0, seed=5)).abs()
    hertz = torch.fft.rfftfreq(RATE, 1 / RATE)
    edge = float(hertz[spectrum > 1e-3].max())
    assert 2000 <= edge <= 8000 and edge < 7990
    clipped = damaged(clip=1.0)
    assert int((clipped.abs() == clipped.abs().max()).sum()) > 10
    assert len(damaged(code=1.0).unique()) <= 256
    lost = damaged(loss=1.0, seed=2)
    gone = (lost != speech()).nonzero()[:, 0]
    assert len(gone) and not lost[gone].any() and len(gone) % 320 == 0
    wet = damaged(reverb=1.0)
    echo = wet - speech()
    assert 0.3 < float(echo.square().mean() / speech().square().mean()) < 3.0
    click = torch.zeros(RATE)
    click[4000] = 1.0
    tail = Damage(DamageOptions(**{**NONE, "reverb": 1.0, "reverb_seconds": (0.2, 0.2)}), RATE)(click, seeded(1))
    assert not (tail[:4000].abs() > 1e-6).any() and float(tail[4000]) == pytest.approx(1.0, abs=1e-5)
    early, late = tail[4001:4801].square().mean(), tail[4801 + 1600 : 5601 + 1600].square().mean()
    # 60 dB in 0.2 s is 45 dB in the 0.15 s from the middle of the one stretch to that of the other.
    assert 10 * math.log10(float(early / late)) == pytest.approx(45.0, abs=2.0)


def test_options_out_of_range_are_refused():
    for options, path in (
        ({"clean": 1.5}, "clean"),
        ({"noise": -0.1}, "noise"),
        ({"noises": ()}, "noises"),
        ({"snr_db": (5.0, 1.0)}, "snr_db"),
        ({"reverb_seconds": (0.0, 1.0)}, "reverb_seconds"),
        ({"lowest_cutoff": 0.0}, "lowest_cutoff"),
    ):
        with refused(DataError, "range", f"data.damage.{path}"):
            DamageOptions(**options)


# ---- cuts ------------------------------------------------------------------------------------------


def test_pieces_end_where_it_is_quietest_and_join_to_the_whole():
    cuts, sound = QuietCuts(longest=800, step=10, quiet=4), torch.randn(2, 3333, generator=seeded(0))
    pauses = (610, 1290, 2020)
    for start in pauses:
        sound[:, start : start + 60] *= 1e-3
    starts, pieces = [], []

    def keep(piece, start):
        starts.append(start)
        pieces.append(piece)
        return 2 * piece

    blocks = list(sound.split(177, dim=1))
    made = torch.cat(list(cuts(blocks, keep)), dim=1)
    assert torch.equal(made, 2 * sound)
    assert all(piece.shape[1] <= 800 for piece in pieces) and all(piece.shape[1] >= 400 for piece in pieces[:-1])
    for start, pause in zip(starts[1:], pauses, strict=False):
        assert pause + 20 <= start <= pause + 40 and start % 10 == 0
    again: list[int] = []
    list(cuts([sound], lambda piece, start: again.append(start) or piece))
    assert again == starts  # whatever the blocks are


def test_a_sound_as_long_as_a_piece_is_not_cut():
    cuts = QuietCuts(longest=800, step=10, quiet=4)
    for count in (1, 799, 800):
        sound = torch.randn(1, count, generator=seeded(0))
        seen = [piece.shape[1] for piece in cuts([sound], lambda piece, start: piece)]
        assert seen == [count]
    assert cuts.cut(torch.zeros(1, 800)) == 780
    with pytest.raises(ValueError, match="longest"):
        QuietCuts(longest=100, step=10, quiet=4)

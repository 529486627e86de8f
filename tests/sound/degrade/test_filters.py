"""Filters: SciPy's designs are the oracle of every family; the recursion itself that of filtering."""

import math

import numpy as np
import pytest
import torch
from refused import refused
from unisono.errors import DataError
from unisono_sound.degrade import FAMILIES, LowPass, filtered, response

RATE = 16000
HZ = torch.linspace(0, RATE / 2, 257)
RECURSIVE = [family for family in FAMILIES if family != "sinc"]


def scipys(signal, design: LowPass, high: bool = False) -> np.ndarray:
    kind = "highpass" if high else "lowpass"
    n, edge, ripple, stop = design.order, design.hz, design.ripple_db, design.stop_db
    return {
        "butterworth": lambda: signal.butter(n, edge, kind, fs=RATE, output="sos"),
        "chebyshev1": lambda: signal.cheby1(n, ripple, edge, kind, fs=RATE, output="sos"),
        "chebyshev2": lambda: signal.cheby2(n, stop, edge, kind, fs=RATE, output="sos"),
        "elliptic": lambda: signal.ellip(n, ripple, stop, edge, kind, fs=RATE, output="sos"),
    }[design.family]()


@pytest.mark.parametrize("family", RECURSIVE)
@pytest.mark.parametrize("high", [False, True])
def test_responses_are_scipys(family, high):
    signal = pytest.importorskip("scipy.signal")
    for order, hz, ripple, stop in [
        (1, 500.0, 0.5, 40.0),
        (4, 3000.0, 0.1, 60.0),
        (7, 1200.0, 1.0, 50.0),
        (10, 6000.0, 0.05, 80.0),
    ]:
        design = LowPass(family=family, hz=hz, order=order, ripple_db=ripple, stop_db=stop)
        mine = response(design, RATE, HZ[1:-1], high).numpy()
        _, theirs = signal.sosfreqz(scipys(signal, design, high), HZ[1:-1].numpy(), fs=RATE)
        np.testing.assert_allclose(mine, theirs, atol=2e-6)


@pytest.mark.parametrize("family", RECURSIVE)
def test_filtering_is_the_recursion(family):
    signal = pytest.importorskip("scipy.signal")
    wave = torch.randn(1999, generator=torch.Generator().manual_seed(0))
    design = LowPass(family=family, hz=2500.0, order=6)
    mine = filtered(wave, RATE, design)
    assert mine.shape == wave.shape
    np.testing.assert_allclose(mine.numpy(), signal.sosfilt(scipys(signal, design), wave.numpy()), atol=1e-5)


def test_edges_are_where_each_family_counts_them():
    levels = {
        family: -20
        * math.log10(
            float(
                response(
                    LowPass(family=family, hz=2000.0, ripple_db=0.5, stop_db=40.0), RATE, torch.tensor([2000.0])
                ).abs()
            )
        )
        for family in FAMILIES
    }
    wanted = {"butterworth": 3.01, "chebyshev1": 0.5, "chebyshev2": 40.0, "elliptic": 0.5, "sinc": 6.02}
    assert levels == pytest.approx(wanted, abs=0.1)


@pytest.mark.parametrize("family", FAMILIES)
def test_zero_phase_delays_nothing_and_bands_pass_or_stop(family):
    design = LowPass(family=family, hz=3000.0, order=8)
    time = torch.arange(4000) / RATE
    low, high = torch.sin(2 * math.pi * 500 * time), torch.sin(2 * math.pi * 6500 * time)
    inner = slice(500, -500)
    torch.testing.assert_close(filtered(low, RATE, design, zero_phase=True)[inner], low[inner], atol=0.02, rtol=0)
    assert float(filtered(high, RATE, design)[inner].abs().max()) < 0.01
    assert float(filtered(high, RATE, design, high=True)[inner].abs().max()) > 0.9


def test_a_sinc_has_no_delay():
    pulse = torch.zeros(999)
    pulse[499] = 1
    heard = filtered(pulse, RATE, LowPass(family="sinc", hz=3000.0))
    assert int(heard.argmax()) == 499
    torch.testing.assert_close(heard, heard.flip(0), atol=1e-6, rtol=0)


def test_what_cannot_be_designed_is_refused():
    with refused(DataError, code="range", path="hz"):
        filtered(torch.zeros(10), RATE, LowPass(family="sinc", hz=8000.0))
    with refused(DataError, code="range", path="order", value=0):
        LowPass(family="sinc", hz=1.0, order=0)
    with refused(DataError, code="range", path="ripple_db"):
        LowPass(family="elliptic", hz=1.0, ripple_db=50.0, stop_db=40.0)
    with refused(DataError, code="unknown", path="family", value="bessel"):
        LowPass(family="bessel", hz=1.0)  # pyright: ignore[reportArgumentType]

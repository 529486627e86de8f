"""Windows: the sound itself in pieces, however its blocks come, cut where it is quiet, in flat memory."""

import tracemalloc

import numpy as np
import pytest
import soxr
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refused import refused
from unisono.errors import DataError
from unisono_asr.windows import quietest, resampled, sound_of, windows
from unisono_sound.signal import read_audio, write_audio

RATE = 1000


def noise(count, seed=0):
    return np.random.default_rng(seed).normal(scale=0.1, size=count).astype(np.float32)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9000), st.lists(st.integers(1, 2500), min_size=1, max_size=5), st.integers(0, 99))
def test_windows_are_the_sound_whatever_its_blocks(count, sizes, seed):
    wave = noise(count, seed)
    cuts = np.cumsum(np.resize(sizes, count)).tolist()
    blocks = np.split(wave, [cut for cut in cuts if cut < count])
    found = list(windows(blocks, RATE, 2.0))
    assert torch.equal(torch.cat([window.wave for window in found]), torch.from_numpy(wave))
    assert [window.start for window in found] == np.cumsum([0, *(len(w.wave) for w in found)])[:-1].tolist()
    assert max(len(window.wave) for window in found) <= 2000
    assert [window.last for window in found] == [False] * (len(found) - 1) + [True]
    for one, other in zip(found, windows([wave], RATE, 2.0), strict=True):
        assert torch.equal(one.wave, other.wave)


def test_a_cut_lies_in_the_middle_of_the_quietest_tenth_of_a_second():
    wave = np.full(3000, 0.5, np.float32)
    wave[500:700] = 0  # too early
    wave[2400:2500] = 0.01
    assert quietest(wave, RATE) == 2450


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 400))
def test_a_cut_leaves_something_on_both_sides(count):
    assert 0 < quietest(noise(count), RATE) < count


@pytest.mark.parametrize("rate", [8000, 22_050, 48_000])
def test_blocks_are_resampled_as_one_sound(rate):
    wave = noise(3 * rate)
    blocks = np.split(wave, [17, 5000, 5001])
    streamed = np.concatenate(list(resampled(blocks, rate, 16_000)))
    whole = soxr.resample(wave, rate, 16_000, quality="HQ")
    assert len(streamed) == pytest.approx(48_000, abs=2)
    middle = slice(2000, 46_000)
    assert streamed[middle] == pytest.approx(whole[middle], abs=1e-4)


def test_three_hours_take_the_memory_of_a_window():
    """43 million samples, of which no more than some windows are ever held."""
    block = noise(10 * 4000)
    tracemalloc.start()
    total = sum(len(window.wave) for window in windows((block for _ in range(1080)), 4000, 20.0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 3 * 3600 * 4000
    assert peak < 4 * 2**20


def test_files_are_read_block_by_block(tmp_path):
    stereo = torch.from_numpy(np.stack([noise(50_000, 1), noise(50_000, 2)]))
    write_audio(tmp_path / "two.wav", stereo, 4000)
    info, blocks = sound_of(tmp_path / "two.wav")
    read = list(blocks)
    assert (info.num_channels, info.sample_rate, [len(block) for block in read]) == (2, 4000, [40_000, 10_000])
    assert np.array_equal(np.concatenate(read), read_audio(tmp_path / "two.wav")[0].numpy())
    with refused(DataError, "missing"):
        sound_of(tmp_path / "none.wav")

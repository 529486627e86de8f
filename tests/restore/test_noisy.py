"""Noisy data: pairs that replay, babble of others, facts, and what is refused."""

import pytest
import soundfile
import torch
from refused import refused
from unisono.data import item_generator
from unisono.errors import DataError
from unisono_restore.data import CropOptions
from unisono_restore.mp_senet.data import MadeNoisyData, NoisyData
from unisono_sound.degrade import CodecOptions, DegradeOptions, LevelOptions, NoiseOptions, active_power, mean_power

RATE = 8000
CROPS = CropOptions(samples=1000)


def noise(*kinds: str, **more) -> DegradeOptions:
    return DegradeOptions(noise=NoiseOptions(share=1.0, kinds=kinds, snr_db=(5.0, 5.0)), **more)


def test_pairs_replay_and_differ_by_epoch():
    data = MadeNoisyData(num_items=4, sample_rate=RATE, crops=CROPS, degrade=noise("pink", "babble"))
    data.prepare(progress=False)
    again = MadeNoisyData(num_items=4, sample_rate=RATE, crops=CROPS, degrade=noise("pink", "babble"))
    again.prepare(progress=False)
    for index in range(4):
        one, other, later = (
            made.train_set.item(index, item_generator(0, epoch, index))
            for made, epoch in ((data, 0), (again, 0), (data, 1))
        )
        assert torch.equal(one["wave"], other["wave"]) and torch.equal(one["heard"], other["heard"])
        assert not torch.equal(one["heard"], later["heard"])
        added = one["heard"] - one["wave"]
        ratio = active_power(one["wave"], RATE) / mean_power(added)
        assert ratio == pytest.approx(10**0.5, rel=1e-2)
    assert {key: value.shape for key, value in one.items()} == {"wave": (1000,), "heard": (1000,)}


def test_babble_of_recordings_leaves_their_own_out(tmp_path):
    for number in range(4):
        wave = 0.1 * torch.randn(4000, generator=torch.Generator().manual_seed(number))
        soundfile.write(tmp_path / f"{number}.wav", wave.numpy(), RATE)
    data = NoisyData(str(tmp_path), sample_rate=RATE, crops=CROPS, degrade=noise("babble"), batch_size=2, val_size=1)
    data.prepare(progress=False)
    clips = data.train_set.degrade.babble.clips
    assert len(clips) == 3 and len(data.val_set) == 1
    seen: list[int] = []
    wave_of = clips.wave
    clips.wave = lambda number: seen.append(number) or wave_of(number)
    for index, (which, _, _) in enumerate(data.train_set.places):
        seen.clear()
        data.train_set.item(index, item_generator(0, 0, index))
        assert seen and which not in seen
    data.val_set.item(0, item_generator(0, "validation", 0))


def test_facts_say_what_is_heard_and_what_is_held_out():
    options = noise(
        "white", "clicks", codec=CodecOptions(share=0.1, kinds=("mulaw", "opus")), held_out=("clicks", "opus")
    )
    data = MadeNoisyData(num_items=4, sample_rate=RATE, crops=CROPS, degrade=options)
    data.prepare(progress=False)
    facts = data.describe()
    assert facts.heard == ("white", "mulaw") and facts.unheard == ("clicks", "opus") and facts.snr_db == (5.0, 5.0)


def test_a_level_of_one_side_is_refused():
    with refused(DataError, code="conflict", path="data.degrade.level.share", value=0.5):
        MadeNoisyData(degrade=DegradeOptions(level=LevelOptions(share=0.5)))


def test_a_folder_of_noise_is_read_at_the_datas_rate(tmp_path):
    soundfile.write(
        tmp_path / "fan.wav", torch.randn(8000, generator=torch.Generator().manual_seed(0)).numpy() * 0.1, 16000
    )
    options = DegradeOptions(noise=NoiseOptions(share=1.0, kinds=("folder",), folder=str(tmp_path)))
    data = MadeNoisyData(num_items=4, sample_rate=RATE, crops=CROPS, degrade=options)
    data.prepare(progress=False)
    item = data.train_set.item(0, item_generator(0, 0, 0))
    assert not torch.equal(item["heard"], item["wave"])

"""Degrade: replay, independence of its steps, kinds that are held out, and what options refuse."""

import math

import pytest
import torch
from refused import refused
from unisono.data import Audit, item_generator
from unisono.errors import DataError
from unisono_sound.degrade import (
    MADE,
    NOISES,
    BandOptions,
    ClipOptions,
    CodecOptions,
    Degrade,
    DegradeOptions,
    HeldClips,
    LevelOptions,
    LossOptions,
    NoiseOptions,
    RoomOptions,
    active_power,
    mean_power,
)

RATE = 16000
EVERYTHING = DegradeOptions(
    room=RoomOptions(share=0.5),
    noise=NoiseOptions(share=0.5, kinds=(*MADE, "babble"), layers=(1, 3)),
    band=BandOptions(share=0.5, high_share=0.5),
    clip=ClipOptions(share=0.5),
    codec=CodecOptions(share=0.5),
    loss=LossOptions(share=0.5),
    level=LevelOptions(share=0.5),
)


def speech(num_samples: int = 8000) -> torch.Tensor:
    time = torch.arange(num_samples) / RATE
    return 0.2 * torch.sin(2 * math.pi * 220 * time) * (torch.sin(2 * math.pi * 2 * time) > 0)


def clips() -> HeldClips:
    return HeldClips([torch.randn(3000, generator=torch.Generator().manual_seed(i)) for i in range(4)], RATE)


def noisy(**options) -> DegradeOptions:
    return DegradeOptions(noise=NoiseOptions(share=1.0, **options))


def test_a_wave_is_a_function_of_seed_epoch_and_item():
    degrade, wave = Degrade(EVERYTHING, clips()), speech()
    seen = []
    for seed, epoch, item in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]:
        first = degrade(wave, RATE, item_generator(seed, epoch, item))
        again = Degrade(EVERYTHING, clips())(wave, RATE, item_generator(seed, epoch, item))
        assert torch.equal(first, again) and first.shape == wave.shape and bool(first.isfinite().all())
        seen.append(first)
    assert not any(torch.equal(a, b) for i, a in enumerate(seen) for b in seen[:i])


def test_lengths_are_kept_and_every_step_occurs_with_its_share():
    degrade = Degrade(EVERYTHING, clips())
    counts: dict[str, int] = {}
    for item in range(60):
        wave = speech(700 + item)
        heard, applied = degrade.told(wave, RATE, item_generator(0, 0, item))
        assert heard.shape == wave.shape and bool(heard.isfinite().all())
        for name in {one.step for one in applied}:
            counts[name] = counts.get(name, 0) + 1
    assert set(counts) == {"room", "noise", "band", "clip", "codec", "loss", "level"}
    assert all(15 <= count <= 45 for count in counts.values()), counts  # 30 ± 3.9: four sigma


def test_nothing_is_done_by_default_and_the_caller_draws_one_number():
    wave, generator, other = speech(), torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    heard, applied = Degrade(DegradeOptions()).told(wave, RATE, generator)
    assert heard is wave and applied == []
    Degrade(EVERYTHING, clips())(wave, RATE, other)
    assert torch.equal(generator.get_state(), other.get_state())


def test_a_step_more_changes_nothing_of_the_others():
    wave = speech()
    alone = Degrade(noisy(kinds=("pink",)))
    after = Degrade(
        DegradeOptions(
            noise=NoiseOptions(share=1.0, kinds=("pink",)), level=LevelOptions(share=1.0, gain_db=(6.0, 6.0))
        )
    )
    one, other = (step(wave, RATE, item_generator(0, 0, 5)) for step in (alone, after))
    torch.testing.assert_close(other, one * 10 ** (6 / 20))


@pytest.mark.parametrize("kind", [*MADE, "babble"])
def test_the_ratio_of_every_kind_is_the_one_that_is_told(kind):
    wave = speech()
    heard, applied = Degrade(noisy(kinds=(kind,), layers=(1, 2)), clips()).told(wave, RATE, item_generator(0, 0, 1))
    assert {one.kind for one in applied} == {kind}
    told = 10 * math.log10(active_power(wave, RATE) / mean_power(heard - wave))
    assert told == pytest.approx(applied[0].value, abs=0.01)


def test_silence_stays_silence():
    options = DegradeOptions(
        room=RoomOptions(share=1.0),
        noise=NoiseOptions(share=1.0),
        band=BandOptions(share=1.0),
        loss=LossOptions(share=1.0),
    )
    assert not bool(Degrade(options)(torch.zeros(4000), RATE, item_generator(0, 0, 0)).any())


def test_kinds_that_are_held_out_are_heard_in_tests_only():
    options = DegradeOptions(
        noise=NoiseOptions(share=1.0, kinds=("white", "pink", "clicks")),
        codec=CodecOptions(share=1.0, kinds=("mulaw", "opus")),
        held_out=("clicks", "opus"),
    )
    heard = {}
    for held_out in (False, True):
        pipeline = Degrade(options, held_out=held_out)
        applied = [pipeline.told(speech(2000), RATE, item_generator(0, 0, item))[1] for item in range(20)]
        heard[held_out] = {(one.step, one.kind) for each in applied for one in each}
    assert heard[False] == {("noise", "white"), ("noise", "pink"), ("codec", "mulaw")}
    assert heard[True] == {("noise", "clicks"), ("codec", "opus")}


def test_babble_leaves_the_items_own_clip_out():
    held = HeldClips([torch.ones(4000), torch.full((4000,), float("nan")), torch.ones(4000)], RATE)
    degrade = Degrade(noisy(kinds=("babble",)), held)
    for item in range(6):
        assert bool(degrade(speech(), RATE, item_generator(0, 0, item), own=1).isfinite().all())


def test_a_folder_is_read_by_of(tmp_path):
    import soundfile

    soundfile.write(
        tmp_path / "fan.wav", 0.1 * torch.randn(8000, generator=torch.Generator().manual_seed(0)).numpy(), RATE
    )
    options = noisy(kinds=("folder",), folder=str(tmp_path))
    audit = Audit("noises")
    heard, applied = Degrade.of(options, RATE, audit).told(speech(), RATE, item_generator(0, 0, 0))
    assert applied[0].kind == "folder" and not torch.equal(heard, speech())
    with refused(DataError, code="missing", path="data.degrade.noise.folder"):
        Degrade(options)
    with refused(DataError, code="conflict", path="rate", value=8000):
        Degrade.of(options, RATE, audit)(speech(), 8000, item_generator(0, 0, 0))


def test_babble_needs_clips():
    with refused(DataError, code="missing", path="data.degrade.noise.kinds", value="babble"):
        Degrade(noisy(kinds=("babble",)))


REFUSED = [
    (lambda: NoiseOptions(share=1.5), "range", "noise.share", 1.5),
    (lambda: NoiseOptions(snr_db=(5.0, 0.0)), "range", "noise.snr_db", [5.0, 0.0]),
    (lambda: NoiseOptions(kinds=("pnik",)), "unknown", "noise.kinds", "pnik"),
    (lambda: NoiseOptions(kinds=()), "value", "noise.kinds", []),
    (lambda: NoiseOptions(kinds=("pink", "pink")), "value", "noise.kinds", ["pink", "pink"]),
    (lambda: NoiseOptions(folder="x"), "conflict", "noise.folder", "x"),
    (lambda: NoiseOptions(kinds=("folder",)), "conflict", "noise.folder", None),
    (lambda: NoiseOptions(layers=(0, 1)), "range", "noise.layers", [0, 1]),
    (lambda: NoiseOptions(voices=(5, 40)), "range", "noise.voices", [5, 40]),
    (lambda: RoomOptions(rt60=(0.0, 0.2)), "range", "room.rt60", [0.0, 0.2]),
    (lambda: RoomOptions(direct_db=(2.0, 1.0)), "range", "room.direct_db", [2.0, 1.0]),
    (lambda: BandOptions(order=(0, 4)), "range", "band.order", [0, 4]),
    (lambda: BandOptions(high_share=-0.1), "range", "band.high_share", -0.1),
    (lambda: CodecOptions(opus_kbps=(1.0, 8.0)), "range", "codec.opus_kbps", [1.0, 8.0]),
    (lambda: CodecOptions(mp3_kbps=(1.0, 8.0)), "range", "codec.mp3_kbps", [1.0, 8.0]),
    (lambda: LossOptions(lost=(0.0, 1.0)), "range", "loss.lost", [0.0, 1.0]),
    (lambda: LossOptions(burst=(0.5, 1.0)), "range", "loss.burst", [0.5, 1.0]),
    (lambda: ClipOptions(below_peak_db=(-1.0, 1.0)), "range", "clip.below_peak_db", [-1.0, 1.0]),
    (lambda: LevelOptions(gain_db=(0.0, 90.0)), "range", "level.gain_db", [0.0, 90.0]),
    (lambda: DegradeOptions(held_out=("babbel",)), "unknown", "held_out", "babbel"),
    (
        lambda: DegradeOptions(noise=NoiseOptions(share=1.0, kinds=("pink",)), held_out=("pink",)),
        "conflict",
        "held_out",
        ("pink",),
    ),
]


@pytest.mark.parametrize(("make", "code", "path", "value"), REFUSED)
def test_options_refuse(make, code, path, value):
    with refused(DataError, code=code, path=f"data.degrade.{path}", value=value):
        make()


def test_every_kind_of_noise_is_listed_once():
    assert set(NOISES) == {*MADE, "babble", "folder"} and len(NOISES) == len(MADE) + 2

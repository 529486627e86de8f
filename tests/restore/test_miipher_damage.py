"""Damage and cuts: what befalls a crop is drawn from its generator alone; long sounds end their pieces in pauses."""

import pytest
import torch
from refused import refused
from unisono.errors import DataError
from unisono.recipe import Recipe
from unisono_restore.clips import MadeClip
from unisono_restore.miipher.cuts import QuietCuts
from unisono_restore.miipher.damage import SIDON, Damage, Others, conditions
from unisono_sound.degrade import ClipOptions, Degrade, DegradeOptions

RATE = 16000


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def speech(count: int = RATE) -> torch.Tensor:
    return MadeClip(3, count, RATE).load(0, count)


def test_a_crop_and_a_generator_say_all():
    whole = Damage(Degrade(SIDON), 0.0, RATE)
    made = [whole(speech(), seeded(seed)) for seed in (3, 3, 4)]
    assert torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])
    assert all(len(wave) == RATE and wave.isfinite().all() for wave in made)
    silence = torch.zeros(500)
    assert torch.equal(whole(silence, seeded(0)), silence)


def test_a_share_stays_clean():
    every = Damage(Degrade(DegradeOptions(clip=ClipOptions(share=1.0))), 0.3, RATE)
    wave = speech(400)
    clean = sum(torch.equal(every(wave, seeded(seed)), wave) for seed in range(500))
    assert 110 < clean < 190  # 150 expected; four deviations of a binomial are 41


def test_each_damage_befalls_half_of_the_crops():
    told = [Degrade(SIDON).told(speech(4000), RATE, seeded(seed))[1] for seed in range(60)]
    for step in ("room", "noise", "clip", "codec", "loss"):
        heard = sum(any(done.step == step for done in what) for what in told)
        assert 14 <= heard <= 46, step  # 30 expected, four deviations are 15.5


def test_babble_is_made_of_training_clips():
    clips = [MadeClip(number, 3000, RATE) for number in range(3)]
    others = Others(clips, RATE)
    assert len(others) == 3 and torch.equal(others.wave(2), clips[2].load(0, 3000))
    recipe = Recipe.read("restore/miipher-tiny", ["--data.degrade.noise.kinds=[babble]", "--data.clean=0"])
    data = recipe.build_data()
    data.prepare(progress=False)
    item = data.train_set.item(0, seeded(1))
    assert not torch.equal(item["wave"], item["heard"])
    for value in (-0.1, 1.5):
        with refused(DataError, "range", "data.clean", value=value):
            Recipe.read("restore/miipher-tiny", [f"--data.clean={value}"]).build_data()


def test_a_restorer_is_measured_on_what_it_has_not_heard():
    tried = conditions(RATE, ("hum", "clicks", "opus"))
    assert [one.name for one in tried if not one.seen] == ["hum, clicks at 5 dB"]
    assert len({one.name for one in tried}) == len(tried) == 7
    wave = speech()
    for one in tried:
        made = one.spoil(wave, seeded(0))
        assert len(made) == RATE and torch.equal(made, wave) == (one.name == "nothing")


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

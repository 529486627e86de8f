"""Made scenes: replayable, drawn as their outlines say, and phrases that mean one thing."""

import numpy as np
import pytest
import torch
from refused import refused
from unisono.errors import DataError
from unisono_outline.corpus.data import SceneData, unseen_kinds, words_of_scenes
from unisono_outline.corpus.grammar import Thing, phrases_for
from unisono_outline.corpus.scenes import KINDS, SceneMaker
from unisono_outline.corpus.shapes import COLOURS, SHAPES, unit_shape
from unisono_outline.geometry import signed_area
from unisono_outline.geometry.raster import mask_of

OUT = {"left": (0, -1), "right": (0, 1), "top": (1, -1), "bottom": (1, 1)}


def meant(phrase: str, things: tuple[Thing, ...]) -> list[int]:
    """What a phrase means, read by other means than it was written: the words, one after the other."""
    words = phrase.split()
    found = list(range(len(things)))
    for word in words:
        if word in ("small", "large"):
            found = [i for i in found if things[i].size == word]
        if word in COLOURS:
            found = [i for i in found if things[i].colour == word]
        if word in SHAPES:
            found = [i for i in found if things[i].name == word]
    if words[-1] in OUT:
        axis, sign = OUT[words[-1]]
        found = sorted(found, key=lambda i: -sign * things[i].middle[axis])[:1]
    return found


def test_a_scene_is_a_function_of_its_number_alone():
    maker = SceneMaker()
    one, again, other = maker("train", 5), SceneMaker()("train", 5), maker("seen", 5)
    assert np.array_equal(one.picture, again.picture) and one.phrase == again.phrase
    assert not np.array_equal(one.picture, other.picture)


def test_phrases_mean_the_target_and_nothing_else():
    maker = SceneMaker(size=16)
    for number in range(150):
        scene = maker("train", number)
        assert meant(scene.phrase, scene.things) == [scene.target], scene.phrase


def test_a_place_is_said_only_where_it_is_true():
    things = (Thing("circle", "red", "small", (0.3, 0.5)), Thing("circle", "red", "small", (0.35, 0.5)))
    assert phrases_for(things, 0) == []  # two that nothing tells apart: 0.05 is within the margin
    apart = (things[0], Thing("circle", "blue", "small", (0.8, 0.5)))
    assert "the circle on the left" in phrases_for(apart, 0) and "the red circle" in phrases_for(apart, 0)
    assert "the red circle on the right" not in phrases_for(apart, 0)
    assert "the circle" not in phrases_for(apart, 0)


def test_outlines_are_what_is_drawn():
    maker = SceneMaker()
    for number in range(20):
        scene = maker("train", number)
        free = np.ones(scene.picture.shape[1:], bool)
        for thing, outline in zip(scene.things, scene.outlines, strict=True):
            inside = mask_of(outline * 64, 64, 64)
            assert free[inside].all(), "two things share a pixel"
            free &= ~inside
            colour = scene.picture[:, inside].mean(axis=1)
            nearest = min(COLOURS, key=lambda name: np.abs(colour - COLOURS[name]).sum())
            assert nearest == thing.colour
            assert (outline >= 0).all() and (outline <= 1).all()
        assert scene.picture[:, free].mean() > 180


def test_unseen_kinds_are_never_shown_in_training_and_always_meant_in_validation():
    data = SceneData(num_items=40, val_size=10, size=16, unseen=0.2)
    data.prepare(progress=False)
    assert data.facts is not None
    kept = set(data.facts["unseen"])
    assert kept == set(unseen_kinds(0.2)) and len(kept) == round(0.2 * len(KINDS))
    for purpose, count in (("train", 40), ("unseen", 10)):
        for number in range(count):
            scene = data.train_set.maker(purpose, number, unseen=purpose == "unseen")
            kinds = [f"{thing.colour} {thing.name}" for thing in scene.things]
            assert kinds[scene.target] in kept if purpose == "unseen" else not kept & set(kinds)
            if purpose == "unseen":
                assert sum(kind in kept for kind in kinds) == 1
    seen = {part for kind in KINDS if kind not in kept for part in kind.split()}
    assert seen == {*COLOURS, *SHAPES}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_are_closed_lines_of_radius_one(name):
    outline = unit_shape(name)
    assert np.linalg.norm(outline, axis=1).max() <= 1.02
    assert abs(signed_area(outline)) > 0.5
    inside = mask_of(outline * 60 + 64, 128, 128)
    assert inside.sum() / 60**2 == pytest.approx(abs(signed_area(outline)), rel=0.02)  # it does not cross itself


def test_items_are_what_the_model_needs():
    data = SceneData(num_items=4, val_size=2, size=16, num_vertices=9, batch_size=2)
    data.prepare(progress=False)
    batch = data.collate([data.train_set.item(i, torch.Generator()) for i in range(3)])
    assert batch["picture"].shape == (3, 3, 16, 16) and batch["picture"].abs().max() <= 1
    assert batch["outline"].shape == (3, 9, 2) and len(batch["phrase"]) == 3
    assert (batch["outline"][:, 0, 1] <= batch["outline"][..., 1].amin(1) + 1e-6).all()
    assert set(data.facts["words"]) == set(words_of_scenes())  # type: ignore[index]
    spread = torch.stack([data.train_set.item(i, torch.Generator())["outline"] for i in range(4)])
    spread = (spread - spread.mean(1, keepdim=True)).square().mean().sqrt()
    assert data.facts["spread"] == pytest.approx(float(spread), rel=1e-4)  # type: ignore[index]


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 8},
        {"num_vertices": 4},
        {"num_items": 0},
        {"val_size": -1},
        {"unseen": 1.0},
        {"least": 1},
        {"least": 5, "most": 4},
        {"most": 9},
    ],
)
def test_sizes_that_cannot_be_are_refused(wrong):
    with refused(DataError, "range"):
        SceneData(**wrong)


def test_emoji_have_the_outline_of_what_is_opaque(tmp_path):
    from PIL import Image
    from unisono.data import Audit
    from unisono_outline.corpus.emoji import read_emoji

    y, x = np.mgrid[:40, :40] + 0.5
    disc = np.hypot(x - 20, y - 20) < 15
    for name, opaque in {
        "emoji_u1f534": disc,
        "emoji_u1f7e0": disc & (np.hypot(x - 20, y - 20) > 8),  # a hole
        "emoji_u1f7e1": np.zeros_like(disc),
        "notes": disc,
    }.items():
        pixels = np.full((40, 40, 4), 200, np.uint8)
        pixels[..., 3] = opaque * 255
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    audit = Audit("scenes")
    (sprite,) = read_emoji(tmp_path, audit)
    assert sprite.name == "large red circle"
    assert abs(signed_area(sprite.outline)) == pytest.approx(np.pi * 15**2, rel=0.02)
    assert audit.reasons == {"several parts": 1, "transparent": 1, "no name": 1}
    data = SceneData(num_items=6, val_size=2, size=32, emoji=str(tmp_path), least=2, most=2)
    data.prepare(progress=False)
    scene = data.train_set.maker("train", 0)
    assert "large red circle" in scene.phrase
    for outline in scene.outlines:
        inside = mask_of(outline * 32, 32, 32)
        # The sprite's alpha is laid over by boxes: its middle is opaque, and the outline ends where it is half so.
        assert np.abs(scene.picture[:, inside].mean() - 200) < 15


def test_a_folder_without_emoji_is_refused(tmp_path):
    with refused(DataError, "empty", "data.emoji"):
        SceneData(emoji=str(tmp_path)).prepare(progress=False)
    with refused(DataError, "missing"):
        SceneData(emoji=str(tmp_path / "none")).prepare(progress=False)

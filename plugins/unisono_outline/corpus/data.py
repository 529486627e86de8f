"""Data: made scenes with phrases and outlines, made when they are asked for; nothing is stored.

Batches: ``picture`` float32 [b, 3, s, s] in [−1, 1]; ``phrase``, a list of strings; ``outline`` float32 [b, n, 2], in
sides of the picture, clockwise from the top-most vertex, at equal distances; ``row`` int64 [b].
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from unisono.data import Audit, DataModule, collate_items, derive_seed, hold_out, words_of
from unisono.errors import DataError

from unisono_outline.corpus.emoji import Sprite, read_emoji
from unisono_outline.corpus.facts import OutlineFacts, check_sizes
from unisono_outline.corpus.grammar import ANY, PLACES
from unisono_outline.corpus.scenes import KINDS, RADII, SceneMaker
from unisono_outline.geometry import canonical, centre_of, resampled

STATISTICS = 512
"""Training items whose outlines the facts describe."""
NUM_SAMPLES = 8
SEEN, UNSEEN = "seen", "unseen"
"""Purposes of scenes beside ``train``: of the kinds that are trained on, and of the others."""


class SceneSet:
    """Items of scenes by their numbers."""

    def __init__(self, maker: SceneMaker, purpose: str, count: int, num_vertices: int):
        self.maker, self.purpose, self.count, self.num_vertices = maker, purpose, count, num_vertices

    def __len__(self) -> int:
        return self.count

    def size(self, index: int) -> int:
        return self.maker.size

    def item(self, index: int, generator: torch.Generator) -> dict[str, Any]:
        scene = self.maker(self.purpose, index, unseen=self.purpose == UNSEEN)
        return item_of(scene.picture, scene.phrase, scene.outline, self.num_vertices)


class SceneData(DataModule):
    """Scenes of ``corpus.scenes``.

    A share of the kinds, such as "red star", is shown in no training scene: validation asks for those, beside things of
    the other kinds. Emoji have no such kinds: theirs are validated on other scenes.

    Args:
        num_items: scenes to train on; each is made anew whenever it is seen, so that many cost nothing.
        val_size: scenes to validate on.
        size: pixels a side.
        num_vertices: of each outline.
        emoji: a folder of transparent images named by code points, as Noto's; empty takes coloured shapes.
        least, most: things in a scene, 2 to 6.
        unseen: share of the kinds of shapes that are kept for validation, in [0, 1).
        batch_size: items per step over all processes.
        num_workers: loading processes per rank.
    """

    def __init__(
        self,
        *,
        num_items: int = 100_000,
        val_size: int = 128,
        size: int = 64,
        num_vertices: int = 36,
        emoji: str = "",
        least: int = 2,
        most: int = 4,
        unseen: float = 0.15,
        batch_size: int = 32,
        num_workers: int = 0,
    ):
        super().__init__(batch_size, num_workers)
        check_sizes(size, num_vertices, "", "data.")
        limits: dict[str, tuple[float, float, float]] = {
            "num_items": (num_items, 1, 2**31),
            "val_size": (val_size, 0, 2**31),
            "least": (least, 2, most),
            "most": (most, least, 6),
        }
        for name, (value, low, high) in limits.items():
            if not low <= value <= high:
                message = f"data.{name}={value} must be from {low} to {high}"
                raise DataError(message, code="range", path=f"data.{name}", value=value)
        if not 0 <= unseen < 1:
            message = f"data.unseen={unseen} must be in [0, 1)"
            raise DataError(message, code="range", path="data.unseen", value=unseen)
        self.num_items, self.val_size, self.size, self.num_vertices = num_items, val_size, size, num_vertices
        self.emoji, self.least, self.most, self.unseen = emoji, least, most, unseen

    def prepare(self, progress: bool = True) -> Audit:
        audit = Audit("scenes")
        sprites = read_emoji(self.emoji, audit) if self.emoji else ()
        unseen = () if sprites else unseen_kinds(self.unseen)
        maker = SceneMaker(self.size, self.least, self.most, unseen, sprites)
        self.train_set = SceneSet(maker, "train", self.num_items, self.num_vertices)
        self.val_set = SceneSet(maker, UNSEEN if unseen else SEEN, self.val_size, self.num_vertices)
        audit.keep_many(self.num_items, group="to train on")
        if self.val_size:
            audit.keep_many(self.val_size, group="of unseen kinds" if unseen else "of other scenes")
        else:
            self.val_set = None
        self.facts = facts_of_items(
            [self.train_set.item(i, torch.Generator()) for i in range(min(self.num_items, STATISTICS))],
            words=words_of_scenes(sprites),
            unseen=unseen,
            count=self.num_items,
        )
        return self.finish(audit)

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        return collate_items(items)


def unseen_kinds(share: float) -> tuple[str, ...]:
    """Return the kinds of shapes that no training scene shows, chosen by their names alone; each colour and each
    shape is left in others."""
    wanted = round(share * len(KINDS))
    return tuple(sorted(hold_out(dict.fromkeys(KINDS, 1), wanted))) if wanted else ()


def words_of_scenes(sprites: Sequence[Sprite] = ()) -> tuple[str, ...]:
    """Return all words of phrases about scenes, sorted."""
    said = ["the", ANY, *RADII, *PLACES, *([sprite.name for sprite in sprites] or KINDS)]
    return tuple(sorted({word for text in said for word in words_of(text)}))


def item_of(picture: np.ndarray, phrase: str, outline: np.ndarray, num_vertices: int) -> dict[str, Any]:
    """Return the item of a picture uint8 [3, s, s], a phrase and an outline in sides."""
    vertices = resampled(canonical(outline), num_vertices)
    return {
        "picture": torch.from_numpy(picture).float() / 127.5 - 1,
        "phrase": phrase,
        "outline": torch.from_numpy(vertices).float(),
    }


def facts_of_items(items: Sequence[dict[str, Any]], words: Sequence[str], **known: Any) -> OutlineFacts:
    """Return the facts that training items tell."""
    outlines = np.stack([item["outline"].double().numpy() for item in items])
    apart = outlines - np.stack([centre_of(outline) for outline in outlines])[:, None]
    phrases = sorted({item["phrase"] for item in items}, key=lambda text: derive_seed("sample", text))
    return OutlineFacts(
        size=items[0]["picture"].shape[-1],
        num_vertices=outlines.shape[1],
        spread=max(float(np.sqrt(np.square(apart).mean())), 1e-6),
        mean_outline=tuple((float(x), float(y)) for x, y in outlines.mean(axis=0).round(6)),
        words=tuple(words),
        sample_phrases=tuple(phrases[:NUM_SAMPLES]),
        **known,
    )

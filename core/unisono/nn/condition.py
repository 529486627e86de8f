"""Condition: a class, a caption, both or neither, and how each becomes vectors.

Shapes: b batch, w tokens of a caption, d channels. Masks are True where kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from unisono.nn.captions import make_text_encoder

NO_LABEL = -1


@dataclass(frozen=True, kw_only=True)
class ConditionSizes:
    """What a model knows of time, class and caption.

    dim: channels of time and condition; 0 is the network's, as published.
    text_encoder: ``small``, trained with the model, or ``clip:`` and a folder or hub id of a CLIP text tower.
    text_layers, text_heads: of the small encoder.
    spell_share: the share of words that are spelled while training, so that letters are learnt.
    dropout: the share of items without label and caption, for guidance (published: 0.1).
    """

    dim: int = 0
    text_encoder: str = "small"
    text_layers: int = 2
    text_heads: int = 4
    spell_share: float = 0.1
    dropout: float = 0.1


@dataclass(frozen=True)
class Condition:
    """A batch's conditions: one ``vector`` [b, d] each, and ``words`` [b, w, d] with ``mask`` [b, w]; w may be 0."""

    vector: Float[Tensor, "b d"]
    words: Float[Tensor, "b w d"]
    mask: Bool[Tensor, "b w"]

    def rows(self, index: Int[Tensor, " n"]) -> "Condition":
        """Some rows, in any order."""
        return Condition(**{field.name: getattr(self, field.name)[index] for field in fields(self)})

    @staticmethod
    def join(first: "Condition", second: "Condition") -> "Condition":
        """The rows of both, captions padded to one length."""
        width = max(first.words.shape[1], second.words.shape[1])
        padded = [
            (
                nn.functional.pad(part.words, (0, 0, 0, width - part.words.shape[1])),
                nn.functional.pad(part.mask, (0, width - part.mask.shape[1])),
            )
            for part in (first, second)
        ]
        vector = torch.cat([first.vector, second.vector])
        return Condition(vector, torch.cat([p[0] for p in padded]), torch.cat([p[1] for p in padded]))


class Conditioner(nn.Module):
    """Classes by an embedding, captions by a text encoder; the vector is their sum.

    ::

        label ── embedding ───────────────┐
        caption ─ text encoder ─ sentence ┴(+)─ vector
                       └─ words

    A row that is to forget its condition, or has none, gets a learnt vector for no class, one for no caption, and no
    words: the unconditional model that guidance needs (Ho and Salimans, arXiv:2207.12598).

    Args:
        num_classes: 0 for a set without classes.
        words: those known as a whole; none for a set without captions.
        sizes: of the vectors and of the encoder of captions.
    """

    def __init__(self, num_classes: int, words: Sequence[str], sizes: ConditionSizes):
        super().__init__()
        dim = sizes.dim
        self.dim, self.num_classes = dim, num_classes
        self.labels = nn.Embedding(num_classes + 1, dim) if num_classes else None  # the last is no class
        self.text: Any = None
        if words:
            self.text = make_text_encoder(
                sizes.text_encoder, words, dim, sizes.text_layers, sizes.text_heads, dropout=0.0
            )
            self.no_caption = nn.Parameter(0.02 * torch.randn(dim))

    def forward(
        self,
        labels: Int[Tensor, " b"],
        captions: Sequence[str],
        forget: Bool[Tensor, " b"],
        spell_share: float = 0.0,
        seeds: Sequence[int] = (),
    ) -> Condition:
        """Return the conditions; a label of −1 or an empty caption is none. ``spell_share``: see ``unisono.nn``."""
        b, device = len(labels), labels.device
        vector = torch.zeros(b, self.dim, device=device)
        words, mask = vector.new_zeros(b, 0, self.dim), torch.zeros(b, 0, dtype=torch.bool, device=device)
        if self.labels is not None:
            vector = vector + self.labels(torch.where(forget | (labels == NO_LABEL), self.num_classes, labels))
        if self.text is not None:
            told = torch.tensor([bool(caption.strip()) for caption in captions], device=device) & ~forget
            words, mask, sentence = self.text.read(captions, spell_share, seeds)
            words, mask = words * told[:, None, None], mask & told[:, None]
            vector = vector + torch.where(told[:, None], sentence, self.no_caption.to(sentence.dtype))
        return Condition(vector, words, mask)

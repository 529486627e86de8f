"""Sketch: a text to a longer line, all at once: encode letters, say how long each lasts, decode frames.

The plan of FastSpeech (Ren et al., arXiv:1905.09263): a length regulator between two networks. Here each is one
convolution; `unisono.nn` has larger ones.

Shapes: b batch, s letters, t frames, d channels. Masks are True where a letter or frame is.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from unisono import Model
from unisono.duration import durations_from_log, log_durations, repeat
from unisono.errors import RecipeError, RequestError
from unisono.model import OnStep

from unisono_sketch.data import LetterFacts
from unisono_sketch.media import Line
from unisono_sketch.request import SketchRequest


class Sketch(Model):
    """::

        letters ─ embedding ─ conv ─┬─ log duration ─ round ─┐
                                    └─ hidden ───────────────┴─ repeat ─ conv ─ values

    Args:
        dim: channels.
        kernel_size: of both convolutions, in letters and in frames; odd.
    """

    Media: ClassVar[type[Line]] = Line
    Facts: ClassVar[type[LetterFacts]] = LetterFacts
    facts: LetterFacts
    Request: ClassVar[type[SketchRequest]] = SketchRequest
    deterministic: ClassVar[bool] = True  # nothing is drawn, so that a seed changes nothing

    def __init__(self, *, dim: int = 64, kernel_size: int = 5):
        super().__init__()
        if dim < 1:
            raise RecipeError(f"model.dim={dim} must be at least 1", code="range", path="model.dim", value=dim)
        if kernel_size < 1 or kernel_size % 2 == 0:
            message = f"model.kernel_size={kernel_size} must be odd and at least 1"
            raise RecipeError(message, code="value", path="model.kernel_size", value=kernel_size)
        self.dim, self.kernel_size = dim, kernel_size

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build for the letters of the texts."""
        super().build(facts)
        self.embedding = nn.Embedding(len(self.facts.letters), self.dim)
        self.encoder = nn.Conv1d(self.dim, self.dim, self.kernel_size, padding=self.kernel_size // 2)
        self.duration = nn.Linear(self.dim, 1)
        self.decoder = nn.Conv1d(self.dim, self.dim, self.kernel_size, padding=self.kernel_size // 2)
        self.out = nn.Linear(self.dim, 1)

    def encode(
        self, letters: Int[Tensor, "b s"], mask: Bool[Tensor, "b s"]
    ) -> tuple[Float[Tensor, "b s d"], Float[Tensor, "b s"]]:
        """Return a vector for each letter, and its log duration, as log(1 + frames)."""
        hidden = self.encoder((self.embedding(letters) * mask[..., None]).mT).mT.relu()
        return hidden, self.duration(hidden)[..., 0]

    def decode(self, frames: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b t"]:
        """Return the value of each frame."""
        return self.out(self.decoder((frames * mask[..., None]).mT).mT.relu())[..., 0]

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        mask = batch["durations"] > 0
        hidden, log_duration = self.encode(batch["letters"], mask)
        frames, alignment = repeat(hidden, batch["durations"])  # the true ones; the predicted ones are learnt beside
        error = (self.decode(frames, alignment.tgt_mask) - batch["values"]).square()
        value = self.global_mean(error, alignment.tgt_mask)
        duration = self.global_mean((log_duration - log_durations(batch["durations"])).square(), mask)
        return {"loss": value + duration, "value": value, "duration": duration}

    def units(self, batch: dict[str, Any]) -> dict[str, int]:
        return {"letters": int((batch["durations"] > 0).sum())}

    def synthesize(
        self,
        requests: Sequence[SketchRequest],
        generator: torch.Generator | None = None,
        on_step: OnStep | None = None,
    ) -> list[Line]:
        """Draw the line of each text."""
        rows = [torch.tensor([self.letter_number(letter) for letter in request.text]) for request in requests]
        lengths = torch.tensor([len(row) for row in rows], device=self.device)
        letters = nn.utils.rnn.pad_sequence(rows, batch_first=True).to(self.device)
        mask = torch.arange(letters.shape[1], device=self.device) < lengths[:, None]
        hidden, log_duration = self.encode(letters, mask)
        pace = torch.tensor([request.pace for request in requests], device=self.device)
        # Twice the longest of the data: an untrained model may say anything.
        durations = durations_from_log(log_duration, 2 * self.facts.max_duration)
        frames, alignment = repeat(hidden, durations, lengths, speed=pace, min_frames=1)
        values = self.decode(frames, alignment.tgt_mask).float().cpu().numpy()
        if on_step is not None:
            on_step(1, 1)
        made = zip(requests, values, alignment.durations.tolist(), lengths.tolist(), strict=True)
        return [Line(row[: sum(own)], request.text, tuple(own[:n])) for request, row, own, n in made]

    def letter_number(self, letter: str) -> int:
        """Return the number of a letter; raises ``RequestError`` for one that the data had not."""
        if letter not in self.facts.letters:
            message = f"text holds {letter!r}: use only {self.facts.letters!r}"
            raise RequestError(message, code="value", path="text", value=letter)
        return self.facts.letters.index(letter)

    # ---- what is tried: by previews in training, and by the conformance kit ------------------------

    def preview_requests(self) -> list[SketchRequest]:
        known = "".join(self.facts.letters[i] for i in (0, -1))
        return [self.Request(text=text) for text in (known, 4 * known)]

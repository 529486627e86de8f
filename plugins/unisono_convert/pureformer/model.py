"""Pureformer-VC: a recording taken apart into what is said and who speaks, and put together with another voice.

Yao et al., "Pureformer-VC" (arXiv:2409.01668; with AAM-softmax arXiv:2506.08348). Trained by reconstruction: no pairs,
no texts, no game.

As published: conformer blocks with instance normalisation and averages of two frames behind the convolution module,
whose code is a normal distribution; a speaker encoder of conformer blocks under a triplet loss and AAM-softmax; a
decoder of Zipformer blocks, attention weights shared, under Styleformer's attention style transfer; a frozen vocoder.

What the papers leave open, or is different here:

- ``factors``: 2 in each of four blocks is published, 16 in all. At 86 frames a second that leaves 5 codes a second,
  fewer than there are phones; the product is a parameter.
- Sizes, weights and schedules are ours. The divergence grows to its weight over ``ramp_steps``; ``free_nats`` are free.
- A frame takes the code of the cell that it was pooled into, so that any length comes out as it went in.
- Positive and negative of a triplet are drawn with the item: of speakers where they are named, of recordings else.
- The decoder is styled by the voice of ``style_of``: of the stretch itself as published, or of another recording of the
  speaker, which can tell nothing of what is said.
- ``told_pitch`` adds the contour of the pitch to the decoder, which the papers do not: without it the melody has to
  pass through the code.
- ``centre_share`` of the items are styled by their speaker's centre of AAM-softmax, so that a known voice is asked for
  by its name.

Shapes: b batch, t frames, m mel channels, s cells, z code, e voice, k speakers.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.duration import ramp
from unisono_sound.signal import pitch

from unisono_convert.converting import Converter
from unisono_convert.corpus.read import HIGHEST_HZ, LOWEST_HZ
from unisono_convert.pureformer.contour import contour_of
from unisono_convert.pureformer.decoder import Decoder, DecoderSizes
from unisono_convert.pureformer.encoders import Code, ContentEncoder, SpeakerEncoder, inside
from unisono_convert.pureformer.losses import angular_margin, free_divergence, triplet
from unisono_convert.pureformer.sizes import ContentSizes, Objective, SpeakerSizes

__all__ = ["Pureformer"]


class Pureformer(Converter):
    """Content, voice, and a decoder under the voice.

    ::

        mel ─ conformer × 4, normalised, / 16 ─ mean, variance ─ draw ─ each frame its cell's ─ Zipformer × n ─ mel
        mel of the voice ─ conformer × n ─ attentive statistics ─ length 1 ──────────── style ──┘

    Args:
        content, speaker, decoder: sizes.
        objective: weights of the losses.
        told_pitch: the decoder is told how the source's pitch moves.
    """

    salt: ClassVar[str] = "pureformer"

    def __init__(
        self,
        *,
        content: ContentSizes = ContentSizes(),  # noqa: B008
        speaker: SpeakerSizes = SpeakerSizes(),  # noqa: B008
        decoder: DecoderSizes = DecoderSizes(),  # noqa: B008
        objective: Objective = Objective(),  # noqa: B008
        told_pitch: bool = False,
    ):
        super().__init__()
        self.told_pitch = told_pitch
        self.content_sizes, self.speaker_sizes, self.decoder_sizes = content, speaker, decoder
        self.objective = objective
        self.factor = math.prod(content.factors)

    def build(self, facts: Mapping[str, Any]) -> None:
        super().build(facts)
        num_mels, code, voice = self.mel_spec.n_mels, self.content_sizes, self.speaker_sizes.voice_dim
        self.content = ContentEncoder(num_mels, code, code.factors, code.code_dim)
        self.speaker = SpeakerEncoder(num_mels, self.speaker_sizes, voice)
        self.decoder = Decoder(num_mels, self.decoder_sizes, code.code_dim, voice, self.told_pitch)
        known = len(self.facts.speakers)
        self.centres = nn.Parameter(torch.randn(known, voice)) if known and self.objective.speaker else None

    # ---- the network ---------------------------------------------------------------------------

    def decode(
        self,
        code: Float[Tensor, "b s z"],
        mask: Bool[Tensor, "b t"],
        voice: Float[Tensor, "b e"],
        hertz: Float[Tensor, "b t"] | None,
    ) -> Float[Tensor, "b t m"]:
        """Return the standardised mel of a code in a voice, a vector of length 1; ``hertz`` is that of the source, 0
        where unvoiced, where the decoder is told of it."""
        contour = None if hertz is None else contour_of(hertz, mask)
        return self.decoder(code, self.factor, mask, voice * math.sqrt(voice.shape[1]), contour)

    def unit_centres(self) -> Float[Tensor, "k e"]:
        """Return where each speaker's voice lies, where voices have names."""
        assert self.centres is not None
        return F.normalize(self.centres.float(), dim=-1)

    @property
    def named(self) -> tuple[str, ...]:
        """The speakers, where AAM-softmax learnt where each of them lies."""
        return self.facts.speakers if self.centres is not None else ()

    def voice_named(self, speaker: int, generator: torch.Generator) -> Float[Tensor, "1 e"]:
        return self.unit_centres()[speaker : speaker + 1]

    def voice_heard(self, mel: Float[Tensor, "1 t m"]) -> Float[Tensor, "1 e"]:
        return self.speaker(mel, _everywhere(mel))

    def convert(
        self, mel: Float[Tensor, "1 t m"], voice: Float[Tensor, "1 e"], wave: Float[Tensor, "n"]
    ) -> Float[Tensor, "1 t m"]:
        mask = _everywhere(mel)
        hertz = pitch(wave, self.mel_spec, LOWEST_HZ, HIGHEST_HZ)[None].to(mel) if self.told_pitch else None
        return self.decode(self.content(mel, mask).mean, mask, voice, hertz)

    # ---- training ------------------------------------------------------------------------------

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        own = self.objective
        mel = self.standardised(batch["mel"])
        mask = inside(batch["mel_lengths"], mel.shape[1])
        seeds = self.row_seeds(batch)
        code = self.content(mel, mask)
        itself, same, other = self._voices(batch)
        style = itself if own.style_of == "itself" else same
        if self.centres is not None and own.centre_share:
            by_name = torch.tensor([_draw(seed) < own.centre_share for seed in seeds], device=mel.device)
            style = torch.where(by_name[:, None], self.unit_centres()[batch["speaker"]], style)
        made = self.decode(
            code.drawn(self._noise(code, seeds)), mask, style, batch["pitch"] if self.told_pitch else None
        )
        divergence = free_divergence(code.divergence(), own.free_nats)
        strength = ramp(self.global_step, 0, own.ramp_steps) if own.ramp_steps and self.training else 1.0
        everyone = torch.ones_like(batch["speaker"], dtype=torch.bool)
        parts = {
            "mel": own.mel * self.global_mean((made - mel).abs(), mask),
            "divergence": own.divergence * strength * self.global_mean(divergence, code.mask),
            "triplet": own.triplet * self.global_mean(triplet(itself, same, other, own.triplet_margin), everyone),
        }
        told: dict[str, Tensor] = {}
        if self.centres is not None:
            cosines = same @ self.unit_centres().mT
            lost = angular_margin(cosines, batch["speaker"], own.margin, own.scale)
            parts["speaker"] = own.speaker * self.global_mean(lost, everyone)
            right = (cosines.argmax(1) == batch["speaker"]).float()
            told["speaker_accuracy"] = self.global_mean(right, everyone).detach()
        return {**parts, "loss": torch.stack(list(parts.values())).sum(), **told}

    def _voices(self, batch: dict[str, Any]) -> list[Float[Tensor, "b e"]]:
        """Return the voices of the items themselves, of the same speakers and of others; one pass for all."""
        names = ("mel", "same", "other")
        longest = max(batch[name].shape[1] for name in names)
        mels = torch.cat([F.pad(batch[name], (0, 0, 0, longest - batch[name].shape[1])) for name in names])
        lengths = torch.cat([batch[f"{name}_lengths"] for name in names])
        found = self.speaker(self.standardised(mels), inside(lengths, longest))
        return list(found.split(len(batch["mel"])))

    def _noise(self, code: Code, seeds: list[int]) -> Float[Tensor, "b s z"]:
        """Return normal noise, each item's its own and of its own length, so that it does not depend on its batch."""
        noise = torch.zeros_like(code.mean)
        for row, seed, cells in zip(noise, seeds, code.mask.sum(1).tolist(), strict=True):
            row[:cells] = torch.randn(cells, row.shape[1], generator=torch.Generator().manual_seed(seed)).to(row)
        return noise

    def units(self, batch: dict[str, Any]) -> dict[str, int]:
        return {"frames": int(batch["mel_lengths"].sum())}


def _everywhere(mel: Float[Tensor, "b t m"]) -> Bool[Tensor, "b t"]:
    return torch.ones(mel.shape[:2], dtype=torch.bool, device=mel.device)


def _draw(seed: int) -> float:
    """Return a number in [0, 1) of a seed, another than its noise begins with."""
    return float(torch.rand(2, generator=torch.Generator().manual_seed(seed))[1])

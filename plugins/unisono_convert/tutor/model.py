"""Tutor: hears the pitch and the letters of a mel; frozen, it tells StarGANv2-VC which of both must stay.

The paper takes two networks of others for this, one of pitch (JDC) and one of phonemes. Here they are one model of two
trunks, trained by this plugin from the corpus alone: pitch from what SwiftF0 measures of the recordings, letters from
their texts by CTC (Graves et al., ICML 2006). It is trained on recordings whose spectra are tilted at random, so that
microphones and voices tell less.

Shapes: b batch, t frames, m mel channels, d channels, l letters with the blank.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F
from unisono import Audio, Model
from unisono.errors import RequestError
from unisono.media import Curve
from unisono.model import OnStep
from unisono_sound.corpus import level
from unisono_sound.precision import check_precision
from unisono_sound.signal import LogMel, resample

from unisono_convert.corpus.facts import ConversionFacts
from unisono_convert.corpus.read import spelled
from unisono_convert.prompts import buzz
from unisono_convert.sound import source_of
from unisono_convert.tutor.networks import Heard, Trunk
from unisono_convert.tutor.request import TutorRequest

__all__ = ["Tutor", "untrained"]

SECONDS = (0.1, 60.0)
"""How short and how long a recording may be."""
FALLBACK = (5.0, 0.3)
"""Mean and deviation of log hertz where no speaker's are known."""


class Tutor(Model):
    """Two trunks over the mel: one for pitch and voicing, one for letters.

    Args:
        dim, num_blocks: of each trunk.
        colour_share: of the training items, how many are heard through another transfer function: a random straight
            line over the mel channels is added to the log mel.
    """

    Request: ClassVar[type[TutorRequest]] = TutorRequest
    Media: ClassVar[type[Audio]] = Audio
    Facts: ClassVar[type[ConversionFacts]] = ConversionFacts
    facts: ConversionFacts
    text_field: ClassVar[str] = "audio"
    salt: ClassVar[str] = "tutor"
    deterministic: ClassVar[bool] = True
    mel_mean: Tensor
    mel_std: Tensor

    def __init__(self, *, dim: int = 96, num_blocks: int = 4, colour_share: float = 0.5):
        super().__init__()
        self.dim, self.num_blocks, self.colour_share = dim, num_blocks, colour_share

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build for the mel statistics, the pitches and the letters of the corpus."""
        super().build(facts)
        self.mel_spec, self.letters = self.facts.mel_spec, list(self.facts.letters)
        self.log_mel = LogMel(self.mel_spec)
        self.register_buffer("mel_mean", torch.tensor(self.facts.mel.mean), persistent=False)
        self.register_buffer("mel_std", torch.tensor(self.facts.mel.std).clamp(min=1e-3), persistent=False)
        known = list(self.facts.pitch.values())
        self.centre = float(np.mean([one.mean for one in known])) if known else FALLBACK[0]
        self.spread = float(np.std([one.mean for one in known]) + np.mean([one.std for one in known])) if known else 0.3
        self.pitch_trunk = Trunk(self.mel_spec.n_mels, self.dim, self.num_blocks)
        self.to_pitch = nn.Linear(self.dim, 2)
        self.letter_trunk = Trunk(self.mel_spec.n_mels, self.dim, self.num_blocks) if self.letters else None
        self.to_letters = nn.Linear(self.dim, len(self.letters) + 1) if self.letters else None

    # ---- the network ---------------------------------------------------------------------------

    def listen(self, mel: Float[Tensor, "b t m"], mask: Bool[Tensor, "b t"]) -> Heard:
        """Hear log mels. ``hertz`` fades to 0 where there is no voice, so that it has a gradient everywhere."""
        x = (mel - self.mel_mean) / self.mel_std
        pitch = self.pitch_trunk(x, mask)
        place, voiced = self.to_pitch(pitch).unbind(-1)
        hertz = (self.centre + self.spread * place.clamp(-6, 6)).exp() * voiced.sigmoid() * mask
        if self.letter_trunk is None or self.to_letters is None:
            return Heard(hertz, voiced, pitch, None, None)
        letters = self.letter_trunk(x, mask)
        return Heard(hertz, voiced, pitch, self.to_letters(letters), letters)

    # ---- training ------------------------------------------------------------------------------

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        mel, hertz = batch["mel"], batch["pitch"]
        if self.training and self.colour_share:
            mel = mel + self._colour(self.row_seeds(batch), mel)
        mask = torch.arange(mel.shape[1], device=mel.device) < batch["mel_lengths"][:, None]
        pitch = self.to_pitch(self.pitch_trunk((mel - self.mel_mean) / self.mel_std, mask))
        voiced = (hertz > 0) & mask
        place = (hertz.clamp(min=1).log() - self.centre) / self.spread
        heard = F.binary_cross_entropy_with_logits(pitch[..., 1], voiced.float(), reduction="none")
        parts = {
            "voicing": self.global_mean(heard, mask),
            "pitch": self.global_mean((pitch[..., 0] - place).abs(), voiced),
        }
        if self.letters:
            parts["letters"] = self._letters(batch, mel, mask)
        parts["loss"] = torch.stack(list(parts.values())).sum()
        return parts

    def _letters(self, batch: dict[str, Any], mel: Tensor, mask: Bool[Tensor, "b t"]) -> Tensor:
        """CTC of whole recordings that have a text, in nats a letter."""
        assert self.letter_trunk is not None and self.to_letters is not None
        numbers = {letter: number for number, letter in enumerate(self.letters, 1)}
        read = [[numbers[letter] for letter in spelled(text) if letter in numbers] for text in batch["text"]]
        counts = torch.tensor([len(row) for row in read], device=mel.device)
        targets = torch.zeros(len(read), max(1, int(counts.max())), dtype=torch.int64)
        for row, ids in enumerate(read):
            targets[row, : len(ids)] = torch.tensor(ids, dtype=torch.int64)
        named = self.to_letters(self.letter_trunk((mel - self.mel_mean) / self.mel_std, mask)).log_softmax(-1)
        lost = F.ctc_loss(
            named.transpose(0, 1), targets.to(mel.device), batch["mel_lengths"], counts, reduction="none",
            zero_infinity=True,
        )  # fmt: skip
        told = (counts > 0) & batch["whole"].bool()
        return self.global_mean(lost / counts.clamp(min=1), told)

    def _colour(self, seeds: Sequence[int], mel: Float[Tensor, "b t m"]) -> Float[Tensor, "b 1 m"]:
        """Return a straight line over the mel channels for each item, 0 for those that are heard as they are."""
        lines = []
        for seed in seeds:
            share, offset, slope = torch.rand(3, generator=torch.Generator().manual_seed(seed)).tolist()
            line = 2 * (offset - 0.5) + 4 * (slope - 0.5) * torch.linspace(-0.5, 0.5, mel.shape[2])
            lines.append(line if share < self.colour_share else torch.zeros_like(line))
        return torch.stack(lines)[:, None].to(mel)

    def units(self, batch: dict[str, Any]) -> dict[str, int]:
        return {"frames": int(batch["mel_lengths"].sum())}

    # ---- listening -----------------------------------------------------------------------------

    def synthesize(
        self, requests: Sequence[Any], generator: torch.Generator | None = None, on_step: OnStep | None = None
    ) -> list[Audio]:
        """Return each recording at the tutor's rate, with its pitch as a curve and the letters heard as its text."""
        check_precision(self)
        result = []
        for done, request in enumerate(requests, 1):
            result.append(self._hear(request))
            if on_step is not None:
                on_step(done, len(requests))
        return result

    def _hear(self, request: Any) -> Audio:
        rate, hop = self.mel_spec.sample_rate, self.mel_spec.hop_length
        source = source_of(request.audio, request.samples, request.sample_rate or rate, "audio")
        shortest, longest = SECONDS
        held, count = [], 0
        for block in source.blocks():
            held.append(block)
            count += len(block)
            if count > longest * source.rate:
                message = f"the recording is longer than {longest:g} s: give a shorter one"
                raise RequestError(message, code="limit", path="audio", value=longest)
        if count < shortest * source.rate:
            message = f"{count / source.rate:.3f} s are too short: {shortest:g} s are the least that can be heard"
            raise RequestError(message, code="range", path="audio", value=count / source.rate)
        wave = resample(torch.from_numpy(np.concatenate(held)), source.rate, rate)
        loud = level(wave, rate, self.facts.loudness_dbfs) if float(wave.abs().max()) else wave
        mel = self.log_mel(F.pad(loud, (0, max(0, self.mel_spec.n_fft - len(loud))))[None].to(self.device))
        mel = mel[:, : max(1, len(wave) // hop)]
        heard = self.listen(mel, torch.ones(mel.shape[:2], dtype=torch.bool, device=mel.device))
        place, voiced = self.to_pitch(heard.pitch_features)[0].float().cpu().unbind(-1)
        hertz = torch.where(voiced > 0, (self.centre + self.spread * place).exp(), torch.nan).numpy()
        times = (np.arange(len(hertz)) + 0.5) * hop / rate
        text = "" if heard.letters is None else self._read(heard.letters[0])
        return Audio(wave[None].numpy(), rate, curves={"pitch": Curve(times, hertz, "Hz")}, text=text)

    def _read(self, letters: Float[Tensor, "t l"]) -> str:
        """The likeliest label of each frame, repetitions and blanks left out."""
        labels = letters.argmax(-1).unique_consecutive().tolist()
        return "".join(self.letters[label - 1] for label in labels if label)

    def preview_requests(self) -> list[Any]:
        """Two buzzes, of 110 and 220 hertz."""
        return [self.Request(samples=buzz(hertz, self.mel_spec.sample_rate)) for hertz in (110.0, 220.0)]

    def check_requests(self) -> list[Any]:
        """The two buzzes, a shorter one, one of another rate, two channels, and silence."""
        first, second = (request.samples for request in self.preview_requests())
        others: list[dict[str, Any]] = [
            {"samples": first[: len(first) * 2 // 3]},
            {"samples": first, "sample_rate": 22050},
            {"samples": [first, second]},
            {"samples": [0.0] * len(first)},
        ]
        return [*self.preview_requests(), *(self.Request(**fields) for fields in others)]


def untrained(facts: Mapping[str, Any]) -> Tutor:
    """A small tutor of random weights, for tests and tiny recipes; the weights are a function of the facts."""
    tutor = Tutor(dim=8, num_blocks=1)
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(0)
        tutor.build(facts)
    return tutor.eval()

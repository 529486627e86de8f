"""A listener for the digits: who speaks, which word it is, and how near two voices are.

It measures models that speak digits in a given voice; what it says is as good as its own errors on real recordings,
which ``unisono evaluate`` states beside it. Trained on a few speakers, it is no general speaker embedding: *it knows
its own speakers' voices and microphones*, and its similarities compare systems on those.

::

    log mel [b, t, m] ─ standardise ─ conv 5 ─ LayerNorm ─ ConvNeXt × num_blocks ─ h [b, t, d]
    h ─ attentive statistics ─ Linear ─ length 1 ─ cosine to each speaker's centre ─ AAM-softmax
    h ─ attentive statistics ─ Linear ─ word

Pooling is attentive statistics (Okabe et al., arXiv:1803.10963); the speakers' loss is the additive angular margin of
ArcFace (Deng et al., arXiv:1801.07698): log-softmax of s·cos(θ + m) for the true speaker, s·cos θ for the others. What
differs: the trunk, and that words are learnt beside speakers from the same recordings.

Shapes: b batch, t mel frames, m mel bins, d channels, e dimensions of the embedding, n samples, k recordings.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F
from unisono import Media, Model, Request
from unisono.errors import DataError, RecipeError, RequestError
from unisono.model import OnStep
from unisono.nn.convnext import ConvNeXtBlock
from unisono.nn.pooling import AttentiveStatistics
from unisono.recipe import data_of
from unisono.request import FILE
from unisono_sound.corpus import SoundOptions, level, trim
from unisono_sound.precision import check_precision
from unisono_sound.signal import LogMel, read_audio, resample

from unisono_codec.voices.facts import WordFacts


@dataclass(frozen=True, eq=False)
class Heard(Media):
    """What was heard: ``vector`` [e] of length 1, and how likely each speaker and each word is."""

    vector: np.ndarray
    speakers: dict[str, float]
    words: dict[str, float]

    suffixes: ClassVar[tuple[str, ...]] = (".json",)

    @property
    def speaker(self) -> str:
        """The likeliest speaker."""
        return max(self.speakers, key=self.speakers.__getitem__)

    @property
    def word(self) -> str:
        """The likeliest word."""
        return max(self.words, key=self.words.__getitem__)

    def similarity(self, other: "Heard") -> float:
        """Return the cosine between two voices: 1 the same, 0 unrelated."""
        return float(self.vector @ other.vector)

    def _write(self, path: Path) -> None:
        content = {"vector": self.vector.tolist(), "speakers": self.speakers, "words": self.words}
        path.write_text(json.dumps(content) + "\n", encoding="utf-8")

    def plot(self):
        """Draw how likely each speaker and each word is, as bars."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 2.5), layout="constrained")
        for axes, chances in zip(figure.subplots(1, 2), (self.speakers, self.words), strict=True):
            axes.bar(list(chances), list(chances.values()))
            axes.tick_params(axis="x", rotation=60)
        return figure


class Listener(Model):
    """Embeds voices and recognises words.

    Args:
        dim: channels of the trunk.
        num_blocks: ConvNeXt blocks.
        space_dim: dimensions of a voice's vector.
        dropout: before both heads.
        margin: the angle m by which a true speaker must win, in radians.
        scale: s, what cosines are multiplied with.
        gain_share: of the training items, how many are heard through another transfer function: a random straight
            line over the mel bins is added to the log mel, so that microphones tell less.
    """

    Media: ClassVar[type[Heard]] = Heard
    Facts: ClassVar[type[WordFacts]] = WordFacts
    facts: WordFacts
    text_field: ClassVar[str] = "audio"
    salt: ClassVar[str] = "listener"
    deterministic: ClassVar[bool] = True

    class Request(Request):
        """A recording to listen to: a file, or samples."""

        audio: str | None = Field(default=None, description="path of a recording of one word", json_schema_extra=FILE)
        samples: Annotated[
            list[float] | None,
            BeforeValidator(lambda x: x.tolist() if hasattr(x, "tolist") else x),
        ] = Field(default=None, description="samples of one word, at the listener's rate, from -1 to 1")

        @model_validator(mode="after")
        def _one_source(self):
            if (self.audio is None) == (self.samples is None):
                raise ValueError("give either audio, a path, or samples, a list of numbers")
            return self

    def __init__(
        self,
        *,
        dim: int = 96,
        num_blocks: int = 4,
        space_dim: int = 32,
        dropout: float = 0.1,
        margin: float = 0.2,
        scale: float = 15.0,
        gain_share: float = 0.5,
    ):
        super().__init__()
        if not 0 <= margin < math.pi / 2:
            message = f"model.margin={margin} must be from 0 to below {math.pi / 2:.2f}, a right angle"
            raise RecipeError(message, code="range", path="model.margin", value=margin)
        if not 0 <= gain_share <= 1:
            message = f"model.gain_share={gain_share} must be from 0 to 1"
            raise RecipeError(message, code="range", path="model.gain_share", value=gain_share)
        self.dim, self.num_blocks, self.space_dim = dim, num_blocks, space_dim
        self.margin, self.scale, self.gain_share = margin, scale, gain_share
        self.dropout = nn.Dropout(dropout)

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build for the speakers, words and mels of the data."""
        super().build(facts)
        self.speakers, self.words = list(self.facts.speakers), list(self.facts.words)
        self.mel_spec = self.facts.mel_spec
        self.log_mel = LogMel(self.mel_spec)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(self.facts.mel_bin_mean), persistent=False)
        self.register_buffer("std", torch.tensor(self.facts.mel_bin_std).clamp(min=1e-3), persistent=False)
        self.embed = nn.Conv1d(self.mel_spec.n_mels, self.dim, 5, padding=2)
        self.norm = nn.LayerNorm(self.dim)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(self.dim, 2 * self.dim, layer_scale=1 / self.num_blocks) for _ in range(self.num_blocks)
        )
        self.voice_pool, self.word_pool = AttentiveStatistics(self.dim), AttentiveStatistics(self.dim)
        self.voice_out = nn.Linear(2 * self.dim, self.space_dim)
        self.word_out = nn.Linear(2 * self.dim, len(self.words))
        self.centres = nn.Parameter(torch.randn(len(self.speakers), self.space_dim))

    # ---- the network ---------------------------------------------------------------------------

    def trunk(self, mel: Float[Tensor, "b t m"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b t d"]:
        """Return what is heard in each frame."""
        x = (mel - self.mean) / self.std * mask[..., None]
        x = self.norm(self.embed(x.mT).mT)
        for block in self.blocks:
            x = block(x, mask)
        return x

    def listen(
        self, mel: Float[Tensor, "b t m"], lengths: Int[Tensor, " b"]
    ) -> tuple[Float[Tensor, "b e"], Float[Tensor, "b w"]]:
        """Return the voices' vectors, of length 1, and the words' logits."""
        mask = torch.arange(mel.shape[1], device=mel.device) < lengths[:, None]
        x = self.trunk(mel, mask)
        voice = self.voice_out(self.dropout(self.voice_pool(x, mask)))
        return F.normalize(voice.float(), dim=-1), self.word_out(self.dropout(self.word_pool(x, mask))).float()

    def cosines(self, vectors: Float[Tensor, "b e"]) -> Float[Tensor, "b k"]:
        """Return the cosine of each vector to each speaker's centre."""
        return vectors @ F.normalize(self.centres.float(), dim=-1).mT

    # ---- training ------------------------------------------------------------------------------

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        mel = batch["mel"]
        if self.training and self.gain_share:
            mel = mel + self._colour(self.row_seeds(batch), mel)
        vectors, words = self.listen(mel, batch["lengths"])
        cosine, speaker, word = self.cosines(vectors), batch["speaker"], batch["word"]
        true = F.one_hot(speaker, len(self.speakers)).bool()
        angle = cosine.clamp(-1 + 1e-6, 1 - 1e-6).acos() + self.margin * true
        voice_loss = F.cross_entropy(self.scale * angle.clamp(max=math.pi).cos(), speaker, reduction="none")
        word_loss = F.cross_entropy(words, word, reduction="none")
        everyone = torch.ones_like(speaker, dtype=torch.bool)
        parts = {"voice": self.global_mean(voice_loss, everyone), "word": self.global_mean(word_loss, everyone)}
        parts["loss"] = parts["voice"] + parts["word"]
        for name, found, wanted in (("voice", cosine, speaker), ("word", words, word)):
            right = (found.argmax(1) == wanted).float()
            parts[f"{name}_accuracy"] = self.global_mean(right, everyone).detach()
        return parts

    def _colour(self, seeds: Sequence[int], mel: Float[Tensor, "b t m"]) -> Float[Tensor, "b 1 m"]:
        """Return a straight line over the mel bins for each item, 0 for those that are heard as they are."""
        lines = []
        for seed in seeds:
            generator = torch.Generator().manual_seed(seed)
            share, offset, slope = torch.rand(3, generator=generator).tolist()
            line = 2 * (offset - 0.5) + 4 * (slope - 0.5) * torch.linspace(-0.5, 0.5, mel.shape[2])
            lines.append(line if share < self.gain_share else torch.zeros_like(line))
        return torch.stack(lines)[:, None].to(mel)

    def units(self, batch: dict[str, Any]) -> dict[str, int]:
        return {"frames": int(batch["lengths"].sum())}

    # ---- listening -----------------------------------------------------------------------------

    @torch.no_grad()
    def hear(self, waves: Sequence[Float[Tensor, " n"]], sample_rate: int) -> list[Heard]:
        """Listen to recordings of single words, of any rate, brought to the level and silence of the training data.

        Raises ``RequestError`` for one that is too short, silent, or not finite.
        """
        check_precision(self)
        result = []
        for wave in waves:
            mel = self._mel(wave.detach().cpu().float(), sample_rate).to(self.device)
            vectors, words = self.listen(mel[None], torch.tensor([len(mel)], device=self.device))
            voices = (self.scale * self.cosines(vectors)[0]).softmax(-1).tolist()
            result.append(
                Heard(
                    vectors[0].cpu().numpy(),
                    dict(zip(self.speakers, voices, strict=True)),
                    dict(zip(self.words, words[0].softmax(-1).tolist(), strict=True)),
                )
            )
        return result

    def _mel(self, wave: Float[Tensor, " n"], sample_rate: int) -> Float[Tensor, "t m"]:
        if not bool(wave.isfinite().all()):
            raise RequestError(
                "the waveform holds NaN or infinite samples: repair it first", code="value", path="samples"
            )
        rate = self.mel_spec.sample_rate
        wave = resample(wave, sample_rate, rate)
        if len(wave) < self.mel_spec.n_fft:
            message = f"{len(wave) / rate:.3f} s are too short: a word takes {self.mel_spec.n_fft / rate:g} s"
            raise RequestError(message, code="range", path="samples", value=len(wave))
        if not float(wave.abs().max()) > 0:
            raise RequestError("the recording is silent: there is nothing to hear", code="empty", path="samples")
        sound = SoundOptions(**data_of(self.recipe).get("sound", {}))
        wave, _ = trim(wave, rate, sound.trim_db, sound.pad_seconds)
        wave = level(wave, rate, sound.loudness_dbfs)
        return self.log_mel(F.pad(wave, (0, max(0, self.mel_spec.n_fft - len(wave))))[None])[0]

    def synthesize(
        self,
        requests: Sequence["Listener.Request"],
        generator: torch.Generator | None = None,
        on_step: OnStep | None = None,
    ) -> list[Heard]:
        """Return what is heard in each recording. Deterministic."""
        result = []
        for done, request in enumerate(requests, 1):
            if request.audio is not None:
                try:
                    wave, rate = read_audio(request.audio, self.mel_spec.sample_rate)
                except DataError as error:
                    raise RequestError(str(error), code=error.code, path="audio", value=request.audio) from None
            else:
                wave, rate = torch.tensor(request.samples), self.mel_spec.sample_rate
            result += self.hear([wave], rate)
            if on_step is not None:
                on_step(done, len(requests))
        return result

    def preview_requests(self) -> list["Listener.Request"]:
        """Two buzzes, which are nobody: what is shown is that they are told apart."""
        seconds = torch.arange(self.mel_spec.sample_rate // 2) / self.mel_spec.sample_rate
        return [
            self.Request(samples=(sum(harmonics, torch.zeros_like(seconds)) * 0.1).tolist())
            for harmonics in (
                [torch.sin(2 * math.pi * hertz * k * seconds) / k for k in range(1, 9)] for hertz in (110.0, 220.0)
            )
        ]

    def check_requests(self) -> list["Listener.Request"]:
        """The two buzzes, and a shorter one."""
        first, second = self.preview_requests()
        assert first.samples is not None  # it is a buzz
        return [first, second, self.Request(samples=first.samples[: len(first.samples) * 2 // 3])]


def equal_error_rate(same: Sequence[float], different: Sequence[float]) -> float:
    """Return the rate at which as many pairs of one voice are refused as pairs of two voices are accepted.

    A pair is accepted at a similarity of at least the threshold. Between two thresholds both rates are taken to change
    linearly. Raises ``DataError`` where one kind of pair is missing.
    """
    if not len(same) or not len(different):
        message = f"{len(same)} pairs of one voice and {len(different)} of two: at least one of each is needed"
        raise DataError(message, code="empty", path="different" if len(same) else "same")
    true, false = np.sort(np.asarray(same, np.float64)), np.sort(np.asarray(different, np.float64))
    thresholds = np.concatenate([np.unique(np.concatenate([true, false])), [np.inf]])
    refused = np.searchsorted(true, thresholds, "left") / len(true)
    accepted = 1 - np.searchsorted(false, thresholds, "left") / len(false)
    ahead = refused - accepted  # from −1 up to 1
    at = int(np.argmax(ahead >= 0))
    if at == 0:
        return float(refused[0])
    step = -ahead[at - 1] / (ahead[at] - ahead[at - 1])
    return float(refused[at - 1] + step * (refused[at] - refused[at - 1]))

"""CTC: an encoder whose every step names a unit or the blank (Graves et al., ICML 2006).

Shapes: b batch, n samples of a recording, t mel frames, m mel channels, s steps of 40 ms, v units with the blank,
u units of a transcript, d channels.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.errors import RequestError
from unisono_sound.corpus import level
from unisono_sound.encoder import Adapt, Features, FeatureSpec, check_layer
from unisono_sound.signal import LogMel, resample

from unisono_asr.hearing import Hearing
from unisono_asr.items import FRAMES_PER_STEP
from unisono_asr.models.posteriors import Hypothesis, Posteriors
from unisono_asr.networks.augment import SpecAugment
from unisono_asr.networks.branchformer import EncoderSizes
from unisono_asr.networks.ctc import Path, ctc_loss, distance, greedy
from unisono_asr.networks.encoder import Encoder, EncoderStream


class CTC(Hearing):
    """An encoder and a linear layer.

    ::

        wave ─ level ─ log mel ─ standardise ─ conv2d / 4 ─ (E-)Branchformer × num_blocks ─ Linear ─ log-softmax

    Args:
        encoder: its sizes.
        augment: SpecAugment on training recordings.
    """

    salt: ClassVar[str] = "asr"
    source_facts: ClassVar[tuple[str, ...]] = ("units", "mel_spec")
    mel_mean: Tensor
    mel_std: Tensor

    def __init__(
        self,
        *,
        encoder: EncoderSizes = EncoderSizes(),  # noqa: B008
        augment: SpecAugment = SpecAugment(),  # noqa: B008
    ):
        super().__init__()
        self.encoder_sizes, self.augment = encoder, augment

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build for the units and mel statistics of the corpus."""
        super().build(facts)
        spec = self.facts.mel_spec
        self.log_mel = LogMel(spec)
        mean = self.facts.mel_bin_mean or (self.facts.mel_mean,) * spec.n_mels
        std = self.facts.mel_bin_std or (self.facts.mel_std,) * spec.n_mels
        self.register_buffer("mel_mean", torch.tensor(mean), persistent=False)
        self.register_buffer("mel_std", torch.tensor(std).clamp(min=1e-3), persistent=False)
        self.encoder = Encoder(spec.n_mels, self.encoder_sizes)
        self.to_units = nn.Linear(self.encoder_sizes.dim, len(self.facts.units))

    # ---- the network ---------------------------------------------------------------------------

    def standardised(self, mel: Float[Tensor, "b t m"]) -> Float[Tensor, "b t m"]:
        """Return log mels with mean 0 and deviation 1 over the training data, by channel."""
        return (mel - self.mel_mean) / self.mel_std

    @property
    def hop_seconds(self) -> float:
        """From one step to the next."""
        return self.facts.mel_spec.seconds(FRAMES_PER_STEP)

    def heard(self, mel: Float[Tensor, "b t m"], lengths: Int[Tensor, " b"]) -> Posteriors:
        """Hear standardised mels."""
        memory, steps = self.encoder(mel, lengths)
        return Posteriors(self.to_units(memory).float().log_softmax(-1), memory, steps, self.hop_seconds)

    # ---- training ------------------------------------------------------------------------------

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Return CTC's loss per unit; in validation also how many units are misread (``error``), and how far their
        number is off (``count_error``), both as shares of the true number."""
        heard = self.heard_in(batch)
        parts = {"loss": self.ctc(heard, batch)}
        return parts if self.training else parts | self.errors(greedy_hypotheses(heard), batch)

    def heard_in(self, batch: dict[str, Any]) -> Posteriors:
        """Hear a batch, in training through SpecAugment."""
        mel = self.standardised(batch["mel"])
        if self.training:
            mel = self.augment(mel, batch["mel_lengths"], self.row_seeds(batch))
        return self.heard(mel, batch["mel_lengths"])

    def ctc(self, heard: Posteriors, batch: dict[str, Any]) -> Float[Tensor, ""]:
        """Return CTC's loss, per unit of all transcripts."""
        loss = ctc_loss(heard.log_probs, heard.lengths, batch["targets"], batch["target_lengths"])
        return self.per_unit(loss, batch)

    def per_unit(self, values: Float[Tensor, " b"], batch: dict[str, Any]) -> Float[Tensor, ""]:
        """Return the sum of recordings' values by the number of all their units, over all ranks."""
        lengths = batch["target_lengths"]
        mask = torch.arange(batch["targets"].shape[1], device=lengths.device) < lengths[:, None]
        return self.global_mean((values / lengths.clamp(min=1))[:, None].expand(mask.shape), mask)

    def errors(self, read: Sequence[Hypothesis], batch: dict[str, Any], prefix: str = "") -> dict[str, Tensor]:
        """Return the units' error rate and the error of their number, of what the inference path reads."""
        wrong, off = [], []
        for one, row, count in zip(read, batch["targets"].tolist(), batch["target_lengths"].tolist(), strict=True):
            wrong.append(distance(one.tokens, row[:count]))
            off.append(abs(len(one.tokens) - count))
        device = batch["target_lengths"].device
        found = {"error": wrong, "count_error": off}
        return {
            prefix + name: self.per_unit(torch.tensor(values, dtype=torch.float32, device=device), batch)
            for name, values in found.items()
        }

    def units(self, batch: dict[str, Any]) -> dict[str, int]:
        return {"frames": int(batch["mel_lengths"].sum())}

    # ---- listening -----------------------------------------------------------------------------

    @torch.no_grad()
    def posteriors(self, waves: Sequence[Float[Tensor, " n"]], sample_rate: int) -> Posteriors:
        """Hear recordings of any rate, brought to the level of the training data.

        One alone is heard as in a batch. Raises ``RequestError`` for one that is shorter than a frame's window.
        """
        spec = self.facts.mel_spec
        mels = []
        for wave in waves:
            wave = resample(wave.detach().float().cpu(), sample_rate, spec.sample_rate)
            if len(wave) < spec.n_fft:
                seconds, least = len(wave) / spec.sample_rate, spec.n_fft / spec.sample_rate
                message = f"{seconds:.4f} s are too short to be heard: {least:g} s are the least"
                raise RequestError(message, code="range", path="audio", value=seconds)
            wave = level(wave, spec.sample_rate, self.facts.loudness_dbfs).to(self.device)
            mels.append(self.standardised(self.log_mel(wave[None])[0]))
        lengths = torch.tensor([len(mel) for mel in mels], device=self.device)
        return self.heard(nn.utils.rnn.pad_sequence(mels, batch_first=True).to(self.to_units.weight.dtype), lengths)

    # ---- as an encoder -------------------------------------------------------------------------

    @property
    def feature_spec(self) -> FeatureSpec:
        """One feature per step of the encoder, of as many layers as it has blocks."""
        spec = self.facts.mel_spec
        hop = FRAMES_PER_STEP * spec.hop_length
        return FeatureSpec(spec.sample_rate, hop, self.encoder_sizes.dim, self.encoder_sizes.num_blocks)

    def features(
        self,
        wave: Float[Tensor, "b n"],
        lengths: Int[Tensor, " b"] | None = None,
        layer: int | None = None,
        adapt: Adapt | None = None,
    ) -> Features:
        """Return what the encoder, or one of its blocks, makes of waves at its rate (``unisono_sound.encoder``).

        Each is brought to the level of the training data; one shorter than a frame's window is heard with silence
        behind it.
        """
        check_layer(layer, self.encoder_sizes.num_blocks)
        # As a component it is moved without being told: its own ``device`` would be where it was made.
        spec, mels, device = self.facts.mel_spec, [], self.to_units.weight.device
        for row, count in zip(wave, [wave.shape[1]] * len(wave) if lengths is None else lengths.tolist(), strict=True):
            own = F.pad(row[:count].detach().float().cpu(), (0, max(spec.n_fft - count, -count % spec.hop_length)))
            own = level(own, spec.sample_rate, self.facts.loudness_dbfs)
            mels.append(self.standardised(self.log_mel(own[None].to(device))[0]))
        counts = torch.tensor([len(mel) for mel in mels], device=device)
        padded = nn.utils.rnn.pad_sequence(mels, batch_first=True).to(self.to_units.weight.dtype)
        return Features(*self.encoder(padded, counts, layer, adapt))

    def posteriors_of_stream(self, mels: Iterable[Float[Tensor, "t m"]]) -> Iterator[Posteriors]:
        """Hear a recording that comes in pieces of standardised mels, and yield what is heard of each chunk.

        Raises ``UnisonoError`` for an encoder that was not trained in chunks.
        """
        stream = EncoderStream(self.encoder)
        for piece in mels:
            yield from self._piece(stream.push(piece))
        yield from self._piece(stream.flush())

    def _piece(self, memory: Float[Tensor, "s d"]) -> Iterator[Posteriors]:
        if len(memory):
            steps = torch.tensor([len(memory)], device=memory.device)
            yield Posteriors(self.to_units(memory).float().log_softmax(-1)[None], memory[None], steps, self.hop_seconds)

    @torch.no_grad()
    def decode(self, heard: Posteriors, steps: int = 1) -> list[Hypothesis]:
        """Read the likeliest label of each step, collapsed; ``steps`` changes nothing, since there is no decoder."""
        return greedy_hypotheses(heard)


def greedy_hypotheses(heard: Posteriors) -> list[Hypothesis]:
    """Return what CTC reads; a token's confidence is its mean probability over its steps."""
    return hypotheses(greedy(heard.log_probs, heard.lengths), heard)


def hypotheses(path: Path, heard: Posteriors, confidences: Float[Tensor, "b u"] | None = None) -> list[Hypothesis]:
    """Return a collapsed path as hypotheses, with other confidences than CTC's where they are given."""
    if confidences is None:
        confidences = path.pool(heard.log_probs.exp()).gather(2, path.tokens[..., None])[..., 0]
    read = []
    for row, count in enumerate(path.lengths.tolist()):
        sure = confidences[row, :count].clamp(0, 1).tolist()
        read.append(Hypothesis(tuple(path.tokens[row, :count].tolist()), tuple(sure), tuple(path.spans(row))))
    return read

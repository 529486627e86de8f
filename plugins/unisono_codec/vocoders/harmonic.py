"""A harmonic-plus-noise source for Vocos: phases that keep time.

A network that sees only a spectrogram cannot know how far a harmonic has turned since the last frame, and a
convolution does not count; the published head makes phases up from context and hums. Here the trunk also says the
fundamental frequency, its integral drives a pulse train, as in neural source-filter models (Wang, Takaki and
Yamagishi, arXiv:1904.12088; iSTFTNet with such a source in StyleTTS 2, arXiv:2306.07691), and the head filters the
short-time Fourier transforms of pulses and noise instead of inventing coefficients::

    X = exp(a) · e^{iφ} · P + exp(b) · N         P pulses, N noise, unit level; a, b, φ from the head
    |Y| = M^{1−w} · (E · |X|)^w · exp(c)         M the mel's least-squares inverse, E its smooth envelope
    Y = |Y| · X / |X|                            w per frequency, learnt, from 1/2
    Z = |Y| · STFT(ISTFT(Y)) / |STFT(ISTFT(Y))|  one step of Griffin and Lim: neighbouring frames agree on phases

Differences: source and filter meet at the frame rate, so that nothing runs at the sample rate but transforms, two
sines and a hash; the noise is a function of the sample's number, so that a waveform is the same alone, in a batch, in
pieces and at every call; the magnitudes lean on the mel's own inverse, which tells them well where harmonics are far
apart.

Shapes: b batch, t frames, f frequencies, n samples (t · hop), m mel bins, k bins of pitch. Phases are in turns.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from unisono_sound.signal import MelInverse, MelSpec, stft_same
from unisono_sound.signal.mel import LOG_FLOOR

from unisono_codec.vocoders.noise import numbered_noise
from unisono_codec.vocoders.vocos import MAX_MAGNITUDE, SILENCE, VocosNet

LOWEST_HZ, BINS_PER_OCTAVE, NUM_BINS = 50.0, 24, 96
"""Pitch is said as a distribution over 96 bins of 50 cents, 50 to 800 Hz."""


class Filters(NamedTuple):
    """What the head says of each frame: log gain and phase of the pulses, log gain of the noise, a correction of
    the log magnitude, and the logits of the pitch."""

    gain: Float[Tensor, "b t f"]
    phase: Float[Tensor, "b t f"]
    noise: Float[Tensor, "b t f"]
    correction: Float[Tensor, "b t f"]
    pitch: Float[Tensor, "b t k"]


@dataclass(frozen=True)
class Clock:
    """Where a stretch of frames stands in a longer whole.

    ``turns`` is the phase at the first frame's centre (None at the very start, where the first sample has phase 0),
    ``sample`` the number of the first sample, ``pitch`` what is known of the first frames' pitch from before.
    """

    turns: Float[Tensor, " b"] | None = None
    sample: int | Int[Tensor, " b"] = 0
    pitch: Float[Tensor, "b t"] | None = None


class HarmonicNet(VocosNet):
    """The generator with a source.

    ::

        log mel ─ trunk of Vocos ─ Linear ─┬─ pitch ─ ∫ ─ pulses ─ STFT ─ · gain, phase ─┐
           │                               ├──────────── noise ─ STFT ─ · gain ───────── (+) ─ phase ─┐
           │                               └─ correction ──────────────────────┐         └ |·| ┐      │
           └─ least-squares inverse of the mel ─────────────────────────────── (·) ────────────┴──── (·) ─ ISTFT
    """

    def __init__(self, mel_spec: MelSpec, dim: int, intermediate_dim: int, num_blocks: int):
        num_frequencies = mel_spec.n_fft // 2 + 1
        super().__init__(mel_spec, dim, intermediate_dim, num_blocks, num_outputs=4 * num_frequencies + NUM_BINS)
        self.sizes = [num_frequencies] * 4 + [NUM_BINS]
        self.share = nn.Parameter(torch.zeros(num_frequencies))
        self.inverse = MelInverse(mel_spec, num_updates=8)
        self.envelope = MelInverse(mel_spec, num_updates=0)

    @property
    def context(self) -> int:
        """Frames on each side that must be there: as in Vocos, once more for the source's frames, and all frames that
        overlap for the last step. (The pitch of all frames before counts too: see ``stream``.)"""
        overlapping = math.ceil(self.mel_spec.n_fft / self.mel_spec.hop_length) - 1
        return 2 * super().context - 3 * (1 + len(self.blocks)) + overlapping

    def filters(self, mel: Float[Tensor, "b t m"], mask: Bool[Tensor, "b t"] | None = None) -> Filters:
        """Return what the head says, in float32; the trunk runs in the autocast's precision."""
        x = self.features(mel, mask)
        # a phase in bfloat16 is off by up to 1 % of a turn
        with torch.autocast(mel.device.type, enabled=False):
            return Filters(*self.head(x).split(self.sizes, dim=-1))

    def forward(self, mel: Float[Tensor, "b t m"], lengths: Int[Tensor, " b"] | None = None) -> Float[Tensor, "b n"]:
        """Turn log mels into waveforms; samples beyond an item's ``lengths`` (frames) are zero."""
        mask = self.mask(mel, lengths)
        filters = self.filters(mel, mask)
        return self.render(mel, filters, pitch_hz(filters.pitch), mask, Clock())

    def render(
        self,
        mel: Float[Tensor, "b t m"],
        filters: Filters,
        pitch: Float[Tensor, "b t"],
        mask: Bool[Tensor, "b t"] | None,
        clock: Clock,
    ) -> Float[Tensor, "b n"]:
        """Filter the source of a pitch track in hertz."""
        n_fft, hop = self.mel_spec.n_fft, self.mel_spec.hop_length
        with torch.autocast(mel.device.type, enabled=False):
            mel, pitch = mel.float(), pitch.float()
            if mask is not None:  # beyond its end an item holds its last pitch, as it does alone
                last = mask.sum(1, keepdim=True).clamp(min=1) - 1
                pitch = pitch.gather(1, torch.arange(pitch.shape[1], device=pitch.device).minimum(last))
                mel = mel.masked_fill(~mask[..., None], SILENCE)
            pulses = pulse_train(pitch, self.mel_spec, clock.turns)
            noise = numbered_noise(clock.sample, pulses)
            if mask is not None:
                sounding = mask.repeat_interleave(hop, dim=1)
                pulses, noise = pulses * sounding, noise * sounding
            pulses = stft_same(pulses, n_fft, hop, self.window, "constant") / (self.window.sum() / 2)
            noise = stft_same(noise, n_fft, hop, self.window, "constant") / self.window.square().sum().sqrt()
            kept = 1.0 if mask is None else mask[..., None]
            spectrum = self.combine(mel, filters, pulses, noise) * kept
            agreed = stft_same(self.invert(spectrum, mask), n_fft, hop, self.window, "constant")
            return self.invert(agreed * (magnitude(spectrum) / magnitude(agreed)) * kept, mask)

    def combine(
        self,
        mel: Float[Tensor, "b t m"],
        filters: Filters,
        pulses: Complex[Tensor, "b t f"],
        noise: Complex[Tensor, "b t f"],
    ) -> Complex[Tensor, "b t f"]:
        """Return the coefficients: see the module's equations."""
        turn = torch.complex(filters.phase.cos(), filters.phase.sin())
        mixed = pulses * turn * filters.gain.clamp(max=7).exp() + noise * (filters.noise - 1).clamp(max=7).exp()
        level = magnitude(mixed)
        own = self.envelope(mel).clamp(min=LOG_FLOOR).log() + level.log()
        given = self.inverse(mel).clamp(min=LOG_FLOOR).log()
        wanted = torch.lerp(given, own, self.share.sigmoid()) + filters.correction
        return mixed * (wanted.clamp(max=math.log(MAX_MAGNITUDE)).exp() / level)

    def graph_form(self) -> nn.Module:
        """Return the network on real numbers, log mels [1, t, m] to waves [1, n]; see ``graphs``."""
        from unisono_codec.vocoders.graphs import HarmonicProducts

        return HarmonicProducts(self)

    def teach(self, batch: dict[str, Tensor]) -> tuple[Float[Tensor, "b n"], dict[str, tuple[Tensor, Tensor]]]:
        """Return waveforms over the true pitch, and the pitch's cross entropy [b, t] with the frames that count."""
        filters = self.filters(batch["mel"])
        wave = self.render(batch["mel"], filters, batch["pitch"], None, Clock(sample=batch["start"]))
        grid = torch.arange(NUM_BINS, device=wave.device)
        place = (batch["pitch"] / LOWEST_HZ).log2() * BINS_PER_OCTAVE
        near = torch.softmax(-(grid - place.clamp(0, NUM_BINS - 1)[..., None]).square() / 2, dim=-1)
        entropy = -(near * filters.pitch.log_softmax(-1)).sum(-1)
        return wave, {"pitch": (entropy, batch["voiced"])}

    def stream(self, chunks: Iterable[Float[Tensor, "b t m"]]) -> Iterator[Float[Tensor, "b n"]]:
        """Turn mel chunks into waves that join up to the whole; the source's clock goes on from piece to piece."""
        context, hop = self.context, self.mel_spec.hop_length
        held, done, clock = None, 0, Clock()
        for chunk in chunks:
            held = chunk if held is None else torch.cat([held, chunk], dim=1)
            ready = held.shape[1] - context
            if ready > done:
                wave, pitch = self._go_on(held, clock)
                yield wave[:, done * hop : ready * hop]
                drop = max(ready - context, 0)
                turns = centre_turns(pitch, self.mel_spec, clock.turns)[:, drop]
                clock = Clock(turns if clock.sample or drop else None, clock.sample + drop * hop, pitch[:, drop:ready])
                held, done = held[:, drop:], ready - drop
        if held is not None and held.shape[1] > done:
            yield self._go_on(held, clock)[0][:, done * hop :]

    def _go_on(self, held: Tensor, clock: Clock) -> tuple[Tensor, Tensor]:
        filters = self.filters(held)
        pitch = pitch_hz(filters.pitch)
        if clock.pitch is not None:
            pitch = torch.cat([clock.pitch, pitch[:, clock.pitch.shape[1] :]], dim=1)
        return self.render(held, filters, pitch, None, clock), pitch


def magnitude(spectrum: Complex[Tensor, "b t f"]) -> Float[Tensor, "b t f"]:
    """Return the magnitudes, never zero, so that each has a phase and a gradient."""
    return (spectrum.real.square() + spectrum.imag.square() + 1e-12).sqrt()


def pitch_hz(logits: Float[Tensor, "*b k"]) -> Float[Tensor, "*b"]:
    """Return the pitch in hertz: the mean over the likeliest bin and its two neighbours on each side (CREPE,
    arXiv:1802.06182)."""
    near = logits.argmax(-1, keepdim=True).clamp(2, NUM_BINS - 3) + torch.arange(-2, 3, device=logits.device)
    weights = logits.gather(-1, near).softmax(-1)
    return LOWEST_HZ * torch.exp2((weights * near).sum(-1) / BINS_PER_OCTAVE)


def centre_turns(
    pitch: Float[Tensor, "b t"], spec: MelSpec, first: Float[Tensor, " b"] | None = None
) -> Float[Tensor, "b t"]:
    """Return the phase at every frame's centre, in turns, float64: the integral of a pitch that is linear between
    centres, from ``first`` at the first centre, or from 0 at the first sample."""
    hz = pitch.double()
    hop, rate = spec.hop_length, spec.sample_rate
    if first is None:
        first = hz[:, 0] * (hop // 2) / rate
    steps = (hz[:, 1:] + hz[:, :-1]) * (hop / (2 * rate))
    return torch.cat([first[:, None], steps], dim=1).cumsum(1)


def pulse_train(
    pitch: Float[Tensor, "b t"], spec: MelSpec, first: Float[Tensor, " b"] | None = None
) -> Float[Tensor, "b n"]:
    """Return band-limited pulses: the sum of all cosines below half the sample rate, each of amplitude 1.

    Their sum is Dirichlet's kernel, ``sin((K + 1/2) x) / (2 sin(x / 2)) − 1/2`` with the number K of harmonics.
    """
    hop, rate = spec.hop_length, spec.sample_rate
    turns = centre_turns(pitch, spec, first)
    hz = F.pad(pitch.double()[:, None], (1, 1), mode="replicate")[:, 0]
    turns = torch.cat([turns[:, :1] - hz[:, :1] * hop / rate, turns], dim=1)
    after = torch.arange(hop, dtype=torch.float64, device=pitch.device)
    slope = (hz[:, 1:] - hz[:, :-1])[..., None] / hop
    now = hz[:, :-1, None] + slope * after
    angle = turns[..., None] + (hz[:, :-1, None] + slope * after / 2) * after / rate
    inside = slice(hop - hop // 2, hop - hop // 2 + pitch.shape[1] * hop)
    x = ((angle % 1) * (2 * math.pi)).flatten(1)[:, inside].float()
    num_harmonics = (rate / 2 / now).flatten(1)[:, inside].floor().clamp(min=1).float()
    half = torch.sin(x / 2)
    small = half.abs() < 1e-4
    ratio = torch.sin((num_harmonics + 0.5) * x) / (2 * torch.where(small, 1.0, half))
    return torch.where(small, num_harmonics, ratio - 0.5)

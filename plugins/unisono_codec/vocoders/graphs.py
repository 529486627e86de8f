"""Vocoders as graphs: the networks of ``vocos`` and ``harmonic`` on real numbers, for one item without padding.

The same weights and equations; transforms are products (``unisono_sound.signal.products``), whose columns are in an
order of their own: the head's rows are put into it once. The source's phase is counted in float64 from frame to frame
and in float32 within one, the angle being less than ten turns there.

Shapes: b batch, t frames, n samples (t · hop), m mel bins, c columns of a spectrum.
"""

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from unisono.graphs import Graph, Graphs, Port, for_graph
from unisono_sound.signal import LogMel
from unisono_sound.signal.mel import LOG_FLOOR
from unisono_sound.signal.products import ProductInverse, ProductMelInverse, ProductTransform, columns

from unisono_codec.vocoders.harmonic import Clock, HarmonicNet, centre_turns, pitch_hz
from unisono_codec.vocoders.noise import numbered_noise
from unisono_codec.vocoders.vocos import MAX_MAGNITUDE, VocosNet

QUANTISED = ("trunk.blocks",)
"""What bears int8: the blocks of the trunk. The head does not: a point or two of word errors for 2 % of the time."""
LEAST, MOST = 4, 2**16
"""Frames of a piece."""


class VocosProducts(nn.Module):
    """``VocosNet``: log mels to waves."""

    def __init__(self, net: VocosNet):
        super().__init__()
        spec = net.mel_spec
        self.trunk = for_graph(net)
        order, sign, _ = columns(spec.n_fft)
        count = spec.n_fft // 2 + 1
        rows, flip = torch.cat([order, count + order]), torch.cat([torch.ones_like(sign), sign])
        self.trunk.head = _rows(net.head, rows, flip)
        self.inverse = ProductInverse(spec.n_fft, spec.hop_length, net.window)

    def forward(self, mel: Float[Tensor, "b t m"]) -> Float[Tensor, "b n"]:
        log_magnitude, phase = self.trunk.head(self.trunk.features(mel)).chunk(2, dim=-1)
        magnitude = log_magnitude.exp().clamp(max=MAX_MAGNITUDE)
        return self.inverse(magnitude * phase.cos(), magnitude * phase.sin())


class SourceAndFilter(nn.Module):
    """What the forms of ``HarmonicNet`` share: its trunk, its source and its filters."""

    def __init__(self, net: HarmonicNet):
        super().__init__()
        spec = self.spec = net.mel_spec
        self.trunk = for_graph(net)
        order, sign, _ = columns(spec.n_fft)
        count, ones = spec.n_fft // 2 + 1, torch.ones_like(sign)
        parts = [order + i * count for i in range(4)]
        tail = torch.arange(4 * count, net.head.out_features)
        flip = torch.cat([ones, sign, ones, ones, torch.ones(len(tail))])  # a conjugate's phase turns the other way
        self.trunk.head = _rows(net.head, torch.cat([*parts, tail]), flip)
        self.sizes = [len(order)] * 4 + [len(tail)]
        self.transform = ProductTransform(spec.n_fft, spec.hop_length, net.window)
        self.back = ProductInverse(spec.n_fft, spec.hop_length, net.window)
        self.inverse = ProductMelInverse(net.inverse, spec.n_fft)
        self.register_buffer("share", net.share.detach().sigmoid()[order])
        self.pulse_level = float(net.window.sum() / 2)
        self.noise_level = float(net.window.square().sum().sqrt())

    def said(self, mel: Float[Tensor, "b t m"]) -> tuple[Tensor, ...]:
        """Return what the head says: see ``Filters``."""
        return self.trunk.head(self.trunk.features(mel)).split(self.sizes, dim=-1)

    def render(
        self,
        mel: Float[Tensor, "b t m"],
        filters: tuple[Tensor, ...],
        pitch: Float[Tensor, "b t"],
        turns: Float[Tensor, "b t"],
        sample: int | Int[Tensor, " b"],
    ) -> Float[Tensor, "b n"]:
        """Filter the source of a pitch track in hertz, whose phase at each frame's centre is ``turns``."""
        gain, phase, breath, correction = filters
        pulses = self.pulses(pitch, turns)
        p, q = self.transform(pulses)
        r, s = self.transform(numbered_noise(sample, pulses))
        level = gain.clamp(max=7).exp() * (1 / self.pulse_level)
        cosine, sine = phase.cos() * level, phase.sin() * level
        level = (breath - 1).clamp(max=7).exp() * (1 / self.noise_level)
        real = p * cosine - q * sine + r * level
        imaginary = p * sine + q * cosine + s * level
        level = _magnitude(real, imaginary)
        given, own = (part.clamp(min=LOG_FLOOR).log() for part in self.inverse(mel))
        own = own + level.log()
        wanted = given + self.share * (own - given) + correction
        wanted = wanted.clamp(max=math.log(MAX_MAGNITUDE)).exp()
        level = wanted / level
        p, q = self.transform(self.back(real * level, imaginary * level))
        level = wanted / _magnitude(p, q)
        return self.back(p * level, q * level)

    def pulses(self, pitch: Float[Tensor, "b t"], turns: Float[Tensor, "b t"]) -> Float[Tensor, "b n"]:
        """Return the pulses of ``pulse_train``."""
        hop, rate = self.spec.hop_length, self.spec.sample_rate
        hz = torch.cat([pitch[:, :1], pitch, pitch[:, -1:]], dim=1)
        turns = torch.cat([turns[:, :1] - pitch[:, :1].double() * hop / rate, turns], dim=1)
        turns = (turns - turns.floor()).float()
        after = torch.arange(hop, dtype=torch.float32, device=pitch.device)
        slope = (hz[:, 1:] - hz[:, :-1])[..., None] * (1 / hop)
        start = hz[:, :-1, None]
        angle = turns[..., None] + (start + slope * (after / 2)) * (after / rate)
        inside = slice(hop - hop // 2, hop - hop // 2 + pitch.shape[1] * hop)
        angle = angle.flatten(1)[:, inside]
        # Dirichlet's kernel is even, and the same from either end of a turn: no choice is made near its peak.
        x = (math.pi - ((angle - angle.floor()) * (2 * math.pi) - math.pi).abs()).clamp(min=1e-5)
        harmonics = ((rate / 2) / (start + slope * after)).flatten(1)[:, inside].floor().clamp(min=1)
        return torch.sin((harmonics + 0.5) * x) / (2 * torch.sin(x * 0.5)) - 0.5


class HarmonicProducts(SourceAndFilter):
    """A whole: log mels to waves."""

    def forward(self, mel: Float[Tensor, "b t m"]) -> Float[Tensor, "b n"]:
        *filters, logits = self.said(mel)
        pitch = pitch_hz(logits)
        return self.render(mel, tuple(filters), pitch, centre_turns(pitch, self.spec), 0)


class ClockedProducts(SourceAndFilter):
    """A piece of a longer whole: as ``HarmonicNet.stream``'s, what it needs of the piece before given as tensors."""

    def forward(
        self,
        mel: Float[Tensor, "b t m"],
        pitch: Float[Tensor, "b t"],
        turns: Float[Tensor, " b"],
        sample: Int[Tensor, " b"],
    ) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b t"], Float[Tensor, "b t"]]:
        *filters, logits = self.said(mel)
        pitch = torch.where(pitch > 0, pitch, pitch_hz(logits))
        start = pitch[:, 0].double() * (self.spec.hop_length // 2) / self.spec.sample_rate
        turns = centre_turns(pitch, self.spec, torch.where(sample > 0, turns, start))
        wave = self.render(mel, tuple(filters), pitch, turns, sample)
        return wave, pitch, turns - turns.floor()


def wave_graph(net: VocosNet, mels: list[Float[Tensor, "t m"]]) -> Graphs:
    """Return the graph of a vocoder's network; ``mels`` are examples."""
    spec = net.mel_spec
    log_mel = LogMel(spec)
    inputs = [Port("mel", (1, "frames", spec.n_mels), "natural-log mel spectrogram")]
    outputs = [Port("wave", (1, "samples"), f"samples at {spec.sample_rate} Hz, frames x {spec.hop_length}", 5e-3, 0.1)]
    examples: list[tuple[Tensor, ...]] = [(mel[None],) for mel in mels]

    def view(wave: Tensor, *rest: Tensor) -> dict[str, Tensor]:
        seen = {"wave": log_mel(wave, pad_mode="constant")}
        return seen | {"pitch_hz": rest[0]} if rest else seen

    module: nn.Module
    reference: Any
    if isinstance(net, HarmonicNet):
        module = ClockedProducts(net)
        inputs += [
            Port("pitch", (1, "frames"), "hertz, of frames that an earlier piece had; 0 where it is not known"),
            Port("turns", (1,), "phase at the first frame's centre, in turns; read where sample > 0"),
            Port("sample", (1,), "number of the first sample in the whole; 0 at its beginning"),
        ]
        outputs += [
            Port("pitch_hz", (1, "frames"), "hertz", 1e-3, 0.1),
            Port("turns_after", (1, "frames"), "phase at each frame's centre, in turns, [0, 1)", 1.0),
        ]
        examples = [
            (mel, torch.zeros(mel.shape[:2]), torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.int64))
            for (mel,) in examples
        ]

        def clocked(mel: Tensor, pitch: Tensor, turns: Tensor, sample: Tensor) -> tuple[Tensor, ...]:
            filters = net.filters(mel)
            pitch = torch.where(pitch > 0, pitch, pitch_hz(filters.pitch))
            clock = Clock(turns if int(sample) else None, int(sample))
            turns = centre_turns(pitch, spec, clock.turns)
            return net.render(mel, filters, pitch, None, clock), pitch, turns % 1

        reference = clocked
        again = clocked(*examples[0])
        first = (again[1].shape[1] - 1) // 2  # a piece that goes on from the middle of the first
        known = torch.cat([again[1][:, first:-1], torch.zeros(1, 1)], dim=1)
        sample = torch.tensor([first * spec.hop_length])
        examples.append((examples[0][0][:, first:], known, again[2][:, first], sample))
    else:
        module = VocosProducts(net)

        def plain(mel: Tensor) -> tuple[Tensor, ...]:
            return (net(mel),)

        reference = plain

    facts = {"mel_spec": spec.to_dict(), "sample_rate": spec.sample_rate, "context_frames": net.context}
    limits = {"frames": (LEAST, MOST)}
    graph = Graph(module.eval(), tuple(inputs), tuple(outputs), tuple(examples), reference, limits, QUANTISED, view)
    return Graphs({"wave": graph}, facts)


def _magnitude(real: Tensor, imaginary: Tensor) -> Tensor:
    return (real.square() + imaginary.square() + 1e-12).sqrt()


def _rows(linear: nn.Linear, rows: Int[Tensor, " r"], flip: Float[Tensor, " r"]) -> nn.Linear:
    """Return a linear layer of some rows of another, in any order, with signs."""
    made = nn.Linear(linear.in_features, len(rows))
    with torch.no_grad():
        made.weight.copy_(linear.weight[rows] * flip[:, None])
        made.bias.copy_(linear.bias[rows] * flip)
    return made

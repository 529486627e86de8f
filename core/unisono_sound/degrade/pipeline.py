"""Degrade: recordings made worse in ways that real ones are, each choice replayable.

The caller derives the generator from seed, epoch and item (``unisono.data.item_generator``), so that a resumed run, and
one of several processes, hears the same. Each step draws from a generator of its own, named after it: a step that is
taken out, or put in, changes nothing of what the others draw.

Shapes: n samples.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from unisono.data import Audit, derive_seed
from unisono.errors import DataError

from unisono_sound.degrade.clips import Clips, read_clips
from unisono_sound.degrade.codecs import companded, mp3, opus
from unisono_sound.degrade.damage import clipped, louder, with_losses
from unisono_sound.degrade.draws import choice, uniform, whole
from unisono_sound.degrade.filters import LowPass, filtered
from unisono_sound.degrade.noises import MADE
from unisono_sound.degrade.options import (
    BandOptions,
    ClipOptions,
    CodecOptions,
    DegradeOptions,
    LevelOptions,
    LossOptions,
    NoiseOptions,
    RoomOptions,
    kinds_of,
)
from unisono_sound.degrade.power import at_snr, mean_power
from unisono_sound.degrade.rooms import draw_box, exponential_tail, from_direct, heard_through, image_sources
from unisono_sound.degrade.voices import Babble, Recorded


@dataclass(frozen=True)
class Applied:
    """What was done to an item: a step, its kind (of a step without kinds, its name), and its number: dB, s, Hz, kb/s
    or a share."""

    step: str
    kind: str
    value: float


Done = tuple[Float[Tensor, " n"], list[Applied]]


class Degrade:
    """``Degrade(options)(wave, rate, generator)``: a wave of the same length, made worse.

    Args:
        options: which steps, how often, and which kinds are held out.
        clips: what a babble is made of; needed for that kind alone.
        noise: recordings, for the kind ``folder``; ``Degrade.of`` reads them.
        held_out: whether this is a test: of steps that have kinds among ``options.held_out`` only those are drawn.
    """

    def __init__(
        self,
        options: DegradeOptions,
        clips: Clips | None = None,
        noise: Clips | None = None,
        held_out: bool = False,
    ):
        chosen: dict[str, Any] = {}
        for name, step in options.steps().items():
            if kinds_of(step):
                trained = options.trained_on(step)
                tested = tuple(kind for kind in kinds_of(step) if kind not in trained)
                kinds = (tested or trained) if held_out else trained
                if kinds:
                    # without __post_init__: a step may lose the kind that its folder belongs to
                    step = _with_kinds(step, kinds)
            chosen[name] = step
        self.steps: dict[str, Any] = chosen
        sounds = chosen["noise"]
        if sounds.share and "babble" in sounds.kinds and (clips is None or len(clips) < 2):
            message = "data.degrade.noise.kinds has babble, and there are no other clips to make it of: give recordings"
            raise DataError(message, code="missing", path="data.degrade.noise.kinds", value="babble")
        if sounds.share and "folder" in sounds.kinds and noise is None:
            message = "data.degrade.noise.kinds has folder, and nothing was read: make the pipeline by Degrade.of"
            raise DataError(message, code="missing", path="data.degrade.noise.folder", value=sounds.folder)
        self.babble = None if clips is None else Babble(clips, sounds.voices)
        self.recorded = None if noise is None else Recorded(noise)

    @classmethod
    def of(
        cls, options: DegradeOptions, rate: int, audit: Audit, clips: Clips | None = None, held_out: bool = False
    ) -> "Degrade":
        """Make a pipeline, and read its folder of noise at a rate; what is unusable there goes to the audit."""
        folder = options.noise.folder
        path = "data.degrade.noise.folder"
        noise = read_clips(folder, rate, audit, path) if folder is not None and options.noise.share else None
        return cls(options, clips, noise, held_out)

    def __call__(
        self, wave: Float[Tensor, " n"], rate: int, generator: torch.Generator, own: int | None = None
    ) -> Float[Tensor, " n"]:
        """Return a wave made worse; ``own`` is its number among the clips, of which no babble is made for it."""
        return self.told(wave, rate, generator, own)[0]

    def told(
        self, wave: Float[Tensor, " n"], rate: int, generator: torch.Generator, own: int | None = None
    ) -> tuple[Float[Tensor, " n"], list[Applied]]:
        """Return a wave made worse, and what was done to it."""
        base = int(torch.randint(2**62, (), generator=generator))
        applied: list[Applied] = []
        for name, step in self.steps.items():
            drawn = torch.Generator().manual_seed(derive_seed("degrade", base, name))
            if uniform(drawn, (0.0, 1.0)) < step.share:
                wave, done = _STEPS[name](self, step, wave, rate, drawn, own)
                applied += done
        return wave, applied

    # ---- steps, each from its options ----------------------------------------------------------------------------

    def room(self, options: RoomOptions, wave: Tensor, rate: int, drawn: torch.Generator, own: int | None) -> Done:
        kind = choice(drawn, options.kinds)
        if kind == "image":
            box = draw_box(drawn, options.rt60)
            return heard_through(wave, from_direct(image_sources(box, rate), box, rate)), [
                Applied("room", kind, box.rt60)
            ]
        rt60 = uniform(drawn, options.rt60)
        tail = exponential_tail(rt60, uniform(drawn, options.direct_db), rate, drawn)
        return heard_through(wave, tail), [Applied("room", kind, rt60)]

    def noise(self, options: NoiseOptions, wave: Tensor, rate: int, drawn: torch.Generator, own: int | None) -> Done:
        snr_db = uniform(drawn, options.snr_db)
        total, done = torch.zeros_like(wave), []
        for _ in range(whole(drawn, options.layers)):
            kind = choice(drawn, options.kinds)
            layer = self.make_noise(kind, wave, rate, drawn, own)
            total = total + layer / max(mean_power(layer), 1e-30) ** 0.5
            done.append(Applied("noise", kind, snr_db))
        return wave + at_snr(wave, total, rate, snr_db), done

    def make_noise(
        self, kind: str, wave: Float[Tensor, " n"], rate: int, generator: torch.Generator, own: int | None = None
    ) -> Float[Tensor, " n"]:
        """Return noise of a kind for a wave, at any level."""
        if kind in MADE:
            return MADE[kind](wave, rate, generator)
        source = self.babble if kind == "babble" else self.recorded
        assert source is not None  # asked for in __init__
        if source.clips.rate != rate:
            message = f"noise at {source.clips.rate} Hz cannot be added to speech at {rate} Hz: read it at that rate"
            raise DataError(message, code="conflict", path="rate", value=rate)
        return source(len(wave), generator, own)

    def band(self, options: BandOptions, wave: Tensor, rate: int, drawn: torch.Generator, own: int | None) -> Done:
        family: Any = choice(drawn, options.kinds)
        hz, order = uniform(drawn, options.hz), whole(drawn, options.order)
        ripple, stop = uniform(drawn, options.ripple_db), uniform(drawn, options.stop_db)
        low, low_hz = uniform(drawn, (0.0, 1.0)) < options.high_share, uniform(drawn, options.high_hz)
        done = []
        if hz < rate / 2:  # a wider band is no limit
            design = LowPass(family=family, hz=hz, order=order, ripple_db=ripple, stop_db=stop)
            wave, done = filtered(wave, rate, design), [Applied("band", family, hz)]
        if low:
            wave = filtered(wave, rate, LowPass(family="butterworth", hz=low_hz, order=2), high=True)
            done.append(Applied("band", "high", low_hz))
        return wave, done

    def clip(self, options: ClipOptions, wave: Tensor, rate: int, drawn: torch.Generator, own: int | None) -> Done:
        below = uniform(drawn, options.below_peak_db)
        return clipped(wave, below), [Applied("clip", "clip", below)]

    def codec(self, options: CodecOptions, wave: Tensor, rate: int, drawn: torch.Generator, own: int | None) -> Done:
        kind = choice(drawn, options.kinds)
        if kind in ("mulaw", "alaw"):
            return companded(wave, rate, kind), [Applied("codec", kind, rate * 8 / 1000)]
        coded, between = (opus, options.opus_kbps) if kind == "opus" else (mp3, options.mp3_kbps)
        kbps = uniform(drawn, between)
        return coded(wave, rate, kbps), [Applied("codec", kind, kbps)]

    def loss(self, options: LossOptions, wave: Tensor, rate: int, drawn: torch.Generator, own: int | None) -> Done:
        lost, burst = uniform(drawn, options.lost), uniform(drawn, options.burst)
        return with_losses(wave, rate, lost, burst, drawn), [Applied("loss", "loss", lost)]

    def level(self, options: LevelOptions, wave: Tensor, rate: int, drawn: torch.Generator, own: int | None) -> Done:
        gain = uniform(drawn, options.gain_db)
        return louder(wave, gain), [Applied("level", "level", gain)]


_STEPS: dict[str, Callable[..., Done]] = {
    name: getattr(Degrade, name) for name in ("room", "noise", "band", "clip", "codec", "loss", "level")
}


def _with_kinds(step: Any, kinds: tuple[str, ...]) -> Any:
    if "folder" not in kinds and getattr(step, "folder", None) is not None:
        return replace(step, kinds=kinds, folder=None)
    return replace(step, kinds=kinds)

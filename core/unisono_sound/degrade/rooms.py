"""Rooms: responses of box-shaped rooms by image sources, and diffuse tails that die away exponentially.

Allen and Berkley, "Image method for efficiently simulating small-room acoustics" (JASA 65, 1979): a wall is a mirror,
so each path of sound is a straight line from an image of the source. With room size L, ``q`` in {0, 1} and whole ``m``
for each of three axes::

    h(t) = Σ  (−β)^(|m − q| + |m|)  ·  δ(t − d / c) / (4π d),     d = | (1 − 2q) · source + 2 m · L − microphone |

One β serves all walls. Sound that flies in direction u meets ``ρ(u) = Σ |uᵢ| / Lᵢ`` walls a metre, so that the energy
after x metres is the mean of ``β^(2 x ρ(u))`` over all directions; β is the one whose decay from −5 to −25 dB, drawn on
to −60, takes the reverberation time. Each wall turns the sign (Lehmann and Johansson, JASA 124, 2008): pulses of one
sign, as in the first paper, add up to a rumble that outlasts the room. Paths within 15 m are placed between samples by
a windowed sinc, longer ones at the nearest sample.

Shapes: n samples, h samples of a response, p paths.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from unisono.errors import DataError

from unisono_sound.degrade.draws import uniform

SPEED_OF_SOUND = 343.0
"""In metres per second, at 20 °C."""
NEAR_METRES = 15.0
SINC_REACH = 40
DECAY = 3 * math.log(10)
"""An amplitude falls by 60 dB where the exponent is this: exp(−6.9)."""

Point = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Box:
    """A room in metres: its size, where the source and the microphone stand, and its reverberation time in seconds."""

    size: Point
    source: Point
    microphone: Point
    rt60: float

    @property
    def reflection(self) -> float:
        """β, the share of a pressure that each wall gives back, turned in sign."""
        return math.exp(-3 * _metres_to_decay(self.size) / (SPEED_OF_SOUND * self.rt60))

    @property
    def distance(self) -> float:
        """From the source to the microphone."""
        return math.dist(self.source, self.microphone)


def image_sources(box: Box, rate: int) -> Float[Tensor, " h"]:
    """Return a room's response over its reverberation time; its direct sound comes at ``distance / c``.

    Raises ``DataError`` where a point is outside of the room, or both are within a centimetre.
    """
    for point in (box.source, box.microphone):
        if not all(0 < place < length for place, length in zip(point, box.size, strict=True)):
            message = f"a point at {point} is outside of a room of {box.size} metres: place it within"
            raise DataError(message, code="range", path="room", value=point)
    if box.distance < 0.01 or not box.rt60 > 0:
        message = (
            f"source and microphone are {box.distance:.3g} m apart at rt60={box.rt60}: at least 0.01 m, and above 0 s"
        )
        raise DataError(message, code="range", path="room", value=box.distance)
    reach = SPEED_OF_SOUND * box.rt60 + box.distance
    squares, reflections = torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.int64)
    for length, source, microphone in zip(box.size, box.source, box.microphone, strict=True):
        m = torch.arange(-math.ceil(reach / (2 * length)) - 1, math.ceil(reach / (2 * length)) + 2)
        offset = torch.cat([source + 2 * m * length, -source + 2 * m * length]) - microphone
        count = torch.cat([2 * m.abs(), (m - 1).abs() + m.abs()])
        squares = squares[:, None] + offset.double().square()
        reflections = reflections[:, None] + count
        near = squares <= reach**2  # those too far along one axis are too far along all
        squares, reflections = squares[near], reflections[near]
    distance = squares.sqrt()
    gain = (-box.reflection) ** reflections / (4 * math.pi * distance)
    size = math.ceil(reach / SPEED_OF_SOUND * rate) + SINC_REACH + 2
    out = torch.zeros(size, dtype=torch.float64)
    delay = distance * (rate / SPEED_OF_SOUND)
    far = distance > NEAR_METRES
    out.index_add_(0, delay[far].round().long(), gain[far])
    place = delay[~far].round().long()[:, None] + torch.arange(-SINC_REACH, SINC_REACH + 1)
    apart = place - delay[~far][:, None]
    taps = torch.sinc(apart) * (0.5 + 0.5 * torch.cos(math.pi * apart / (SINC_REACH + 1)))
    inside = (place >= 0) & (place < size)
    out.index_add_(0, place[inside], (gain[~far][:, None] * taps)[inside])
    return out.float()


def draw_box(generator: torch.Generator, rt60: tuple[float, float]) -> Box:
    """Draw a room of 3–10 by 3–8 by 2.5–4 m, and two points half a metre from its walls, 0.3 m or more apart."""
    size = (uniform(generator, (3.0, 10.0)), uniform(generator, (3.0, 8.0)), uniform(generator, (2.5, 4.0)))
    seconds = uniform(generator, rt60)
    while True:
        points = [tuple(uniform(generator, (0.5, length - 0.5)) for length in size) for _ in range(2)]
        if math.dist(*points) >= 0.3:
            return Box(size=size, source=points[0], microphone=points[1], rt60=seconds)  # pyright: ignore[reportArgumentType]


def from_direct(response: Float[Tensor, " h"], box: Box, rate: int) -> Float[Tensor, " h"]:
    """Return a response from its direct sound on, which has gain 1: what it is applied to stays in place."""
    start = round(box.distance / SPEED_OF_SOUND * rate)
    return response[start:] * (4 * math.pi * box.distance)


def exponential_tail(rt60: float, direct_db: float, rate: int, generator: torch.Generator) -> Float[Tensor, " h"]:
    """Return a direct sound of 1, and noise that falls by 60 dB over ``rt60`` seconds.

    ``direct_db`` is the energy of the direct sound over that of the tail, exactly.
    """
    size = max(2, round(rt60 * rate))
    tail = torch.randn(size, generator=generator) * torch.exp(-DECAY * torch.arange(size) / (rt60 * rate))
    tail[0] = 0
    tail = tail * (10 ** (-direct_db / 10) / float(tail.double().square().sum())) ** 0.5
    tail[0] = 1
    return tail


def heard_through(wave: Float[Tensor, " n"], response: Float[Tensor, " h"]) -> Float[Tensor, " n"]:
    """Convolve a wave with a response; what rings on beyond the end is cut off."""
    size = len(wave) + len(response) - 1
    size = 2 ** math.ceil(math.log2(max(size, 2)))
    spectrum = torch.fft.rfft(wave.double(), size) * torch.fft.rfft(response.double(), size)
    return torch.fft.irfft(spectrum, size)[: len(wave)].to(wave.dtype)


def decay_seconds(response: Float[Tensor, " h"], rate: int, between: tuple[float, float] = (-5.0, -25.0)) -> float:
    """Measure a reverberation time: Schroeder's integral (1965), a line fitted between two levels in decibels, to −60.

    Raises ``DataError`` where the response does not fall that far.
    """
    energy = response.double().square().flip(0).cumsum(0).flip(0)
    level = 10 * (energy / energy[0]).clamp(min=1e-30).log10()
    inside = ((level <= between[0]) & (level >= between[1])).nonzero()[:, 0]
    if len(inside) < 2:
        message = f"a response of {len(response)} samples has no decay from {between[0]:g} to {between[1]:g} dB"
        raise DataError(message, code="value", path="response", value=len(response))
    seconds = inside.double() / rate
    slope = torch.linalg.lstsq(torch.stack([seconds, torch.ones_like(seconds)], 1), level[inside][:, None]).solution
    return -60 / float(slope[0, 0])


def _metres_to_decay(size: Point) -> float:
    """Return how far sound flies, at ``β = 1/e``, while the energy that is still to come falls from −5 to −25 dB."""
    steps = (torch.arange(48, dtype=torch.float64) + 0.5) / 48
    height, turn = torch.meshgrid(steps, steps * math.pi / 2, indexing="ij")
    flat = (1 - height.square()).sqrt()
    walls = flat * torch.cos(turn) / size[0] + flat * torch.sin(turn) / size[1] + height / size[2]

    def metres(decibels: float) -> float:
        low, high = 0.0, 40 / float(walls.min())
        for _ in range(60):
            x = (low + high) / 2
            left = (torch.exp(-2 * x * walls) / walls).sum() / (1 / walls).sum()
            low, high = (x, high) if left > 10 ** (decibels / 10) else (low, x)
        return low

    return metres(-25.0) - metres(-5.0)

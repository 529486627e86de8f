"""Options: what degrades training speech, and how often: the ``degrade`` group of a recipe's ``data:`` section.

Every step has a ``share``: of the items, how many it touches; 0 leaves it out. Ranges are (from, to), drawn evenly.
"""

from dataclasses import dataclass, fields
from typing import Any

from unisono.errors import DataError

from unisono_sound.degrade.checks import check_known, check_range, check_share
from unisono_sound.degrade.codecs import CODECS
from unisono_sound.degrade.filters import FAMILIES
from unisono_sound.degrade.noises import MADE

NOISES = (*MADE, "babble", "folder")
"""Kinds of noise: those made on the spot, several other clips at once, and recordings of a folder."""
ROOMS = ("image", "tail")
"""Kinds of reverberation: rooms by image sources, and tails that die away exponentially."""


@dataclass(frozen=True, kw_only=True)
class NoiseOptions:
    """Noise that is added to speech.

    share: of the items, how many are heard in noise.
    kinds: which; each layer draws one.
    folder: recordings of noise, for the kind ``folder``.
    snr_db: speech to all noise together, over active speech.
    layers: how many noises at least and at most, of equal power.
    voices: how many speak in a babble, at least and at most.
    """

    share: float = 0.0
    kinds: tuple[str, ...] = ("white", "pink", "brown", "speech", "hum", "clicks", "modulated")
    folder: str | None = None
    snr_db: tuple[float, float] = (0.0, 20.0)
    layers: tuple[int, int] = (1, 1)
    voices: tuple[int, int] = (4, 8)

    def __post_init__(self):
        check_share(self, "noise")
        check_known(self.kinds, NOISES, "noise.kinds")
        check_range(self.snr_db, "noise.snr_db", -60, 100)
        check_range(self.layers, "noise.layers", 1, 8)
        check_range(self.voices, "noise.voices", 1, 32)
        if ("folder" in self.kinds) != (self.folder is not None):
            said = "names a folder that no kind uses" if self.folder else "has the kind folder, and no folder"
            message = f"data.degrade.noise {said}: give both folder and the kind folder, or neither"
            raise DataError(message, code="conflict", path="data.degrade.noise.folder", value=self.folder)


@dataclass(frozen=True, kw_only=True)
class RoomOptions:
    """Reverberation; the direct sound stays in place.

    kinds: ``image`` or ``tail``.
    rt60: reverberation time in seconds.
    direct_db: energy of the direct sound over a ``tail``'s.
    """

    share: float = 0.0
    kinds: tuple[str, ...] = ROOMS
    rt60: tuple[float, float] = (0.15, 0.6)
    direct_db: tuple[float, float] = (0.0, 15.0)

    def __post_init__(self):
        check_share(self, "room")
        check_known(self.kinds, ROOMS, "room.kinds")
        check_range(self.rt60, "room.rt60", 0.05, 2.0)
        check_range(self.direct_db, "room.direct_db", -30, 60)


@dataclass(frozen=True, kw_only=True)
class BandOptions:
    """A limit of the band; see ``filters.LowPass``.

    kinds: families of filters.
    hz: where the band ends.
    order, ripple_db, stop_db: of the filter, as far as its family has it.
    high_share: of the items that are limited, how many lose their lowest band too, up to ``high_hz``.
    """

    share: float = 0.0
    kinds: tuple[str, ...] = FAMILIES
    hz: tuple[float, float] = (2000.0, 7500.0)
    order: tuple[int, int] = (4, 10)
    ripple_db: tuple[float, float] = (0.05, 1.0)
    stop_db: tuple[float, float] = (40.0, 80.0)
    high_share: float = 0.0
    high_hz: tuple[float, float] = (80.0, 300.0)

    def __post_init__(self):
        check_share(self, "band")
        check_share(self, "band", "high_share")
        check_known(self.kinds, FAMILIES, "band.kinds")
        check_range(self.hz, "band.hz", 20, 192_000)
        check_range(self.high_hz, "band.high_hz", 10, 192_000)
        check_range(self.order, "band.order", 1, 20)
        check_range(self.ripple_db, "band.ripple_db", 0.001, 6)
        check_range(self.stop_db, "band.stop_db", 10, 200)


@dataclass(frozen=True, kw_only=True)
class ClipOptions:
    """Clipping, ``below_peak_db`` below the peak."""

    share: float = 0.0
    below_peak_db: tuple[float, float] = (1.0, 12.0)

    def __post_init__(self):
        check_share(self, "clip")
        check_range(self.below_peak_db, "clip.below_peak_db", 0, 60)


@dataclass(frozen=True, kw_only=True)
class CodecOptions:
    """Lossy codecs, there and back: ``mulaw``, ``alaw``, ``opus``, ``mp3``; bitrates in kb/s."""

    share: float = 0.0
    kinds: tuple[str, ...] = CODECS
    opus_kbps: tuple[float, float] = (6.0, 16.0)
    mp3_kbps: tuple[float, float] = (16.0, 64.0)

    def __post_init__(self):
        check_share(self, "codec")
        check_known(self.kinds, CODECS, "codec.kinds")
        check_range(self.opus_kbps, "codec.opus_kbps", 6, 256)
        check_range(self.mp3_kbps, "codec.mp3_kbps", 8, 320)


@dataclass(frozen=True, kw_only=True)
class LossOptions:
    """Packets of 20 ms that do not come: which part of them, in runs of how many in the mean."""

    share: float = 0.0
    lost: tuple[float, float] = (0.02, 0.15)
    burst: tuple[float, float] = (1.0, 3.0)

    def __post_init__(self):
        check_share(self, "loss")
        check_range(self.lost, "loss.lost", 0, 0.9)
        check_range(self.burst, "loss.burst", 1, 50)


@dataclass(frozen=True, kw_only=True)
class LevelOptions:
    """A change of level by ``gain_db``."""

    share: float = 0.0
    gain_db: tuple[float, float] = (-20.0, 6.0)

    def __post_init__(self):
        check_share(self, "level")
        check_range(self.gain_db, "level.gain_db", -80, 40)


@dataclass(frozen=True, kw_only=True)
class DegradeOptions:
    """What happens to speech, in this order: a room, noise, a limit of the band, clipping, a codec, losses, a level.

    held_out: names of kinds, of any step, that training does not hear: they are kept for tests.
    """

    room: RoomOptions = RoomOptions()
    noise: NoiseOptions = NoiseOptions()
    band: BandOptions = BandOptions()
    clip: ClipOptions = ClipOptions()
    codec: CodecOptions = CodecOptions()
    loss: LossOptions = LossOptions()
    level: LevelOptions = LevelOptions()
    held_out: tuple[str, ...] = ()

    def __post_init__(self):
        check_known(
            self.held_out, tuple(kind for step in self.steps().values() for kind in kinds_of(step)), "held_out", 0
        )
        for name, step in self.steps().items():
            if step.share and kinds_of(step) and not self.trained_on(step):
                message = f"data.degrade.held_out keeps every kind of {name} for tests: leave one to train on"
                raise DataError(message, code="conflict", path="data.degrade.held_out", value=self.held_out)

    def steps(self) -> dict[str, Any]:
        """Return the steps by name, in their order."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "held_out"}

    def trained_on(self, step: Any) -> tuple[str, ...]:
        """Return a step's kinds without those that are held out."""
        return tuple(kind for kind in kinds_of(step) if kind not in self.held_out)


def kinds_of(step: Any) -> tuple[str, ...]:
    """Return a step's kinds; a step without has none."""
    return getattr(step, "kinds", ())

"""Facts: what a restorer must know of the sound that it was trained on."""

from dataclasses import dataclass

from unisono.data import Facts

__all__ = ["BandFacts", "RestorationFacts"]


@dataclass(frozen=True, kw_only=True)
class RestorationFacts(Facts):
    """Facts about pairs of damaged and clean sound.

    Attributes:
        sample_rate: of both, in hertz.
        held_out: texts (ids, where there is none) of the recordings that are validated on.
    """

    sample_rate: int
    held_out: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class BandFacts(RestorationFacts):
    """Facts about pairs of narrow and wide sound, both at ``sample_rate``.

    Attributes:
        from_rate: the sample rate that narrow sound would need, in hertz.
        lowest_cutoff, highest_cutoff: where narrow sound ends, in hertz.
    """

    from_rate: int
    lowest_cutoff: float
    highest_cutoff: float

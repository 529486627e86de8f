"""Facts: what an enhancer's training heard, so that a report can say which noise it knows."""

from dataclasses import dataclass

from unisono_restore.facts import RestorationFacts


@dataclass(frozen=True, kw_only=True)
class NoisyFacts(RestorationFacts):
    """Facts about pairs of noisy and clean sound.

    Attributes:
        heard: names of the kinds of damage in training, of every step with kinds.
        unheard: kinds that were held out of training.
        snr_db: from and to which ratio of speech to noise.
    """

    heard: tuple[str, ...] = ()
    unheard: tuple[str, ...] = ()
    snr_db: tuple[float, float] = (0.0, 0.0)

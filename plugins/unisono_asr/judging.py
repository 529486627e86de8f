"""Judging: a recogniser as a judge of voices, by the units that it hears (``unisono_sound.measure.judges``)."""

from functools import cached_property
from typing import Any

from unisono_sound.measure import ErrorRate, unit_error_rate

from unisono_asr.facts import digest_of
from unisono_asr.hearing import Hearing
from unisono_asr.reading import reader_of
from unisono_asr.units import spelled

__all__ = ["UnitJudge"]


class UnitJudge:
    """Counts the phones, letters or pieces that a recogniser hears otherwise than the text is read.

    Phones are those of one language as it is spoken in one place: a judge of ``en-us`` does not mark ``en-gb``. It
    knows the sentences that it was trained on where its facts list them.
    """

    def __init__(self, name: str, model: Hearing):
        self.name, self.model = name, model
        self.units = model.facts.units
        self.unit = {"phones": "phoneme", "characters": "character", "bpe": "piece"}[self.units.kind]

    @cached_property
    def reader(self) -> Any:
        """What reads the texts."""
        return reader_of(self.model.facts)

    def knows(self, language: str) -> bool:
        own = self.model.facts.language
        return language == own if self.units.kind == "phones" else language.split("-")[0] == own.split("-")[0]

    def trained_on(self, text: str) -> bool:
        return digest_of(text) in self._trained

    @cached_property
    def _trained(self) -> frozenset[str]:
        return frozenset(self.model.facts.trained_on)

    def errors(self, text: str, waveform: Any, sample_rate: int) -> ErrorRate:
        said = self.units.symbols(self.units.encode(spelled(self.reader(text))))
        heard = self.model.hear(waveform, sample_rate)
        return unit_error_rate(said, self.units.symbols(heard.tokens))

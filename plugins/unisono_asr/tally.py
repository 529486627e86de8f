"""Tally: what a recogniser hears wrong of many clips, how sure it is, and how fast; as sections of a report."""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, median
from typing import Any

from unisono.errors import RequestError
from unisono.evaluation import Row, Section
from unisono_sound.measure import (
    ErrorRate,
    character_error_rate,
    normalise_english,
    unit_error_rate,
    word_error_rate,
)

from unisono_asr.calibration import Calibration, right_ones
from unisono_asr.transcript import Transcript
from unisono_asr.units import Units, spelled

__all__ = ["UNIT_NAMES", "Tally", "sections_of"]

UNIT_NAMES = {"phones": "phone", "characters": "letter", "bpe": "piece"}


class Tally:
    """Sums over the clips that one recogniser heard; ``units`` are those that are counted."""

    def __init__(self, units: Units):
        self.of = units
        self.units, self.words, self.characters = ErrorRate(), ErrorRate(), ErrorRate()
        self.counts: list[float] = []
        self.factors: list[float] = []
        self.unit_sure, self.word_sure = Calibration(), Calibration()

    def count(self, text: str, said: Sequence[int], made: Transcript, factor: float) -> dict[str, Any]:
        """Take in a transcript of a clip whose units are ``said``, and its real-time factor; return a plain record."""
        wanted, heard = self.of.symbols(said), self.of.symbols(made.tokens)
        self.units += unit_error_rate(wanted, heard)
        self.counts.append(abs(len(heard) - len(wanted)) / len(wanted))
        told = list(zip(made.segments, made.confidences, strict=True))
        units = [(segment.label, sure) for segment, sure in told if segment.kind != "word"]
        self.unit_sure.add([sure for _, sure in units], right_ones(wanted, [label for label, _ in units]))
        words = [(normalise_english(segment.label), sure) for segment, sure in told if segment.kind == "word"]
        right = right_ones(normalise_english(text).split(), [word for word, _ in words])
        self.word_sure.add([sure for _, sure in words], right)
        return self._written(text, made.text, heard, factor)

    def count_words(
        self, text: str, said: Sequence[int], heard: str, factor: float, reader: Callable[[str], Any]
    ) -> dict[str, Any]:
        """Take in the words that another recogniser heard; its phones are those that they are read as."""
        try:
            units = [symbol for word in spelled(reader(heard)) for symbol in word] if heard else []
        except RequestError:  # nothing that can be read
            units = []
        if self.of.kind != "bpe":
            self.units += unit_error_rate(self.of.symbols(said), units)
        return self._written(text, heard, units, factor)

    def _written(self, text: str, heard: str, units: Sequence[str], factor: float) -> dict[str, Any]:
        self.words += word_error_rate([text], [heard])
        self.characters += character_error_rate([text], [heard])
        self.factors.append(factor)
        return {"text": text, "heard": heard, "units": "".join(units)}


def sections_of(tallies: Mapping[str, Tally]) -> list[Section]:
    """Return what is heard, how sure it is and how fast, of systems by name; None where a system does not say."""

    def row(
        measure: str, pick: Callable[[Tally], float | None], unit: str = "%", digits: int = 1, better: str = "lower"
    ):
        return Row(measure, {name: pick(tally) for name, tally in tallies.items()}, unit, digits, better)

    def rate(name: str) -> Callable[[Tally], float | None]:
        return lambda tally: 100 * pooled.rate if (pooled := getattr(tally, name)).total else None

    def sure(which: str, name: str) -> Callable[[Tally], float | None]:
        return lambda tally: None if (value := getattr(getattr(tally, which), name)) is None else 100 * value

    unit = UNIT_NAMES[next(iter(tallies.values())).of.kind]
    heard = [
        row(f"{unit} error rate", rate("units")),
        row("word error rate", rate("words")),
        row("character error rate", rate("characters")),
        row("token count error", lambda tally: 100 * fmean(tally.counts) if tally.counts else None),
    ]
    sureness = [
        row(f"{what}: {measure}", sure(which, name), better=better)
        for what, which in (("units", "unit_sure"), ("words", "word_sure"))
        for measure, name, better in (
            ("right", "accuracy", "higher"),
            ("mean confidence", "mean_confidence", ""),
            ("calibration error", "error", "lower"),
        )
    ]
    fast = [row("real-time factor, median", lambda tally: median(tally.factors) if tally.factors else None, "", 4)]
    return [Section("what is heard", heard), Section("how sure it is", sureness), Section("how fast it is", fast)]

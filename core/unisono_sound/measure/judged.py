"""Judged: the marks of judges over all systems of a report, the recordings' among them."""

from collections.abc import Sequence

from rich.console import Console
from rich.progress import track
from unisono.evaluation import Row

from unisono_sound.measure.judges import Judge
from unisono_sound.measure.scoring import Clip
from unisono_sound.measure.wer import ErrorRate

__all__ = ["judged_rows"]


def judged_rows(
    judges: Sequence[Judge],
    clips: Sequence[Clip],
    failures: list[dict[str, str]],
    progress: bool = True,
    reference: str = "recording",
) -> tuple[list[Row], dict[str, str]]:
    """Return a row of error rates for each judge, and as facts how many of the sentences each has marked.

    ``reference`` is the system on which a judge's own error is read. A sentence that a judge was trained on is added to
    ``failures`` once, one at which it fails for each system.
    """
    rows, facts = [], {}
    bar = {"console": Console(stderr=True), "disable": not progress}
    for judge in judges:
        pooled: dict[str, ErrorRate] = {clip.system: ErrorRate() for clip in clips}
        told: set[str] = set()
        for clip in track(clips, f"judging by {judge.name}", **bar):
            if judge.trained_on(clip.text):
                if clip.id not in told:
                    reason = "the judge was trained on this sentence, and does not mark it"
                    failures.append({"id": clip.id, "system": judge.name, "reason": reason})
                told.add(clip.id)
                continue
            try:
                pooled[clip.system] += judge.errors(clip.text, clip.waveform, clip.sample_rate)
            except Exception as error:  # one clip that cannot be heard leaves the rest in place
                reason = f"{judge.name}: {type(error).__name__}: {error}"
                failures.append({"id": clip.id, "system": clip.system, "reason": reason})
        values: dict[str, float | str | None] = {
            system: 100 * found.rate if found.total else None for system, found in pooled.items()
        }
        rows.append(Row(f"{judge.unit} error rate by {judge.name}", values, unit="%", digits=1, better="lower"))
        sentences = {clip.id for clip in clips}
        own = "" if values.get(reference) is not None else "; with no recording, its own error is not known"
        facts[f"{judge.name} marks"] = f"{len(sentences - told)} of {len(sentences)} sentences{own}"
    return rows, facts

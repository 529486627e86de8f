"""Recognisers: speech back to words, to count which of them survived.

``PocketSphinx`` carries its US-English model in its package, so that it works offline; it hears
about three words in four of a clear recording, so always read a system's error rate beside the
recordings' own. ``Whisper`` hears nearly all of them, but fetches its model on first use. Anything
with a ``transcribe`` method serves as well.

Shapes: n samples.
"""

from importlib.metadata import version
from typing import Protocol

import numpy as np
from unisono.errors import RequestError, did_you_mean
from unisono.extras import optional

from unisono_sound.measure.waveform import mono

RATE = 16000


class Recogniser(Protocol):
    """What turns a waveform into words. The answer depends on the waveform alone, not on what was
    heard before.
    """

    name: str

    def transcribe(self, waveform, sample_rate: int) -> str:
        """Return the words heard in ``waveform`` [n]; empty if there are none."""
        ...


class PocketSphinx:
    """Carnegie Mellon's hidden Markov recogniser (package ``pocketsphinx``, BSD), offline.

    Each utterance is brought to 16 kHz and a level of −20 dB, gets ``padding`` seconds of faint
    noise on either side (digital silence breaks the features), and is decoded whole, with the
    cepstral mean of that utterance: nothing carries over to the next. ``options`` are
    PocketSphinx's own settings, such as ``lw``.

    Raises ``MissingExtra`` without the package, ``RequestError`` on unknown settings.
    """

    def __init__(self, padding: float = 0.3, **options: float | int | str | bool):
        package = optional("pocketsphinx")
        settings = {"loglevel": "FATAL", "cmn": "batch", "wip": 0.2, **options}
        self.name = f"pocketsphinx {version('pocketsphinx')}"
        self.padding = padding
        try:
            self._decoder = package.Decoder(package.Config(**settings))
        except (KeyError, ValueError, RuntimeError) as error:
            raise RequestError(
                f"PocketSphinx refuses the settings {options}: {error}", code="value", path="recogniser", value=options
            ) from None

    def transcribe(self, waveform, sample_rate: int) -> str:
        samples = mono(waveform, sample_rate, RATE)
        level = float(np.sqrt(np.mean(samples**2)))
        if level == 0:
            return ""
        samples = np.pad(samples * (0.1 / level), round(self.padding * RATE))
        noise = np.random.default_rng(0).normal(scale=2.0, size=len(samples))
        pcm = np.clip(samples * 32767 + noise, -32768, 32767).astype(np.int16).tobytes()
        self._decoder.start_utt()
        self._decoder.process_raw(pcm, full_utt=True)
        self._decoder.end_utt()
        hypothesis = self._decoder.hyp()
        return hypothesis.hypstr if hypothesis else ""


class Whisper:
    """OpenAI's Whisper by way of the package ``faster-whisper`` (extra ``whisper``), without context.

    ``model`` is a size such as ``"base.en"``, fetched on first use, or the folder of a converted
    model; ``beam_size`` 1 is greedy; ``compute_type`` is faster-whisper's. Raises ``MissingExtra``
    without the package.
    """

    def __init__(
        self,
        model: str = "base.en",
        device: str = "cpu",
        num_threads: int = 1,
        beam_size: int = 1,
        compute_type: str = "default",
    ):
        package = optional("faster-whisper", "faster_whisper", "whisper")
        self.name = f"whisper {model}"
        self.beam_size = beam_size
        self._model = package.WhisperModel(model, device=device, cpu_threads=num_threads, compute_type=compute_type)

    def transcribe(self, waveform, sample_rate: int) -> str:
        segments, _ = self._model.transcribe(
            mono(waveform, sample_rate, RATE),
            language="en",
            beam_size=self.beam_size,
            temperature=0.0,
            condition_on_previous_text=False,
        )
        return " ".join(segment.text.strip() for segment in segments)


RECOGNISERS = {"pocketsphinx": PocketSphinx, "whisper": Whisper}


def recogniser(name: str = "pocketsphinx", **options) -> Recogniser:
    """Make a recogniser by name: ``pocketsphinx``, ``whisper`` or ``whisper:SIZE_OR_FOLDER``."""
    kind, _, model = name.partition(":")
    if kind not in RECOGNISERS:
        message = f"no recogniser is called {kind!r}{did_you_mean(kind, RECOGNISERS)}"
        raise RequestError(message, code="unknown", path="recogniser", value=kind)
    if model:
        options["model"] = model
    return RECOGNISERS[kind](**options)

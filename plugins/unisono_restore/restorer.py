"""Restorer: what every model of this plugin can be asked: a sound in, the same sound without a damage out.

::

    file, samples ─ every channel ─ model's rate ─ pieces ─ restore ─ (strength) ─ joined ─ Audio

The output is at the model's rate, as long as the input to the sample (rounded, where the rate differs), with the
input's channels, each restored by itself. Where the input is silent the output is.

Shapes: c channels, n samples.
"""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from unisono import Model
from unisono.batching import Progress
from unisono.errors import CheckpointError, RequestError
from unisono.media import Audio
from unisono.model import OnStep
from unisono_sound.precision import check_precision

from unisono_restore.facts import RestorationFacts
from unisono_restore.overlap import CrossFade, OverlapSave
from unisono_restore.request import RestorationRequest
from unisono_restore.sounds import Sound, sound_in

if TYPE_CHECKING:
    from unisono_restore.trial import Baseline, Condition

__all__ = ["Restorer"]


class Restorer(Model):
    """The base of restorers: ``pieces`` and ``restore`` are a model's own, the rest is here."""

    Request: ClassVar[Any] = RestorationRequest
    """The kind of request; open, so that each restorer states its own, derived from this one. ``Facts`` likewise."""
    Media: ClassVar[type[Audio]] = Audio
    Facts: ClassVar[Any] = RestorationFacts
    facts: Any
    text_field: ClassVar[str] = "audio"
    pipeline_tag: ClassVar[str] = "audio-to-audio"
    deterministic: ClassVar[bool] = True

    # ---- what a restorer defines ---------------------------------------------------------------

    def pieces(self, streamed: bool) -> OverlapSave | CrossFade:
        """Say how a long sound is divided; smaller pieces may serve a stream, where they change nothing."""
        raise TypeError(f"{type(self).__name__} defines no pieces()")

    def survey(self, request: Any, sound: Sound) -> Any:
        """Return what must be known of the whole sound before its first sample is restored; ``restore`` gets it.

        Raises ``RequestError`` where the sound cannot be restored.
        """
        return None

    def restore(self, wave: Float[Tensor, "c n"], known: Any) -> Float[Tensor, "c n"]:
        """Restore a stretch at the model's rate, each channel by itself; it is not silent altogether."""
        raise TypeError(f"{type(self).__name__} defines no restore()")

    def conditions(self) -> "Sequence[Condition]":
        """Return the damages that ``unisono evaluate`` measures it on."""
        raise TypeError(f"{type(self).__name__} defines no conditions()")

    def baselines(self) -> "Sequence[Baseline]":
        """Return what ``unisono evaluate`` sets beside it."""
        return ()

    # ---- restoring -----------------------------------------------------------------------------

    @property
    def sample_rate(self) -> int:
        """The rate of what comes out, in hertz."""
        return self.facts.sample_rate

    @property
    def latency_seconds(self) -> float:
        """How much of a sound ``stream`` waits for before its first piece."""
        return self.pieces(streamed=True).latency / self.sample_rate

    def restored(self, request: Any, sound: Sound, streamed: bool = False) -> Iterator[Float[Tensor, "c n"]]:
        """Yield a sound restored, piece by piece, at the model's rate and on the CPU.

        Raises ``RequestError`` where it is too short for a single sample, where ``survey`` does, and where a file turns
        out to be damaged.
        """
        check_precision(self)
        if not sound.length_at(self.sample_rate):
            raise RequestError(
                f"{sound.num_samples} samples at {sound.rate} Hz are too short: none is left at {self.sample_rate} Hz",
                code="range",
                path="samples" if request.audio is None else "audio",
                value=sound.num_samples,
            )
        function = partial(self._stretch, request.strength, self.survey(request, sound))
        yield from self.pieces(streamed)(sound.at(self.sample_rate), function)

    @torch.no_grad()
    def _stretch(self, strength: float, known: Any, wave: Float[Tensor, "c n"], start: int) -> Float[Tensor, "c n"]:
        if not strength or not wave.any():
            return wave
        made = self.restore(wave.to(self.device), known).float().cpu()
        return made if strength == 1 else torch.lerp(wave, made, strength)

    # ---- requests ------------------------------------------------------------------------------

    def synthesize(
        self, requests: Sequence[Any], generator: torch.Generator | None = None, on_step: OnStep | None = None
    ) -> list[Audio]:
        """Return each sound restored. Deterministic."""
        progress, made = Progress(on_step, len(requests)), []
        for request in requests:
            pieces = list(self.restored(request, sound_in(request, self.sample_rate)))
            made.append(Audio(torch.cat(pieces, dim=1).numpy(), self.sample_rate))
            progress.advance()
        return made

    def stream(self, request: Any, generator: torch.Generator | None = None) -> Iterator[Audio]:
        """Yield the sound restored, each piece once ``latency_seconds`` of what follows it are there."""
        for piece in self.restored(request, sound_in(request, self.sample_rate), streamed=True):
            yield Audio(piece.numpy(), self.sample_rate)

    def check_source(self, facts: dict[str, Any]) -> None:
        """Refuse a start from a restorer of another sample rate."""
        its = facts.get("sample_rate")
        if its != self.sample_rate:
            raise CheckpointError(
                f"run.init_from works at {its} Hz, the data at {self.sample_rate} Hz: prepare the data likewise",
                code="conflict",
                path="run.init_from",
                value=its,
            )

    def preview_requests(self) -> list[RestorationRequest]:
        """Two buzzes, of half a second and of a third of it."""
        seconds = torch.arange(self.sample_rate // 2) / self.sample_rate
        phase = 2 * math.pi * (110 * seconds + 55 * seconds.square())
        buzz = 0.1 * sum((torch.sin(k * phase) / k for k in range(1, 12)), torch.zeros_like(phase))
        return [self.Request(samples=buzz.tolist()), self.Request(samples=buzz[: len(buzz) // 3].tolist())]

    def check_requests(self) -> list[RestorationRequest]:
        """The previews, another rate, two channels, silence, little strength and none."""
        first, second = (request.samples for request in self.preview_requests())
        assert first is not None and second is not None
        others = [
            {"samples": first, "sample_rate": 22050},
            {"samples": [second, second[::-1]]},
            {"samples": [0.0] * len(second)},
            {"samples": second, "strength": 0.0},
            {"samples": second, "strength": 0.5},
        ]
        return [*self.preview_requests(), *(self.Request(**fields) for fields in others)]

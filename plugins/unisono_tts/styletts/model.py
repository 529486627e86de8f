"""StyleTTS: a voice that takes timbre and manner from a style, and the style from a recording.

Li et al., "StyleTTS: A Style-Based Generative Model for Natural and Diverse Text-to-Speech Synthesis"
(arXiv:2205.15439). Default sizes are the published ones; the two stages of training are described in `training`.

Differences:

- the aligner is the toolkit's own (arXiv:2108.10447); its posterior is the soft alignment, and its loss stands in for
  the recogniser's cross entropy;
- pitch and energy are measured before training, not by a pitch network, and enter as logarithms, standardised over the
  corpus, interpolated where there is no voice; curves keep their level (see `decoder`), so that pitch can be shifted;
- the alignment is of frames and read by pairs of them (see `halves`); durations are rounded cumulatively, and those of
  an utterance's first and last symbol, its silences, are learnt too;
- norms, pooling and recurrence see an item's own frames only, so that items share batches; clips have one length, and
  shorter utterances are clips as well;
- a stretched utterance keeps its alignment, stretched likewise; each item of a batch is stretched by its own factor;
- features of the discriminator are compared by the mean over items, where the published code adds them up.

Shapes: b batch, s symbols, t frames, k numbers of a style.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor
from unisono.errors import RequestError
from unisono.request import FILE
from unisono_sound.voice import MarkedRequest, Reading, SpeechRequest

from unisono_tts.acoustic import Asked, Spoken
from unisono_tts.styletts.halves import in_pairs
from unisono_tts.styletts.network import VoiceNetwork
from unisono_tts.styletts.reference import read_reference, sound_of
from unisono_tts.styletts.sizes import StyleGame, StyleObjective, StyleSchedule, StyleSizes
from unisono_tts.styletts.training import LearnsStyle

SEMITONE = math.log(2) / 12
DECIBEL = math.log(10) / 20


class StyleTTS(LearnsStyle):
    """Text to speech by styles.

    ::

        recording ─ style encoder ─ style ──────┬────────────┬───────────┐
        symbols ─ text encoder ─┬─ prosody ─ durations ─ pitch, energy ─ decoder ─ mel
                                └──────────── on pairs of frames ────────┘

    Args:
        network: sizes of the networks.
        objective: weights of the losses.
        game: the discriminator and when it begins.
        schedule: what is learnt when.
        max_piece_characters: longest piece of a text that is spoken at once.
    """

    class Request(MarkedRequest):
        """What can be asked of a voice with styles."""

        style: str | None = Field(
            default=None,
            description="path of a recording whose voice and manner to take; default: the speaker's mean style",
            json_schema_extra=FILE,
        )
        pitch_shift: float = Field(default=0.0, ge=-12, le=12, description="higher or lower, in semitones")
        pitch_range: float = Field(default=1.0, ge=0, le=3, description="livelier or flatter: 0 is monotone")
        energy: float = Field(default=0.0, ge=-12, le=12, description="louder or softer voice, in decibels")

        @model_validator(mode="after")
        def _one_voice(self):
            if self.style is not None and self.speaker is not None:
                raise RequestError("a style says whose voice it is: leave speaker out", code="conflict", path="speaker")
            return self

    text_field: ClassVar[str] = "text"
    bends: ClassVar[bool] = True

    def __init__(
        self,
        *,
        network: StyleSizes = StyleSizes(),  # noqa: B008
        objective: StyleObjective = StyleObjective(),  # noqa: B008
        game: StyleGame = StyleGame(),  # noqa: B008
        schedule: StyleSchedule = StyleSchedule(),  # noqa: B008
        max_piece_characters: int = 220,
    ):
        super().__init__()
        self.network, self.objective, self.game, self.schedule = network, objective, game, schedule
        self.max_piece_characters = max_piece_characters
        self.scoring = "logistic"
        self.adversarial_weight, self.feature_weight = game.adversarial_weight, game.feature_weight
        self.gradient_weight = game.gradient_weight
        alone = 0 if schedule.prosody_start == 0 else schedule.align_steps
        self.pretrain_steps = max(game.pretrain_steps, alone)
        self._free: set[str] | None = None  # what the recipe does not freeze, by name

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build for the symbols, speakers, and statistics of mel, pitch and energy of the corpus."""
        super().build(facts)
        speakers = self.voice.speakers
        for name in ("pitch", "energy"):
            spreads = [getattr(self.facts, name)[speaker] for speaker in speakers]
            means = torch.tensor([spread.mean for spread in spreads], dtype=torch.float64)
            variance = torch.tensor([spread.std for spread in spreads], dtype=torch.float64).square().mean()
            spread = (variance + means.var(correction=0)).sqrt()
            self.register_buffer(f"{name}_mean", means.mean().float(), persistent=False)
            self.register_buffer(f"{name}_std", spread.float(), persistent=False)
        self.net = VoiceNetwork(
            len(self.voice.symbols), self.mel_spec.n_mels, self.network, not self.facts.given_durations
        )
        self.register_buffer("style_total", torch.zeros(len(speakers), self.network.style_dim))
        self.register_buffer("style_count", torch.zeros(len(speakers)))
        self.register_buffer("trained", torch.zeros(2, dtype=torch.int64))
        self.register_buffer("aligned", torch.zeros((), dtype=torch.int64))

    def check_source(self, facts: dict[str, Any]) -> None:
        """Refuse also a second stage on data whose statistics are not those of the first."""
        super().check_source(facts)
        if self.schedule.prosody_start == 0:
            self.check_same_facts(facts, ("speakers", "mel_mean", "mel_std", "pitch", "energy"))

    # ---- speaking ------------------------------------------------------------------------------

    def say(self, symbols: Int[Tensor, "b s"], lengths: Int[Tensor, " b"], readings: Sequence[Reading]) -> Spoken:
        """Speak a padded batch of pieces: durations and curves as the style predicts them, and as is asked."""
        if not self.trained[1]:
            message = (
                "this voice has learnt no prosody, the second stage of its training: "
                "train tts/styletts-stage2 with --run.init_from=RUN"
            )
            raise RequestError(message, code="unsupported", path="text")
        asked, prosody = self.asked(readings, symbols.shape[1]), self.net.prosody
        styles = self.styles(readings)
        text = self.net.text(symbols, lengths)
        encoded = prosody.encode(text, styles, lengths)
        frames = 2 * prosody.durations(encoded, lengths)
        alignment = self.lay(frames.clamp(0, self.network.max_frames_per_symbol), lengths, asked, readings)
        rows = in_pairs(alignment).matrix().to(text.dtype)
        pitch, energy = prosody.curves(rows @ encoded, styles, alignment.tgt_lengths)
        size = alignment.num_frames
        pitch, energy = pitch[:, :size], energy[:, :size]
        pitch = self._bend(pitch, asked, alignment)
        energy, decibels = self._swell(energy, asked)
        hertz = (pitch * self.pitch_std + self.pitch_mean).exp()
        odd = (0, size % 2)
        given = (torch.nn.functional.pad(curve * alignment.tgt_mask, odd) for curve in (pitch, energy))
        mel = self.net.decoder(rows @ text, *given, styles, alignment.tgt_lengths)[:, :size]
        tracks = {"pitch": alignment.pool(hertz.log()).exp(), "energy": alignment.pool(decibels)}
        return Spoken(mel * self.mel_std + self.mel_mean, alignment, tracks)

    def asked(self, readings: Sequence[Reading], num_symbols: int) -> Asked:
        asked = super().asked(readings, num_symbols)
        for name in ("pitch_shift", "pitch_range", "energy"):
            asked[name] = torch.tensor([getattr(reading.request, name) for reading in readings], dtype=torch.float64)
        bend = asked["symbol_pitch"] = torch.zeros(len(readings), num_symbols, dtype=torch.float64)
        for row, reading in enumerate(readings):
            bend[row, : len(reading.ids)] = torch.tensor(reading.pitch or [0.0] * len(reading.ids))
        return {name: value.to(self.pitch_std.device) for name, value in asked.items()}

    def styles(self, readings: Sequence[Reading]) -> Float[Tensor, "b k"]:
        """Return the styles that readings ask for: of recordings, each encoded by itself, or speakers' means."""
        made: dict[str, Tensor] = {}
        rows = []
        for reading in readings:
            path = reading.request.style
            if path is None:
                rows.append(self._mean_style(reading.speaker))
                continue
            if path not in made:
                made[path] = self.style_of(path)
            rows.append(made[path])
        return torch.stack(rows)

    def style_of(self, path: str) -> Float[Tensor, " k"]:
        """Return the style of a recording; see ``read_reference`` for what is refused."""
        mel = read_reference(path, self.mel_spec, sound_of(self.recipe)).to(self.device)
        return self.net.style(self.standardised(mel)[None], torch.tensor([len(mel)], device=self.device))[0]

    def _mean_style(self, speaker: int) -> Float[Tensor, " k"]:
        count = self.style_count[speaker]
        if not count:
            name = self.voice.speakers[speaker]
            message = f"the speaker {name!r} has no style yet, since training has met no recording: give style"
            raise RequestError(message, code="missing", path="style", value=name)
        return self.style_total[speaker] / count

    def _bend(self, pitch: Float[Tensor, "b t"], asked: Asked, alignment: Any) -> Float[Tensor, "b t"]:
        """Return a standardised pitch with the range about the piece's mean and the shifts that are asked for."""
        inside = alignment.tgt_mask
        mean = (pitch * inside).sum(1, keepdim=True) / inside.sum(1, keepdim=True).clamp(min=1)
        shift = (asked["pitch_shift"][:, None] + alignment.expand(asked["symbol_pitch"])) * SEMITONE
        return mean + (pitch - mean) * asked["pitch_range"][:, None].float() + shift.float() / self.pitch_std

    def _swell(self, energy: Float[Tensor, "b t"], asked: Asked) -> tuple[Float[Tensor, "b t"], Float[Tensor, "b t"]]:
        """Return a standardised energy with the gain that is asked for, and itself in decibels."""
        norm = (energy * self.energy_std + self.energy_mean).expm1().clamp(min=1e-3)
        norm = norm * (asked["energy"][:, None] * DECIBEL).exp().float()
        return (norm.log1p() - self.energy_mean) / self.energy_std, norm.log() / DECIBEL

    def preview_requests(self) -> list[SpeechRequest]:
        """Return previews of a voice that can speak; none in the first stage."""
        return super().preview_requests() if self.trained[1] else []

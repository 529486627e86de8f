"""ZipVoice: speech drawn by a flow in the voice of a prompt, whose text and sound the network reads with the rest.

Zhu et al., "ZipVoice: Fast and High-Quality Zero-Shot Text-to-Speech with Flow Matching" (arXiv:2506.13053). Defaults
are the published sizes. A Zipformer reads the text; its vectors, spread over the frames, the noisy mel and the mel of
what is known are the field's input. Differences:

- the length of a text is predicted, and a prompt says how fast its speaker is; see ``lengths``. With ``durations:
  predicted`` every symbol has its own length, so that words have times and pauses can be asked for;
- a prompt's symbols share the prompt's frames, and the text's its own, where published ones share the sum, and meet
  elsewhere than the sounds do; the last frames are shared too, where published ones go to a filler;
- known frames walk straight from their noise to themselves, as in training, where published ones are drawn and dropped;
- a speaker of the corpus can be asked for by name, in place of a prompt: the symbols are told whose they are, or that
  it is not said;
- mels are standardised, times run from noise at 1 to data at 0, and the optimiser is the recipe's; ``layer`` says what
  of the Zipformer is left out.

Distillation to fewer steps is not here.

Shapes: b batch, s symbols, t frames, m mel bins, d channels. Durations are in frames; 0 on padding.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from unisono import Audio
from unisono.diffusion import Flow
from unisono.duration import Alignment, durations_from_log
from unisono.model import OnStep
from unisono.nn.temporal import TemporalPredictor
from unisono_sound.voice import Reading, SpeechRequest

from unisono_tts.acoustic import Asked, Spoken
from unisono_tts.flow import FlowVoice
from unisono_tts.learning import LearnsAlignment
from unisono_tts.sizes import AlignerSchedule, PredictorSizes
from unisono_tts.streaming import FIRST_PIECE_CHARACTERS
from unisono_tts.zipvoice.infilling import Canvas
from unisono_tts.zipvoice.laying import Laid, join, lay, symbols_of
from unisono_tts.zipvoice.lengths import asked_frames, check_length, evenly, pace_of, singly
from unisono_tts.zipvoice.parts import mask_of
from unisono_tts.zipvoice.prompt import Prompt, read_prompt
from unisono_tts.zipvoice.request import ZipVoiceRequest
from unisono_tts.zipvoice.sizes import FieldSizes, Infilling, ReaderSizes
from unisono_tts.zipvoice.training import infilling_losses, taught
from unisono_tts.zipvoice.zipformer import make_field, make_reader

USUAL_FRAMES = 6.0
"""Frames of a symbol that the predictor begins with."""


class ZipVoice(FlowVoice, LearnsAlignment):
    """Text to speech by infilling.

    ::

        prompt's symbols, symbols ─ Zipformer ─┬─ over their frames ──────────┐
                                               └─ duration predictor ─ share  ├ concat ─ Zipformer × num_steps ─ mel
        prompt's mel, 0 ──────────────────────────────────────────────────────┤
        noise · temperature ─ x ──────────────────────────────────────────────┘

    Args:
        text, field: sizes of the Zipformer that reads the text and of the one that answers with the flow.
        predictor: of lengths.
        infilling: how the field is learnt, and ``durations: uniform`` or ``predicted``.
        aligner: how the alignment is learnt, for predicted durations.
        time_shift: above 1 steps are smaller near the noise; 2 is the published ``t_shift`` of 0.5.
        max_piece_characters: longest piece of a text that is spoken at once.
    """

    Request: ClassVar[type[SpeechRequest]] = ZipVoiceRequest
    salt: ClassVar[str] = "zipvoice"
    training_only: ClassVar[tuple[str, ...]] = ()  # an aligner hears where a prompt's symbols are

    def __init__(
        self,
        *,
        text: ReaderSizes = ReaderSizes(),  # noqa: B008
        field: FieldSizes = FieldSizes(),  # noqa: B008
        predictor: PredictorSizes = PredictorSizes(),  # noqa: B008
        infilling: Infilling = Infilling(),  # noqa: B008
        aligner: AlignerSchedule = AlignerSchedule(),  # noqa: B008
        time_shift: float = 2.0,
        max_piece_characters: int = 220,
    ):
        super().__init__()
        self.text_sizes, self.field_sizes, self.predictor = text, field, predictor
        self.infilling, self.align_weight, self.schedule = infilling, infilling.align_weight, aligner
        self.time_shift, self.max_piece_characters = time_shift, max_piece_characters
        self.flow = Flow(std=0.0)

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build for the symbols, speakers and mel statistics of the corpus."""
        super().build(facts)
        dim, n_mels = self.text_sizes.dim, self.mel_spec.n_mels
        self.embedding = nn.Embedding(len(self.voice.symbols), dim)
        self.speaker = nn.Embedding(len(self.voice.speakers) + 1, dim)  # the last one is nobody that is known
        self.text = make_reader(dim, n_mels, self.text_sizes)
        self.durations = TemporalPredictor(n_mels, self.predictor.dim, dropout=self.predictor.dropout)
        nn.init.constant_(self.durations.out.bias, math.log1p(USUAL_FRAMES))
        self.field = make_field(3 * n_mels, n_mels, self.field_sizes)
        self.aligner = None
        if not self.uniform:
            self.build_aligner(dim)

    @property
    def uniform(self) -> bool:
        """Whether all symbols of a text have the same length."""
        return self.infilling.durations == "uniform"

    # ---- the network ---------------------------------------------------------------------------

    def encode(
        self, symbols: Int[Tensor, "b s"], lengths: Int[Tensor, " b"], speaker: Int[Tensor, " b"]
    ) -> tuple[Float[Tensor, "b s m"], Float[Tensor, "b s"]]:
        """Return what each symbol tells its frames, and its predicted log duration."""
        read = self.text(self.embedding(symbols) + self.speaker(speaker)[:, None], lengths)
        return read, self.durations(read.detach(), mask_of(lengths, symbols.shape[1]))

    def say(self, symbols: Int[Tensor, "b s"], lengths: Int[Tensor, " b"], readings: Sequence[Reading]) -> Spoken:
        """Speak a padded batch of pieces, each behind its prompt where it has one; the prompt is not said again."""
        asked, prompts = self.asked(readings, symbols.shape[1]), self.prompts(readings)
        rows = [torch.tensor(symbols_of(*pair)) for pair in zip(readings, prompts, strict=True)]
        counts = torch.tensor([len(row) for row in rows], device=symbols.device)
        nobody = torch.tensor([prompt is not None for prompt in prompts], device=symbols.device)
        speaker = torch.where(nobody, len(self.voice.speakers), asked["speaker"])
        text, log_durations = self.encode(pad_sequence(rows, batch_first=True).to(symbols), counts, speaker)
        frames = durations_from_log(log_durations, self.predictor.max_frames_per_symbol)
        laid = [None if prompt is None else lay(self, prompt, frames[row]) for row, prompt in enumerate(prompts)]
        alignment = self.share(frames, laid, lengths, asked, readings)
        canvas = self.canvas(join(alignment, laid), text, laid, readings)
        filled = self.fill(canvas, [reading.request for reading in readings])
        first = torch.tensor([0 if one is None else len(one.prompt.mel) for one in laid], device=symbols.device)
        places = first[:, None] + torch.arange(alignment.num_frames, device=symbols.device)
        index = places.clamp(max=filled.shape[1] - 1)[..., None].expand(-1, -1, filled.shape[2])
        mel = filled.gather(1, index) * alignment.tgt_mask[..., None]
        return Spoken(mel * self.mel_std + self.mel_mean, alignment)

    def prompts(self, readings: Sequence[Reading]) -> list[Prompt | None]:
        """Return the prompt of each reading's request, read once for pieces of one request."""
        read: dict[int, Prompt | None] = {}
        for reading in readings:
            if id(reading.request) not in read:
                read[id(reading.request)] = read_prompt(self, reading.request)
        return [read[id(reading.request)] for reading in readings]

    def share(
        self,
        predicted: Float[Tensor, "b n"],
        laid: Sequence[Laid | None],
        lengths: Int[Tensor, " b"],
        asked: Asked,
        readings: Sequence[Reading],
    ) -> Alignment:
        """Return how the symbols of the texts lie on the frames to be filled in; see ``lengths``."""
        own = torch.zeros(asked["pace"].shape, device=predicted.device)
        for row, (reading, one) in enumerate(zip(readings, laid, strict=True)):
            count, before = len(reading.ids), 0 if one is None else len(one.durations)
            pace = 1.0 if one is None else pace_of(predicted[row, :before], int(one.durations.sum()))
            own[row, :count] = predicted[row, before : before + count] * pace
        seconds = self.mel_spec.hop_length / self.mel_spec.sample_rate
        totals = [asked_frames(reading, seconds) for reading in readings]
        if self.uniform:
            return evenly(own, lengths, readings, totals)
        return singly(own, lengths, asked["pace"], readings, totals)

    def canvas(
        self, over: Alignment, text: Float[Tensor, "b n m"], laid: Sequence[Laid | None], readings: Sequence[Reading]
    ) -> Canvas:
        """Return what is known of each item, and what of it is to be filled in."""
        mel = torch.zeros(len(laid), over.num_frames, self.mel_spec.n_mels, device=text.device)
        masked = over.tgt_mask.clone()
        for row, one in enumerate(laid):
            if one is not None:
                mel[row, : len(one.prompt.mel)] = one.prompt.mel
                masked[row, : len(one.prompt.mel)] = False
        scale = torch.tensor([reading.request.guidance_scale for reading in readings], device=text.device)
        start = self.start(readings, over.tgt_lengths.tolist())
        return Canvas(over.expand(text), mel, masked, over.tgt_lengths, start, scale)

    def fill(self, canvas: Canvas, requests: Sequence[ZipVoiceRequest]) -> Float[Tensor, "b t m"]:
        """Return a canvas filled in as its requests ask, standardised; what is known stays, to the bit."""

        def velocity(
            x: Float[Tensor, "n t m"], t: Float[Tensor, " n"], row: Int[Tensor, " n"]
        ) -> Float[Tensor, "n t m"]:
            return canvas.velocity(self.field, x, t, row)

        return canvas.finished(self.draw(velocity, canvas.start, requests, self.time_shift))

    def branches(self, request: ZipVoiceRequest) -> int:
        return 1 if request.guidance_scale == 1 else 2

    def synthesize(
        self,
        requests: Sequence[Any],
        generator: torch.Generator | None = None,
        on_step: OnStep | None = None,
    ) -> list[Audio]:
        for request in requests:
            check_length(self, request)
        return super().synthesize(requests, generator, on_step)

    def stream(self, request: Any, generator: torch.Generator | None = None) -> Iterator[Audio]:
        check_length(self, request, FIRST_PIECE_CHARACTERS)
        return super().stream(request, generator)

    def check_requests(self) -> list[Any]:
        """Return what the conformance kit tries; a length that is asked for is a short one."""
        tried = super().check_requests()
        return [one.model_copy(update={"seconds": min(one.seconds, 3.0)}) if one.seconds else one for one in tried]

    # ---- training ------------------------------------------------------------------------------

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        return infilling_losses(self, batch)

    def teacher_forced(self, batch: dict[str, Any]) -> list[Float[Tensor, "t m"]]:
        """Return log mels drawn with the recordings' own lengths, to tune a vocoder on."""
        return taught(self, batch)

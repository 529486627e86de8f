"""SoundStorm: all tokens of a codec from semantic tokens, level by level, each level in a few passes or one.

Borsos et al., "SoundStorm: Efficient Parallel Audio Generation" (arXiv:2305.09636). Defaults are the published sizes:
12 layers of 1024 channels, 16 heads, feed-forward 4096, kernel 5.

Differences:
- Semantic tokens are phonemes with durations, or clusters of HuBERT (``semantic.py``), at the codec's own rate;
  published, w2v-BERT's at 25 a second, each twice.
- Known speakers have an embedding; an item need not begin with a prompt, and a prompt may be another recording
  (``voice.py``).
- The share of masked tokens is that of a plan which is about to decode: ⌈cos(πu/2) · n⌉ of n, where each is drawn by
  itself with that chance as published.
- A predictor of durations, and an aligner for prompts with a text, are trained beside, so that the model is a voice.

Shapes: b batch, t codec frames, q levels, v codebook, s symbols, d channels.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.duration import log_durations
from unisono.errors import RecipeError, RequestError
from unisono.masked import Canvas, Layout, Strategy, make_strategy
from unisono.masked.model import StreamNetwork
from unisono.masked.training.corrupt import Corrupted
from unisono_sound.precision import check_precision
from unisono_sound.voice import Reading, SpeechRequest

from unisono_codec.voices.conformer import Conformer
from unisono_codec.voices.listener import Listener
from unisono_codec.voices.pacing import PromptAligner, SymbolDurations
from unisono_codec.voices.passages import FIRST_PIECE_CHARACTERS, SpokenRequest, VoiceRequest, Window
from unisono_codec.voices.sizes import NETWORK, ConformerSizes, DecodingDefaults, DurationSizes, Objective
from unisono_codec.voices.token_model import TokenModel
from unisono_codec.voices.tokens import TokenEmbedding, TokenHeads


class SoundStorm(TokenModel):
    """A Conformer over summed tokens, with a head per level.

    ::

        text ─ front end ─ symbols ─ durations ─ stretch ─┐
                                          semantic [t] ───┤
        tokens [t, q], some masked ─ Σ over levels ───────┴─ Conformer ─ head of the level in question ─ tokens
                                                                                             │
                                                                                 codec ─ sound

    Args:
        num_levels: the codec's first levels that are made; all of them where None.
        network: sizes of the Conformer.
        table_dim: channels of the tokens' tables, where they are to be narrower than ``dim``.
        level_weights: how often each level is drawn in training; equally often where None, as published.
        max_frames: codec frames that are filled at once; longer passages go window by window.
        durations: sizes of what predicts durations.
        objective: weights of the losses.
        max_piece_characters: longest piece of a text that is spoken at once.
        decoding: how tokens are filled, where a request does not say.
    """

    Request: ClassVar[type[VoiceRequest]] = VoiceRequest
    choices: ClassVar[dict[str, str]] = {"speaker": "speakers"}
    pipeline_tag: ClassVar[str] = "text-to-speech"
    salt: ClassVar[str] = "soundstorm"
    flat: ClassVar[dict[str, str]] = {
        **NETWORK,
        "predictor_dim": "durations.dim",
        "predictor_dropout": "durations.dropout",
        "max_frames_per_symbol": "durations.max_frames_per_symbol",
        **{name: f"objective.{name}" for name in ("duration_weight", "align_weight", "label_smoothing")},
        **{name: f"decoding.{name}" for name in ("level_steps", "temperature", "choice_temperature")},
    }
    rows_at_once: ClassVar[int] = 16
    streams_the_whole: ClassVar[bool] = False  # the first piece of a stream is a short one, so texts are cut elsewhere
    roles: ClassVar[dict[str, str]] = {
        **TokenModel.roles,
        "listener": "tells how alike two voices are; evaluation uses it where it is there",
    }
    component_kinds: ClassVar[dict[str, Any]] = {**TokenModel.component_kinds, "listener": Listener}
    builtin_components: ClassVar[dict[str, str]] = {"untrained": "unisono_codec.codecs.untrained:rvq"}

    def __init__(
        self,
        *,
        num_levels: int | None = None,
        network: ConformerSizes = ConformerSizes(),  # noqa: B008
        table_dim: int | None = None,
        level_weights: list[float] | None = None,
        max_frames: int = 512,
        durations: DurationSizes = DurationSizes(),  # noqa: B008
        objective: Objective = Objective(),  # noqa: B008
        max_piece_characters: int = 160,
        decoding: DecodingDefaults = DecodingDefaults(),  # noqa: B008
    ):
        super().__init__()
        if num_levels is not None and num_levels < 1:
            message = f"model.num_levels={num_levels} must be at least 1"
            raise RecipeError(message, code="range", path="model.num_levels", value=num_levels)
        if max_frames < 16:
            message = f"model.max_frames={max_frames} must be at least 16"
            raise RecipeError(message, code="range", path="model.max_frames", value=max_frames)
        if decoding.level_steps is not None and min(decoding.level_steps, default=0) < 1:
            message = f"model.decoding.level_steps={decoding.level_steps} must have at least 1 for each level"
            raise RecipeError(message, code="range", path="model.decoding.level_steps", value=decoding.level_steps)
        self.temperatures = {"temperature": decoding.temperature, "choice_temperature": decoding.choice_temperature}
        for name, value in self.temperatures.items():
            if not 0 <= value < math.inf:
                message = f"model.decoding.{name}={value} must be at least 0"
                raise RecipeError(message, code="range", path=f"model.decoding.{name}", value=value)
        self.wanted_levels, self.sizes, self.duration_sizes = num_levels, network, durations
        self.table_dim, self.level_weights = table_dim, level_weights
        self.max_frames = max_frames
        self.duration_weight, self.align_weight = objective.duration_weight, objective.align_weight
        self.label_smoothing = objective.label_smoothing
        self.max_piece_characters = max_piece_characters
        self.wanted_steps = decoding.level_steps

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build for the codec, the semantic tokens, the symbols and the speakers of the data."""
        super().build(facts)
        streams = self.facts.codec["streams"]
        if any(group for group, _ in streams):
            message = "the codec has groups of residual levels, which codec/soundstorm does not make"
            raise RecipeError(message, code="unsupported", path="codec")
        self.num_levels = self.wanted_levels or len(streams)
        if self.num_levels > len(streams):
            message = f"model.num_levels={self.num_levels}, but the codec has {len(streams)} levels"
            raise RecipeError(message, code="range", path="model.num_levels", value=self.num_levels)
        self.masking = self.masking_of(self.num_levels, self.level_weights, "level_weights", "levels")
        self.level_steps = self.wanted_steps or self.steps_of(16)
        if len(self.level_steps) != self.num_levels:
            message = (
                f"model.level_steps has {len(self.level_steps)} numbers for {self.num_levels} levels: give one for each"
            )
            raise RecipeError(message, code="shape", path="model.decoding.level_steps", value=len(self.level_steps))
        speakers = len(self.voice.speakers)
        self.net = SoundStormNet(
            num_levels=self.num_levels,
            codebook_size=self.codebook_size,
            vocabulary=self.spec.vocabulary,
            num_speakers=speakers,
            sizes=self.sizes,
            table_dim=self.table_dim,
        )
        if self.speaks:
            symbols = len(self.voice.symbols)
            self.durations = SymbolDurations(
                symbols,
                speakers,
                dim=self.duration_sizes.dim,
                dropout=self.duration_sizes.dropout,
                max_frames=float(self.duration_sizes.max_frames_per_symbol),
            )
            self.aligner = PromptAligner(self.sizes.dim, symbols, self.duration_sizes.dim)

    def read_source(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Take the first levels of a voice that makes more of them; weights of as many are taken as they are."""
        first = {
            "net.heads.weight": (0, self.num_levels),
            "net.heads.bias": (0, self.num_levels),
            "net.embedding.table.weight": (0, self.num_levels * (self.codebook_size + 1)),
            "net.embedding.widen.weight": (1, self.num_levels * (self.table_dim or 0)),
        }
        cut = {
            name: state[name].narrow(axis, 0, size)
            for name, (axis, size) in first.items()
            if name in state and state[name].shape[axis] > size
        }
        return {**state, **cut}

    def layout(self, num_positions: int, request: VoiceRequest | None = None) -> Layout:
        """Return what each place of a canvas is: frame · q + level, group = level."""
        return Layout.levels(num_positions, self.num_levels, self.codebook_size)

    # ---- training ------------------------------------------------------------------------------

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        codes, lengths = batch["codes"][..., : self.num_levels], batch["lengths"]
        mask = torch.arange(codes.shape[1], device=codes.device) < lengths[:, None]
        given = torch.arange(codes.shape[1], device=codes.device) < batch["given"][:, None]
        semantic = torch.where(given & batch["hidden"][:, None], self.spec.vocabulary, batch["semantic"])
        speaker = torch.where(batch["anonymous"], len(self.voice.speakers), batch["speaker"])
        corrupted = self.corrupted(codes, lengths, given, self.row_seeds(batch))
        seen, known = (x.view(codes.shape) for x in (corrupted.canvas.tokens, corrupted.canvas.known))
        first = torch.arange(self.num_levels) == 0
        parts = self.token_losses(self.net(seen, known, semantic, speaker, mask), codes, corrupted, {"tokens_0": first})
        if self.speaks:
            parts |= self.symbol_losses(batch, codes, speaker, mask)
        parts["loss"] = parts["tokens"] + sum(
            weight * parts[name]
            for name, weight in (("log_duration", self.duration_weight), ("align", self.align_weight))
            if name in parts
        )
        return parts

    def corrupted(
        self, codes: Int[Tensor, "b t q"], lengths: Int[Tensor, " b"], given: Bool[Tensor, "b t"], seeds: Sequence[int]
    ) -> Corrupted:
        """Return the canvas to fill: a level of each item is drawn and partly masked, all above it are masked, and
        frames that are ``given`` are known in every level.
        """
        blank = Canvas.blank(self.layout(codes.shape[1]), list(seeds), lengths * self.num_levels, codes.device)
        tokens, prompt = codes.flatten(1), given.repeat_interleave(self.num_levels, 1) & ~blank.padding
        return self.masking(blank.freeze(tokens, prompt), tokens)

    def symbol_losses(
        self,
        batch: dict[str, Any],
        codes: Int[Tensor, "b t q"],
        speaker: Int[Tensor, " b"],
        mask: Bool[Tensor, "b t"],
    ) -> dict[str, Tensor]:
        """Return the squared error of log durations, and the cross-entropy of the symbol of each frame."""
        symbols, lengths = batch["symbols"], batch["symbol_lengths"]
        kept = torch.arange(symbols.shape[1], device=symbols.device) < lengths[:, None]
        predicted = self.durations(symbols, kept, speaker)
        error = (predicted.float() - log_durations(batch["durations"])).square()
        seen = self.net.embedding(codes, torch.ones_like(codes, dtype=torch.bool)).detach()
        logits = self.aligner(seen, mask).float()
        surprise = F.cross_entropy(logits.flatten(0, 1), batch["semantic"].flatten(), reduction="none")
        return {
            "log_duration": self.global_mean(error, kept),
            "align": self.global_mean(surprise.view(mask.shape), mask),
        }

    # ---- synthesis -----------------------------------------------------------------------------

    def readings(self, request: SpeechRequest, first_limit: int | None = None) -> Iterator[Reading]:
        """Yield the pieces of a text as symbols. Raises ``RequestError`` where semantic tokens are not symbols."""
        if not self.speaks:
            message = (
                f"this model's semantic tokens are {self.spec.provider}'s, which no text has: give semantic, "
                "made by unisono_codec.voices.semantic of a recording"
            )
            raise RequestError(message, code="unsupported", path="text", value=request.text)
        return self.voice.read(request, self.max_piece_characters, first_limit)

    def symbol_frames(self, symbols: Int[Tensor, " s"], speaker: int, pace: float) -> Int[Tensor, " s"]:
        """Return how many codec frames each symbol of a text lasts, at least one of all."""
        made = self.durations.predict(symbols.to(self.device), speaker)
        return self.phonemes.durations(made[None].cpu(), torch.tensor([len(symbols)]), pace=pace)[0]

    def align_prompt(self, codes: Int[Tensor, "p q"], text: str) -> Int[Tensor, " p"]:
        """Return the semantic tokens of a prompt that says ``text``."""
        if not self.speaks:
            message = f"this model's semantic tokens are {self.spec.provider}'s: give no prompt_text"
            raise RequestError(message, code="unsupported", path="prompt_text", value=text)
        ids = [i for reading in self.readings(SpeechRequest(text=text)) for i in reading.ids]
        symbols, codes = torch.tensor(ids, device=self.device), codes.to(self.device)
        with torch.no_grad():
            seen = self.net.embedding(codes[None], torch.ones_like(codes[None], dtype=torch.bool))[0]
            return self.phonemes(symbols, self.aligner.align(seen, symbols)).cpu()

    def task(self, request: VoiceRequest, seed: int, streaming: bool = False) -> SpokenRequest:
        check_precision(self)
        return SpokenRequest(self, request, seed, FIRST_PIECE_CHARACTERS if streaming else None)

    def denoiser(self, windows: Sequence[Window], canvas: Canvas) -> StreamNetwork:
        semantic = nn.utils.rnn.pad_sequence([window.semantic for window in windows], batch_first=True)
        speaker = torch.tensor([window.passage.speaker for window in windows], device=self.device)
        lengths = canvas.length // self.num_levels
        mask = torch.arange(semantic.shape[1], device=self.device) < lengths[:, None]
        return StreamNetwork(self.predict, self.num_levels, semantic.to(self.device), speaker, mask)

    def predict(
        self,
        tokens: Int[Tensor, "b t q"],
        known: Bool[Tensor, "b t q"],
        semantic: Int[Tensor, "b t"],
        speaker: Int[Tensor, " b"],
        mask: Bool[Tensor, "b t"],
    ) -> Float[Tensor, "b t q v"]:
        """Return the logits of each row's lowest level that is not whole; other levels' are 0, and nobody asks."""
        heads = self.net.heads
        level = (~known).any(1).int().argmax(1)
        x = self.net(tokens, known, semantic, speaker, mask)
        b, t, _ = x.shape
        made = heads.of(rearrange(x, "b t d -> (b t) d"), level.repeat_interleave(t))
        logits = made.new_zeros(b, t, heads.num_streams, heads.codebook_size)
        logits[torch.arange(b, device=x.device), :, level] = rearrange(made, "(b t) v -> b t v", b=b)
        return logits

    def steps_of(self, num_steps: int) -> list[int]:
        """Return the evaluations of each level: so many for the coarsest, one for each other."""
        return [num_steps] + [1] * (self.num_levels - 1)

    def strategy(self, request: VoiceRequest, canvas: Canvas, network: StreamNetwork) -> Strategy:
        steps = request.level_steps or (self.steps_of(request.num_steps) if request.num_steps else self.level_steps)
        if len(steps) != self.num_levels:
            message = f"level_steps has {len(steps)} numbers for {self.num_levels} levels: give one for each"
            raise RequestError(message, code="shape", path="level_steps", value=len(steps))
        asked = {name: getattr(request, name) for name in self.temperatures}
        knobs: dict[str, Any] = {
            name: self.temperatures[name] if value is None else value for name, value in asked.items()
        }
        return make_strategy("soundstorm", canvas.layout, num_steps=tuple(steps), **knobs)

    def preview_requests(self) -> list[VoiceRequest]:
        texts = self.facts.sample_texts[:2]
        if not self.speaks:
            return [self.Request(semantic=[i % self.spec.vocabulary for i in range(40)])]
        return [self.Request(text=text, speaker=name) for text in texts for name in self.voice.speakers[:2]]


class SoundStormNet(nn.Module):
    """Tokens, semantic token and speaker of each frame summed, a Conformer, and a head per level.

    Semantic token number ``vocabulary`` is an unknown one, speaker number ``num_speakers`` an unknown one.
    """

    def __init__(
        self,
        *,
        num_levels: int,
        codebook_size: int,
        vocabulary: int,
        num_speakers: int,
        sizes: ConformerSizes,
        table_dim: int | None,
    ):
        super().__init__()
        dim = sizes.dim
        self.embedding = TokenEmbedding(num_levels, codebook_size, dim, table_dim)
        self.semantic = nn.Embedding(vocabulary + 1, dim)
        self.speaker = nn.Embedding(num_speakers + 1, dim)
        nn.init.normal_(self.speaker.weight, std=0.5)
        self.dropout = nn.Dropout(sizes.dropout)
        self.conformer = Conformer(sizes)
        self.heads = TokenHeads(num_levels, codebook_size, dim)

    def forward(
        self,
        tokens: Int[Tensor, "b t q"],
        known: Bool[Tensor, "b t q"],
        semantic: Int[Tensor, "b t"],
        speaker: Int[Tensor, " b"],
        mask: Bool[Tensor, "b t"],
    ) -> Float[Tensor, "b t d"]:
        """Return a vector per frame, for the heads; tokens that are not known are not read."""
        return self.conformer(self.dropout(self.embedding(tokens, known) + self.condition(semantic, speaker)), mask)

    def condition(self, semantic: Int[Tensor, "b t"], speaker: Int[Tensor, " b"]) -> Float[Tensor, "b t d"]:
        """Return what is added to the tokens of each frame."""
        return self.semantic(semantic) + self.speaker(speaker)[:, None]

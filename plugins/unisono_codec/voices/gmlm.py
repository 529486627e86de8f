"""G-MLM: tokens of a grouped codec, group after group, in the voice of a prompt that is read once.

Jeong et al., "Efficient Parallel Audio Generation using Group Masked Language Modeling" (arXiv:2401.01099). A codec
with G groups of N residual levels (HiFi-Codec, arXiv:2305.02765) gives G · N tokens a frame. Training draws a group
and hides a share of its tokens, the cosine of a uniform number, and all tokens of the groups behind it; groups before
it are known. Decoding (G-IPD) goes group by group and spends a few iterations in each: ``unisono.masked.group_ipd``.
The prompt comes in by cross-attention, so that its keys and values are computed once for a request and not in every
iteration.

Written from the paper's abstract and what is told of it, without its code, which is not public. What that leaves open:

- how iterations are shared out over the groups: here evenly, the first groups taking what is left over; fewer
  iterations than groups (1 of 2) fill several groups at once, which training has not shown
- the odds of the groups in training: equal
- the network: here the Conformer of SoundStorm, with which the paper compares, at its published sizes
- how a text becomes semantic tokens: here phonemes stretched by predicted durations (``semantic.py``), where the paper
  has clusters of a self-supervised model. Durations are predicted from symbols and the prompt, since a voice has a pace

With ``order: levels`` the same network is trained and decoded as SoundStorm is (arXiv:2305.09636): level by level, all
groups of a level at once, most iterations in the first level. That is the comparison which the paper makes.

Shapes: b batch, t codec frames, p frames of the prompt, q streams (G · N), v codebook, s symbols, d channels, h heads.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from unisono.duration import durations_from_log, log_durations
from unisono.errors import RecipeError, RequestError
from unisono.masked import Canvas, Layout, Strategy, make_strategy
from unisono.masked.model import StreamNetwork
from unisono.masked.training.corrupt import Corrupted
from unisono.nn.attention import attend, split_heads, split_parts
from unisono.nn.modules import Modules
from unisono.nn.rotary import Rotation, rotation
from unisono.nn.temporal import TemporalPredictor
from unisono_sound.precision import check_precision

from unisono_codec.voices.conformer import Conformer, ConformerBlock
from unisono_codec.voices.listener import Listener
from unisono_codec.voices.pacing import TYPICAL_FRAMES
from unisono_codec.voices.prompting import Part, PromptedRequest, PromptedTask, parts_of, prompt_of
from unisono_codec.voices.sizes import NETWORK, ConformerSizes
from unisono_codec.voices.token_model import TokenModel
from unisono_codec.voices.tokens import TokenEmbedding, TokenHeads


class GroupMaskedLM(TokenModel):
    """A Conformer over the tokens of a grouped codec, which looks at a prompt.

    ::

        text ─ symbols ─ durations ─ stretch ─ semantic [t] ─┐
        tokens [t, q], some hidden ─ Σ over streams ─────────┴─ Conformer with cross-attention ─ heads ─ tokens ─ codec
        prompt [p, q] ─ Σ over streams ─ Conformer ─ keys, values ────────┘

    Args:
        network: sizes of the Conformer.
        prompt_layers: of the prompt's encoder.
        table_dim: channels of the tokens' tables, where they are to be narrower than ``dim``.
        order: ``groups``, as published, or ``levels``, SoundStorm's order with the same network.
        order_weights: how often each group (or level) is drawn in training; equally often where None.
        duration_weight: of the squared error of log durations.
        max_frames_per_symbol: the longest that is predicted for one symbol, in mel frames.
        label_smoothing: of the tokens' cross-entropy.
        max_piece_characters: longest piece of a text that is spoken at once, where texts are not single words.
    """

    Request: ClassVar[type[PromptedRequest]] = PromptedRequest
    choices: ClassVar[dict[str, str]] = {"speaker": "speakers"}
    pipeline_tag: ClassVar[str] = "text-to-speech"
    salt: ClassVar[str] = "gmlm"
    flat: ClassVar[dict[str, str]] = NETWORK
    roles: ClassVar[dict[str, str]] = {
        **TokenModel.roles,
        "listener": "tells who speaks and which word it is; evaluation needs it",
    }
    component_kinds: ClassVar[dict[str, Any]] = {**TokenModel.component_kinds, "listener": Listener}
    builtin_components: ClassVar[dict[str, str]] = {"untrained": "unisono_codec.codecs.untrained:grvq"}

    def __init__(
        self,
        *,
        network: ConformerSizes = ConformerSizes(),  # noqa: B008
        prompt_layers: int = 2,
        table_dim: int | None = None,
        order: Literal["groups", "levels"] = "groups",
        order_weights: list[float] | None = None,
        duration_weight: float = 0.1,
        max_frames_per_symbol: int = 100,
        label_smoothing: float = 0.0,
        max_piece_characters: int = 100,
    ):
        super().__init__()
        if prompt_layers < 1:
            message = f"model.prompt_layers={prompt_layers} must be at least 1"
            raise RecipeError(message, code="range", path="model.prompt_layers", value=prompt_layers)
        self.sizes, self.table_dim, self.prompt_layers = network, table_dim, prompt_layers
        self.order, self.order_weights = order, order_weights
        self.duration_weight, self.max_frames_per_symbol = duration_weight, max_frames_per_symbol
        self.label_smoothing, self.max_piece_characters = label_smoothing, max_piece_characters
        self.prompts_read = 0  # of the prompt's encoder: rows, not calls

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build for the codec, the semantic tokens and the symbols of the data."""
        super().build(facts)
        self.streams = [(int(group), int(level)) for group, level in self.facts.codec["streams"]]
        ranks = [group if self.order == "groups" else level for group, level in self.streams]
        self.num_sets = max(ranks) + 1
        self.set_of = ranks
        if self.num_sets == 1 and self.order == "groups" and len(self.streams) > 1:
            message = "the codec has one group: train codec/grvq, or set model.order to levels, which is SoundStorm's"
            raise RecipeError(message, code="conflict", path="model.order", value=self.order)
        self.masking = self.masking_of(self.num_sets, self.order_weights, "order_weights", self.order)
        self.net = GroupNet(
            num_streams=len(self.streams),
            codebook_size=self.codebook_size,
            vocabulary=self.spec.vocabulary,
            sizes=self.sizes,
            table_dim=self.table_dim,
            prompt_layers=self.prompt_layers,
        )  # fmt: skip
        if self.speaks:
            self.durations = PromptedDurations(len(self.voice.symbols), self.sizes.dim, self.sizes.dropout)

    def layout(self, num_positions: int, request: PromptedRequest | None = None) -> Layout:
        """Return what each place of a canvas is: frame · q + stream, group = the set that is decoded together.

        A request of fewer steps than sets puts neighbouring sets together.
        """
        sets = self.set_of
        if request is not None and (num_steps := len(self.steps(request))) < self.num_sets:
            sets = [number * num_steps // self.num_sets for number in sets]
        return Layout.streams(num_positions, [self.codebook_size] * len(self.streams), sets, shared=True)

    # ---- training ------------------------------------------------------------------------------

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        codes, lengths = batch["codes"], batch["lengths"]
        memory = self.net.remember(batch["prompt"], batch["prompt_lengths"])
        corrupted = self.corrupted(codes, lengths, self.row_seeds(batch))
        seen, known = (x.view(codes.shape) for x in (corrupted.canvas.tokens, corrupted.canvas.known))
        mask = torch.arange(codes.shape[1], device=codes.device) < lengths[:, None]
        sets = torch.tensor(self.set_of)
        apart = {f"tokens_{number}": sets == number for number in range(self.num_sets)}
        parts = self.token_losses(self.net(seen, known, batch["semantic"], mask, memory), codes, corrupted, apart)
        parts["loss"] = parts["tokens"]
        if self.speaks:
            symbols = batch["symbols"]
            kept = torch.arange(symbols.shape[1], device=symbols.device) < batch["symbol_lengths"][:, None]
            error = self.durations(symbols, kept, memory.mean).float() - log_durations(batch["durations"])
            parts["log_duration"] = self.global_mean(error.square(), kept)
            parts["loss"] = parts["loss"] + self.duration_weight * parts["log_duration"]
        return parts

    def corrupted(self, codes: Int[Tensor, "b t q"], lengths: Int[Tensor, " b"], seeds: Sequence[int]) -> Corrupted:
        """Return the canvas to fill: of a set that is drawn, a share is hidden, and all that comes after it."""
        blank = Canvas.blank(self.layout(codes.shape[1]), list(seeds), lengths * codes.shape[2], codes.device)
        return self.masking(blank, codes.flatten(1))

    # ---- synthesis -----------------------------------------------------------------------------

    @torch.no_grad()
    def remember(self, prompts: Sequence[Int[Tensor, "p q"]]) -> "Memory":
        """Read prompts once: their keys and values for every layer."""
        check_precision(self)
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=self.device)
        self.prompts_read += len(prompts)
        padded = nn.utils.rnn.pad_sequence([prompt.to(self.device) for prompt in prompts], batch_first=True)
        return self.net.remember(padded, lengths)

    @torch.no_grad()
    def symbol_frames(
        self, symbols: Int[Tensor, " s"], memory: "Memory", pace: Float[Tensor, " s"]
    ) -> Int[Tensor, " s"]:
        """Return how many codec frames each symbol of a text lasts in the voice of one prompt."""
        kept = torch.ones(1, len(symbols), dtype=torch.bool, device=self.device)
        log = self.durations(symbols[None].to(self.device), kept, memory.mean)
        predicted = durations_from_log(log, self.max_frames_per_symbol).cpu()
        return self.phonemes.durations(predicted, torch.tensor([len(symbols)]), pace=pace[None])[0]

    def steps(self, request: PromptedRequest) -> tuple[int, ...]:
        """Return a request's iterations for each set that is decoded together.

        In the order of groups, they are shared out evenly; in that of levels, all but the first level have one.
        """
        if request.set_steps is not None:
            if len(request.set_steps) != self.num_sets:
                message = (
                    f"set_steps has {len(request.set_steps)} numbers, this model decodes {self.num_sets} {self.order} "
                    "one after the other: give one for each"
                )
                raise RequestError(message, code="shape", path="set_steps", value=len(request.set_steps))
            return tuple(request.set_steps)
        sets = min(self.num_sets, request.num_steps)
        if self.order == "levels":
            return (request.num_steps - sets + 1, *[1] * (sets - 1))
        return tuple(request.num_steps // sets + (number < request.num_steps % sets) for number in range(sets))

    def strategy(self, request: PromptedRequest, canvas: Canvas, network: StreamNetwork) -> Strategy:
        name = "soundstorm" if self.order == "levels" else "group_ipd"
        return make_strategy(name, canvas.layout, num_steps=self.steps(request), temperature=request.temperature)

    @torch.no_grad()
    def read_all(
        self, requests: Sequence[PromptedRequest], generator: torch.Generator | None = None
    ) -> Sequence[PromptedTask]:
        """Return the tasks of requests, all prompts read at once."""
        if not requests:
            return []
        memory = self.remember([prompt_of(self, request) for request in requests])
        parts = (parts_of(self, r, self.seed_of(r, generator), memory, i) for i, r in enumerate(requests))
        return [PromptedTask(self, list(own)) for own in parts]

    @torch.no_grad()
    def task(self, request: PromptedRequest, seed: int, streaming: bool = False) -> PromptedTask:
        memory = self.remember([prompt_of(self, request)])
        return PromptedTask(self, list(parts_of(self, request, seed, memory)), streaming)

    def denoiser(self, windows: Sequence[Part], canvas: Canvas) -> StreamNetwork:
        semantic = nn.utils.rnn.pad_sequence([part.semantic for part in windows], batch_first=True).to(self.device)
        lengths = canvas.length // len(self.streams)
        mask = torch.arange(semantic.shape[1], device=self.device) < lengths[:, None]
        index = torch.tensor([part.number for part in windows], device=self.device)
        return StreamNetwork(self.predict, len(self.streams), semantic, mask, windows[0].memory.rows(index))

    def predict(
        self,
        tokens: Int[Tensor, "b t q"],
        known: Bool[Tensor, "b t q"],
        semantic: Int[Tensor, "b t"],
        mask: Bool[Tensor, "b t"],
        memory: "Memory",
    ) -> Float[Tensor, "b t q v"]:
        """Return the logits of every stream."""
        return self.net.heads(self.net(tokens, known, semantic, mask, memory))

    def preview_requests(self) -> list[PromptedRequest]:
        if not self.speaks:
            return [self.Request(semantic=[i % self.spec.vocabulary for i in range(40)])]
        texts = list(self.facts.words or self.facts.sample_texts)
        if len(texts) > 2 and self.facts.words is not None:
            texts = [" ".join(texts[:3]), texts[-1]]
        return [
            self.Request(text=text, speaker=name) for text in texts[:2] for name in list(self.facts.prompts or ())[:2]
        ]


@dataclass(frozen=True, eq=False)
class Memory:
    """What is kept of prompts: keys and values of every layer, what of them is no padding, and their mean."""

    keys: Float[Tensor, "b l h p a"]
    values: Float[Tensor, "b l h p a"]
    mask: Bool[Tensor, "b p"]
    mean: Float[Tensor, "b d"]

    def rows(self, index: Int[Tensor, " n"]) -> "Memory":
        """Some rows, in any order, padded no further than they need."""
        index = index.to(self.mask.device)
        width = int(self.mask[index].sum(1).max())
        part = replace(
            self, keys=self.keys[index][..., :width, :], values=self.values[index][..., :width, :],
            mask=self.mask[index][:, :width], mean=self.mean[index],
        )  # fmt: skip
        return part


class LookingBlock(ConformerBlock):
    """A Conformer block that looks at a prompt between its attention and its convolution.

    ::

        x ─ + ½ feed-forward ─ + attention ─ + cross-attention ─ + convolution ─ + ½ feed-forward ─ LayerNorm ─
    """

    reads_weights: ClassVar[tuple[str, ...]] = ("remember", "read")

    def __init__(self, sizes: ConformerSizes):
        super().__init__(sizes)
        dim = sizes.dim
        self.look_norm = nn.LayerNorm(dim)
        self.look_query = nn.Linear(dim, dim)
        self.look_memory = nn.Linear(dim, 2 * dim)
        self.look_out = nn.Linear(dim, dim)

    def remember(self, prompt: Float[Tensor, "b p d"]) -> tuple[Float[Tensor, "b h p a"], Float[Tensor, "b h p a"]]:
        """Return the keys and values of an encoded prompt."""
        keys, values = split_parts(self.look_memory(prompt), self.num_heads, parts=2)
        return keys, values

    def look(
        self, x: Float[Tensor, "b t d"], keys: Float[Tensor, "b h p a"], values: Tensor, mask: Bool[Tensor, "b p"]
    ) -> Float[Tensor, "b t d"]:
        """Add what is seen of the prompt."""
        query = split_heads(self.look_query(self.look_norm(x)), self.num_heads)
        keys, values = keys.to(query.dtype), values.to(query.dtype)
        seen = attend(query, keys, values, mask[:, None, None], dropout=self.dropout.p if self.training else 0.0)
        return x + self.dropout(self.look_out(seen))

    def read(
        self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"], places: Rotation, memory: Memory, number: int
    ) -> Float[Tensor, "b t d"]:
        """As ``forward``, with a prompt; ``number`` is the layer's."""
        x = self.attend(x + 0.5 * self.before(x), mask, places)
        x = self.convolve(self.look(x, memory.keys[:, number], memory.values[:, number], memory.mask), mask)
        return self.norm(x + 0.5 * self.after(x))


class GroupNet(nn.Module):
    """Tokens and semantic token of each frame summed, a Conformer that looks at a prompt, and a head per stream."""

    def __init__(
        self,
        *,
        num_streams: int,
        codebook_size: int,
        vocabulary: int,
        sizes: ConformerSizes,
        table_dim: int | None,
        prompt_layers: int,
    ):
        super().__init__()
        dim = sizes.dim
        self.head_dim = dim // sizes.num_heads
        self.embedding = TokenEmbedding(num_streams, codebook_size, dim, table_dim)
        self.semantic = nn.Embedding(vocabulary, dim)
        self.dropout = nn.Dropout(sizes.dropout)
        self.encoder = Conformer(replace(sizes, num_layers=prompt_layers))
        self.blocks = Modules(LookingBlock(sizes) for _ in range(sizes.num_layers))
        self.heads = TokenHeads(num_streams, codebook_size, dim)

    def remember(self, prompt: Int[Tensor, "b p q"], lengths: Int[Tensor, " b"]) -> Memory:
        """Encode prompts and return what the layers look at."""
        mask = torch.arange(prompt.shape[1], device=prompt.device) < lengths[:, None]
        known = mask[..., None].expand(prompt.shape)
        x = self.encoder(self.dropout(self.embedding(prompt, known)), mask)
        pairs = [block.remember(x) for block in self.blocks]
        keys, values = (torch.stack(part, 1) for part in zip(*pairs, strict=True))
        mean = (x * mask[..., None]).sum(1) / lengths[:, None]
        return Memory(keys, values, mask, mean)

    def condition(self, semantic: Int[Tensor, "b t"]) -> Float[Tensor, "b t d"]:
        """Return what is added to the tokens of every frame."""
        return self.semantic(semantic)

    def forward(
        self,
        tokens: Int[Tensor, "b t q"],
        known: Bool[Tensor, "b t q"],
        semantic: Int[Tensor, "b t"],
        mask: Bool[Tensor, "b t"],
        memory: Memory,
    ) -> Float[Tensor, "b t d"]:
        """Return a vector per frame, for the heads; tokens that are not known are not read."""
        x = self.dropout(self.embedding(tokens, known) + self.condition(semantic))
        places = rotation(torch.arange(x.shape[1]), self.head_dim, device=x.device)
        for number, block in enumerate(self.blocks):
            x = block.read(x, mask, places, memory, number)
        return x


class PromptedDurations(nn.Module):
    """Durations from symbols and the mean of an encoded prompt: FastSpeech's predictor (arXiv:1905.09263)."""

    def __init__(self, num_symbols: int, dim: int, dropout: float, filter_dim: int = 128):
        super().__init__()
        self.symbol = nn.Embedding(num_symbols, filter_dim)
        self.prompt = nn.Linear(dim, filter_dim)
        self.predictor = TemporalPredictor(filter_dim, filter_dim, num_layers=3, dropout=dropout)
        nn.init.constant_(self.predictor.out.bias, math.log1p(TYPICAL_FRAMES))

    def forward(
        self, symbols: Int[Tensor, "b s"], mask: Bool[Tensor, "b s"], prompt: Float[Tensor, "b d"]
    ) -> Float[Tensor, "b s"]:
        """Return log(1 + mel frames), 0 on padding."""
        return self.predictor(self.symbol(symbols) + self.prompt(prompt)[:, None], mask)

"""MMM: a masked transformer over motion tokens; text to motion, and every kind of editing, in a few steps.

Pinyoanuntapong et al., "MMM: Generative Masked Motion Model" (arXiv:2312.03596). Trained to fill masked tokens
given words and sentence; decoded by any preset of ``unisono.masked``. Defaults are the published sizes.

Differences:
- The share of masked tokens while training is MaskGIT's cosine, by the same plan that decodes.
- The length is predicted by a head on the sentence, as by MoMask's length estimator (arXiv:2312.00063, §3.4),
  and drawn from; MMM is given it.
- A share of the training items are cut from longer clips, and the network is told (``transformer.py``), so that
  it can fill windows and borders as well as whole clips.
- Body parts are streams that are decoded together; MMM decodes the upper one, given the lower.

Shapes: b batch, n token positions, q streams of tokens, v codebook, w words, d channels.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from unisono.data import derive_seed
from unisono.errors import RecipeError
from unisono.graphs import Graphs
from unisono.masked import Canvas, Layout, Plan, Scheduled, Strategy
from unisono.masked.model import MaskedModel, StreamNetwork
from unisono.masked.training.corrupt import Corrupted, PlanMasking
from unisono.nn.captions import make_text_encoder

from unisono_motion.corpus.facts import MotionFacts
from unisono_motion.models.composing import Composition, Window
from unisono_motion.models.matcher import MotionMatcher
from unisono_motion.models.request import MotionRequest, read_request
from unisono_motion.models.sampling import SAMPLERS, SAMPLING
from unisono_motion.models.sizes import FLAT, ConditionSizes, ObjectiveSpec, TransformerSizes
from unisono_motion.models.transformer import Condition, MaskedTransformer
from unisono_motion.skeleton import Motion
from unisono_motion.tokens.tokenizer import MotionTokenizer

MASKING = PlanMasking(Plan(Scheduled(1)))
"""What is masked while training: a share γ(r) of an item's tokens, γ MaskGIT's cosine and r uniform."""

MIN_CROP = 4
"""Token positions of the shortest stretch that is cut from a clip while training."""


class MMM(MaskedModel):
    """A masked transformer over motion tokens.

    ::

        text ─ text encoder ─┬─ words ────────────────┐
                             └─ sentence ─┬─ length   │
                                          └───────────┴─ transformer ─ tokens ─ tokenizer ─ motion
        what is known (nothing, a clip's ends, a part of the body) ─┘

    Args:
        codebook_size: tokens of each stream, as the tokenizer has (published: 8192).
        num_streams: tokens per position: 1, or 2 with a tokenizer of parts.
        max_tokens: positions that are filled at once; longer motions go window by window (published: 49).
        crop_share: the share of training items that are cut from their clip.
        network: sizes of the transformer.
        condition: what encodes captions, and how they are dropped and spelled while training.
        objective: what the losses count.
    """

    Media: ClassVar[type[Motion]] = Motion
    requests_at_once: ClassVar[int] = 8  # motion-bandai: 2.0 × the speed of one at a time
    Facts: ClassVar[type[MotionFacts]] = MotionFacts
    facts: MotionFacts
    Request: ClassVar[type[MotionRequest]] = MotionRequest
    salt: ClassVar[str] = "mmm"
    roles: ClassVar[dict[str, str]] = {
        "tokenizer": "turns motions into tokens and back",
        "matcher": "tells how near a text and a motion are; evaluation needs it",
    }
    component_kinds: ClassVar[dict[str, Any]] = {"tokenizer": MotionTokenizer, "matcher": MotionMatcher}
    builtin_components: ClassVar[dict[str, str]] = {
        "untrained": "unisono_motion.tokens.untrained:whole",
        "untrained-parts": "unisono_motion.tokens.untrained:parts",
    }
    samplers: ClassVar[dict[str, str]] = SAMPLERS
    decoding_fields: ClassVar[tuple[str, ...]] = SAMPLING.fields
    source_facts: ClassVar[tuple[str, ...]] = ("words", "motion")
    flat: ClassVar[dict[str, str]] = FLAT

    def __init__(
        self,
        *,
        codebook_size: int = 8192,
        num_streams: int = 1,
        max_tokens: int = 49,
        crop_share: float = 0.2,
        network: TransformerSizes = TransformerSizes(),  # noqa: B008
        condition: ConditionSizes = ConditionSizes(),  # noqa: B008
        objective: ObjectiveSpec = ObjectiveSpec(),  # noqa: B008
    ):
        super().__init__()
        shares = {
            "condition.dropout": condition.dropout,
            "condition.spell_share": condition.spell_share,
            "crop_share": crop_share,
        }
        for name, value in shares.items():
            if not 0 <= value <= 1:
                raise RecipeError(
                    f"model.{name}={value} must be in [0, 1]", code="range", path=f"model.{name}", value=value
                )
        if max_tokens < 2 * MIN_CROP:
            raise RecipeError(
                f"model.max_tokens={max_tokens} must be at least {2 * MIN_CROP}",
                code="range",
                path="model.max_tokens",
                value=max_tokens,
            )
        if network.dim % (2 * network.num_heads):
            raise RecipeError(
                f"model.network.dim={network.dim} must be a multiple of twice num_heads={network.num_heads}",
                code="shape",
                path="model.network.dim",
                value=network.dim,
            )
        self.codebook_size, self.num_streams, self.max_tokens = codebook_size, num_streams, max_tokens
        self.crop_share = crop_share
        self.sizes, self.condition, self.objective = network, condition, objective
        self._known_tokens: dict[tuple[int, int, float], Tensor] = {}

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build for the words of the captions; what motions are is the tokenizer's business."""
        super().build(facts)
        sizes, condition = self.sizes, self.condition
        self.text = make_text_encoder(
            condition.text_encoder, self.facts.words, sizes.dim, condition.text_layers, sizes.num_heads, sizes.dropout
        )
        dim = sizes.dim
        self.length = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, self.max_tokens))
        self.net = self.make_network()

    def make_network(self) -> MaskedTransformer:
        """Make the transformer over all streams."""
        return MaskedTransformer(self.codebook_size, self.num_streams, self.sizes)

    # ---- the tokenizer -------------------------------------------------------------------------

    @property
    def tokenizer(self) -> Any:
        """The component that turns motions into tokens and back."""
        return self.component("tokenizer")

    def attach(self, role: str, component: Any) -> None:
        """Take a component whose motions are this model's; raises ``RecipeError`` that says what does not fit."""
        self.check_component(role, component)
        if component.facts.get("motion") != self.facts["motion"]:
            raise RecipeError(
                f"the {role} knows motions of another skeleton, rate or layout than this model: "
                "train it on the same data",
                code="conflict",
                path=f"components.{role}",
            )
        if role == "tokenizer":
            self.check_tokenizer(component)
        super().attach(role, component)

    def check_tokenizer(self, tokenizer: Any) -> None:
        """Raise ``RecipeError`` unless the tokenizer's streams are those that this model was made for."""
        streams = tokenizer.streams
        if any(level for _, level in streams):
            raise RecipeError(
                "the tokenizer has residual levels, which motion/mmm does not make: take motion/momask",
                code="conflict",
                path="components.tokenizer",
            )
        self.check_sizes(tokenizer)

    def check_sizes(self, tokenizer: Any) -> None:
        """Raise ``RecipeError`` unless codebook and number of streams agree."""
        sizes = {
            "codebook_size": (self.codebook_size, tokenizer.codebook_size),
            "num_streams": (self.num_streams, len(tokenizer.streams)),
        }
        self.check_agreement("tokenizer", sizes)

    @property
    def columns(self) -> list[int]:
        """Which of the tokenizer's codebooks are this model's streams."""
        return list(range(self.num_streams))

    @property
    def streams(self) -> list[tuple[str, int]]:
        """Part of the body and residual level of each stream."""
        return [self.tokenizer.streams[i] for i in self.columns]

    def layout(self, num_positions: int, request: MotionRequest | None = None) -> Layout:
        """Return what each place of a canvas is: position · q + stream, all streams decoded together."""
        return Layout.streams(num_positions, [self.codebook_size] * self.num_streams, shared=True)

    # ---- training ------------------------------------------------------------------------------

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        tokens, lengths = self.tokens_of(batch)
        seeds = self.row_seeds(batch)
        told = torch.tensor([bool(caption.strip()) for caption in batch["caption"]], device=self.device)
        share = self.condition.spell_share if self.training else 0.0
        words, mask, sentence = self.text.read(batch["caption"], share, seeds)
        parts = {}
        log_length = self.length(sentence).float().log_softmax(-1)
        bucket = lengths.clamp(max=self.max_tokens) - 1
        length = self.global_mean(-log_length.gather(1, bucket[:, None])[:, 0], told)
        parts["length"] = self.objective.length_weight * length
        tokens, lengths, begins, ends = self.crop(tokens, lengths, seeds)
        forget = ~told
        if self.training and self.condition.dropout:
            forget |= self.draw_uniform(seeds, "forget") < self.condition.dropout
        condition = Condition(words, mask, sentence, lengths, begins, ends)
        parts |= self.token_losses(tokens, condition, forget, seeds)
        parts["loss"] = sum(value for name, value in parts.items() if not name.endswith("accuracy"))
        return parts

    def token_losses(
        self, tokens: Int[Tensor, "b n q"], condition: Condition, forget: Bool[Tensor, " b"], seeds: list[int]
    ) -> dict[str, Tensor]:
        """Return the cross-entropy of masked tokens, and how many are right at once."""
        layout = Layout.streams(tokens.shape[1], [self.codebook_size] * tokens.shape[2], shared=True)
        corrupted = self.corrupted(layout, MASKING, tokens, condition.length, seeds)
        seen, known = (x.view(tokens.shape) for x in (corrupted.canvas.tokens, corrupted.canvas.known))
        return self.scored(self.net(seen, known, condition, forget), corrupted)

    def corrupted(
        self,
        layout: Layout,
        masking: PlanMasking,
        tokens: Int[Tensor, "b n q"],
        lengths: Int[Tensor, " b"],
        seeds: list[int],
    ) -> Corrupted:
        """Return the canvas that the network is to fill, drawn from each item's own seed."""
        blank = Canvas.blank(layout, seeds, lengths * tokens.shape[2], self.device)
        return masking(blank, tokens.flatten(1))

    def scored(self, logits: Float[Tensor, "b n q v"], corrupted: Corrupted) -> dict[str, Tensor]:
        """Return cross-entropy and accuracy of what is to be learnt."""
        loss, accuracy = self.hidden_losses(logits.flatten(1, 2), corrupted, self.objective.label_smoothing)
        return {"tokens": loss, "accuracy": accuracy}

    @torch.no_grad()
    def tokens_of(self, batch: dict[str, Any]) -> tuple[Int[Tensor, "b n q"], Int[Tensor, " b"]]:
        """Return the tokens of a batch's clips and how many positions each has; clips are tokenized once."""
        features, frames = batch["features"], batch["length"]
        rows = batch["row"].tolist()
        keys = [(row, int(n), float(f[:n].double().sum())) for row, n, f in zip(rows, frames, features, strict=True)]
        new = [i for i, key in enumerate(keys) if key not in self._known_tokens]
        if new:
            with torch.autocast(self.device.type, enabled=False):
                made = self.tokenizer.encode(features[new].float(), frames[new])
            for i, tokens in zip(new, made, strict=True):
                self._known_tokens[keys[i]] = tokens[: self.tokenizer.num_positions(int(frames[i])), self.columns]
        tokens = [self._known_tokens[key] for key in keys]
        lengths = torch.tensor([len(row) for row in tokens], device=self.device)
        return nn.utils.rnn.pad_sequence(tokens, batch_first=True), lengths

    def crop(
        self, tokens: Int[Tensor, "b n q"], lengths: Int[Tensor, " b"], seeds: list[int]
    ) -> tuple[Int[Tensor, "b n q"], Int[Tensor, " b"], Bool[Tensor, " b"], Bool[Tensor, " b"]]:
        """Cut some items, and all that are longer than ``max_tokens``; return also where a clip begins and ends."""
        rows, begins, ends = [], [], []
        for row, length, seed in zip(tokens, lengths.tolist(), seeds, strict=True):
            start, size = 0, length
            if length > self.max_tokens or (self.training and derive_seed(seed, "crop") / 2**63 < self.crop_share):
                longest = min(length, self.max_tokens)
                shortest = longest if length > self.max_tokens else min(MIN_CROP, length)
                size = shortest + derive_seed(seed, "size") % (longest - shortest + 1)
                start = derive_seed(seed, "start") % (length - size + 1)
            rows.append(row[start : start + size])
            begins.append(start == 0)
            ends.append(start + size == length)
        sizes = torch.tensor([len(row) for row in rows], device=self.device)
        padded = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return padded, sizes, torch.tensor(begins, device=self.device), torch.tensor(ends, device=self.device)

    def units(self, batch: dict[str, Any]) -> dict[str, int]:
        return {"frames": int(batch["length"].sum())}

    # ---- synthesis -----------------------------------------------------------------------------

    @torch.no_grad()
    def predict_length(self, caption: str, seed: int) -> int:
        """Return how many token positions a caption's motion has, drawn from what the model expects."""
        *_, sentence = self.text.read([caption])
        chance = self.length(sentence)[0].double().softmax(-1).cumsum(0)
        return 1 + int((chance < derive_seed(seed, "length") / 2**63).sum().clamp(max=self.max_tokens - 1))

    def task(self, request: MotionRequest, seed: int, streaming: bool = False) -> Composition:
        return Composition(self, read_request(self, request), seed)

    def denoiser(self, windows: Sequence[Window], canvas: Canvas) -> StreamNetwork:
        words, mask, sentence = self.text.read([window.caption or "" for window in windows])
        begins, ends, forget = torch.tensor(
            [[window.begins, window.ends, window.caption is None] for window in windows], device=self.device
        ).unbind(1)
        length = canvas.length // self.num_streams
        return StreamNetwork(
            self.predict, self.num_streams, Condition(words, mask, sentence, length, begins, ends), forget
        )

    def strategy(self, request: MotionRequest, canvas: Canvas, network: StreamNetwork) -> Strategy:
        condition, forget = network.condition
        unconditional = StreamNetwork(self.predict, self.num_streams, condition, torch.ones_like(forget))
        return SAMPLING.strategy(request, canvas.layout, unconditional)

    def predict(
        self,
        tokens: Int[Tensor, "b n q"],
        known: Bool[Tensor, "b n q"],
        condition: Condition,
        forget: Bool[Tensor, " b"],
    ) -> Float[Tensor, "b n q v"]:
        """Return the logits of every token."""
        return self.net(tokens, known, condition, forget)

    def graph_modules(self) -> Graphs:
        """Return the graph ``step``, tokens and condition to logits; see ``graphs``."""
        from unisono_motion.models.graphs import step_graphs

        return step_graphs(self)

    def preview_requests(self) -> list[MotionRequest]:
        texts = self.facts.sample_captions[:3]
        fixed = [self.Request(text=text, seconds=2.0 + 0.5 * i) for i, text in enumerate(texts)]
        return [*fixed, *(self.Request(text=text, num_steps=4) for text in texts[:1])]

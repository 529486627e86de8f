"""Token generator: what models share that draw a picture's tokens, from pictures and requests to pictures.

::

    training   picture ─ tokenizer ─ tokens, once (``token_store``) ─┬─ token_losses
               label, caption ─ conditioner, sometimes forgotten ────┘
    drawing    request ─ given tokens, a condition ─ unisono.masked: a preset, guided ─ tokens ─ tokenizer ─ picture

A subclass makes a network (``make_net``), says what it learns (``token_losses``) and how it answers (``predict``, or
``network_of`` where it keeps a memory between steps). It may have presets of its own (``samplers``).

Guidance is ``c + g·(c − u)`` in all of them: g = 0 is none.

Shapes: b batch, n tokens of a picture, v codes, y x pixels. Masks are True where a token is known.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from unisono import Image, Model
from unisono.batching import Progress
from unisono.errors import RecipeError
from unisono.masked import Canvas, Layout, Strategy
from unisono.masked.model import MaskedModel, StreamNetwork
from unisono.nn.condition import NO_LABEL, Condition, Conditioner, ConditionSizes
from unisono.nn.layers import as_weights

from unisono_image.corpus.facts import ImageFacts
from unisono_image.models.classifier import ImageClassifier
from unisono_image.models.maskgit_sizes import check_range
from unisono_image.models.token_painting import Painting
from unisono_image.models.token_request import TokenRequest, read_token_request
from unisono_image.models.token_sampling import DECODING_FIELDS, SAMPLERS, check_sampling, strategy_of
from unisono_image.models.token_store import PictureTokens
from unisono_image.models.tokenizer import Tokenizer


class TokenModel(Model):
    """The base of generators of picture tokens and of what judges these: a tokenizer, conditions, training.

    Attributes:
        num_codes: tokens that a place may hold.
        grid: rows and columns of a picture's tokens.
    """

    Facts: ClassVar[type[ImageFacts]] = ImageFacts
    facts: ImageFacts
    roles: ClassVar[dict[str, str]] = {"tokenizer": "turns pictures into tokens and back"}
    component_kinds: ClassVar[dict[str, Any]] = {"tokenizer": Tokenizer}
    builtin_components: ClassVar[dict[str, str]] = {"untrained": "unisono_image.models.untrained:tokenizer"}
    source_facts: ClassVar[tuple[str, ...]] = ("classes", "words")

    def __init__(self, *, num_codes: int, grid: int, condition: ConditionSizes):
        super().__init__()
        check_range("num_codes", num_codes, 2)
        check_range("grid", grid, 1)
        check_range("condition.dropout", condition.dropout, 0, 1)
        check_range("condition.spell_share", condition.spell_share, 0, 1)
        if condition.dim < 2 or condition.dim % condition.text_heads:
            raise RecipeError(
                f"model.condition.dim={condition.dim} must be a multiple of text_heads={condition.text_heads}",
                code="shape",
                path="model.condition.dim",
                value=condition.dim,
            )
        self.num_codes, self.grid = num_codes, (grid, grid)
        self.condition_sizes = condition
        self._store: PictureTokens | None = None

    @property
    def num_tokens(self) -> int:
        """Tokens of a picture."""
        return math.prod(self.grid)

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build for the classes and words of the data."""
        super().build(facts)
        if self.facts.size % self.grid[0]:
            raise RecipeError(
                f"model.grid={self.grid[0]} tokens a side do not tile data.size={self.facts.size} pixels: "
                "take the tokenizer's number",
                code="shape",
                path="model.grid",
                value=self.grid[0],
            )
        self.conditioner = Conditioner(len(self.facts.classes), self.facts.words, self.condition_sizes)
        self.net = self.make_net()

    def make_net(self) -> Any:
        """Make the network."""
        raise TypeError(f"{type(self).__name__} defines no make_net()")

    def token_losses(
        self, tokens: Int[Tensor, "b n"], condition: Condition, batch: dict[str, Any], seeds: list[int]
    ) -> dict[str, Tensor]:
        """Return the losses of some pictures' tokens under their conditions, the total under ``loss``.

        What is drawn belongs to an item, and is drawn from its seed.
        """
        raise TypeError(f"{type(self).__name__} defines no token_losses()")

    # ---- the tokenizer -------------------------------------------------------------------------

    @property
    def tokenizer(self) -> Any:
        """The component that turns pictures into tokens and back."""
        return self.component("tokenizer")

    def attach(self, role: str, component: Any) -> None:
        """Take a component; raises ``RecipeError`` where a tokenizer's numbers are not this model's."""
        self.check_component(role, component)
        if role == "tokenizer":
            self.check_tokenizer(component)
            self._store = None
        super().attach(role, component)

    def check_tokenizer(self, tokenizer: Any) -> None:
        """Raise ``RecipeError`` unless a tokenizer makes as many tokens of as many codes, of pictures of this size."""
        rows, columns = tokenizer.grid
        if rows != columns:
            raise RecipeError(
                f"the tokenizer's tokens stand {rows} × {columns}, those of this generator in a square: "
                "take image/tokenizer",
                code="unsupported",
                path="components.tokenizer",
                value=[rows, columns],
            )
        sizes = {"num_codes": (self.num_codes, tokenizer.num_codes), "grid": (self.grid[0], rows)}
        self.check_agreement("tokenizer", sizes)
        if tokenizer.picture_size != self.facts.size:
            raise RecipeError(
                f"the tokenizer was made for pictures of {tokenizer.picture_size} pixels a side, the data has "
                f"{self.facts.size}: set data.size to {tokenizer.picture_size}",
                code="conflict",
                path="components.tokenizer",
                value=tokenizer.picture_size,
            )

    def tokens_of(self, pictures: Float[Tensor, "b 3 y x"]) -> Int[Tensor, "b n"]:
        """Return the tokens of pictures of the data, from −1 to 1; a picture is tokenized once."""
        if self._store is None:
            self._store = PictureTokens(self.tokenizer)
        return self._store(pictures)

    def save_tokens(self) -> None:
        """Write what was tokenized to the cache, for other runs."""
        if self._store is not None:
            self._store.save()

    @torch.no_grad()
    def pictures_of(self, tokens: Int[Tensor, "b n"]) -> Float[np.ndarray, "b 3 y x"]:
        """Return the pictures of tokens, from 0 to 1."""
        made = self.tokenizer.pictures(tokens.to(self.device))
        return ((made.float() + 1) / 2).clamp(0, 1).cpu().numpy()

    # ---- training ------------------------------------------------------------------------------

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        seeds = self.row_seeds(batch)
        forget = self.forgotten(seeds)
        spell = self.condition_sizes.spell_share if self.training else 0.0
        condition = self.conditioner(batch["label"], batch["caption"], forget, spell, seeds)
        return self.token_losses(self.tokens_of(batch["image"]), condition, batch, seeds)

    def forgotten(self, seeds: Sequence[int]) -> Bool[Tensor, " b"]:
        """Return which items lose label and caption, while training, for guidance."""
        share = self.condition_sizes.dropout if self.training else 0.0
        return self.draw_uniform(seeds, "forget") < share

    def on_train_end(self) -> None:
        self.save_tokens()

    def on_validation_epoch_end(self) -> None:
        self.save_tokens()

    def units(self, batch: dict[str, Any]) -> dict[str, int]:
        return {"images": len(batch["image"])}

    def condition_of(self, labels: Sequence[int], captions: Sequence[str]) -> Condition:
        """Return the conditions of a batch; a label of −1 and an empty caption are none."""
        numbers = torch.tensor(list(labels), device=self.device)
        with self.layers_as_weights():
            return self.conditioner(numbers, captions, torch.zeros_like(numbers, dtype=torch.bool))

    def layers_as_weights(self) -> AbstractContextManager[Any]:
        """Let layers compute in the type of their weights where that has 16 bits; nothing else changes."""
        return as_weights(next(self.net.parameters()))

    def layout(self, num_positions: int, request: Any = None) -> Layout:
        """Return what each place of a canvas is: a grid, row by row."""
        rows, columns = self.grid
        return Layout.grid(rows, columns, self.num_codes)


class TokenGenerator(TokenModel, MaskedModel):
    """A network that draws a picture's tokens, given a class or a caption, and some of the tokens maybe.

    Attributes:
        samplers: names of the presets of ``unisono.masked`` that requests may ask for.
        default_sampler: where a request asks for none.
        guidance: of requests with a label or prompt that do not say.
    """

    Media: ClassVar[type[Image]] = Image
    Request: ClassVar[Any] = TokenRequest
    text_field: ClassVar[str] = "prompt"
    choices: ClassVar[dict[str, str]] = {"label": "classes"}
    pipeline_tag: ClassVar[str] = "text-to-image"
    roles: ClassVar[dict[str, str]] = {
        **TokenModel.roles,
        "classifier": "gives the features that evaluation compares",
    }
    component_kinds: ClassVar[dict[str, Any]] = {**TokenModel.component_kinds, "classifier": ImageClassifier}
    decoding_fields: ClassVar[tuple[str, ...]] = DECODING_FIELDS
    samplers: ClassVar[tuple[str, ...]] = tuple(name for name in SAMPLERS if name != "token_critic")
    default_sampler: ClassVar[str] = "maskgit"

    def __init__(self, *, num_codes: int, grid: int, condition: ConditionSizes, guidance: float):
        super().__init__(num_codes=num_codes, grid=grid, condition=condition)
        check_range("guidance", guidance, 0, 50)
        self.guidance = guidance

    # ---- what a subclass says ------------------------------------------------------------------

    def predict(
        self, tokens: Int[Tensor, "b n 1"], known: Bool[Tensor, "b n 1"], condition: Condition
    ) -> Float[Tensor, "b n 1 v"]:
        """Return the logits of every place; tokens that are not known are not read."""
        raise TypeError(f"{type(self).__name__} defines no predict()")

    def network_of(self, condition: Condition) -> Any:
        """Return the network under some rows' conditions, as `unisono.masked.Handle` takes it."""
        return StreamNetwork(self.predict, 1, condition)

    def strategy_for(self, windows: Sequence[Painting], canvas: Canvas, network: Any) -> Strategy:
        """Return how windows of one kind are decoded: guided away from their own conditions, by their own critic."""
        request = windows[0].request
        away = self.network_of(self.away_from(windows)) if request.guidance else None
        return strategy_of(self, request, canvas.layout, away, self.critic_of(windows))

    def check_sampling(self, request: Any) -> None:
        """Raise ``RequestError`` for a sampler that the model does not have, or a setting that it does not take."""
        check_sampling(self, request)

    def critic_of(self, windows: Sequence[Painting]) -> Any:
        """Return what ranks the tokens of windows under their conditions; None where the model has no such thing."""
        return None

    # ---- drawing -------------------------------------------------------------------------------

    def task(self, request: Any, seed: int, streaming: bool = False) -> Painting:
        self.component("tokenizer")  # raises before anything is computed
        return Painting(self, read_token_request(self, request), seed)

    def denoiser(self, windows: Sequence[Painting], canvas: Canvas) -> Any:
        return self.network_of(self.condition_of([w.label for w in windows], [w.caption for w in windows]))

    def away_from(self, windows: Sequence[Painting]) -> Condition:
        """Return the conditions that guidance leads away from: none, or a negative prompt."""
        return self.condition_of(
            [NO_LABEL] * len(windows), [window.request.negative_prompt or "" for window in windows]
        )

    def watch(self, tasks: Sequence[Any], progress: Progress) -> Callable[[Canvas], None]:
        """Tell of the tokens that are known so far, of the decoding that begins."""
        before = sum(task.done for task in tasks)
        return lambda canvas: progress.to(before + int((canvas.known & ~canvas.frozen).sum()))

    def given_parts(self, request: Any, made: Image) -> list[tuple[Any, Any]]:
        """Return the pixels outside of the mask, as they were given and as they are."""
        task = read_token_request(self, request)
        if task.pixels is None or task.mask is None or not request.keep_pixels:
            return []
        return [(task.pixels[:, ~task.mask], made.bytes.transpose(2, 0, 1)[:, ~task.mask])]

    def preview_requests(self) -> list[Any]:
        classes, captions = self.facts.classes, self.facts.sample_captions
        if self.facts.words:
            return [self.Request(prompt=caption, seed=i) for i, caption in enumerate(captions[:6])]
        return [self.Request(label=label, seed=i) for i, label in enumerate(classes[:6])] or [
            self.Request(seed=seed) for seed in range(2)
        ]

    def check_requests(self) -> list[Any]:
        """Return what the kit tries: also a given picture, half of it made anew, by each sampler."""
        first = self.preview_requests()[0].model_copy(update={"num_steps": None})
        size = self.facts.size
        ramp = np.arange(3 * size * size, dtype=np.int64).reshape(3, size, size) * 255 // (3 * size * size)
        mask = np.zeros((3, size, size), np.uint8)
        mask[:, size // 2 :] = 255
        given = {"image": Image(ramp.astype(np.uint8)), "mask": Image(mask)}
        asked = [first.model_copy(update={"sampler": name}) for name in self.samplers]
        return [
            *super().check_requests(),
            *asked,
            first.model_copy(update=given),
            first.model_copy(update={**given, "keep_pixels": False}),
        ]

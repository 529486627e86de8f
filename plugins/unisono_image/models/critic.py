"""``image/critic``: which tokens of a picture are real and which a generator drew; it says what to draw again.

Lezama et al., "Improved Masked Image Generation with Token-Critic" (arXiv:2209.04439). A transformer reads all tokens
of a picture, some of which a frozen generator drew, and tells them apart::

    tokens ─┬─ masked at γ(r) ─ generator (frozen), one evaluation, drawn ─┐
            └─ the others ─────────────────────────────────────────────────┴─ critic ─ real or drawn, of each token

A token is *drawn* where it was masked, even where the generator hit upon the real one (as published, by the mask), so
that no critic is always right. ``image/maskgit`` takes one as its component ``critic``; the sampler ``token_critic``
then masks again what looks least real, of all tokens, those of earlier steps too. Each step costs two evaluations, both
counted.

Difference: class and caption are forgotten in a share of the items, of the generator and the critic alike, so that
pictures of nothing in particular are judged, too.

Alone, a critic answers a picture with a picture: how likely each token's square is real, from black to white.

Shapes: b batch, n tokens, e channels of the condition. Masks are True where a token is real.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, InstanceOf
from pydantic.json_schema import SkipJsonSchema
from torch import Tensor, nn
from torch.nn import functional as F
from unisono import Image, Request
from unisono.data import derive_seed
from unisono.errors import RecipeError
from unisono.masked import Canvas, choose_then_draw, decode, with_draw, with_guidance
from unisono.masked.model import StreamNetwork
from unisono.model import OnStep
from unisono.nn.condition import NO_LABEL, Condition, ConditionSizes
from unisono.request import FILE

from unisono_image.models.maskgit_sizes import CriticObjective, TokenNetSizes
from unisono_image.models.masking import masked_by
from unisono_image.models.token_generator import TokenGenerator, TokenModel
from unisono_image.models.token_store import fingerprint
from unisono_image.models.token_transformer import TokenTrunk
from unisono_image.models.vae import half_light
from unisono_image.request import start_pixels, subject_of


class CriticRequest(Request):
    """A picture to judge, and what it is meant to show."""

    image: str | SkipJsonSchema[InstanceOf[Image]] | None = Field(
        default=None,
        description="path of a picture; default: a made one, half dark and half light",
        json_schema_extra=FILE,
    )
    prompt: str | None = Field(
        default=None, description="what the picture shows; the name of a class where the model knows classes alone"
    )
    label: str | int | None = Field(default=None, description="a class, by name or number")


class Critic(TokenModel):
    """A transformer over all tokens of a picture that tells real ones from drawn ones.

    Args:
        num_codes, grid: as the generator has.
        network: sizes of the transformer (published: as the generator's).
        condition: what is known of class and caption, and how often it is forgotten.
        objective: at which rates tokens are masked, and how they are drawn.
    """

    Media: ClassVar[type[Image]] = Image
    Request: ClassVar[type[CriticRequest]] = CriticRequest
    text_field: ClassVar[str] = "image"
    choices: ClassVar[dict[str, str]] = {"label": "classes"}
    salt: ClassVar[str] = "critic"
    deterministic: ClassVar[bool] = True
    roles: ClassVar[dict[str, str]] = {
        **TokenModel.roles,
        "generator": "draws the tokens that training tells from real ones; no export of the critic holds it",
    }
    component_kinds: ClassVar[dict[str, Any]] = {**TokenModel.component_kinds, "generator": TokenGenerator}
    builtin_components: ClassVar[dict[str, str]] = {
        **TokenModel.builtin_components,
        "untrained-generator": "unisono_image.models.untrained_generators:generator",
    }

    def __init__(
        self,
        *,
        num_codes: int = 16384,
        grid: int = 16,
        network: TokenNetSizes = TokenNetSizes(),  # noqa: B008
        condition: ConditionSizes = ConditionSizes(),  # noqa: B008
        objective: CriticObjective = CriticObjective(),  # noqa: B008
    ):
        super().__init__(num_codes=num_codes, grid=grid, condition=replace(condition, dim=condition.dim or network.dim))
        self.sizes, self.objective = network, objective
        self.evaluations: int = 0

    def make_net(self) -> "CriticNet":
        with_words = self.conditioner.text is not None
        return CriticNet(self.num_codes, self.num_tokens, self.sizes, self.condition_sizes.dim, with_words)

    # ---- components ----------------------------------------------------------------------------

    @property
    def components(self) -> dict[str, Any]:
        """The components that travel in exports: the generator is needed in training alone."""
        return {role: part for role, part in super().components.items() if role != "generator"}

    def attach(self, role: str, component: Any) -> None:
        """Take a component; a generator brings its tokenizer. Raises ``RecipeError`` where they do not fit."""
        self.check_component(role, component)
        if role == "generator":
            check_same_tokens(self, component, "generator")
            if "tokenizer" in component.components and "tokenizer" not in self.components:
                self.attach("tokenizer", component.tokenizer)
        super().attach(role, component)
        both = super().components
        if "generator" in both and "tokenizer" in both and "tokenizer" in both["generator"].components:
            mine, its = both["tokenizer"], both["generator"].tokenizer
            if mine is not its and fingerprint(mine) != fingerprint(its):
                raise RecipeError(
                    "the generator's tokens are those of another tokenizer: leave components.tokenizer out",
                    code="conflict",
                    path="components.tokenizer",
                )

    # ---- training ------------------------------------------------------------------------------

    def on_train_start(self) -> None:
        self.component("generator")  # raises before anything is computed

    def token_losses(
        self, tokens: Int[Tensor, "b n"], condition: Condition, batch: dict[str, Any], seeds: list[int]
    ) -> dict[str, Tensor]:
        filled, real = self.drafted(tokens, batch, seeds)
        logits = self.net(filled, condition).float()
        everywhere = torch.ones_like(real)
        loss = F.binary_cross_entropy_with_logits(logits, real.to(logits.dtype), reduction="none")
        right = ((logits > 0) == real).float()
        return {
            "loss": self.global_mean(loss, everywhere),
            "accuracy": self.global_mean(right, everywhere).detach(),
            "real": self.global_mean(real.float(), everywhere),
        }

    @torch.no_grad()
    def drafted(
        self, tokens: Int[Tensor, "b n"], batch: dict[str, Any], seeds: list[int]
    ) -> tuple[Int[Tensor, "b n"], Bool[Tensor, "b n"]]:
        """Return pictures' tokens of which some were drawn by the generator, and which of them are real.

        What is masked and what is drawn depends on the item's seed alone.
        """
        generator = self.component("generator")
        layout = self.layout(self.num_tokens)
        blank = Canvas.blank(layout, seeds, device=tokens.device)
        real = masked_by(self.objective.masking, blank, tokens, self.draw_uniform(seeds, "masked")).canvas.known
        own = [derive_seed(seed, "draft") for seed in seeds]
        forget = self.forgotten(seeds)
        labels = torch.where(forget, NO_LABEL, batch["label"]).tolist()
        captions = ["" if gone else text for gone, text in zip(forget.tolist(), batch["caption"], strict=True)]
        network = generator.network_of(generator.condition_of(labels, captions))
        strategy = with_draw(choose_then_draw(1), temperature=self.objective.temperature)
        if self.objective.guidance:
            away = generator.network_of(generator.condition_of([NO_LABEL] * len(labels), [""] * len(labels)))
            strategy = with_guidance(strategy, 1 + self.objective.guidance, away)
        canvas = Canvas.blank(layout, own, device=tokens.device).freeze(tokens, real)
        return decode(network, canvas, strategy).tokens, real

    # ---- use -----------------------------------------------------------------------------------

    def predict(
        self, tokens: Int[Tensor, "b n 1"], known: Bool[Tensor, "b n 1"], condition: Condition
    ) -> Float[Tensor, "b n 1 1"]:
        """Return how real each token of whole pictures looks: the log of the odds."""
        with self.layers_as_weights():
            return self.net(tokens[..., 0], condition)[..., None, None].float()

    def network_of(self, condition: Condition) -> StreamNetwork:
        """Return the critic under some rows' conditions, as `unisono.masked.Critic` takes it."""
        return StreamNetwork(self.predict, 1, condition)

    @torch.no_grad()
    def synthesize(
        self,
        requests: Sequence[CriticRequest],
        generator: torch.Generator | None = None,
        on_step: OnStep | None = None,
    ) -> list[Image]:
        """Return how likely each token's square of a picture is real: 0 to 1, as grey."""
        size, background = self.facts.size, self.facts.background
        subjects = [subject_of(self, request) for request in requests]
        pixels = [
            half_light(size) if request.image is None else start_pixels(request.image, background, size, size)
            for request in requests
        ]
        images = torch.stack([torch.from_numpy(part) for part in pixels]).to(self.device).float() / 127.5 - 1
        tokens = self.tokenizer.tokens(images)
        condition = self.condition_of(*zip(*subjects, strict=True))
        odds = self.predict(tokens[..., None], torch.ones_like(tokens, dtype=torch.bool)[..., None], condition)
        chance = odds[..., 0, 0].sigmoid().unflatten(1, self.grid)
        side = size // self.grid[0]
        squares = chance.repeat_interleave(side, 1).repeat_interleave(side, 2)
        self.evaluations += 1
        if on_step is not None:
            on_step(len(requests), len(requests))
        return [Image(row[None].repeat(3, 0)) for row in squares.cpu().numpy()]

    def preview_requests(self) -> list[CriticRequest]:
        classes, captions = self.facts.classes, self.facts.sample_captions
        if self.facts.words:
            return [self.Request(prompt=caption) for caption in captions[:2]]
        return [self.Request(label=name) for name in classes[:2]] or [self.Request()]


class CriticNet(nn.Module):
    """The log of the odds that each token of a whole picture is real."""

    def __init__(self, num_codes: int, num_tokens: int, sizes: TokenNetSizes, condition_dim: int, with_words: bool):
        super().__init__()
        self.trunk = TokenTrunk(num_codes, num_tokens, sizes, condition_dim, with_words, masked=False)
        self.out = nn.Linear(sizes.dim, 1)

    def forward(self, tokens: Int[Tensor, "b n"], condition: Condition) -> Float[Tensor, "b n"]:
        return self.out(self.trunk(tokens, torch.ones_like(tokens, dtype=torch.bool), condition))[..., 0]


def check_same_tokens(model: TokenModel, component: TokenModel, role: str) -> None:
    """Raise ``RecipeError`` unless a component is of the same tokens, classes and words as a model."""
    sizes = {"num_codes": (model.num_codes, component.num_codes), "grid": (model.grid[0], component.grid[0])}
    model.check_agreement(role, sizes)
    for name in ("classes", "words", "size"):
        if component.facts[name] != model.facts[name]:
            raise RecipeError(
                f"the {role} knows other {name} than the data: train it on the same data",
                code="conflict",
                path=f"components.{role}",
                value=name,
            )

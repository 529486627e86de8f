"""MoMask: a masked transformer for the base tokens, and a residual one for what the tokenizer's levels add.

Guo et al., "MoMask: Generative Masked Modeling of 3D Human Motions" (arXiv:2312.00063). The levels are groups of
one canvas: the base is filled in several steps, each level above in one, by one loop. Defaults are the published
sizes.

Differences: both networks are trained together, on the same items; the caption is read word by word, as in MMM,
not as one vector; no token is replaced by a random one while training (published: 10 % of those that are masked).
The rest is as in ``mmm.py``.

Shapes: b batch, n token positions, p parts of the body, l levels, q = p · l streams (the levels of a part side by
side), v codebook.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor
from unisono.data import derive_seed
from unisono.errors import RecipeError, RequestError
from unisono.graphs import Graphs
from unisono.masked import Layout, Plan, Scheduled
from unisono.masked.training.corrupt import PlanMasking

from unisono_motion.models.mmm import MMM
from unisono_motion.models.request import MotionRequest
from unisono_motion.models.sizes import FLAT, ConditionSizes, ObjectiveSpec, TwoTransformerSizes
from unisono_motion.models.transformer import Condition, MaskedTransformer, ResidualTransformer


class MoMask(MMM):
    """Masked transformer and residual transformer over the levels of motion tokens.

    ::

        text ─┬─ masked transformer ─ level 0 ─┬──────────────────────┬─ tokenizer ─ motion
              └─ residual transformer ─────────┴─ levels 1, 2, … ─────┘

    Args (beside MMM's):
        num_parts: parts of the body that the tokenizer knows: 1, or 2.
        num_levels: residual levels of the tokenizer, the base among them.
        network: sizes of both transformers.
    """

    builtin_components: ClassVar[dict[str, str]] = {"untrained-levels": "unisono_motion.tokens.untrained:levels"}
    flat: ClassVar[dict[str, str]] = FLAT | {"residual_layers": "network.residual_layers"}

    def __init__(
        self,
        *,
        codebook_size: int = 512,
        num_parts: int = 1,
        num_levels: int = 6,
        max_tokens: int = 49,
        crop_share: float = 0.2,
        network: TwoTransformerSizes = TwoTransformerSizes(),  # noqa: B008
        condition: ConditionSizes = ConditionSizes(),  # noqa: B008
        objective: ObjectiveSpec = ObjectiveSpec(),  # noqa: B008
    ):
        super().__init__(
            codebook_size=codebook_size,
            num_streams=num_parts * num_levels,
            max_tokens=max_tokens,
            crop_share=crop_share,
            network=network,
            condition=condition,
            objective=objective,
        )
        if num_levels < 2:
            raise RecipeError(
                f"model.num_levels={num_levels}: a tokenizer of one level is motion/mmm's",
                code="range",
                path="model.num_levels",
                value=num_levels,
            )
        self.num_parts, self.num_levels = num_parts, num_levels
        self.residual_sizes = replace(network, num_layers=network.residual_layers)

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build both networks."""
        super().build(facts)
        self.residual = ResidualTransformer(self.codebook_size, self.num_parts, self.num_levels, self.residual_sizes)

    def make_network(self) -> MaskedTransformer:
        """Make the transformer over the base tokens."""
        return MaskedTransformer(self.codebook_size, self.num_parts, self.sizes)

    def graph_modules(self) -> Graphs:
        message = "motion/momask has no graphs: its second network reads tokens of all levels; motion/mmm has one"
        raise RequestError(message, code="unsupported", path="model", value="motion/momask")

    def check_tokenizer(self, tokenizer: Any) -> None:
        """Raise ``RecipeError`` unless the tokenizer has as many levels for each part."""
        levels = [level for _, level in tokenizer.streams]
        its = max(levels) + 1
        self.check_agreement("tokenizer", {"num_levels": (self.num_levels, its)})
        self.check_sizes(tokenizer)

    def layout(self, num_positions: int, request: MotionRequest | None = None) -> Layout:
        """Return what each place of a canvas is: position · q + stream, group = level."""
        levels = list(range(self.num_levels)) * self.num_parts
        return Layout.streams(num_positions, [self.codebook_size] * self.num_streams, levels, shared=True)

    def split(self, x: Tensor) -> Tensor:
        """View streams [b, n, q] as parts and levels [b, n, p, l]."""
        return rearrange(x, "b n (p l) -> b n p l", l=self.num_levels)

    def token_losses(
        self, tokens: Int[Tensor, "b n q"], condition: Condition, forget: Bool[Tensor, " b"], seeds: list[int]
    ) -> dict[str, Tensor]:
        """Return the base network's loss, and the residual network's on one drawn level of each item."""
        parts = super().token_losses(self.split(tokens)[..., 0], condition, forget, seeds)
        # One level above the base, drawn for each item, is hidden whole, with all above it: as in its decoding.
        plan = Plan(Scheduled((1,) * self.num_levels))
        masking = PlanMasking(plan, group_weights=(0.0, *[1.0] * (self.num_levels - 1)), on_steps=True)
        own = [derive_seed(seed, "level") for seed in seeds]
        corrupted = self.corrupted(self.layout(tokens.shape[1]), masking, tokens, condition.length, own)
        seen, known = (x.view(tokens.shape) for x in (corrupted.canvas.tokens, corrupted.canvas.known))
        above = self.scored(self.predict(seen, known, condition, forget), corrupted)
        parts["residual"], parts["residual_accuracy"] = above["tokens"], above["accuracy"]
        return parts

    def predict(
        self,
        tokens: Int[Tensor, "b n q"],
        known: Bool[Tensor, "b n q"],
        condition: Condition,
        forget: Bool[Tensor, " b"],
    ) -> Float[Tensor, "b n q v"]:
        """Return the logits of each row's lowest level that is not whole; those of other levels are 0."""
        levels, known = self.split(tokens), self.split(known)
        lowest = (~known).any(1).any(1).float().argmax(1)
        logits = torch.zeros(*levels.shape, self.codebook_size, device=tokens.device)
        base = lowest == 0
        if base.any():
            logits[..., 0, :] = self.net(levels[..., 0], known[..., 0], condition, forget).float()
        if not base.all():
            level = lowest.clamp(min=1)
            above = self.residual(levels, level, condition, forget).float()
            place = level[:, None, None, None, None].expand(*above.shape[:3], 1, above.shape[-1])
            logits = torch.where(base[:, None, None, None, None], logits, logits.scatter(3, place, above[..., None, :]))
        return logits.flatten(2, 3)

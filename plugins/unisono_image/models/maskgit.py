"""``image/maskgit``: a masked transformer over picture tokens; classes and captions to pictures in a few steps.

Chang et al., "MaskGIT: Masked Generative Image Transformer" (arXiv:2202.04200). Trained to fill masked tokens; drawn by
any preset of ``unisono.masked``, MaskGIT's own by default, or ranked by a critic (``critic.py``). Defaults are the
published sizes for the 16,384 codes of LlamaGen's VQ-16 at 256 × 256 (published: 1,024 codes of its own tokenizer).
What its ports
chose otherwise is an option: see `MaskingSpec` and `TokenNetSizes`.

Differences:
- Guidance: the condition is forgotten in a share of the items (published for classes without guidance; its ports: 0.1).
- Captions are read word by word (``condition.py``).
- The rest is said where it is: the network in ``token_transformer.py``, the sampler in ``unisono.masked.maskgit``.

Shapes: b batch, n tokens of a picture, v codes.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from unisono.masked import Canvas, Corrupted, masked_cross_entropy
from unisono.nn.condition import Condition, ConditionSizes
from unisono.peers import add_up, num_peers

from unisono_image.models.critic import Critic, check_same_tokens
from unisono_image.models.maskgit_sizes import MaskingSpec, TokenNetSizes
from unisono_image.models.masking import masked_by
from unisono_image.models.token_generator import TokenGenerator
from unisono_image.models.token_painting import Painting
from unisono_image.models.token_sampling import SAMPLERS
from unisono_image.models.token_transformer import TokenTransformer


class MaskGIT(TokenGenerator):
    """A masked transformer over picture tokens.

    ::

        label, caption ─ conditioner ─┐
        tokens, some masked ──────────┴─ transformer ─ logits ─ preset of unisono.masked ─ tokens ─ tokenizer ─ picture

    Args:
        num_codes: tokens that a place may hold, as the tokenizer has.
        grid: tokens a side, as the tokenizer has.
        network: sizes of the transformer.
        condition: what is known of class and caption, and how often it is forgotten.
        objective: what is masked while training, and which places count.
        guidance: of requests with a label or prompt that do not say: c + guidance·(c − u).
    """

    salt: ClassVar[str] = "maskgit"
    samplers: ClassVar[tuple[str, ...]] = SAMPLERS
    roles: ClassVar[dict[str, str]] = {
        **TokenGenerator.roles,
        "critic": "says which tokens look real; the sampler token_critic needs it",
    }
    component_kinds: ClassVar[dict[str, Any]] = {**TokenGenerator.component_kinds, "critic": Critic}
    builtin_components: ClassVar[dict[str, str]] = {
        **TokenGenerator.builtin_components,
        "untrained-critic": "unisono_image.models.untrained_generators:critic",
    }

    def __init__(
        self,
        *,
        num_codes: int = 16384,
        grid: int = 16,
        network: TokenNetSizes = TokenNetSizes(),  # noqa: B008
        condition: ConditionSizes = ConditionSizes(),  # noqa: B008
        objective: MaskingSpec = MaskingSpec(),  # noqa: B008
        guidance: float = 2.0,
    ):
        condition = replace(condition, dim=condition.dim or network.dim)
        super().__init__(num_codes=num_codes, grid=grid, condition=condition, guidance=guidance)
        self.sizes, self.objective = network, objective

    def make_net(self) -> TokenTransformer:
        with_words = self.conditioner.text is not None
        return TokenTransformer(self.num_codes, self.num_tokens, self.sizes, self.condition_sizes.dim, with_words)

    def predict(
        self, tokens: Int[Tensor, "b n 1"], known: Bool[Tensor, "b n 1"], condition: Condition
    ) -> Float[Tensor, "b n 1 v"]:
        with self.layers_as_weights():
            return self.net(tokens[..., 0], known[..., 0], condition)[:, :, None].float()

    def attach(self, role: str, component: Any) -> None:
        """Take a component; raises ``RecipeError`` where it is of other tokens, classes or words."""
        self.check_component(role, component)
        if role == "critic":
            check_same_tokens(self, component, "critic")
        super().attach(role, component)

    def critic_of(self, windows: Sequence[Painting]) -> Any:
        critic = self.components.get("critic")
        if critic is None:
            return None
        return critic.network_of(critic.condition_of([w.label for w in windows], [w.caption for w in windows]))

    # ---- training ------------------------------------------------------------------------------

    def corrupted(self, tokens: Int[Tensor, "b n"], seeds: list[int]) -> Corrupted:
        """Return the canvases that the network is to fill, drawn from each item's own seed."""
        blank = Canvas.blank(self.layout(self.num_tokens), seeds, device=tokens.device)
        return masked_by(self.objective, blank, tokens, self.draw_uniform(seeds, "masked"))

    def token_losses(
        self, tokens: Int[Tensor, "b n"], condition: Condition, batch: dict[str, Any], seeds: list[int]
    ) -> dict[str, Tensor]:
        corrupted = self.corrupted(tokens, seeds)
        hidden = ~corrupted.canvas.known
        weights = torch.where(hidden, 1.0, self.objective.unmasked_weight).double()
        logits = self.net(corrupted.canvas.tokens, corrupted.canvas.known, condition).float()
        surprise = masked_cross_entropy(
            logits, replace(corrupted, weights=weights), self.objective.label_smoothing, "none"
        )
        # The weighted mean over the places of all ranks, as `global_mean` has it where all weights are 1.
        total = add_up(weights.sum())
        loss = surprise.sum() * (num_peers() / total.clamp(min=1e-9)).to(surprise.dtype)
        right = (logits.argmax(-1) == tokens).float()
        return {"loss": loss, "accuracy": self.global_mean(right, hidden).detach()}

"""``image/arpg``: tokens in any order by a decoder of two passes; several at a time, and an exact likelihood.

Li et al., "Autoregressive Image Generation with Randomized Parallel Decoding" (arXiv:2503.10568). Trained to predict
each token from those before it, in an order that is random for each picture; drawn by a random order, few tokens at
first, with keys and values of what is known kept. Tokens that are given (in-painting) come first. Defaults are the
published sizes for the 16,384 codes of LlamaGen's VQ-16 at 256 × 256.

The probability of a picture in one order is a product of what the network says (`OrderedGenerator.surprises`), so that
``unisono evaluate`` has the likelihood itself, not a bound: one token a step is an autoregressive model.

Differences:
- Each row of a batch has an order of its own; the released sampler has one for all.
- What the tokens of one step see of one another is asked for (``same_step``): by default what was trained, each its
  earlier ones; ``mutual`` as the released sampler has it.
- Without guidance, the network is asked once a step; the released code always asks twice. It grows with the tokens, as
  released, unless `guidance_ramp` says no.
- The rest is said where it is: ``anyorder/two_pass.py``.

Shapes: b batch, n tokens of a picture, v codes.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor
from unisono.masked import Cached, Canvas, ClassifierFree, QueryOnly, Strategy
from unisono.nn.condition import Condition, ConditionSizes

from unisono_image.anyorder.decoding import Growing
from unisono_image.anyorder.two_pass import TwoPass, TwoPassSizes, View
from unisono_image.models.ordered import OrderedGenerator
from unisono_image.models.token_painting import Painting
from unisono_image.models.token_request import TokenRequest
from unisono_image.models.token_sampling import DECODING_FIELDS, strategy_of


class ARPGRequest(TokenRequest):
    """What can be asked of ARPG."""

    same_step: Literal["causal", "mutual"] = Field(
        default="causal",
        description="what tokens that were drawn in one step see of one another when they are read: each those before "
        "it, as trained, or all of them, as the released sampler has it; of one token a step both are the same",
    )


class ARPG(OrderedGenerator):
    """A decoder of two passes over picture tokens.

    ::

        label, caption ─ conditioner ─┐
        tokens so far ────────────────┴─ first pass ─ keys, values ─┐
        places that come next ──────────────────────── second pass ─┴─ logits ─ tokens ─ tokenizer ─ picture

    Args:
        num_codes: tokens that a place may hold, as the tokenizer has.
        grid: tokens a side, as the tokenizer has.
        network: sizes of the decoder.
        condition: what is known of class and caption, and how often it is forgotten.
        guidance: of requests with a label or prompt that do not say: c + guidance·(c − u) at the last tokens
            (published, L: s = 4.5, which is 3.5 here).
    """

    salt: ClassVar[str] = "arpg"
    Request: ClassVar[Any] = ARPGRequest
    samplers: ClassVar[tuple[str, ...]] = ("arpg", "random_order", "halton", "locality", "left_to_right")
    default_sampler: ClassVar[str] = "arpg"
    decoding_fields: ClassVar[tuple[str, ...]] = (*DECODING_FIELDS, "same_step")

    def __init__(
        self,
        *,
        num_codes: int = 16384,
        grid: int = 16,
        network: TwoPassSizes = TwoPassSizes(),  # noqa: B008
        condition: ConditionSizes = ConditionSizes(),  # noqa: B008
        guidance: float = 3.5,
    ):
        condition = replace(condition, dim=condition.dim or network.dim)
        super().__init__(num_codes=num_codes, grid=grid, condition=condition, guidance=guidance)
        self.sizes = network

    def make_net(self) -> TwoPass:
        with_words = self.conditioner.text is not None
        return TwoPass(self.sizes, self.num_codes, self.grid, self.condition_sizes.dim, with_words)

    def network_of(self, condition: Condition, one_by_one: bool = True) -> Cached:
        """Return the network under some rows' conditions, with a memory of its own."""
        return Cached(View(self.net, self.net.begin(condition), one_by_one), QueryOnly())

    def denoiser(self, windows: Sequence[Painting], canvas: Canvas) -> Cached:
        condition = self.condition_of([w.label for w in windows], [w.caption for w in windows])
        return self.network_of(condition, windows[0].request.same_step == "causal")

    def strategy_for(self, windows: Sequence[Painting], canvas: Canvas, network: Any) -> Strategy:
        request, away = windows[0].request, None
        if request.guidance:
            away = self.network_of(self.away_from(windows), request.same_step == "causal")
        strategy = strategy_of(self, request, canvas.layout, away)
        guide = strategy.guide
        if isinstance(guide, ClassifierFree) and guide.ramp:
            guide = Growing(guide.guidance_scale, guide.other)
        return replace(strategy, guide=guide, query_only=True)

    def logits_in(
        self, tokens: Int[Tensor, "b n"], condition: Condition, order: Int[Tensor, "b n"], seeds: Sequence[int]
    ) -> Float[Tensor, "b n v"]:
        return self.net(tokens, condition, order)

    def logits_one_by_one(
        self, tokens: Int[Tensor, "b n"], condition: Condition, order: Int[Tensor, "b n"]
    ) -> Float[Tensor, "b n v"]:
        return self.net(tokens, condition, order)

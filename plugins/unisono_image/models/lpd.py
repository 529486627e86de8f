"""``image/lpd``: tokens in groups, near what is known and far from each other, by queries that see one another.

Zhang et al., "Locality-aware Parallel Decoding for Efficient Autoregressive Image Generation" (arXiv:2507.01957).
Trained on random orders, cut into groups of some published sizes; drawn group by group in an order of its own
(``anyorder/groups.py``), with keys and values of what is known kept. Tokens that are given (in-painting) count as
known. Defaults are the published sizes for the 16,384 codes of LlamaGen's VQ-16 at 256 × 256.

Differences:
- Each row of a batch has an order of its own, one of 256; the released code takes one of a file for a batch.
- The sizes of a picture's groups are drawn for each picture in training, not for each batch.
- Of other grids than 16 × 16, sizes are scaled; of steps that are not published, they follow 1 − cos.
- Guidance grows from token to token, as released, unless `guidance_ramp` says no.
- The rest is said where it is: ``anyorder/grouped.py``, ``anyorder/groups.py``.

With groups of one token it is an autoregressive model in any order, with an exact likelihood.

Shapes: b batch, n tokens of a picture, v codes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from unisono.errors import RequestError, raised_as
from unisono.masked import Cached, Canvas, ClassifierFree, QueryOnly, Strategy, check_sampler, with_draw
from unisono.nn.condition import Condition, ConditionSizes

from unisono_image.anyorder.decoding import Growing, in_groups
from unisono_image.anyorder.grouped import Grouped, GroupedSizes, GroupedView
from unisono_image.anyorder.groups import group_sizes, groups_of_row
from unisono_image.models.maskgit_sizes import check_range
from unisono_image.models.ordered import OrderedGenerator
from unisono_image.models.token_painting import Painting

SAMPLERS = ("lpd", "lpd_random")
"""Groups by nearness and repulsion, or at random; their sizes are the same."""


@dataclass(frozen=True, kw_only=True)
class GroupingSpec:
    """How tokens are grouped.

    train_steps: steps whose group sizes training draws from (published, of 256 tokens: 256, 128, 64, 32, 24, 20, 16,
        12, 8); no more than a picture has tokens.
    num_steps: of requests that do not say (published: 20).
    radius: no two places of a group are as near, in both directions, while there are others (published: 2 or 3 of 16
        tokens a side, 4 of 32).
    """

    train_steps: tuple[int, ...] = (256, 128, 64, 32, 24, 20, 16, 12, 8)
    num_steps: int = 20
    radius: int = 2

    def __post_init__(self):
        check_range("groups.num_steps", self.num_steps, 1)
        check_range("groups.radius", self.radius, 0)
        check_range("groups.train_steps", len(self.train_steps), 1)
        for steps in self.train_steps:
            check_range("groups.train_steps", steps, 1)


class LPD(OrderedGenerator):
    """A decoder of groups of picture tokens.

    ::

        label, caption ─ conditioner ─┐
        tokens so far ────────────────┼─ transformer ─ logits ─ tokens ─ tokenizer ─ picture
        places of the next group ─────┘

    Args:
        num_codes: tokens that a place may hold, as the tokenizer has.
        grid: tokens a side, as the tokenizer has.
        network: sizes of the decoder.
        condition: what is known of class and caption, and how often it is forgotten.
        groups: how tokens are grouped.
        guidance: of requests with a label or prompt that do not say: c + guidance·(c − u) at the last token (published,
            L: s = 4.8, which is 3.8 here).
    """

    salt: ClassVar[str] = "lpd"
    samplers: ClassVar[tuple[str, ...]] = SAMPLERS
    default_sampler: ClassVar[str] = "lpd"

    def __init__(
        self,
        *,
        num_codes: int = 16384,
        grid: int = 16,
        network: GroupedSizes = GroupedSizes(),  # noqa: B008
        condition: ConditionSizes = ConditionSizes(),  # noqa: B008
        groups: GroupingSpec = GroupingSpec(),
        guidance: float = 3.8,
    ):
        condition = replace(condition, dim=condition.dim or network.dim)
        super().__init__(num_codes=num_codes, grid=grid, condition=condition, guidance=guidance)
        check_range("groups.train_steps", max(groups.train_steps), 1, self.num_tokens)
        self.sizes, self.grouping = network, groups

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build for the classes and words of the data."""
        super().build(facts)
        cuts = [group_sizes(self.num_tokens, steps) for steps in self.grouping.train_steps]
        numbers = [torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes)) for sizes in cuts]
        self.register_buffer("cuts", torch.stack(numbers), persistent=False)
        self.cuts: Tensor

    def make_net(self) -> Grouped:
        with_words = self.conditioner.text is not None
        return Grouped(self.sizes, self.num_codes, self.num_tokens, self.condition_sizes.dim, with_words)

    # ---- likelihood ----------------------------------------------------------------------------

    def logits_in(
        self, tokens: Int[Tensor, "b n"], condition: Condition, order: Int[Tensor, "b n"], seeds: Sequence[int]
    ) -> Float[Tensor, "b n v"]:
        drawn = self.draw_uniform(seeds, "sizes") * len(self.cuts)
        return self.net(tokens, condition, order, self.cuts[drawn.long().clamp_max(len(self.cuts) - 1)])

    def logits_one_by_one(
        self, tokens: Int[Tensor, "b n"], condition: Condition, order: Int[Tensor, "b n"]
    ) -> Float[Tensor, "b n v"]:
        groups = torch.arange(order.shape[1], device=order.device).expand_as(order)
        return self.net(tokens, condition, order, groups)

    # ---- drawing -------------------------------------------------------------------------------

    def check_sampling(self, request: Any) -> None:
        check_sampler(request.sampler, SAMPLERS)
        for name in ("choice_temperature", "schedule"):
            if getattr(request, name) is not None:
                raise RequestError(
                    f"sampler {request.sampler} cannot take {name}: its groups are given; leave it out",
                    code="conflict",
                    path=name,
                    value=getattr(request, name),
                )
        self.drawn_by(request, in_groups(torch.zeros(1, 1, dtype=torch.int64)))

    def groups_of(self, windows: Sequence[Painting]) -> tuple[Int[Tensor, "b n"], Int[Tensor, "b n"]]:
        """Return the group and the rank of each place of windows; −1 where its token is given."""
        rows, columns = self.grid
        made = []
        for window in windows:
            asked = window.request
            known = window.known[:, 0].nonzero()[:, 0].tolist()
            steps = asked.num_steps or self.grouping.num_steps
            near, radius = asked.sampler == "lpd", self.grouping.radius
            made.append(groups_of_row(rows, columns, steps, radius=radius, seed=window.seed, near=near, known=known))
        groups, rank = (torch.stack(parts).to(self.device) for parts in zip(*made, strict=True))
        return groups, rank

    def network_in(self, condition: Condition, groups: Int[Tensor, "b n"]) -> Cached:
        """Return the network under some rows' conditions and groups, with a memory of its own."""
        return Cached(GroupedView(self.net, self.net.begin(condition), groups), QueryOnly())

    def denoiser(self, windows: Sequence[Painting], canvas: Canvas) -> Cached:
        condition = self.condition_of([w.label for w in windows], [w.caption for w in windows])
        return self.network_in(condition, self.groups_of(windows)[0])

    def strategy_for(self, windows: Sequence[Painting], canvas: Canvas, network: Any) -> Strategy:
        request = windows[0].request
        groups, rank = self.groups_of(windows)
        guide = None
        if request.guidance:
            other = self.network_in(self.away_from(windows), groups)
            scale = 1 + request.guidance
            flat = request.guidance_ramp is False
            guide = ClassifierFree(scale, other) if flat else Growing(scale, other, rank=rank)
        return self.drawn_by(request, in_groups(groups, guide))

    @staticmethod
    def drawn_by(request: Any, strategy: Strategy) -> Strategy:
        """Return the strategy with a request's draw; raises ``RequestError`` for what does not go together."""
        with raised_as(RequestError):
            return with_draw(strategy, temperature=request.temperature, top_k=request.top_k, top_p=request.top_p)

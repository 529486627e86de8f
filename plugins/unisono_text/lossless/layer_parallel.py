"""Layer-parallel draft: consecutive layers of a draft read the same input (Wu et al., EasySpec, arXiv:2502.02493).

::

    exact     x ─ attention 1 ─(+)─ feed 1 ─(+)─ attention 2 ─(+)─ feed 2 ─(+)─
    fuzzy     x ─┬ attention 1 ─(+)─ feed 1 ─(+)──────(+)───────── feed 2 ─(+)─
                 └ attention 2 ───────────────────────┘

Attention of the layers of a group needs nothing of each other, so that several devices can compute it at once; what
each adds is added where it always was. After each round the keys and values of what was committed are computed anew,
exactly, in the evaluation that any draft begins with: errors do not pile up. The target verifies by matching, so that
the text is plain decoding's, token by token, whatever the layers do.

The gain of the paper (drafts up to 1.62 times as fast, at most 7 % fewer accepted) needs a device for each layer of a
group. Here the layers of a group run one after the other: this is an ablation, which says what the fuzzy layers cost
in acceptance, and no way to be faster. It is not offered as a ``decoding``.

Letters: b batch, n new tokens, v vocabulary. Masks: True = keep.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from unisono.checks import fault_of, is_whole
from unisono.errors import UnisonoError
from unisono.masked import random
from unisono.nn.rotary import rotation
from unisono.verify import Draw, KVCache, Matching, Method, Prefix, Proposal, Round, Target, sample

from unisono_text.lossless.networks import CausalNetwork
from unisono_text.models.transformer import TextTransformer


class FuzzyNetwork:
    """A transformer of this plugin of which each group of layers reads one input.

    Args:
        group: layers that read the same input; 1 is the exact network.
    """

    def __init__(self, transformer: TextTransformer, group: int = 2):
        if not is_whole(group, 1):
            raise UnisonoError(
                f"groups of {group!r} layers: give a whole number of at least 1",
                code=fault_of(group, whole=True),
                path="group",
                value=group,
            )
        self.transformer, self.group = transformer, group

    def __call__(
        self,
        tokens: Int[Tensor, "b n"],
        positions: Int[Tensor, "b n"],
        visible: Bool[Tensor, "b n n"],
        cache: KVCache | None,
    ) -> Float[Tensor, "b n v"]:
        net = self.transformer
        assert net.embedding is not None and net.head is not None
        mask = (visible if cache is None else cache.mask(visible))[:, None]
        x = net.embedding(tokens)
        places = rotation(positions, net.head_dim, net.rope_base, x.device)
        layers = list(enumerate(net.layers))
        for start in range(0, len(layers), self.group):
            members = layers[start : start + self.group]
            heard = [layer.attend_to(x, places, mask, False, cache, number) for number, layer in members]
            for (_, layer), said in zip(members, heard, strict=True):
                x = x + said
                x = x + layer.feed_forward(x)
        return net.head(net.norm(x))


@dataclass(frozen=True, eq=False)
class Calibrated:
    """A draft's network, and how much of each row its cache holds exactly."""

    own: Target
    length: Int[Tensor, " b"]


@dataclass(frozen=True)
class LayerParallelDraft:
    """Draw `num_draft` tokens with the target's noise: the first exactly, the others by the fuzzy network.

    Args:
        exact: the draft's network, which also computes anew what was committed.
        fuzzy: the same, in groups of layers; both share a cache.
    """

    exact: Any
    fuzzy: Any
    num_draft: int = 4
    cache: Callable[[int], KVCache] | None = KVCache
    brings_law = False

    def __post_init__(self):
        if not is_whole(self.num_draft, 1):
            raise UnisonoError(
                f"num_draft is {self.num_draft!r}: give a whole number of at least 1",
                code=fault_of(self.num_draft, whole=True),
                path="num_draft",
                value=self.num_draft,
            )

    def __call__(self, prefix: Prefix, last: Round | None, target: Target, draw: Draw) -> Proposal:
        if last is None:
            own = Target(self.exact, self.cache, len(prefix.length))
        else:
            own = last.proposal.carry.own
            if own.cache is not None:
                own.cache.truncate(last.proposal.carry.length)
        nfe, positions = own.nfe, own.positions
        count = prefix.room.clamp_max(self.num_draft)
        nothing = Proposal.chain(prefix.tokens[:, :0], torch.zeros_like(count))
        scratch, drafts, vocab_size = replace(prefix, end=None), [], None
        exact_length = torch.zeros_like(prefix.length) if last is None else last.proposal.carry.length
        for step in range(int(count.max()) if len(count) else 0):
            own.network = self.fuzzy if step else self.exact
            logits = own(scratch, nothing)
            vocab_size = logits.shape[-1]
            exact_length = exact_length if step else prefix.length
            token = sample(draw.law(logits), prefix.seed, scratch.length[:, None], random.DRAW)
            scratch = scratch.commit(token, (count > step).long())
            drafts.append(token)
        return Proposal.chain(
            torch.cat(drafts, 1) if drafts else prefix.tokens[:, :0],
            count,
            vocab_size=vocab_size,
            carry=Calibrated(own, exact_length),
            nfe=own.nfe - nfe,
            positions=own.positions - positions,
        )


def layer_parallel(transformer: TextTransformer, num_draft: int = 4, group: int = 2) -> Method:
    """A draft whose layers read the same input in groups: lossless token by token."""
    draft = LayerParallelDraft(CausalNetwork(transformer), FuzzyNetwork(transformer, group), num_draft)
    return Method(f"layer-parallel draft, groups of {group}", draft, Matching())

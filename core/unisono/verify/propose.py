"""Proposers: cheap guesses of the tokens that follow a prefix.

    proposer            guesses with                                        gives distributions
    Nothing             –                                                   –
    PreviousIterate     the target's draws of the last round                no
    NGram               counts of the row's own tokens                      no
    DraftModel          a smaller autoregressive network                    yes
    ExtraHeads          the target's extra heads, as a tree                 no
    LookAhead           the target, reading look-ahead tokens               no
    Denoiser            a masked parallel model                             no

A proposer is a function of the prefix and the last round; data that it needs again it puts into the proposal's
`carry`. It never proposes more than a row's `room`.

Letters: b batch, n nodes, v vocabulary. Masks: True = keep.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from unisono.checks import fault_of, is_whole
from unisono.errors import UnisonoError
from unisono.masked import random
from unisono.masked.canvas import Canvas, Layout
from unisono.masked.run.handle import Handle, Model
from unisono.verify.cache import Cache
from unisono.verify.draw import Draw, sample
from unisono.verify.prefix import Prefix, Proposal, Round
from unisono.verify.target import Network, Target


class Proposer(Protocol):
    """Guesses the next tokens. `brings_law`: its proposals hold the distributions that the tokens were drawn from."""

    @property
    def brings_law(self) -> bool: ...

    def __call__(self, prefix: Prefix, last: Round | None, target: Target, draw: Draw) -> Proposal: ...


@dataclass(frozen=True)
class Nothing:
    """No guess: one token per round."""

    brings_law = False

    def __call__(self, prefix: Prefix, last: Round | None, target: Target, draw: Draw) -> Proposal:
        if last is not None:
            return last.proposal
        empty = prefix.tokens[:, :0]
        return Proposal(empty, empty.bool())


@dataclass(frozen=True)
class PreviousIterate:
    """Jacobi iteration: the tokens that the target drew at each position in the last round.

    With `block`, that many positions are solved before the next ones begin (Gauss–Seidel over blocks); None is all at
    once. A new block starts with the last committed token, repeated.
    """

    block: int | None = None
    brings_law = False

    def __post_init__(self):
        if self.block is not None and not is_whole(self.block, 1):
            raise UnisonoError(
                f"blocks of {self.block!r} tokens: give a whole number of at least 1",
                code=fault_of(self.block, whole=True),
                path="block",
                value=self.block,
            )

    def __call__(self, prefix: Prefix, last: Round | None, target: Target, draw: Draw) -> Proposal:
        count = prefix.room
        if self.block is not None:
            inside = (prefix.length - prefix.start) % self.block
            count = torch.minimum(count, self.block - 1 - inside)
        n = int(count.max()) if len(count) else 0
        guess = prefix.last[:, None].repeat(1, n)
        if last is not None and last.verdict.drawn is not None and n:
            drawn = last.verdict.drawn
            # A row's draws start at the position at which its last round started.
            at = last.verdict.accepted[:, None] + 1 + torch.arange(n, device=drawn.device)
            # A row has one draw per real node of the last round, and one for the root.
            had = at <= last.proposal.real.sum(1, keepdim=True)
            guess = torch.where(had, drawn.gather(1, at.clamp_max(drawn.shape[1] - 1)), guess)
        return Proposal.chain(guess, count)


@dataclass(frozen=True)
class NGram:
    """Counts of the row's own tokens (Ou et al., 2024, ANPD, arXiv:2404.08698): no network.

    The last tokens are looked up among the earlier ones, first `longest` − 1 of them, then fewer, down to
    `shortest` − 1. The longest context that occurred before gives the next token: the one that followed it most often,
    of several the latest. Committed tokens are counted from the next round on.
    """

    num_draft: int = 4
    longest: int = 4
    shortest: int = 2
    brings_law = False

    def __post_init__(self):
        _at_least_one(self.num_draft)
        fits = {
            "shortest": is_whole(self.shortest, 2),
            "longest": is_whole(self.longest, self.shortest if is_whole(self.shortest) else None),
        }
        for name in (name for name, fit in fits.items() if not fit):
            value = getattr(self, name)
            raise UnisonoError(
                f"n-grams of {self.shortest!r} to {self.longest!r} tokens: give 2 ≤ shortest ≤ longest, with context",
                code=fault_of(value, whole=True),
                path=name,
                value=value,
            )

    def __call__(self, prefix: Prefix, last: Round | None, target: Target, draw: Draw) -> Proposal:
        room = prefix.room.clamp_max(self.num_draft)
        b, n = len(room), int(room.max()) if len(room) else 0
        drafts, going, count = [], room > 0, torch.zeros_like(room)
        for _ in range(n):
            token, found = self._next(prefix, drafts)
            going = going & found & (count < room)
            drafts.append(token)
            count = count + going
        return Proposal.chain(torch.stack(drafts, 1) if drafts else prefix.tokens.new_zeros(b, 0), count)

    def _next(self, prefix: Prefix, drafts: list[Tensor]) -> tuple[Tensor, Tensor]:
        b, size = prefix.tokens.shape
        device = prefix.tokens.device
        token, found = prefix.last, torch.zeros(b, dtype=torch.bool, device=device)
        for order in range(min(self.longest, size), self.shortest - 1, -1):
            # The last order − 1 tokens, with the drafts; −1 before the row's first token.
            context = []
            for back in range(order - 1, 0, -1):
                if back <= len(drafts):
                    context.append(drafts[-back])
                else:
                    at = prefix.length - (back - len(drafts))
                    value = prefix.tokens.gather(1, at.clamp_min(0)[:, None])[:, 0]
                    context.append(torch.where(at >= 0, value, -1))
            windows = prefix.tokens.unfold(1, order, 1)
            whole = torch.arange(size - order + 1, device=device) + order <= prefix.length[:, None]
            match = whole & (windows[:, :, :-1] == torch.stack(context, 1)[:, None]).all(2)
            follower = windows[:, :, -1]
            votes = prefix.tokens.new_zeros(b, int(prefix.tokens.max()) + 1)
            votes = votes.scatter_add(1, follower, match.long() * (size + 1))
            latest = torch.where(match, torch.arange(1, size - order + 2, device=device), 0)
            votes = votes + torch.zeros_like(votes).scatter_reduce(1, follower, latest, "amax")
            here = match.any(1)
            token = torch.where(here & ~found, votes.argmax(1), token)
            found = found | here
        return token, found


@dataclass(frozen=True)
class DraftModel:
    """A smaller autoregressive network that draws `num_draft` tokens one by one, with the target's settings.

    `coupled`: it draws with the target's noise, so that `Matching` accepts more tokens and the result is that of the
    target by itself (Daliri et al., 2024, arXiv:2408.07978). It cannot be used with `Rejection`: there the noise of
    the draft must be independent of the noise with which a refused token is drawn again.
    """

    network: Network
    num_draft: int = 4
    cache: Callable[[int], Cache] | None = None
    coupled: bool = False

    def __post_init__(self):
        _at_least_one(self.num_draft)

    @property
    def brings_law(self) -> bool:
        return not self.coupled

    def __call__(self, prefix: Prefix, last: Round | None, target: Target, draw: Draw) -> Proposal:
        own = Target(self.network, self.cache, len(prefix.length)) if last is None else last.proposal.carry
        nfe, positions = own.nfe, own.positions
        count = prefix.room.clamp_max(self.num_draft)
        nothing = Proposal.chain(prefix.tokens[:, :0], torch.zeros_like(count))
        scratch, drafts, laws, vocab_size = replace(prefix, end=None), [], [], None
        for step in range(int(count.max()) if len(count) else 0):
            logits = first_head(own(scratch, nothing))
            law, vocab_size = draw.law(logits), logits.shape[-1]
            stream = random.DRAW if self.coupled else random.PROPOSE
            token = sample(law, prefix.seed, scratch.length[:, None], stream)
            scratch = scratch.commit(token, (count > step).long())
            drafts.append(token)
            laws.append(law)
        return Proposal.chain(
            torch.cat(drafts, 1) if drafts else prefix.tokens[:, :0],
            count,
            law=torch.cat(laws, 1) if drafts and not self.coupled else None,
            vocab_size=vocab_size,
            carry=own,
            nfe=own.nfe - nfe,
            positions=own.positions - positions,
        )


@dataclass(frozen=True)
class ExtraHeads:
    """The target's extra heads propose a tree (Cai et al., 2024, Medusa, arXiv:2401.10774).

    `tree` lists the nodes as paths of ranks, parents first: (0,) is the most likely token of head 1, and (0, 2) is
    the third most likely token of head 2 after it. The heads' logits are those of the last round, so they cost no
    evaluation. The first round proposes nothing.
    """

    tree: tuple[tuple[int, ...], ...]
    brings_law = False

    def __post_init__(self):
        check_tree(self.tree)

    def __call__(self, prefix: Prefix, last: Round | None, target: Target, draw: Draw) -> Proposal:
        b, device = len(prefix.length), prefix.tokens.device
        if last is None:
            return Proposal.chain(prefix.tokens[:, :0], torch.zeros_like(prefix.length))
        heads = 0 if last.logits.dim() == 3 else last.logits.shape[2] - 1
        deepest, widest = max(map(len, self.tree)), 1 + max(map(max, self.tree))
        if deepest > heads:
            raise UnisonoError(
                f"a tree of depth {deepest}, but the network has {heads} extra heads",
                code="limit",
                path="tree",
                value=deepest,
            )
        if widest > last.logits.shape[-1]:
            raise UnisonoError(
                f"a tree of rank {widest - 1}, but the vocabulary has {last.logits.shape[-1]} tokens",
                code="limit",
                path="tree",
                value=widest - 1,
            )
        best = last.logits[torch.arange(b, device=device), last.leaf, 1:].topk(widest, -1).indices
        depth = torch.tensor([len(path) - 1 for path in self.tree], device=device)
        rank = torch.tensor([path[-1] for path in self.tree], device=device)
        real = depth < prefix.room[:, None]
        return Proposal(best[:, depth, rank], real, torch.tensor(parents_of(self.tree), device=device))


@dataclass(frozen=True)
class LookAhead:
    """The target itself, reading look-ahead tokens behind the prefix (Monea et al., 2023, PaSS, arXiv:2311.13581).

    `tokens` are the ids of the trained look-ahead tokens. One evaluation gives the target's next token and one guess
    per look-ahead token; it counts as an evaluation of the target.
    """

    tokens: tuple[int, ...]
    brings_law = False

    def __post_init__(self):
        if not self.tokens:
            raise UnisonoError(
                "no look-ahead tokens: give at least one id", code="empty", path="tokens", value=self.tokens
            )

    def __call__(self, prefix: Prefix, last: Round | None, target: Target, draw: Draw) -> Proposal:
        b, device = len(prefix.length), prefix.tokens.device
        # A token at the limit is never committed, and its position may not exist in the network.
        deepest = int(prefix.room.max()) if b else 0
        if not deepest:
            return Proposal.chain(prefix.tokens[:, :0], prefix.room)
        ahead = min(len(self.tokens), deepest)
        reading = torch.tensor(self.tokens[:ahead], dtype=torch.int64, device=device).expand(b, ahead)
        question = Proposal.chain(reading, prefix.room.clamp_max(ahead))
        logits = first_head(target(prefix, question))
        positions = prefix.length[:, None] + torch.arange(ahead + 1, device=device)
        guess = draw(logits, prefix.seed, positions)[:, :deepest]
        return Proposal.chain(guess, prefix.room.clamp_max(ahead + 1))


@dataclass(frozen=True)
class Denoiser:
    """A masked parallel model proposes its most likely tokens at the next `num_draft` positions at once.

    Guided diffusion (Hu et al., 2025, FlashDLM, arXiv:2505.21467). `layout` is the layout of the model's canvas. The
    first `skip` tokens of a prefix, such as a start token, are not on that canvas.
    """

    model: Model
    layout: Layout
    num_draft: int = 8
    skip: int = 0
    brings_law = False

    def __post_init__(self):
        _at_least_one(self.num_draft)

    def __call__(self, prefix: Prefix, last: Round | None, target: Target, draw: Draw) -> Proposal:
        device, size = prefix.tokens.device, self.layout.length
        if size != prefix.limit - self.skip:
            raise UnisonoError(
                f"the denoiser's canvas has {size} positions, but max_length {prefix.limit} without "
                f"{self.skip} skipped tokens leaves {prefix.limit - self.skip}: they must be equal",
                code="conflict",
                path="layout",
                value=size,
            )
        if len(prefix.start) and int(prefix.start.min()) < self.skip:
            raise UnisonoError(
                f"a prompt of {int(prefix.start.min())} tokens: {self.skip} are to be skipped",
                code="limit",
                path="skip",
                value=self.skip,
            )
        count = prefix.room.clamp_max(self.num_draft)
        n = int(count.max()) if len(count) else 0
        if not n:
            return Proposal.chain(prefix.tokens[:, :0], count)
        length = prefix.length - self.skip
        canvas = Canvas.blank(self.layout, prefix.seed, device=device)
        canvas = canvas.freeze(prefix.tokens[:, self.skip :], torch.arange(size, device=device) < length[:, None])
        query = (length[:, None] + torch.arange(n, device=device)).clamp_max(size - 1)
        handle = Handle(self.model)
        logits = handle(canvas, query)
        logits = logits.masked_fill(canvas.layout.foreign(query), -torch.inf)
        vocab_size = self.layout.vocab_size
        return Proposal.chain(
            logits.argmax(-1), count, vocab_size=vocab_size, nfe=handle.nfe, positions=handle.positions
        )


def tree_of(widths: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Return the full tree in which each node has the `widths[i]` most likely tokens of head i + 1 as children."""
    level: list[tuple[int, ...]] = [()]
    tree: list[tuple[int, ...]] = []
    for width in widths:
        level = [(*path, rank) for path in level for rank in range(width)]
        tree += level
    return tuple(tree)


def check_tree(tree: Sequence[tuple[int, ...]]) -> None:
    """Check a tree of ranks: a node is the path of ranks to it, and stands behind its parent.

    Raises:
        UnisonoError: for an empty tree, a node that is no path, stands before its parent or is there twice, or more
            than 4096 nodes.
    """
    if not tree:
        raise UnisonoError(
            "an empty tree: give at least one node, such as ((0,),)", code="empty", path="tree", value=tree
        )
    if len(tree) > 4096:
        raise UnisonoError(
            f"a tree of {len(tree)} nodes: all are read in one evaluation, give at most 4096",
            code="limit",
            path="tree",
            value=len(tree),
        )
    before: set[tuple[int, ...]] = set()
    for path in tree:
        if not path or min(path) < 0 or (len(path) > 1 and path[:-1] not in before):
            raise UnisonoError(
                f"node {path} of the tree: give ranks from 0, and list its parent before it",
                code="value",
                path="tree",
                value=path,
            )
        before.add(path)
    if len(before) < len(tree):
        raise UnisonoError("a node is twice in the tree: give each once", code="conflict", path="tree", value=tree)


def parents_of(tree: Sequence[tuple[int, ...]]) -> list[int]:
    """Return the number of each node's parent in a tree of ranks, −1 for none."""
    number = {path: at for at, path in enumerate(tree)}
    return [number.get(path[:-1], -1) for path in tree]


def first_head(logits: Float[Tensor, "b n ..."]) -> Float[Tensor, "b n v"]:
    """Return the logits of the next token alone, of a network with extra heads or without."""
    return logits if logits.dim() == 3 else logits[:, :, 0]


def _at_least_one(num_draft: int) -> None:
    if not is_whole(num_draft, 1):
        raise UnisonoError(
            f"num_draft is {num_draft!r}: give a whole number of at least 1",
            code=fault_of(num_draft, whole=True),
            path="num_draft",
            value=num_draft,
        )

"""Canvas: the tokens that masked decoding fills, and their static layout.

Streams of any shape lie flat on `l` positions; the layout says what a position is:

    sequence     0 1 2 3 4 5            one group
    blocks       0 0 1 1 2 2            group = block, decoded left to right
    grid         h·w positions          one group; coordinates (row, column) for orders in space
    streams      t·q + stream           group = what the stream says: RVQ levels, channel groups, body parts

`group` is a number per position; a plan opens the lowest unfinished one. What is known is an explicit
mask, never "the token equals the mask's id": a mask's id may be literal text, may be predicted, or may
not exist. A frozen position (prompt, structure prior, end of an in-between, padding) never changes.

Letters: b batch, l positions, k coordinates, v vocabulary, q streams. Masks: True = keep (known, frozen).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from unisono.checks import fault_of, is_whole
from unisono.errors import UnisonoError


@dataclass(frozen=True, eq=False)
class Layout:
    """What each position is: its group, its coordinates, and the tokens [start, stop) it may hold."""

    group: Int[Tensor, " l"]
    coord: Int[Tensor, "l k"]
    vocab: Int[Tensor, "l 2"]
    vocab_size: int

    def __post_init__(self):
        start, stop = self.vocab.unbind(1)
        wrong = (start < 0) | (stop <= start) | (stop > self.vocab_size)
        if len(self.group) and bool(wrong.any()):
            at = int(wrong.int().argmax())
            raise UnisonoError(
                f"position {at} may hold tokens {int(start[at])} to {int(stop[at]) - 1}: "
                f"give a range that is not empty and lies within 0 to {self.vocab_size - 1}",
                code="range",
                path=f"start[{at}]",
                value=(int(start[at]), int(stop[at])),
            )
        if len(self.group) and int(self.group.min()) < 0:
            raise UnisonoError(
                f"group {int(self.group.min())}: groups are numbered from 0",
                code="range",
                path="group",
                value=int(self.group.min()),
            )
        _ = self.one_vocabulary  # looked at now, so that no step has to

    @classmethod
    def sequence(cls, length: int, vocab_size: int) -> Layout:
        """Positions in a row, one group."""
        return cls.streams(length, [vocab_size], shared=True)

    @classmethod
    def blocks(cls, length: int, size: int, vocab_size: int) -> Layout:
        """Positions in a row, in groups of `size` from left to right; the last may be shorter."""
        if not is_whole(size, 1):
            raise UnisonoError(
                f"blocks of {size!r} positions: give a whole number of at least 1",
                code=fault_of(size, whole=True),
                path="size",
                value=size,
            )
        layout = cls.sequence(length, vocab_size)
        return replace(layout, group=torch.arange(length) // size)

    @classmethod
    def grid(cls, height: int, width: int, vocab_size: int) -> Layout:
        """Rows of an image one after the other, one group; coordinates are (row, column)."""
        check_grid(height, width, 0)
        layout = cls.sequence(height * width, vocab_size)
        row = torch.arange(height).repeat_interleave(width)
        return replace(layout, coord=torch.stack([row, torch.arange(width).repeat(height)], 1))

    @classmethod
    def levels(cls, num_frames: int, num_levels: int, vocab_size: int, shared: bool = True) -> Layout:
        """Residual levels, coarse to fine: position = frame·q + level, group = level.

        `shared`: every level numbers its tokens from 0; else level i has tokens i·v to (i + 1)·v − 1.
        """
        return cls.streams(num_frames, [vocab_size] * num_levels, range(num_levels), shared)

    @classmethod
    def streams(
        cls,
        num_frames: int,
        sizes: Sequence[int],
        groups: Sequence[int] | None = None,
        shared: bool = False,
    ) -> Layout:
        """Several streams of tokens, such as two body parts: position = frame·q + stream.

        `sizes` are the streams' vocabularies, laid out one after the other unless `shared`; `groups`
        says which streams are decoded together and in which order (default: all at once).
        """
        if not is_whole(num_frames, 0):
            raise UnisonoError(
                f"{num_frames!r} frames of {len(sizes)} streams: give a whole number of frames, at least 0",
                code=fault_of(num_frames, whole=True),
                path="num_frames",
                value=num_frames,
            )
        if not sizes:
            raise UnisonoError(
                "frames of no stream: give at least one vocabulary", code="empty", path="sizes", value=[]
            )
        if not all(is_whole(size) for size in sizes):
            raise UnisonoError(
                f"vocabularies of {list(sizes)} tokens: give whole numbers",
                code="type",
                path="sizes",
                value=list(sizes),
            )
        if groups is not None and len(groups) != len(sizes):
            raise UnisonoError(
                f"{len(groups)} groups for {len(sizes)} streams: give one group per stream",
                code="shape",
                path="groups",
                value=len(groups),
            )
        size = torch.tensor(list(sizes), dtype=torch.int64)
        start = torch.zeros_like(size) if shared else size.cumsum(0) - size
        group = torch.tensor(list(groups or [0] * len(sizes)), dtype=torch.int64)
        frame = torch.arange(num_frames).repeat_interleave(len(sizes))
        return cls(
            group=group.repeat(num_frames),
            coord=torch.stack([frame, torch.arange(len(sizes)).repeat(num_frames)], 1),
            vocab=torch.stack([start, start + size], 1).repeat(num_frames, 1),
            vocab_size=int(size.max() if shared else size.sum()),
        )

    @property
    def length(self) -> int:
        return len(self.group)

    @cached_property
    def group_sizes(self) -> tuple[int, ...]:
        """How many positions each group has, from group 0 on."""
        return tuple(torch.bincount(self.group.cpu()).tolist())

    @cached_property
    def one_vocabulary(self) -> bool:
        """Whether every position may hold every token, so that nothing needs to be suppressed."""
        whole = torch.tensor([0, self.vocab_size], device=self.vocab.device)
        return bool((self.vocab == whole).all())

    def foreign(self, sites: Int[Tensor, "b k"] | None = None) -> Bool[Tensor, "*k v"]:
        """Where a token does not belong to its position: [l, v], or [b, k, v] at `sites`."""
        start, stop = (self.vocab if sites is None else self.vocab[sites]).split(1, -1)
        token = torch.arange(self.vocab_size, device=self.vocab.device)
        return (token < start) | (token >= stop)

    def to(self, device: torch.device | str) -> Layout:
        """The same layout on a device."""
        if self.group.device == torch.device(device):
            return self
        return replace(self, group=self.group.to(device), coord=self.coord.to(device), vocab=self.vocab.to(device))


@dataclass(frozen=True, eq=False)
class Canvas:
    """A batch of canvases under way. Every field has the batch first, so that rows can be selected.

    `tokens` is 0 where nothing is known. `age` is the row's step at which a token was committed, −1 for
    what was never decoded. `step` counts the row's own steps. `memo` is what stages remember, tensors
    with the batch first. A canvas never changes: `freeze`, `commit` and `remask` return a new one.
    """

    layout: Layout
    tokens: Int[Tensor, "b l"]
    known: Bool[Tensor, "b l"]
    frozen: Bool[Tensor, "b l"]
    age: Int[Tensor, "b l"]
    step: Int[Tensor, " b"]
    seed: Int[Tensor, " b"]
    length: Int[Tensor, " b"]
    memo: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def blank(
        cls,
        layout: Layout,
        seeds: Int[Tensor, " b"] | Sequence[int],
        lengths: Int[Tensor, " b"] | Sequence[int] | None = None,
        device: torch.device | str | None = None,
    ) -> Canvas:
        """Everything masked; one row per seed. Positions from a row's length on are padding: frozen.

        Raises:
            UnisonoError: for a length below 0 or beyond the layout, or one length too many or too few.
        """
        seed = torch.as_tensor(seeds, dtype=torch.int64, device=device)
        if seed.dim() != 1:
            raise UnisonoError(
                f"seeds of shape {tuple(seed.shape)}: give one whole number per row",
                code="shape",
                path="seeds",
                value=tuple(seed.shape),
            )
        b, device = len(seed), seed.device
        length = torch.full_like(seed, layout.length)
        if lengths is not None:
            length = torch.as_tensor(lengths, dtype=torch.int64, device=device)
            if length.shape != seed.shape:
                raise UnisonoError(
                    f"{length.numel()} lengths for {b} seeds: give one length per row",
                    code="shape",
                    path="lengths",
                    value=length.numel(),
                )
            if b and not 0 <= int(length.min()) <= int(length.max()) <= layout.length:
                raise UnisonoError(
                    f"lengths from {int(length.min())} to {int(length.max())}: "
                    f"this layout holds 0 to {layout.length} positions",
                    code="range",
                    path="lengths",
                    value=length.tolist(),
                )
        padding = torch.arange(layout.length, device=device) >= length[:, None]
        tokens = torch.zeros(b, layout.length, dtype=torch.int64, device=device)
        return cls(
            layout=layout.to(device),
            tokens=tokens,
            known=padding,
            frozen=padding,
            age=torch.full_like(tokens, -1),
            step=torch.zeros_like(seed),
            seed=seed,
            length=length,
        )

    def freeze(self, tokens: Int[Tensor, "*b l"], where: Bool[Tensor, "*b l"]) -> Canvas:
        """These tokens are given at `where` (prompts, ends of an in-between, priors) and stay.

        Raises:
            UnisonoError: if they are longer than the canvas, lie on a row's padding, or hold a token
                outside their position's vocabulary.
        """
        tokens, where = self._fit(tokens, where)
        start, stop = self.layout.vocab.unbind(1)
        beyond = where & (torch.arange(self.layout.length, device=where.device) >= self.length[:, None])
        if bool(beyond.any()):
            row, at = _first(beyond)
            raise UnisonoError(
                f"row {row}: a frozen token at position {at}, but the row has {int(self.length[row])} positions",
                code="range",
                path="where",
                value=at,
            )
        wrong = where & ((tokens < start) | (tokens >= stop))
        if bool(wrong.any()):
            row, at = _first(wrong)
            raise UnisonoError(
                f"row {row}: frozen token {int(tokens[row, at])} at position {at}, "
                f"which may hold {int(start[at])} to {int(stop[at]) - 1}",
                code="range",
                path="tokens",
                value=int(tokens[row, at]),
            )
        return replace(
            self,
            tokens=torch.where(where, tokens, self.tokens),
            known=self.known | where,
            frozen=self.frozen | where,
            age=self.age.masked_fill(where, -1),
        )

    def start_from(self, tokens: Int[Tensor, "*b l"], where: Bool[Tensor, "*b l"]) -> Canvas:
        """Like `freeze`, but a stage that revises may mask these tokens again: a draft to improve."""
        return replace(self.freeze(tokens, where), frozen=self.frozen)

    def prompt(self, tokens: Int[Tensor, "b n"]) -> Canvas:
        """Freeze the first n positions of every row.

        Raises:
            UnisonoError: if the prompt is longer than the canvas; see `freeze`.
        """
        b, n = tokens.shape
        if n > self.layout.length:
            raise UnisonoError(
                f"a prompt of {n} tokens: this canvas has {self.layout.length} positions",
                code="limit",
                path="tokens",
                value=n,
            )
        whole = self.tokens.new_zeros(b, self.layout.length)
        whole[:, :n] = tokens
        return self.freeze(whole, torch.arange(self.layout.length, device=whole.device) < n)

    @property
    def masked(self) -> Bool[Tensor, "b l"]:
        """What is still to be filled. Padding and frozen positions are known, so they never count."""
        return ~self.known

    @property
    def padding(self) -> Bool[Tensor, "b l"]:
        return torch.arange(self.layout.length, device=self.length.device) >= self.length[:, None]

    @property
    def sites(self) -> Int[Tensor, " l"]:
        """The positions' numbers, which the randomness is counted by."""
        return torch.arange(self.layout.length, device=self.tokens.device)

    def commit(self, where: Bool[Tensor, "b l"], tokens: Int[Tensor, "b l"]) -> Canvas:
        """Write tokens at `where`; frozen positions are left alone whatever `where` says."""
        where = where & ~self.frozen
        return replace(
            self,
            tokens=torch.where(where, tokens, self.tokens),
            known=self.known | where,
            age=torch.where(where, self.step[:, None], self.age),
        )

    def remask(self, where: Bool[Tensor, "b l"]) -> Canvas:
        """Forget the tokens at `where`; frozen positions are left alone whatever `where` says."""
        where = where & ~self.frozen
        return replace(
            self,
            tokens=self.tokens.masked_fill(where, 0),
            known=self.known & ~where,
            age=self.age.masked_fill(where, -1),
        )

    def rows(self, index: Int[Tensor, " n"]) -> Canvas:
        """Some rows, in any order."""
        names = ("tokens", "known", "frozen", "age", "step", "seed", "length")
        picked = {name: getattr(self, name)[index] for name in names}
        return replace(self, **picked, memo={key: value[index] for key, value in self.memo.items()})

    def _fit(self, tokens: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
        shape = self.tokens.shape
        for name, x in (("tokens", tokens), ("where", where)):
            if x.dim() not in (1, 2) or x.shape[-1] != shape[1] or (x.dim() == 2 and len(x) not in (1, shape[0])):
                raise UnisonoError(
                    f"{name} of shape {tuple(x.shape)}: this canvas has {tuple(shape)} [rows, positions]",
                    code="shape",
                    path=name,
                    value=tuple(x.shape),
                )
        if where.dtype != torch.bool:
            raise UnisonoError(
                f"where of type {where.dtype}: give a boolean mask, True = frozen",
                code="type",
                path="where",
                value=where.dtype,
            )
        return tokens.to(self.tokens).expand(shape), where.to(self.tokens.device).expand(shape)


def _first(where: Tensor) -> tuple[int, int]:
    row, at = where.nonzero()[0].tolist()
    return row, at


def check_grid(height: int, width: int, least: int) -> None:
    """Raise `UnisonoError` unless both sides are whole numbers of at least `least`."""
    for name, side in (("height", height), ("width", width)):
        if not is_whole(side, least):
            raise UnisonoError(
                f"a grid of {height!r} × {width!r}: give whole numbers of at least {least}",
                code=fault_of(side, whole=True),
                path=name,
                value=side,
            )

"""Patches: each rank computes some rows of a picture and has the others' from the call before (DistriFusion).

After DistriFusion (Li et al., CVPR 2024, arXiv:2402.19481). Neighbouring steps of a sampler see nearly the same
activations, so that what a layer needs of other ranks' rows may be one step old, and is sent while they compute. With
`Fresh` nothing is old, and the picture is one process's up to rounding; with `Stale(1, warmup=4)` it drifts.

    network ──▶ this rank's rows ──▶ layers, each with `exchange` of what it needs of others ──▶ gather rows

A model is changed in place by replacing the `forward` of some of its modules, by type; no code of a model is repeated.
With one process nothing is replaced. Differs from the paper in that any number of ranks, odd sizes and any backend will
do, and in that each layer has a message of its own (the paper packs them).

Here: what all models share, and transformers over patches: their tokens are split before the first block and gathered
after the last, and every attention in between sees keys and values of all ranks.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from unisono.diffusion.devices.exchange import Fresh, Group, Policy, exchange, gather_sizes, group_rank, group_size
from unisono.diffusion.devices.sharded import Replicated
from unisono.diffusion.solvers.evaluator import Evaluate, Evaluator, Local
from unisono.errors import UnisonoError


class Patches:
    """A network whose calls are shared by the ranks of a group, from now until `remove()`; one process changes nothing.

    A new sample must begin with fresh values: `reset()` sees to it, and is called where the first tensor has another
    shape, or the timestep (the second argument) grows, since samplers go down.
    """

    def __init__(self, network: nn.Module, group: Group = None, policy: Policy | None = None):
        self.network, self.group, self.policy = network, group, policy or Fresh()
        self.size, self.rank = group_size(group), group_rank(group)
        self._replaced: list[tuple[nn.Module, Any]] = []
        self._parts: dict[str, list[int]] = {}
        self._shape: tuple[int, ...] = ()
        self._time = float("inf")
        if self.size > 1:
            if getattr(network, "_patches", None) is not None:
                raise UnisonoError(
                    f"{type(network).__name__} is split over ranks already: remove() those patches first",
                    code="state",
                    path="network",
                )
            vars(network)["_patches"] = self._replaced
            self._time_name = [*inspect.signature(network.forward).parameters][1]
            self.install()
            self.replace(network, self._outer)

    def install(self) -> None:
        """Replace what has to be replaced inside of the network."""
        raise TypeError(f"{type(self).__name__} defines no install()")

    def call(self, forward: Callable[..., Any], x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """The network's answer for the whole picture x, with `forward` the network's own."""
        raise TypeError(f"{type(self).__name__} defines no call()")

    def replace(self, module: nn.Module, forward: Callable[..., Any]) -> None:
        """Give a module another forward, which is called with the old one first."""
        old = module.forward
        self._replaced.append((module, vars(module).get("forward")))
        module.forward = lambda *args, **kwargs: forward(old, *args, **kwargs)

    def remove(self) -> None:
        """Give the network back as it was."""
        for module, forward in reversed(self._replaced):
            del module.forward
            if forward is not None:  # another library had replaced it before
                module.forward = forward
        self._replaced.clear()
        vars(self.network).pop("_patches", None)
        self.policy.reset()

    def reset(self) -> None:
        """Begin a new sample: nothing of the last one is used."""
        self.policy.reset()
        self._parts = {}
        self._time = float("inf")

    @property
    def drift(self) -> dict[Any, float]:
        """Per layer how far stale values were from those they stood for; empty unless a `Stale` policy measures."""
        return dict(getattr(self.policy, "drift", {}))

    def gather(self, key: str, local: Tensor, dim: int, fresh: bool = False) -> list[Tensor]:
        """All ranks' tensors at a layer; lengths are asked for once per picture size."""
        if key not in self._parts:
            self._parts[key] = gather_sizes(local, dim, self.group)
        return exchange(key, local, dim, self.group, Fresh() if fresh else self.policy, self._parts[key])

    def whole(self, key: str, local: Tensor, dim: int, fresh: bool = False) -> Tensor:
        """All ranks' tensors in one, this rank's own part always new."""
        parts = self.gather(key, local, dim, fresh)
        parts[self.rank] = local
        return torch.cat(parts, dim)

    def _outer(self, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        x = args[0] if args else kwargs.pop(next(iter(inspect.signature(forward).parameters)))
        if torch.is_grad_enabled() and any(p.requires_grad for p in self.network.parameters()):
            raise UnisonoError(
                "a network over several ranks passes no gradient back: call it under torch.no_grad()",
                code="unsupported",
                path="network",
            )
        if tuple(x.shape) != self._shape:
            self.reset()
            self._shape = tuple(x.shape)
        if not self.policy.pure:
            time = torch.as_tensor(args[1] if len(args) > 1 else kwargs[self._time_name])
            first, last = float(time.min()), float(time.max())
            if first != last:
                raise UnisonoError(
                    f"{type(self).__name__} with {self.policy} answers with values of the call before, but these rows "
                    f"are of several timesteps ({first:g} to {last:g}): use Serial(), or Fresh()",
                    code="conflict",
                    path="timestep",
                    value=(first, last),
                )
            if last > self._time:
                self.reset()
            self._time = last
        return self.call(forward, x, *args[1:], **kwargs)


class Patched:
    """An evaluator for a network that `Patches` split: tells solvers whether it is pure, and patches where to begin.

    All ranks evaluate all rows together, and the first decides.
    """

    def __init__(self, patches: Patches, inner: Evaluator | None = None):
        self.patches = patches
        self.inner = Replicated(patches.group, inner or Local())

    @property
    def pure(self) -> bool:
        """Whether all values are fresh."""
        return (self.patches.policy.pure or self.patches.size == 1) and self.inner.pure

    def __call__(self, evaluate: Evaluate, x: Any, step: Int[Tensor, " n"], sample: Int[Tensor, " n"]) -> Any:
        if not self.pure and int(step.min()) == 0:
            self.patches.reset()
        return self.inner(evaluate, x, step, sample)

    def agree(self, counts: Sequence[int]) -> list[int]:
        """The first rank's counts."""
        return self.inner.agree(counts)


class TransformerPatches(Patches):
    """Tokens of a transformer over ranks, in bands of rows of patches.

    `blocks` names the list of blocks, each from tokens [b, t, d] to the same; the picture's tokens come row by row,
    after those of a text if there are any. Attention is found where blocks call `scaled_dot_product_attention`.
    `patch_size` is the network's own by default. For diffusers' DiT, `blocks="transformer_blocks"`.

    Raises:
        UnisonoError: if the network has no such list or no patch size.
    """

    def __init__(
        self,
        network: nn.Module,
        group: Group = None,
        policy: Policy | None = None,
        *,
        blocks: str = "blocks",
        patch_size: int | None = None,
    ):
        found = dict(network.named_modules()).get(blocks)
        if not isinstance(found, nn.ModuleList) or not len(found):
            lists = ", ".join(n for n, m in network.named_modules() if isinstance(m, nn.ModuleList)) or "none"
            raise UnisonoError(
                f"{type(network).__name__} has no list of blocks {blocks!r}: give one of: {lists}",
                code="missing",
                path="blocks",
                value=blocks,
            )
        self.blocks = found
        size = patch_size or getattr(network, "patch_size", None)
        if not isinstance(size, int):
            raise UnisonoError(
                f"{type(network).__name__} has no patch_size: give patch_size=", code="missing", path="patch_size"
            )
        for name, module in found.named_modules():
            if getattr(module, "is_cross_attention", False):
                raise UnisonoError(
                    f"{blocks}.{name} ({type(module).__name__}) attends to another sequence, which is not known here: "
                    "give a network whose blocks attend to their own tokens alone",
                    code="unsupported",
                    path=f"{blocks}.{name}",
                    value=type(module).__name__,
                )
        self.patch_size = size
        self._front, self._columns, self._rows = 0, 0, [0]
        super().__init__(network, group, policy)

    def install(self) -> None:
        for index, block in enumerate(self.blocks):
            self.replace(block, self._block(index))

    def call(self, forward: Callable[..., Any], x: Tensor, *args: Any, **kwargs: Any) -> Any:
        down, self._columns = (length // self.patch_size for length in x.shape[-2:])
        self._rows = split_rows(down, self.size, 1, "patches")
        return forward(x, *args, **kwargs)

    def _block(self, index: int) -> Callable[..., Any]:
        start, end = index == 0, index == len(self.blocks) - 1

        def run(forward: Callable[..., Tensor], tokens: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            each = [rows * self._columns for rows in self._rows]
            if start:
                self._front = tokens.shape[1] - sum(each)
                text, picture = tokens.split([self._front, sum(each)], 1)
                tokens = torch.cat([text, picture.split(each, 1)[self.rank]], 1)
            attention = _Attention(self, f"block {index}", self._front, each)
            with attention:
                tokens = forward(tokens, *args, **kwargs)
            if not attention.calls:
                raise UnisonoError(
                    f"block {index} ({type(self.blocks[index]).__name__}) calls no scaled_dot_product_attention over "
                    "its tokens, which would see this rank's alone: use an attention processor that does",
                    code="unsupported",
                    path=f"blocks.{index}",
                    value=type(self.blocks[index]).__name__,
                )
            if end:
                text, picture = tokens.split([self._front, each[self.rank]], 1)
                tokens = torch.cat([text, self.whole("tokens", picture, 1, fresh=True)], 1)
            return tokens

        return run


class _Attention(TorchFunctionMode):
    """Within a block, gives attention the keys and values of all ranks; a mask already covers all of them."""

    def __init__(self, patches: Patches, name: str, front: int, each: list[int]):
        super().__init__()
        self.patches, self.name, self.front, self.each, self.calls = patches, name, front, each, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is not F.scaled_dot_product_attention:
            return func(*args, **kwargs)
        given = dict(zip(("query", "key", "value"), args, strict=False))
        query, key, value = (given.get(name, kwargs.pop(name, None)) for name in ("query", "key", "value"))
        length = self.front + self.each[self.patches.rank]
        if key.shape[-2] == length and query.shape[-2] == length:
            self.calls += 1
            both = torch.stack([key, value])
            text, picture = both.split([self.front, length - self.front], -2)
            picture = self.patches.whole(f"{self.name}.{self.calls}", picture, picture.ndim - 2)
            key, value = torch.cat([text, picture], -2).unbind()
        return func(query, key, value, *args[3:], **kwargs)


def split_rows(total: int, ranks: int, multiple: int, what: str = "rows") -> list[int]:
    """How many rows each rank gets: bands whose borders are multiples, as even as can be.

    Raises:
        UnisonoError: if a rank would get none.
    """
    bands = -(-total // multiple)
    if bands < ranks:
        raise UnisonoError(
            f"{total} {what} make {bands} bands of {multiple}, too few for {ranks} ranks: "
            f"use at most {bands} ranks, or a taller picture",
            code="limit",
            path="ranks",
            value=ranks,
        )
    ends = [min(total, (bands // ranks * r + min(r, bands % ranks)) * multiple) for r in range(ranks + 1)]
    return [b - a for a, b in pairwise(ends)]

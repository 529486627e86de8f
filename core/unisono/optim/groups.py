"""Groups: which parameters are trained, at which rate, with which decay, and by which algorithm.

Three questions are asked of each parameter. The first group whose pattern fits one of its names (it has several where
modules share it) says whether it is frozen, what its learning rate is multiplied with and, where it says so, its decay.
The module that holds it says whether it decays: weights of linear, convolutional, recurrent and attention layers do;
biases, norms and embeddings do not; of other modules' parameters those do that have two axes or more, in the shape in
which they were made, since a sharded or flattened parameter may have another. And where it stands says whether it is a
hidden matrix, which Muon and GaLore treat apart (``unisono.nn.layers``).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from unisono.errors import RecipeError, did_you_mean
from unisono.nn.layers import hidden_layers

if TYPE_CHECKING:
    from rich.table import Table

DECAYING = (nn.Linear, nn.Bilinear, _ConvNd, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)
EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.LocalResponseNorm, _NormBase)
_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


@dataclass(frozen=True)
class GroupSpec:
    """Parameters that a pattern names, and what is different about them; one item of ``optim.groups``.

    pattern: ``fnmatch``, upper and lower case told apart, over the whole name: ``net.layers.0.*``, ``*.bias``.
    lr: the learning rate, relative to ``optim.lr``.
    weight_decay: of all that the pattern names, biases and norms included; without it, as without the group.
    frozen: not trained at all.
    """

    pattern: str
    lr: float = 1.0
    weight_decay: float | None = None
    frozen: bool = False

    def __post_init__(self):
        path = "optim.groups"
        if not self.pattern:
            raise RecipeError(
                f"{path}: a pattern is empty: name parameters, such as *.bias", code="empty", path=f"{path}.pattern"
            )
        if not 0 < self.lr < math.inf:
            raise RecipeError(
                f"{path}: lr={self.lr} of {self.pattern!r} must be above 0 and finite; frozen: true trains nothing",
                code="range", path=f"{path}.lr", value=self.lr,
            )  # fmt: skip
        if self.weight_decay is not None and not 0 <= self.weight_decay < math.inf:
            raise RecipeError(
                f"{path}: weight_decay={self.weight_decay} of {self.pattern!r} must be at least 0 and finite",
                code="range", path=f"{path}.weight_decay", value=self.weight_decay,
            )  # fmt: skip
        if self.frozen and (self.lr != 1.0 or self.weight_decay is not None):
            raise RecipeError(
                f"{path}: {self.pattern!r} is frozen, and has a learning rate or a decay: remove one",
                code="conflict", path=f"{path}.frozen", value=self.pattern,
            )  # fmt: skip


@dataclass
class Part:
    """Parameters that are trained alike: one group of the optimiser, or frozen ones.

    group: what the recipe says of them; None for those that no pattern names.
    hidden: whether they are matrices inside repeated layers.
    """

    group: GroupSpec | None
    weight_decay: float
    hidden: bool
    frozen: bool = False
    named: list[tuple[str, nn.Parameter]] = field(default_factory=list)

    @property
    def lr(self) -> float:
        """The learning rate, relative to the recipe's."""
        return 1.0 if self.group is None else self.group.lr

    @property
    def elements(self) -> int:
        """How many numbers they are."""
        return sum(parameter.numel() for _, parameter in self.named)


def parts_of(root: nn.Module, groups: Sequence[GroupSpec], weight_decay: float, hidden_apart: bool) -> list[Part]:
    """Return a model's parameters in parts: group by group, the decaying ones first; what no pattern names is last.

    ``hidden_apart`` keeps hidden matrices in parts of their own. Frozen parameters are in the parts of their groups;
    those that were frozen before (beneath adapters) are left out.

    Raises ``RecipeError`` for a pattern that names nothing, or only what earlier patterns name.
    """
    names = _names(root)
    chosen = _chosen(root, groups, names)
    decay, hidden = decays(root), _hidden(root)
    parts: dict[tuple[int, bool, bool], Part] = {}
    for parameter in root.parameters():
        number = chosen[id(parameter)]
        group = groups[number] if number < len(groups) else None
        frozen = group is not None and group.frozen
        if not parameter.requires_grad and not frozen:
            continue
        own = group is not None and group.weight_decay is not None
        decaying = own or decay[id(parameter)]
        apart = hidden_apart and id(parameter) in hidden
        key = (number, not decaying and not frozen, not apart or frozen)
        if key not in parts:
            rate = group.weight_decay if group is not None and group.weight_decay is not None else weight_decay
            parts[key] = Part(group, rate if decaying else 0.0, apart, frozen)
        parts[key].named.append((names[id(parameter)][0], parameter))
    return [parts[key] for key in sorted(parts)]


def settle(root: nn.Module, groups: Sequence[GroupSpec]) -> None:
    """Freeze what the groups freeze, and keep the shapes in which parameters were made; before any of it is sharded.

    Raises ``RecipeError`` where nothing is left to train.
    """
    chosen = _chosen(root, groups, _names(root))
    known: Any = root
    made = {name: tuple(parameter.shape) for name, parameter in _named(root)}
    known.made_shapes = made | getattr(root, "made_shapes", {})  # the first time counts
    for parameter in root.parameters():
        number = chosen[id(parameter)]
        if number < len(groups) and groups[number].frozen:
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in root.parameters()):
        raise RecipeError(
            f"optim.groups freeze every parameter of this {type(root).__name__}: leave one to train",
            code="empty",
            path="optim.groups",
        )


def decays(root: nn.Module) -> dict[int, bool]:
    """Return whether each parameter decays, by its ``id``; see the module's docstring."""
    shapes: dict[str, tuple[int, ...]] = getattr(root, "made_shapes", {})
    told: dict[int, bool] = {}
    embeddings: set[int] = set()
    for place, module in root.named_modules(remove_duplicate=False):
        for own, parameter in module.named_parameters(recurse=False):
            if isinstance(module, EMBEDDINGS) and own == "weight":
                embeddings.add(id(parameter))
            if isinstance(module, NORMS):
                does = False
            elif isinstance(module, DECAYING):
                does = "bias" not in own
            else:
                shape = shapes.get(plain_name(f"{place}.{own}" if place else own), tuple(parameter.shape))
                does = len(shape) >= 2
            told.setdefault(id(parameter), does)
    return told | dict.fromkeys(embeddings, False)  # a head that shares its weights with an embedding, too


def groups_table(root: Any) -> "Table":
    """Return a table of a model's groups: what is trained how, in how many tensors and numbers."""
    from rich.table import Table

    spec = root.optim
    table = Table("parameters", "trained by", "rate", "decay", "tensors", "numbers", title="optim")
    for part in spec.parts(root):
        pattern = "the rest" if part.group is None and spec.groups else (part.group.pattern if part.group else "all")
        by = "frozen" if part.frozen else spec.algorithm(part)
        rate, decay = ("", "") if part.frozen else (f"{spec.lr * part.lr:.3g}", f"{part.weight_decay:.3g}")
        table.add_row(pattern, by, rate, decay, f"{len(part.named):,}", f"{part.elements:,}")
    untrained = [p for p in root.parameters() if not p.requires_grad]
    listed = {id(p) for part in spec.parts(root) for _, p in part.named}
    if beneath := [p for p in untrained if id(p) not in listed]:
        table.add_row(
            "beneath adapters" if root.adapted else "the model's own", "frozen", "", "", f"{len(beneath):,}",
            f"{sum(p.numel() for p in beneath):,}",
        )  # fmt: skip
    return table


def plain_name(name: str) -> str:
    """Return a parameter's name without what wrappers (``torch.compile``, sharding) have put into it."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _named(root: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(plain_name(name), parameter) for name, parameter in root.named_parameters(remove_duplicate=False)]


def _names(root: nn.Module) -> dict[int, list[str]]:
    """All names of each parameter, by its ``id``."""
    names: dict[int, list[str]] = {}
    for name, parameter in _named(root):
        names.setdefault(id(parameter), []).append(name)
    return names


def _chosen(root: nn.Module, groups: Sequence[GroupSpec], names: dict[int, list[str]]) -> dict[int, int]:
    """Return the number of each parameter's group, by its ``id``; that of the rest is the number of groups."""
    chosen = dict.fromkeys(names, len(groups))
    learnt = {id(parameter) for parameter in root.parameters() if parameter.requires_grad}
    for number, group in enumerate(groups):
        matched = [key for key, known in names.items() if any(fnmatchcase(name, group.pattern) for name in known)]
        path = f"optim.groups[{number}].pattern"
        if not matched:
            every = [name for known in names.values() for name in known]
            raise RecipeError(
                f"{path}={group.pattern!r} names no parameter of this {type(root).__name__}"
                f"{did_you_mean(group.pattern, every)}",
                code="unknown", path=path, value=group.pattern,
            )  # fmt: skip
        free = [key for key in matched if chosen[key] == len(groups)]
        if not free:
            first = groups[chosen[matched[0]]].pattern
            raise RecipeError(
                f"{path}={group.pattern!r} names only what earlier patterns name, such as {first!r}: "
                "put it before them, or remove it",
                code="conflict", path=path, value=group.pattern,
            )  # fmt: skip
        if not group.frozen and not any(key in learnt for key in free):
            raise RecipeError(
                f"{path}={group.pattern!r} names only what is not trained, such as {names[free[0]][0]}: remove it",
                code="conflict", path=path, value=group.pattern,
            )  # fmt: skip
        chosen |= dict.fromkeys(free, number)
    return chosen


def _hidden(root: nn.Module) -> set[int]:
    """Return the ``id`` of each hidden matrix that is not an embedding, too."""
    embeddings = {id(module.weight) for module in root.modules() if isinstance(module, EMBEDDINGS)}
    return {id(root.get_submodule(name).weight) for name in hidden_layers(root)} - embeddings

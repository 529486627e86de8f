"""Modules: a list of layers of one kind, which type checkers then know.

``nn.ModuleList`` tells of its members only that they are modules. `Modules` is one, with the same names of weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from torch import nn

M = TypeVar("M", bound=nn.Module)


class Modules(nn.ModuleList, Generic[M]):
    """A ``nn.ModuleList`` of modules of one kind."""

    if TYPE_CHECKING:

        def __init__(self, modules: Iterable[M] = ()): ...

        def __iter__(self) -> Iterator[M]: ...

        @overload
        def __getitem__(self, idx: slice) -> Modules[M]: ...

        @overload
        def __getitem__(self, idx: int) -> M: ...

        def __getitem__(self, idx: Any) -> Any: ...

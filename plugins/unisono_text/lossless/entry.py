"""Entry: what is known of one decoding method: its name, its exactness, its options, and how it is made.

A module that builds a method ends with its entry; `unisono_text.lossless.catalogue` lists them. Requests, the command
line, benchmarks and the manual read that list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from unisono.errors import UnisonoError
from unisono.verify import Cache, Method, Network

Exactness = Literal["token by token", "in law", "exact for its own law", "lossy"]
"""Equal tokens of plain decoding; the same distribution; exactly a stated other distribution; another one."""


@dataclass(frozen=True)
class Means:
    """What a method may draw on beside the target.

    Args:
        draft: an autoregressive network.
        drafter: a masked parallel model, as `unisono.masked.Handle` takes it.
        vocab_size: of target and drafter.
        skip: leading tokens that the drafter does not know.
        window: tokens before the draft that the drafter sees at most.
        heads: extra heads of the target.
        look_ahead: ids of the target's look-ahead tokens.
        model: the toolkit's model that continues; None for a network that stands alone.
        component: the model in the entry's ``role``, of the same tokenizer; None where there is none.
        target: the network that continues, where it is the model's; some leave behind what a draft reads.
        on_loss: told why a method goes on plainly, such as that its draft process died; None: that is an error.
    """

    draft: Network | None = None
    drafter: Any = None
    vocab_size: int = 0
    skip: int = 0
    window: int | None = None
    heads: int = 0
    look_ahead: tuple[int, ...] = ()
    model: Any = None
    component: Any = None
    target: Any = None
    on_loss: Callable[[str], None] | None = None


Make = Callable[[Means, Mapping[str, Any], Callable[[int], Cache] | None], Method]
"""Make a method of its means, its options (each with a value) and what makes an empty cache for a number of rows."""


@dataclass(frozen=True)
class Entry:
    """One method.

    Args:
        name: as ``decoding=`` takes it.
        exactness: how its texts are related to those of plain decoding.
        make: makes it; raises ``UnisonoError`` where the means lack what it needs.
        options: the request's fields that it takes, with their defaults. Any other is refused.
        role: the component that it needs; the text model checks that its tokenizer is the same.
        most_rows: rows of a batch at most, by the options; None for as many as there are.
    """

    name: str
    exactness: Exactness
    make: Make
    options: Mapping[str, Any] = field(default_factory=dict)
    role: str | None = None
    most_rows: Callable[[Mapping[str, Any]], int] | None = None


def fill(entry: Entry, said: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value of each of a method's options: what is said, else its default; None says nothing.

    Raises:
        UnisonoError: for an option that the method does not take.
    """
    given = {name: value for name, value in said.items() if value is not None}
    for name in given:
        if name not in entry.options:
            takes = f"it takes {', '.join(entry.options)}" if entry.options else "it takes no options"
            raise UnisonoError(
                f"{name}={given[name]!r} is no option of decoding={entry.name!r}: {takes}",
                code="conflict",
                path=name,
                value=given[name],
            )
    return {**entry.options, **given}

"""Asynchronous draft: a draft network in a process of its own, ahead of its target (PEARL, arXiv:2408.11850).

Liu et al., "PEARL: Parallel Speculative Decoding with Adaptive Draft Length". In serial speculation target and draft
take turns, and one of them always waits; here both go on at once::

    draft    x1 x2 x3 x4 │ x5 x6 x7 x8 │ y1 y2 y3 y4      y: drawn anew behind the target's own token
    target   verifies    │ verifies    │ verifies
             nothing:     │ x2 x3 x4:   │ x6 x7 x8:
             its own token│ all hold,   │ x7 is refused
             is x1        │ its own is x5

*Pre-verify*: with nothing drafted yet, an evaluation of the target gives its own next token, which verifies the first
one of what is drafted meanwhile. *Post-verify*: while the target verifies, the draft goes on as if all of it held; what
that made is proposed next, if the target's own token is its first. So the draft grows until a token is refused.

Exact for any timing: the proposal is what there is when the target is free, and `Matching` commits the same tokens
whatever is proposed. Timing decides the number of evaluations alone. With `clock` the draft makes exactly that many
steps per evaluation, as published (γ), and the counts are reproducible too.

Differs: the draft draws with the target's noise and tokens are matched (the paper rejects by p / q, for which the
tokens of pre-verification would have to be drawn from q); the two exchange versions of the text and neither is ever
stopped; the draft's process need not wait for the target's evaluation to end, nor the other way round.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from unisono.checks import fault_of, is_real, is_whole
from unisono.errors import UnisonoError
from unisono.verify import Draw, Matching, Method, Prefix, Proposal, Round, Target

from unisono_text.lossless.draft_process.messages import LostError
from unisono_text.lossless.draft_process.process import DraftProcess, process_of
from unisono_text.lossless.draft_process.session import Session
from unisono_text.lossless.entry import Entry, Means
from unisono_text.lossless.networks import TransformersNetwork


@dataclass(frozen=True)
class Asynchronous:
    """Proposes what a draft process has drafted so far, which may be nothing; for `Matching`.

    Args:
        draft: the process that holds the network.
        num_draft: tokens of a proposal at most; the process drafts up to twice that and one ahead.
        clock: steps that the draft makes per evaluation, for reproducible counts; None: as many as there is time for.
        deadline: seconds without an answer after which the process is taken for lost, once it has started.
        cache: whether the draft keeps keys and values.
        on_loss: told why the process is lost; decoding then goes on without a draft. None: that is an error.

    Raises:
        UnisonoError: for values outside their range; in decoding, for a process that died, failed or gave no answer.
    """

    draft: DraftProcess
    num_draft: int = 8
    clock: int | None = None
    deadline: float = 120.0
    cache: bool = True
    on_loss: Callable[[str], None] | None = None
    brings_law = False

    def __post_init__(self):
        fits = {
            "num_draft": is_whole(self.num_draft, 1),
            "clock": self.clock is None or is_whole(self.clock, 1),
            "deadline": is_real(self.deadline, 0) and self.deadline > 0,
        }
        for name in (name for name, fit in fits.items() if not fit):
            value = getattr(self, name)
            wanted = "seconds, above 0" if name == "deadline" else "a whole number of at least 1"
            raise UnisonoError(
                f"{name} is {value!r}: give {wanted}",
                code=fault_of(value, whole=name != "deadline"),
                path=name,
                value=value,
            )

    def __call__(self, prefix: Prefix, last: Round | None, target: Target, draw: Draw) -> Proposal:
        session: Session | None = None if last is None else last.proposal.carry
        try:
            if last is None:
                session = Session(
                    self.draft,
                    prefix,
                    draw,
                    num_draft=self.num_draft,
                    clock=self.clock,
                    deadline=self.deadline,
                    cache=self.cache,
                )
            if session is not None:
                return session.turn(prefix)
        except LostError as error:
            if session is not None:
                session.lost()
            if self.on_loss is None:
                raise UnisonoError(
                    f"the draft process {error}: decode again, which starts another, or take decoding='coupled'",
                    code="failed",
                    path="draft",
                    value=str(error),
                ) from None
            self.on_loss(f"the draft process {error}")
        return Proposal.chain(prefix.tokens[:, :0], torch.zeros_like(prefix.length))


def pearl(draft: DraftProcess, num_draft: int = 8, **more: Any) -> Method:
    """A draft process and matching: the target's own tokens, whatever the timing; see `Asynchronous`."""
    return Method("PEARL", Asynchronous(draft, num_draft, **more), Matching())


def _pearl(means: Means, options: Mapping[str, Any], cache: Any) -> Method:
    if means.draft is None:
        raise UnisonoError(
            "decoding='pearl' needs a draft: a smaller autoregressive model, same tokenizer",
            code="missing",
            path="draft",
        )
    if means.component is not None:
        process = process_of(means.component, attrgetter("causal"))
    elif isinstance(means.draft, TransformersNetwork):
        process = process_of(means.draft.model, TransformersNetwork)
    else:
        network = means.draft
        process = DraftProcess(lambda: network)
    return pearl(process, options["num_draft"], cache=cache is not None, on_loss=means.on_loss)


ENTRY = Entry("pearl", "token by token", _pearl, {"num_draft": 8}, role="draft")

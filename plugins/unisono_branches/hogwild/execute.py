"""Execution: workers that write at once, one token each in every step, into one cache.

Rodionov et al., 2025 (arXiv:2504.06261). Difference: what ends a step is a token of the corpus instead of an empty
line, and workers say themselves that they are done.

Shapes: w workers that go on, v vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor
from unisono.stopping import may_stop

from unisono_branches.hogwild.blocks import Reading, SharedCache, Working
from unisono_branches.network.transformer import Transformer

Choose = Callable[[int, Sequence[int], Float[Tensor, " v"]], int]
"""Given a worker, what it has written behind its header, and logits, returns its next token."""


@dataclass
class Written:
    """What came of it.

    Attributes:
        tokens: what each worker has read and written, headers included and stops not.
        steps: at which each token was settled, −1 for headers.
        evaluations: of the network.
        cut: workers that were stopped at the limit.
        logits: of each evaluation, what follows each worker's token, where they were asked for.
    """

    tokens: list[list[int]]
    steps: list[list[int]]
    evaluations: int = 0
    cut: int = 0
    logits: list[dict[int, Float[Tensor, " v"]]] = field(default_factory=list)


@torch.no_grad()
def work(
    net: Transformer,
    prompt: Sequence[int],
    headers: Sequence[int],
    choose: Choose,
    *,
    end_of_step: int,
    stop: int,
    limit: int,
    keep_logits: bool = False,
    on_step: Callable[[int], None] | None = None,
) -> Written:
    """Have workers write until each has stopped, or has written ``limit`` tokens.

    Args:
        prompt: what all see from the first.
        headers: what each worker's block begins with.
        end_of_step: the token behind which a step moves to common.
        stop: the token by which a worker is done; it is not read by anyone.
        on_step: called with the number of tokens after each step.
    """
    device = net.head.weight.device
    cache = SharedCache(len(headers))
    net(torch.tensor([list(prompt)], device=device), Reading(cache))
    out = Written([[header] for header in headers], [[-1] for _ in headers], evaluations=1)
    going = list(range(len(headers)))
    while going:
        may_stop()
        last: Int[Tensor, "w 1"] = torch.tensor([[out.tokens[worker][-1]] for worker in going], device=device)
        logits = net(last, Working(cache, going))[:, 0].float().cpu()
        out.evaluations += 1
        if keep_logits:
            out.logits.append(dict(zip(going, logits, strict=True)))
        for worker in going:
            if out.tokens[worker][-1] == end_of_step:
                cache.finish_step(worker, kept=1)
        for row, worker in enumerate(list(going)):
            token = choose(worker, out.tokens[worker][1:], logits[row])
            full = len(out.tokens[worker]) > limit
            out.cut += full and token != stop
            if token == stop or full:
                going.remove(worker)
            else:
                out.tokens[worker].append(token)
                out.steps[worker].append(out.evaluations - 2)
        if on_step is not None:
            on_step(sum(len(own) - 1 for own in out.tokens))
    return out

"""CTC: its loss, its forced path by torchaudio, and the collapse of a path (Graves et al., ICML 2006).

Shapes: b batch, t steps, v units with the blank, n units of a transcript. Id 0 is the blank.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

BLANK = 0


@dataclass(frozen=True, eq=False)
class Path:
    """A collapsed path: which token each step belongs to, by number; −1 for blanks and padding.

    Attributes:
        owner: the number of each step's token among the recording's own.
        tokens: the tokens, 0 behind the last.
        lengths: tokens of each recording.
    """

    owner: Int[Tensor, "b t"]
    tokens: Int[Tensor, "b n"]
    lengths: Int[Tensor, " b"]

    def spans(self, row: int) -> list[tuple[int, int]]:
        """Return the steps [start, stop) of each token of a recording."""
        owner = self.owner[row].cpu()
        places = [(owner == number).nonzero()[:, 0] for number in range(int(self.lengths[row]))]
        return [(int(own[0]), int(own[-1]) + 1) for own in places]

    def pool(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b n d"]:
        """Return the mean of each token's steps, 0 behind the last."""
        size = self.tokens.shape[1]
        share = F.one_hot(self.owner + 1, size + 1)[..., 1:].to(x.dtype)
        return (share / share.sum(1, keepdim=True).clamp(min=1)).mT @ x


def ctc_loss(
    log_probs: Float[Tensor, "b t v"],
    lengths: Int[Tensor, " b"],
    targets: Int[Tensor, "b n"],
    target_lengths: Int[Tensor, " b"],
) -> Float[Tensor, " b"]:
    """Return −log p(transcript) of each recording, over all paths; infinite where there are too few steps."""
    return F.ctc_loss(log_probs.float().transpose(0, 1), targets, lengths, target_lengths, BLANK, "none")


def greedy(log_probs: Float[Tensor, "b t v"], lengths: Int[Tensor, " b"]) -> Path:
    """Return the likeliest label of each step, collapsed."""
    return collapse(log_probs.argmax(-1), lengths)


@torch.no_grad()
def forced(
    log_probs: Float[Tensor, "b t v"],
    lengths: Int[Tensor, " b"],
    targets: Int[Tensor, "b n"],
    target_lengths: Int[Tensor, " b"],
) -> Path:
    """Return the likeliest path that reads each transcript (Viterbi, by torchaudio), collapsed.

    A transcript needs a step for each unit, and one more between two equal ones.
    """
    from torchaudio.functional import forced_align

    path = torch.zeros(log_probs.shape[:2], dtype=torch.int64)
    for row, (size, count) in enumerate(zip(lengths.tolist(), target_lengths.tolist(), strict=True)):
        own, wanted = log_probs[row : row + 1, :size].detach().float().cpu(), targets[row : row + 1, :count].cpu()
        if count:
            path[row, :size] = forced_align(own, wanted, blank=BLANK)[0][0]
    return collapse(path.to(log_probs.device), lengths)


def collapse(labels: Int[Tensor, "b t"], lengths: Int[Tensor, " b"]) -> Path:
    """Merge equal neighbours and drop blanks."""
    inside = torch.arange(labels.shape[1], device=labels.device) < lengths[:, None]
    labels = labels.where(inside, BLANK)
    begins = (labels != BLANK) & (labels != F.pad(labels, (1, 0), value=BLANK)[:, :-1])
    number = begins.cumsum(1)
    owner = (number - 1).where(labels != BLANK, -1)
    counts = number[:, -1]
    tokens = labels.new_zeros(len(labels), int(counts.max()))
    row, place = begins.nonzero(as_tuple=True)
    tokens[row, owner[row, place]] = labels[row, place]
    return Path(owner, tokens, counts)


def distance(found: Sequence[int], wanted: Sequence[int]) -> int:
    """Return the edit distance of two sequences: insertions, deletions and substitutions."""
    row = list(range(len(wanted) + 1))
    for place, one in enumerate(found, 1):
        last, row[0] = row[0], place
        for index, other in enumerate(wanted, 1):
            last, row[index] = row[index], min(row[index] + 1, row[index - 1] + 1, last + (one != other))
    return row[-1]

"""Session: one batch's exchange with a draft process: commits there, chains back."""

import pickle
import time
import weakref

import torch
from unisono.errors import UnisonoError
from unisono.verify import Draw, Prefix, Proposal

from unisono_text.lossless.draft_process.messages import Chain, Commit, LostError, Opened
from unisono_text.lossless.draft_process.process import DraftProcess

UNANSWERED = 32
"""Commits that are sent ahead of the answers: with more, writing them could wait for a process that hangs."""


class Session:
    """The rows of a batch at a draft process; arguments as of `unisono_text.lossless.asynchronous.Asynchronous`.

    Raises:
        LostError: where no process answers.
        UnisonoError: for a draft or a warp that cannot be sent to one.
    """

    def __init__(
        self,
        draft: DraftProcess,
        prefix: Prefix,
        draw: Draw,
        *,
        num_draft: int,
        clock: int | None,
        deadline: float,
        cache: bool,
    ):
        self.num_draft, self.clock, self.deadline = num_draft, clock, deadline
        self.line = draft.lend(deadline)
        self._back = weakref.finalize(self, draft.give_back, self.line)
        self._back.atexit = False
        self.line.sessions += 1
        self.number = self.line.sessions
        self.sent = prefix.length.tolist()
        self.version = self.answered = self.nfe = self.positions = 0
        self.since = time.monotonic()
        self.told: Chain | None = None
        opened = Opened(
            tokens=[prefix.tokens[row, :length].tolist() for row, length in enumerate(self.sent)],
            limit=prefix.limit,
            seeds=prefix.seed.tolist(),
            end=prefix.end,
            draw=draw,
            ahead=2 * num_draft + 1,
            cache=cache,
            device=str(prefix.tokens.device),
        )
        try:
            self.line.send("open", self.number, opened)
        except (AttributeError, TypeError, pickle.PicklingError) as error:
            raise UnisonoError(
                f"the warp of this draw cannot be sent to a draft process ({error}): give one that is importable",
                code="unsupported",
                path="warp",
            ) from error

    def turn(self, prefix: Prefix) -> Proposal:
        """Tell what is committed, and return what is drafted behind it; raises LostError."""
        while self.clock is not None and self.answered < self.version:
            self._hear(max(0.0, self.since + self.deadline - time.monotonic()))
        if self.version - self.answered < UNANSWERED:
            self._commit(prefix)
        while self.clock is None and self._hear(0.0):
            pass
        return self._proposal(prefix)

    def lost(self) -> None:
        """End the process, so that nobody is lent it again."""
        self._back.detach()
        self.line.end()

    def _commit(self, prefix: Prefix) -> None:
        lengths = prefix.length.tolist()
        fresh = [prefix.tokens[row, a:b].tolist() for row, (a, b) in enumerate(zip(self.sent, lengths, strict=True))]
        if self.version == self.answered:
            self.since = time.monotonic()
        self.version += 1
        self.line.send("commit", self.number, self.version, Commit(self.sent, fresh, prefix.done.tolist(), self.clock))
        self.sent = lengths

    def _hear(self, seconds: float) -> bool:
        """Take one message in; returns whether one came within that time."""
        message = self.line.receive(seconds)
        if message is None:
            if self.answered < self.version and time.monotonic() >= self.since + self.deadline:
                raise LostError(f"gave no answer for {self.deadline:g} seconds")
            return False
        match message:
            case "chain", number, version, chain if number == self.number:
                self.told, self.answered, self.since = chain, version, time.monotonic()
        return True

    def _proposal(self, prefix: Prefix) -> Proposal:
        """What was told last, where it goes on from the committed tokens: a draft of an older version may not."""
        told, rows = self.told, [[] for _ in self.sent]
        if told is None:
            return Proposal.chain(prefix.tokens[:, :0], torch.zeros_like(prefix.length), carry=self)
        room = prefix.room.clamp_max(self.num_draft).tolist()
        for row, (start, draft, most) in enumerate(zip(told.starts, told.drafts, room, strict=True)):
            committed = prefix.tokens[row, start : int(prefix.length[row])].tolist()
            if draft[: len(committed)] == committed:
                rows[row] = draft[len(committed) : len(committed) + most]
        nfe, positions = told.nfe - self.nfe, told.positions - self.positions
        self.nfe, self.positions = told.nfe, told.positions
        width, device = max(map(len, rows), default=0), prefix.tokens.device
        tokens = torch.tensor([row + [0] * (width - len(row)) for row in rows], dtype=torch.int64, device=device)
        count = torch.tensor([len(row) for row in rows], dtype=torch.int64, device=device)
        return Proposal.chain(
            tokens.reshape(len(rows), width),
            count,
            vocab_size=told.vocab_size,
            carry=self,
            nfe=nfe,
            positions=positions,
        )

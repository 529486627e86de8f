"""Drafting: a draft network's own text of each row: what is committed, and what it drew behind that.

A commit that agrees with the draft lets it go on; one that does not sets it back, keys and values as well.

Letters: b rows, l room of the prefix. Masks: True = keep.
"""

from dataclasses import replace

import torch
from unisono.verify import KVCache, Network, Prefix, Proposal, Target

from unisono_text.lossless.draft_process.messages import Chain, Commit, Opened


class Drafting:
    """The rows of one session: committed tokens, and what the network drew behind them with the target's noise."""

    def __init__(self, network: Network, opened: Opened):
        device = torch.device(opened.device)
        lengths = torch.tensor([len(row) for row in opened.tokens], device=device)
        prompt = torch.zeros(len(opened.tokens), int(lengths.max()), dtype=torch.int64, device=device)
        for row, tokens in enumerate(opened.tokens):
            prompt[row, : len(tokens)] = torch.tensor(tokens, device=device)
        self.opened = opened
        self.prefix = Prefix.of(prompt, opened.limit, opened.seeds, lengths)
        self.committed = lengths
        self.done = torch.zeros_like(lengths, dtype=torch.bool)
        self.target = Target(network, (lambda rows: KVCache(rows, device)) if opened.cache else None, len(prompt))
        self.vocab_size: int | None = None

    def commit(self, news: Commit) -> None:
        """Take committed tokens in; what was drafted behind them stays where it agrees."""
        tokens, length = self.prefix.tokens.clone(), self.prefix.length.tolist()
        known = list(length)  # tokens of each row that are what they were
        for row, (start, fresh) in enumerate(zip(news.starts, news.tokens, strict=True)):
            own = tokens[row, start : length[row]].tolist()
            agreed = next((i for i, (a, b) in enumerate(zip(own, fresh, strict=False)) if a != b), None)
            agreed = min(len(own), len(fresh)) if agreed is None else agreed
            if agreed < len(fresh):
                tokens[row, start : start + len(fresh)] = torch.tensor(fresh, device=tokens.device)
                known[row], length[row] = start + agreed, start + len(fresh)
        device = tokens.device
        if self.target.cache is not None:
            self.target.cache.truncate(torch.tensor(known, device=device))
        self.prefix = replace(self.prefix, tokens=tokens, length=torch.tensor(length, device=device))
        ends = [start + len(fresh) for start, fresh in zip(news.starts, news.tokens, strict=True)]
        self.committed = torch.tensor(ends, device=device)
        self.done = torch.tensor(news.done, device=device)

    @torch.inference_mode()
    def step(self) -> bool:
        """Draw one more token of every row that may have one; returns whether any may."""
        length, opened = self.prefix.length, self.opened
        ahead = length - self.committed
        going = ~self.done & (ahead < opened.ahead) & (length < opened.limit - 1)
        if opened.end is not None:
            going &= (ahead == 0) | (self.prefix.last != opened.end)
        if not bool(going.any()):
            return False
        nothing = Proposal.chain(self.prefix.tokens[:, :0], torch.zeros_like(length))
        logits = self.target(self.prefix, nothing)
        logits = logits if logits.dim() == 3 else logits[:, :, 0]
        self.vocab_size = logits.shape[-1]
        token = opened.draw(logits, self.prefix.seed, length[:, None])
        self.prefix = replace(self.prefix, done=~going).commit(token, going.long())
        return True

    @property
    def chain(self) -> Chain:
        """What is drafted behind the committed tokens."""
        starts, ends = self.committed.tolist(), self.prefix.length.tolist()
        tokens = self.prefix.tokens
        drafts = [tokens[row, a:b].tolist() for row, (a, b) in enumerate(zip(starts, ends, strict=True))]
        return Chain(starts, drafts, self.target.nfe, self.target.positions, self.vocab_size)

"""ChunkPolicy: plans a chunk of actions token by token, as a vision-language-action model does (OpenVLA, PD-VLA).

Each number of each action is one token of a small vocabulary of bins, predicted from the observation and the tokens
before it (Kim et al., 2024, OpenVLA, arXiv:2406.09246; chunks of actions: Song et al., 2025, PD-VLA, arXiv:2503.02310).
Differences: a small transformer instead of a pretrained language model; the places of the observation see each other.

::

    prefix [p] ─┬─ causal transformer ─ head ─ bins
    tokens ─────┘

Shapes: b batch, m actions of a chunk, a numbers of an action, n = m·a tokens, p vectors of the prefix, v bins.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.data import derive_seed
from unisono.errors import RecipeError, RequestError, raised_as
from unisono.nn.swiglu import LayerSizes
from unisono.verify import KVCache, decode

from unisono_control.models.base import Policy
from unisono_control.models.transformer import prefix_mask
from unisono_control.playing.decoding import method_of
from unisono_control.playing.play import Moment, Plan
from unisono_control.playing.request import ChunkRequest


class ChunkPolicy(Policy):
    """A causal transformer over bins of actions.

    Args:
        network: sizes of the transformer.
        bins: tokens of each number of an action; 256 as published.
    """

    Request: ClassVar[type[ChunkRequest]] = ChunkRequest

    def __init__(self, *, network: LayerSizes = LayerSizes(), bins: int = 64):  # noqa: B008
        super().__init__(network=network)
        if not 2 <= bins <= 4096:
            raise RecipeError(f"model.bins={bins} must be from 2 to 4096", code="range", path="model.bins", value=bins)
        self.num_bins = bins

    def build(self, facts: Mapping[str, Any]) -> None:
        super().build(facts)
        self.bins = self.percentiles(self.num_bins)
        self.embedding = nn.Embedding(self.num_bins, self.sizes.dim)
        self.token_places = nn.Parameter(0.02 * torch.randn(self.num_tokens, self.sizes.dim))
        self.head = nn.Linear(self.sizes.dim, self.num_bins, bias=False)
        for module in (self.embedding, self.head):
            nn.init.normal_(module.weight, std=0.02)

    def predict(self, batch: dict[str, Any], tokens: Int[Tensor, "b n"]) -> Float[Tensor, "b n v"]:
        """Return the logits of each token of a chunk, from the observation and the tokens before it."""
        prefix = self.prefix(batch)
        known = self.embedding(tokens[:, :-1]) + self.token_places[:-1]
        p, n = prefix.shape[1], tokens.shape[1]
        mask = prefix_mask(p, p + n - 1, prefix.device)[None]
        states = self.transformer(torch.cat([prefix, known], 1), mask)
        return self.head(states[:, p - 1 :])

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        tokens = rearrange(self.bins.encode(batch["actions"]), "b m a -> b (m a)")
        logits = self.predict(batch, tokens).float()
        everything = torch.ones_like(tokens, dtype=torch.bool)
        loss = F.cross_entropy(logits.flatten(0, 1), tokens.flatten(), reduction="none").view_as(tokens)
        right = (logits.argmax(-1) == tokens).float()
        return {
            "loss": self.global_mean(loss, everything),
            "accuracy": self.global_mean(right, everything),
        }

    def plan(self, moments: Sequence[Moment], request: Any) -> list[Plan]:
        prefix = self.prefix(self.batch_of(moments))
        b, p, n, device = len(moments), prefix.shape[1], self.num_tokens, prefix.device
        # What stands at the observation's places is not read; the last one is the first guess of everything behind it.
        prompt = torch.full((b, p), self.num_bins // 2, dtype=torch.int64, device=device)
        history = torch.stack([torch.from_numpy(moment.history.reshape(-1)) for moment in moments]).to(device)
        guess = [self._guess(moment) for moment in moments]
        method, witness = method_of(
            request.decoding,
            history,
            None if guess[0] is None else torch.stack([g for g in guess if g is not None]).to(device),
            block=request.block,
            num_draft=request.num_draft,
        )
        network: Any = ChunkNetwork(self, prefix)  # reads a KVCache, while a network in general reads any
        with raised_as(RequestError):
            out = decode(
                network,
                prompt,
                method,
                p + n,
                seeds=[derive_seed("chunk", moment.seed, moment.number) for moment in moments],
                temperature=request.temperature,
                cache=lambda rows: KVCache(rows, device),
            )
        self.evaluations += out.nfe
        self.rounds += out.nfe
        self.positions += out.positions
        tokens = out.tokens[:, p:]
        fixed = witness.fixed(tokens, p).cpu().numpy()
        tokens = rearrange(tokens, "b (m a) -> b m a", m=self.facts.chunk)
        actions = self.bins.decode(tokens).cpu().numpy()
        counts, tokens = out.rounds.tolist(), tokens.cpu().numpy()
        return [Plan(actions[row], tokens[row], fixed[row].reshape(tokens[row].shape), counts[row]) for row in range(b)]

    def _guess(self, moment: Moment) -> Int[Tensor, " n"] | None:
        """What is left of the previous plan, its last action repeated; None before the first."""
        if not len(moment.history):
            return None
        left = torch.from_numpy(moment.history[-1][moment.executed :])
        last = torch.from_numpy(moment.history[-1][-1:]).expand(moment.executed, -1)
        return torch.cat([left, last]).flatten()


class ChunkNetwork:
    """A policy under its observations, as `unisono.verify` reads a network: the prefix stands for the prompt."""

    def __init__(self, policy: ChunkPolicy, prefix: Float[Tensor, "b p d"]):
        self.policy, self.prefix = policy, prefix

    def __call__(
        self,
        tokens: Int[Tensor, "b t"],
        positions: Int[Tensor, "b t"],
        visible: Bool[Tensor, "b t t"],
        cache: KVCache | None,
    ) -> Float[Tensor, "b t v"]:
        policy, p = self.policy, self.prefix.shape[1]
        observed = positions < p
        at = positions.clamp_max(p - 1)[..., None].expand(-1, -1, self.prefix.shape[2])
        place = (positions - p).clamp(0, policy.num_tokens - 1)
        x = policy.embedding(tokens) + policy.token_places[place]
        x = torch.where(observed[..., None], self.prefix.gather(1, at), x)
        # The places of the observation see each other; with a cache all of them are read in the first evaluation.
        visible = visible | (observed[:, :, None] & observed[:, None, :])
        mask = visible if cache is None else cache.mask(visible)
        return policy.head(policy.transformer(x, mask, cache))

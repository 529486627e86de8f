"""Alignment learning: durations of a whole corpus from its symbols and spectrograms.

The aligner and losses of "One TTS alignment to rule them all" (Badlani et al. 2021, arXiv:2108.10447), trained by
themselves for some hundred steps, and the best monotonic path of every item: what a model needs whose targets
depend on durations before its own training begins. A model that can wait learns both together, as FastSpeech here.

What differs: the beta-binomial prior fades to nothing half way, after which the aligner decides by what it hears;
the path's own probability is added to the loss from then on. Boundaries come out early by a constant, some 25 ms:
`estimate_shift` measures it where some are known.

Letters: s symbols, t frames, m channels of a frame.
"""

import hashlib
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from unisono.data.cache import log, read_entry, write_entry
from unisono.data.folder import CacheError, cache_root
from unisono.duration.aligner import Aligner, beta_binomial_prior
from unisono.duration.losses import binarisation_loss, forward_sum_loss, ramp
from unisono.duration.search import search
from unisono.errors import UnisonoError

VERSION = "alignment 1"


def learn_alignment(
    symbols: Sequence[Int[Tensor, " s"]],
    targets: Sequence[Float[Tensor, "t m"]],
    num_symbols: int,
    *,
    num_steps: int = 1200,
    batch_size: int = 4,
    dim: int = 128,
    channels: int = 96,
    lr: float = 5e-3,
    seed: int = 0,
    cache: bool = True,
) -> list[Int[Tensor, " s"]]:
    """Frames of every symbol of every item, at least one each; they sum to the item's frames.

    1,200 steps of four items of 3 s take half a minute of one core. What was learnt is kept in the cache, by
    the content of symbols and targets and by the arguments. `targets` may be any sequence that makes a target when it
    is asked for. Learning draws from a generator of its own.

    Raises:
        UnisonoError: for no item, an item with fewer frames than symbols or without a symbol, or a symbol
            that is not from 0 to `num_symbols` − 1.
    """
    if len(symbols) != len(targets) or not len(symbols):
        raise UnisonoError(
            f"{len(symbols)} items of symbols and {len(targets)} targets: give as many, at least one",
            code="shape" if len(symbols) != len(targets) else "empty",
            path="targets",
            value=len(targets),
        )
    for row, ids in enumerate(symbols):
        if not len(ids) or not 0 <= int(ids.min()) <= int(ids.max()) < num_symbols:
            raise UnisonoError(
                f"item {row}: give at least one symbol, each from 0 to {num_symbols - 1}",
                code="range" if len(ids) else "empty",
                path=f"symbols[{row}]",
                value=ids.tolist(),
            )
    setting = repr((VERSION, num_symbols, num_steps, batch_size, dim, channels, lr, seed))
    path = cache_root() / "alignments" / f"{_content(symbols, targets, setting)}.safetensors"
    if cache and (entry := read_entry(path)) is not None:
        return list(entry[0]["frames"].split([len(ids) for ids in symbols]))
    embed, aligner, mean, std = _learn(symbols, targets, num_symbols, num_steps, batch_size, dim, channels, lr, seed)
    found = []
    with torch.no_grad():
        for ids, target in zip(symbols, targets, strict=True):
            src, tgt = torch.tensor([len(ids)]), torch.tensor([len(target)])
            scores = aligner(embed(ids[None]), (target[None] - mean) / std, src, tgt)
            found.append(search(scores, src, tgt)[0])
    if cache:
        try:
            write_entry(path, {"frames": torch.cat(found)})
        except CacheError as error:
            log.warning("alignments are learnt anew in each run: %s", error)
    return found


def _learn(
    symbols: Sequence[Tensor],
    targets: Sequence[Tensor],
    num_symbols: int,
    num_steps: int,
    batch_size: int,
    dim: int,
    channels: int,
    lr: float,
    seed: int,
) -> tuple[nn.Embedding, Aligner, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    some = torch.cat([targets[i] for i in range(0, len(targets), -(-len(targets) // 200))])
    mean, std = some.mean(), some.std().clamp(min=1e-6)
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(seed)
        embed, aligner = nn.Embedding(num_symbols, dim), Aligner(dim, some.shape[1], channels)
    parameters = [*embed.parameters(), *aligner.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=lr)
    with torch.enable_grad():
        for step in range(num_steps):
            part = step / num_steps
            chosen = torch.randint(len(symbols), (batch_size,), generator=generator).tolist()
            ids = nn.utils.rnn.pad_sequence([symbols[i] for i in chosen], batch_first=True)
            heard = [(targets[i] - mean) / std for i in chosen]
            target = nn.utils.rnn.pad_sequence(heard, batch_first=True)
            src, tgt = (torch.tensor([len(x) for x in rows]) for rows in ([symbols[i] for i in chosen], heard))
            prior = max(0.0, 1 - 2 * part) * beta_binomial_prior(src, tgt)
            scores = aligner(embed(ids), target, src, tgt, prior)
            loss = forward_sum_loss(scores, src, tgt)
            if part > 0.3:
                weight = ramp(step, round(0.3 * num_steps), round(0.2 * num_steps))
                loss = loss + weight * binarisation_loss(scores, search(scores, src, tgt), src, tgt)
            for group in optimiser.param_groups:
                group["lr"] = lr * min(1, (step + 1) / 50) * (1 - part) + 1e-5
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
    return embed, aligner, mean, std


def _content(symbols: Sequence[Tensor], targets: Sequence[Tensor], setting: str) -> str:
    digest = hashlib.blake2b(setting.encode(), digest_size=20)
    for ids, target in zip(symbols, targets, strict=True):
        digest.update(repr((tuple(ids.tolist()), tuple(target.shape))).encode())
        digest.update(target.contiguous().numpy().tobytes())
    return digest.hexdigest()

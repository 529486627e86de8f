"""Demonstration data: every step of every episode with the chunk of actions that the expert took from there on.

Batches: ``state`` float32 [b, s], ``actions`` float32 [b, m, a], ``words`` int64 [b, w] where there are instructions,
``picture`` uint8 [b, 3, h, w] where there are pictures, ``row`` int64 [b]. A chunk that goes beyond its episode repeats
the last action.

Shapes: m actions of a chunk, s numbers of the state, a of an action, w words.
"""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from unisono.data import Audit, DataModule, collate_items, hold_out, words_of
from unisono.errors import DataError, RequestError

from unisono_control.demonstrations.facts import ControlFacts, ranges_of
from unisono_control.demonstrations.record import NoiseSpec, record
from unisono_control.demonstrations.store import Demonstrations, EpisodeRow

LOW, HIGH = 0.01, 0.99
NUM_SAMPLES = 4


class StepSet:
    """Items of the steps of some episodes; see this module for what they hold."""

    def __init__(self, demonstrations: Demonstrations, episodes: list[EpisodeRow], facts: ControlFacts):
        self.demonstrations, self.chunk = demonstrations, facts.chunk
        self.steps = np.concatenate([np.arange(row.start, row.stop) for row in episodes])
        self.ends = np.concatenate([np.full(row.steps, row.stop) for row in episodes])
        self.words: np.ndarray | None = None
        if facts.max_words:
            said = np.array([facts.read_words(row.instruction) for row in episodes], dtype=np.int64)
            self.words = said.repeat([row.steps for row in episodes], axis=0)

    def __len__(self) -> int:
        return len(self.steps)

    def size(self, index: int) -> int:
        return self.chunk

    def sizes(self) -> Tensor:
        """Return all sizes at once."""
        return torch.full((len(self),), self.chunk)

    def item(self, index: int, generator: torch.Generator) -> dict[str, Tensor]:
        step = self.steps[index]
        ahead = np.minimum(np.arange(step, step + self.chunk), self.ends[index] - 1)
        item = {
            "state": torch.from_numpy(self.demonstrations.states[step]),
            "actions": torch.from_numpy(self.demonstrations.actions[ahead]),
        }
        if self.words is not None:
            item["words"] = torch.from_numpy(self.words[index])
        if self.demonstrations.pictures is not None:
            item["picture"] = torch.from_numpy(self.demonstrations.pictures[step])
        return item


class ControlData(DataModule):
    """The base of demonstrations as training data.

    Args:
        chunk: actions that are planned at once.
        batch_size: steps of demonstrations in an optimiser step, over all processes.
        val_size: episodes held out, chosen by their seeds alone.
        unseen_share: of the kinds of tasks, how many are held out altogether, in [0, 1).
        num_workers: loading processes per rank.
    """

    def __init__(self, chunk: int, batch_size: int, val_size: int, unseen_share: float, num_workers: int):
        super().__init__(batch_size, num_workers)
        if not 1 <= chunk <= 256:
            raise DataError(f"chunk={chunk} must be from 1 to 256", code="range", path="data.chunk", value=chunk)
        if val_size < 0:
            raise DataError(
                f"val_size={val_size} must be at least 0", code="range", path="data.val_size", value=val_size
            )
        if not 0 <= unseen_share < 1:
            raise DataError(
                f"unseen_share={unseen_share} must be in [0, 1)",
                code="range",
                path="data.unseen_share",
                value=unseen_share,
            )
        self.chunk, self.val_size, self.unseen_share = chunk, val_size, unseen_share
        self.demonstrations: Demonstrations | None = None

    def settle(self, found: Demonstrations, audit: Audit) -> Audit:
        """Split the episodes, measure those that are trained on, fill the sets, and return the audit."""
        usable = [row for row in found.episodes if _is_finite(found, row, audit)]
        kinds = Counter(row.kind for row in usable if row.kind)
        unseen = hold_out(kinds, self.unseen_share * sum(kinds.values())) if kinds else set()
        seen = [row for row in usable if row.kind not in unseen]
        held = hold_out({row.id: 1 for row in seen}, self.val_size)
        train, val = ([row for row in seen if (row.id in held) == part] for part in (False, True))
        if not train:
            raise DataError(
                f"no episode is left to train on; dropped: {audit.reasons}", code="empty", path="data", value=audit.kept
            )
        steps = np.concatenate([np.arange(row.start, row.stop) for row in train])
        actions, states = found.actions[steps].astype(np.float64), found.states[steps].astype(np.float64)
        low, high = np.quantile(actions, (LOW, HIGH), axis=0)
        beyond = ((actions < low) | (actions > high)).mean()
        audit.note(f"{100 * beyond:.1f} % of the actions' numbers are beyond the 1st or 99th percentile, and cut there")
        constant = [found.spec.action_names[i] for i in np.flatnonzero(low == high)]
        if constant:
            audit.note(f"{', '.join(constant)} hardly ever changes: it is planned as one value")
        if unseen:
            out = sum(row.kind in unseen for row in usable)
            audit.note(f"{out} episodes of {len(unseen)} kinds of tasks of {len(kinds)} sit out: none is trained on")
        said = [row.instruction for row in train if row.instruction]
        facts = ControlFacts(
            environment=found.spec,
            settings=found.settings,
            chunk=self.chunk,
            state_mean=tuple(states.mean(0).round(6).tolist()),
            state_std=tuple(states.std(0).round(6).tolist()),
            action_low=tuple(low.round(6).tolist()),
            action_high=tuple(high.round(6).tolist()),
            words=tuple(sorted({word for text in said for word in words_of(text)})),
            max_words=max((len(words_of(text)) for text in said), default=0),
            trained=ranges_of(row.seed for row in train),
            unseen=tuple(sorted(unseen)),
        )
        val = [row for row in val if _can_be_read(row, facts, audit)]
        self.facts = replace(
            facts,
            held_out=tuple(sorted(row.seed for row in val)),
            sample_instructions=tuple(dict.fromkeys(row.instruction for row in val or train if row.instruction))[
                :NUM_SAMPLES
            ],
        )
        self.demonstrations = found
        self.train_set = StepSet(found, train, facts)
        self.val_set = StepSet(found, val, facts) if val else None
        return self.finish(audit)

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        return collate_items(items)


class DemonstrationData(ControlData):
    """Demonstrations from a folder that ``unisono control record`` wrote.

    Args:
        root: the folder.
        chunk: actions that are planned at once.
        batch_size: steps of demonstrations in an optimiser step, over all processes.
        val_size: episodes held out, chosen by their seeds alone.
        unseen_share: of the kinds of tasks, how many are held out altogether, in [0, 1).
        num_workers: loading processes per rank.
    """

    def __init__(
        self,
        root: str,
        *,
        chunk: int = 8,
        batch_size: int = 64,
        val_size: int = 50,
        unseen_share: float = 0.0,
        num_workers: int = 0,
    ):
        super().__init__(chunk, batch_size, val_size, unseen_share, num_workers)
        self.root = root

    def prepare(self, progress: bool = True) -> Audit:
        audit = Audit("episodes")
        found = Demonstrations.read(Path(self.root))
        for row in found.episodes:
            audit.keep(row.id, row.steps, "steps", "with noise" if row.noise else "as the expert is")
        return self.settle(found, audit)


class ScriptedData(ControlData):
    """Demonstrations of an environment's scripted expert, recorded on the spot; no file is read.

    Args:
        environment: by name: ``table``, ``lander``, or one that was registered.
        settings: of the environment's constructor, such as ``{observe: picture}``.
        num_episodes: episodes to record; those in which the expert fails are dropped.
        first_seed: of the first episode; the others follow.
        noise: on what is executed.
        chunk: actions that are planned at once.
        batch_size: steps of demonstrations in an optimiser step, over all processes.
        val_size: episodes held out, chosen by their seeds alone.
        unseen_share: of the kinds of tasks, how many are held out altogether, in [0, 1).
        num_workers: loading processes per rank.
    """

    def __init__(
        self,
        environment: str = "table",
        *,
        settings: dict[str, Any] | None = None,
        num_episodes: int = 1000,
        first_seed: int = 0,
        noise: NoiseSpec = NoiseSpec(),  # noqa: B008
        chunk: int = 8,
        batch_size: int = 64,
        val_size: int = 50,
        unseen_share: float = 0.0,
        num_workers: int = 0,
    ):
        super().__init__(chunk, batch_size, val_size, unseen_share, num_workers)
        if num_episodes < 1 or first_seed < 0:
            wrong = "num_episodes" if num_episodes < 1 else "first_seed"
            raise DataError(
                f"num_episodes={num_episodes} must be at least 1, first_seed={first_seed} at least 0",
                code="range",
                path=f"data.{wrong}",
                value=num_episodes if num_episodes < 1 else first_seed,
            )
        self.environment, self.settings = environment, settings
        self.num_episodes, self.first_seed, self.noise = num_episodes, first_seed, noise

    def prepare(self, progress: bool = True) -> Audit:
        seeds = range(self.first_seed, self.first_seed + self.num_episodes)
        found, audit = record(self.environment, self.settings or {}, seeds, self.noise, progress)
        return self.settle(found, audit)


def _is_finite(found: Demonstrations, row: EpisodeRow, audit: Audit) -> bool:
    """Whether an episode's numbers all are."""
    for name in ("states", "actions"):
        part = getattr(found, name)[row.start : row.stop]
        if not np.isfinite(part).all():
            step = int(np.flatnonzero(~np.isfinite(part).all(1))[0])
            audit.drop(row.id, "not finite", f"{name} hold NaN or infinity at step {step}")
            return False
    return True


def _can_be_read(row: EpisodeRow, facts: ControlFacts, audit: Audit) -> bool:
    """Whether a held-out episode's instruction is of words that were trained on."""
    try:
        facts.read_words(row.instruction)
    except RequestError as error:
        audit.drop(row.id, "unknown words", str(error))
        return False
    return True

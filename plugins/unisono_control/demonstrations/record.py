"""Recording: the scripted expert of an environment plays episodes, from which a policy learns; and their replay.

A policy drifts into states that an expert never sees. So some episodes are recorded with noise on what is executed,
while what is learnt stays the expert's own action in the state that the noise led to (Laskey et al., 2017, DART,
arXiv:1703.09327, with a fixed noise).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from rich.console import Console
from rich.progress import track
from unisono.data import Audit, derive_seed
from unisono.errors import DataError, RequestError

from unisono_control.demonstrations.store import Demonstrations, EpisodeRow
from unisono_control.environments import Observation, Scripted, Session, make_environment


@dataclass(frozen=True, kw_only=True)
class NoiseSpec:
    """Noise on what is executed while demonstrations are recorded.

    share: of the episodes that have it, in [0, 1].
    scale: its standard deviation, as a share of the distance of an action's limits, at least 0.
    """

    share: float = 0.3
    scale: float = 0.1

    def __post_init__(self):
        if not 0 <= self.share <= 1:
            raise DataError(
                f"noise.share={self.share} must be in [0, 1]", code="range", path="data.noise.share", value=self.share
            )
        if not 0 <= self.scale <= 1:
            raise DataError(
                f"noise.scale={self.scale} must be in [0, 1]", code="range", path="data.noise.scale", value=self.scale
            )


def record(
    name: str,
    settings: dict[str, Any],
    seeds: Sequence[int],
    noise: NoiseSpec = NoiseSpec(),
    progress: bool = False,
) -> tuple[Demonstrations, Audit]:
    """Record the expert's episodes of the seeds; episodes in which it fails, or the environment does, are dropped.

    Raises ``DataError`` where the environment has no expert, and where no episode is left.
    """
    environment = make_environment(name, **settings)
    if not isinstance(environment, Scripted):
        raise DataError(
            f"environment {name!r} has no expert: record demonstrations with one that has expert()",
            code="unsupported",
            path="environment",
            value=name,
        )
    audit = Audit("episodes")
    session = Session(environment)
    rows: list[EpisodeRow] = []
    takes: list[Take] = []
    start = 0
    shown: Iterable[int] = track(seeds, "recording", console=Console(stderr=True), disable=not progress)
    for seed in shown:
        noisy = derive_seed("noisy", seed) < noise.share * 2**63
        try:
            take = play_expert(session, seed, noise.scale if noisy else 0.0)
        except RequestError as error:
            audit.drop(f"seed-{seed}", "environment failed", str(error))
            continue
        if not session.success:
            how = "ended without success" if session.ended else f"not done after {session.steps} steps"
            audit.drop(f"seed-{seed}", "expert failed", f"{how}, return {session.score:.1f}")
            continue
        first = take.observations[0]
        row = EpisodeRow(
            seed=seed,
            instruction=first.instruction,
            kind=environment.kind,
            start=start,
            steps=len(take.actions),
            score=session.score,
            noise=noise.scale if noisy else 0.0,
        )
        rows.append(row)
        takes.append(take)
        start = row.stop
        audit.keep(row.id, row.steps, "steps", "with noise" if noisy else "as the expert is")
    if not rows:
        raise DataError(
            f"environment {name!r}: no episode of {len(seeds)} is usable; dropped: {audit.reasons}; first: "
            f"{audit.dropped[0] if audit.dropped else None}",
            code="empty",
            path="environment",
            value=name,
        )
    seen = [observation for take in takes for observation in take.observations]
    pictures = np.stack([o.picture for o in seen if o.picture is not None]) if environment.spec.picture_size else None
    return Demonstrations(
        environment.spec,
        settings,
        tuple(rows),
        np.stack([observation.state for observation in seen]),
        np.stack([action for take in takes for action in take.actions]),
        np.stack([action for take in takes for action in take.executed]),
        np.array([reward for take in takes for reward in take.rewards], dtype=np.float32),
        pictures,
    ), audit


@dataclass(frozen=True, eq=False)
class Take:
    """One recorded episode: what was seen before each step, the expert's action, what was executed, the reward."""

    observations: list[Observation]
    actions: list[Float[np.ndarray, " a"]]
    executed: list[Float[np.ndarray, " a"]]
    rewards: list[float]


def play_expert(
    session: Session,
    seed: int,
    scale: float = 0.0,
    through: Callable[[Float[np.ndarray, " a"]], Float[np.ndarray, " a"]] | None = None,
) -> Take:
    """Play an episode by the expert, with noise of that scale; ``through`` changes what is executed, as bins do."""
    draw = np.random.default_rng(derive_seed("noise", seed))
    low, high = (np.array(limit, dtype=np.float32) for limit in (session.spec.action_low, session.spec.action_high))
    session.reset(seed)
    take = Take([], [], [], [])
    while not session.done:
        take.observations.append(session.observe())
        action = session.expert()
        done = action if through is None else through(action)
        if scale:
            done = (done + draw.normal(0, scale, len(low)) * (high - low)).clip(low, high).astype(np.float32)
        take.actions.append(action)
        take.executed.append(done)
        take.rewards.append(session.act(done))
    return take


def replay(demonstrations: Demonstrations, limit: int | None = None) -> list[str]:
    """Play recorded actions again, and return a sentence for each episode that does not come out as recorded.

    States and rewards must be the same, bit by bit: the environment's own determinism is what all figures rest on.
    """
    session = Session(make_environment(demonstrations.spec.name, **demonstrations.settings))
    wrong = []
    for row in demonstrations.episodes[:limit]:
        session.reset(row.seed, row.instruction if demonstrations.spec.takes_instruction else "")
        for step in range(row.start, row.stop):
            if not np.array_equal(session.observe().state, demonstrations.states[step]):
                wrong.append(f"{row.id}: another state at step {step - row.start}")
                break
            reward = session.act(demonstrations.executed[step])
            if np.float32(reward) != demonstrations.rewards[step]:
                wrong.append(f"{row.id}: another reward at step {step - row.start}")
                break
    return wrong

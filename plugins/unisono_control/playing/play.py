"""Play: policies in environments, episodes side by side: observe, plan a chunk, carry it out, plan the next.

::

    requests ─ of equal settings together ─ observe ─ plan ─ act, ``execute`` times ─ … ─ episodes

All episodes of a batch are at their c-th chunk at the same time; one that is over leaves the batch. What a row plans
depends on its own observations and seed alone, so that an episode alone is the episode in a batch.

Shapes: c chunks, m actions of a chunk, a numbers of an action.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from unisono.batching import OnStep, Progress, chunks, grouped
from unisono.errors import RequestError

from unisono_control.environments import Observation, Session, make_environment
from unisono_control.playing.episode import Episode

ROWS_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class Moment:
    """Where a chunk is planned: what is seen, the episode's seed, and the plans before.

    Attributes:
        number: of the chunk, from 0.
        history: tokens of the chunks before, [c, m, a]; of policies without tokens [c, m, 0].
        executed: how many actions of the last one were carried out.
    """

    observation: Observation
    seed: int
    number: int
    history: Int[np.ndarray, "c m a"]
    executed: int


@dataclass(frozen=True, eq=False)
class Plan:
    """A chunk: its actions, and, of policies by tokens, the tokens and in which round, from 1, each was fixed."""

    actions: Float[np.ndarray, "m a"]
    tokens: Int[np.ndarray, "m a"] | None
    fixed: Int[np.ndarray, "m a"] | None
    rounds: int


@dataclass
class Game:
    """An episode under way."""

    place: int
    request: Any
    seed: int
    session: Session
    execute: int
    chunk: int
    kind: str = ""
    states: list[np.ndarray] = field(default_factory=list)
    actions: list[np.ndarray] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    plans: list[Plan] = field(default_factory=list)
    executed: list[int] = field(default_factory=list)
    seen: Observation | None = None

    def begin(self) -> None:
        self.session.reset(self.seed, self.request.instruction)
        self.kind = self.session.environment.kind
        self._observe()

    def moment(self) -> Moment:
        """What the next chunk is planned from."""
        assert self.seen is not None
        if self.plans and self.plans[0].tokens is not None:
            history = np.stack([plan.tokens for plan in self.plans if plan.tokens is not None])
        else:
            # Without tokens there is nothing of the plans that another one could begin with.
            history = np.zeros((0, self.chunk, len(self.session.spec.action_names)), dtype=np.int64)
        return Moment(self.seen, self.seed, len(self.plans), history, self.executed[-1] if self.executed else 0)

    def carry_out(self, plan: Plan) -> int:
        """Act as planned, until enough is done or the episode is over; return how many actions that were."""
        count = 0
        while count < self.execute and not self.session.done:
            action = self.session.check_action(plan.actions[count])
            self.rewards.append(self.session.act(action))
            self.actions.append(action)
            self._observe()
            count += 1
        self.plans.append(plan)
        self.executed.append(count)
        return count

    def episode(self, settings: dict[str, Any]) -> Episode:
        session, spec = self.session, self.session.spec
        plans = self.plans
        assert self.seen is not None
        return Episode(
            environment=spec.name,
            settings=settings,
            version=spec.version,
            hz=spec.hz,
            seed=self.seed,
            instruction=self.seen.instruction,
            kind=self.kind,
            state_names=spec.state_names,
            action_names=spec.action_names,
            states=np.stack(self.states),
            actions=np.stack(self.actions),
            rewards=np.array(self.rewards, dtype=np.float32),
            success=session.success,
            ended=session.ended,
            chunk=self.chunk,
            executed=tuple(self.executed),
            rounds=tuple(plan.rounds for plan in plans),
            tokens=None if plans[0].tokens is None else np.stack([p.tokens for p in plans if p.tokens is not None]),
            fixed=None if plans[0].fixed is None else np.stack([p.fixed for p in plans if p.fixed is not None]),
        )

    def _observe(self) -> None:
        self.seen = self.session.observe()
        self.states.append(self.seen.state)


@torch.no_grad()
def play(
    model: Any,
    requests: Sequence[Any],
    generator: torch.Generator | None = None,
    on_step: OnStep | None = None,
    watch: list[list[tuple[Moment, Plan]]] | None = None,
) -> list[Episode]:
    """Play an episode for each request.

    ``watch``, an empty list, is given what was planned when, for each request.

    Raises ``RequestError`` for an instruction that the policy or the environment cannot read, for more actions to carry
    out than a chunk has, and where an environment breaks its word.
    """
    facts = model.facts
    games = []
    for place, request in enumerate(requests):
        execute = facts.chunk if request.execute is None else request.execute
        if execute > facts.chunk:
            raise RequestError(
                f"execute={execute}: a chunk of this policy has {facts.chunk} actions",
                code="range",
                path="execute",
                value=execute,
            )
        if request.instruction and facts.max_words:
            facts.read_words(request.instruction)
        session = Session(make_environment(facts.environment.name, **facts.settings), request.max_steps)
        check_environment(facts, session)
        seed = model.seed_of(request, generator)
        games.append(Game(place, request, seed, session, execute, facts.chunk))
    if watch is not None:
        watch[:] = [[] for _ in games]
    progress = Progress(on_step, sum(game.session.max_steps for game in games))
    for members in grouped(games, lambda game: settings_of(game.request)):
        for batch in chunks(members, ROWS_AT_ONCE):
            for game in batch:
                game.begin()
            going = [game for game in batch if not game.session.done]
            while going:
                moments = [game.moment() for game in going]
                plans = model.plan(moments, going[0].request)
                for game, moment, plan in zip(going, moments, plans, strict=True):
                    count = game.carry_out(plan)
                    if watch is not None:
                        watch[game.place].append((moment, plan))
                    if progress.done + count < progress.total:  # the end is told when the episodes are ready
                        progress.advance(count)
                going = [game for game in going if not game.session.done]
    progress.finish()
    return [game.episode(facts.settings) for game in games]


def settings_of(request: Any) -> tuple[Any, ...]:
    """What requests must share to be planned in one batch."""
    return tuple(request.model_dump(exclude={"seed", "instruction", "execute", "max_steps"}).values())


def check_environment(facts: Any, session: Session) -> None:
    """Raise ``RequestError`` unless an environment is what the policy was trained in, but for its version."""
    for name in ("state_names", "groups", "action_names", "action_low", "action_high", "picture_size"):
        mine, its = getattr(facts.environment, name), getattr(session.spec, name)
        if mine != its:
            raise RequestError(
                f"environment {session.spec.name!r} has other {name} than the one that this policy was trained in: "
                f"{its!r:.80}, not {mine!r:.80}",
                code="conflict",
                path="environment",
                value=name,
            )

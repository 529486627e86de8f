"""Evaluation of a policy: what it reaches in episodes that it has not seen, and what its plans cost.

Systems that are compared::

    expert         the script that made the demonstrations
    in bins        the script, its actions through the bins alone: whether they are fine enough
    plain …        the policy, by each way of decoding; an OFT policy, in one evaluation
    and what ``against`` names, such as the OFT policy of the same demonstrations

Episodes are of seeds that no demonstration has. Decodings that change no action are played once, by the plain one, and
then asked for every chunk of these episodes: tokens are compared and evaluations counted; time is taken one chunk at a
time, decodings in turns, so that a busy moment of the machine hits all of them.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from unisono.batching import chunks, grouped
from unisono.errors import DataError
from unisono.evaluation import Probe, Report, Row, Section

from unisono_control.demonstrations.data import HIGH, LOW
from unisono_control.demonstrations.record import play_expert
from unisono_control.demonstrations.store import Demonstrations
from unisono_control.environments import Session, make_environment
from unisono_control.environments.protocol import Scripted
from unisono_control.models.base import Policy
from unisono_control.models.bins import ActionBins
from unisono_control.models.policy import ChunkPolicy
from unisono_control.playing.episode import Episode
from unisono_control.playing.play import Moment, Plan, play

EXPERT, IN_BINS = "expert", "in bins"
DECODINGS = ("plain", "jacobi", "gauss-seidel", "ngram", "shifted-chunk")
FIRST_SEED = 1_000_000
"""Episodes are of the seeds from here on, less those that were trained on."""
TURNS, MOST_CHUNKS, ROWS = 5, 2000, 64
APART = 0.05
"""How far percentiles of another corpus may lie from the policy's, relative to their distance."""


def evaluate(
    synthesizer: Any,
    data: str | Path | Demonstrations,
    *,
    limit: int = 40,
    against: Sequence[str] = (),
    timed: int = 40,
    device: str | None = None,
    checkpoint: str | Path | None = None,
    progress: bool = True,
    **fields: Any,
) -> Report:
    """Measure a policy, and return one report.

    ``data`` are demonstrations as ``unisono control record`` writes them, of the environment that the policy knows and
    with the statistics that it was trained with; ``limit`` episodes are played of each system, of seeds that none of
    them has. ``against`` names more exports, ``timed`` is how many chunks time is taken of, and ``fields`` are those of
    the request (``execute=4``).

    Raises ``DataError`` for demonstrations of another environment or of other statistics.
    """
    from unisono.export import load

    if device is not None:
        synthesizer.to(device)
    policy: Policy = synthesizer.model
    found = data if isinstance(data, Demonstrations) else Demonstrations.read(data)
    check_same_data(policy, found)
    name = own_name(policy)
    systems = {name: policy}
    for path in against:
        rival = load(path, device=str(policy.device)).model
        if not isinstance(rival, Policy):
            raise DataError(f"{path}: is no policy of the control plugin", code="type", path="against", value=path)
        check_same_data(rival, found)
        systems[own_name(rival) if own_name(rival) not in systems else Path(path).name] = rival
    asked = fresh_seeds(list(systems.values()), limit, {row.seed for row in found.episodes})
    bar = {"console": Console(stderr=True), "disable": not progress}
    played: dict[str, list[Episode]] = {}
    watch: list[list[tuple[Moment, Plan]]] = []
    for title, system in systems.items():
        kept = {key: value for key, value in fields.items() if key in system.Request.model_fields}
        requests = [system.Request(seed=seed, **kept) for seed in asked]
        played[title] = play(system, requests, watch=watch if system is policy else None)
    expert = list(track(_experts(policy, asked), "expert", total=2 * len(asked), **bar))
    played_by_script = {EXPERT: expert[: len(asked)], IN_BINS: expert[len(asked) :]}
    sections, histograms = [_outcome(played, played_by_script)], []
    if policy.facts.unseen:
        sections.append(_unseen(systems, policy.facts.unseen, asked, fields))
    told = {key: value for key, value in fields.items() if key not in ("decoding", "block", "num_draft")}
    if isinstance(policy, ChunkPolicy):
        pairs = [pair for episode in watch for pair in episode][:MOST_CHUNKS]
        costs = {d: cost_of(policy, pairs, d, told) for d in track(DECODINGS, "decoding", **bar)}
        speeds = _speeds(systems, pairs, told, timed)
        sections += [_cost(costs, speeds, policy.num_tokens), _fixed(policy, costs["jacobi"])]
        histograms = [
            {
                "system": "jacobi",
                "action": name,
                "fixed in round 1, 2, …": np.bincount(each.ravel())[1:].tolist(),
            }
            for name, each in zip(found.spec.action_names, np.moveaxis(costs["jacobi"].fixed, 2, 0), strict=True)
        ]
    else:
        pairs = [pair for episode in watch for pair in episode][:MOST_CHUNKS]
        speeds = _speeds(systems, pairs, told, timed)
        sections.append(Section("What a chunk costs", [Row("chunks a second", speeds, "", 1, "higher")]))
    columns = list(dict.fromkeys([EXPERT, IN_BINS, *played, *(DECODINGS if len(sections) > 2 else ())]))
    return Report(
        title=f"{synthesizer.info.get('model', 'policy')} in {found.spec.name}: {len(asked)} episodes",
        systems=columns,
        sections=sections,
        facts={
            "environment": found.spec.version,
            "seeds": f"{asked[0]} to {asked[-1]}",
            "chunk": policy.facts.chunk,
            "threads": torch.get_num_threads(),
            **fields,
        },
        items=[
            *(
                {"system": system, "seed": e.seed, "success": e.success, "score": e.score, "steps": len(e.actions)}
                for system, episodes in played.items()
                for e in episodes
            ),
            *histograms,
        ],
    )


def probe(synthesizer: Any, data: str | Path | Demonstrations, *, limit: int = 16) -> Probe:
    """Return what ``unisono sweep`` asks of a policy: episodes of its environment, their success and return."""
    found = data if isinstance(data, Demonstrations) else Demonstrations.read(data)
    check_same_data(synthesizer.model, found)

    def measure(made: list[Episode]) -> dict[str, float]:
        return {"success": fmean(e.success for e in made), "return": fmean(e.score for e in made)}

    return Probe(
        [{} for _ in range(limit)],
        measure,
        {"success": "higher", "return": "higher"},
        {"environment": found.spec.version},
    )


def own_name(policy: Policy) -> str:
    """Return what a policy is called beside others."""
    return "plain" if isinstance(policy, ChunkPolicy) else "oft"


def check_same_data(policy: Policy, found: Demonstrations) -> None:
    """Raise ``DataError`` where demonstrations are of another environment, or their actions of another size."""
    facts = policy.facts
    if found.spec.name != facts.environment.name or found.settings != facts.settings:
        raise DataError(
            f"the demonstrations are of {found.spec.name!r} with {found.settings}, the policy of "
            f"{facts.environment.name!r} with {facts.settings}: give its own",
            code="conflict",
            path="data",
            value=found.spec.name,
        )
    low, high = np.quantile(found.actions.astype(np.float64), (LOW, HIGH), axis=0)
    for i, name in enumerate(found.spec.action_names):
        mine, its = (facts.action_low[i], facts.action_high[i]), (float(low[i]), float(high[i]))
        room = APART * max(mine[1] - mine[0], 1e-6)
        if abs(mine[0] - its[0]) > room or abs(mine[1] - its[1]) > room:
            raise DataError(
                f"the demonstrations have {name} from {its[0]:.4g} to {its[1]:.4g} (1st and 99th percentile), the "
                f"policy was trained with {mine[0]:.4g} to {mine[1]:.4g}: these are the statistics of another data set",
                code="conflict",
                path="data",
                value=name,
            )


def fresh_seeds(policies: Sequence[Policy], count: int, recorded: set[int]) -> list[int]:
    """Return seeds of episodes that none of the policies was trained on, and that were not recorded."""
    seeds: list[int] = []
    seed = FIRST_SEED
    while len(seeds) < count:
        if seed not in recorded and not any(policy.facts.was_trained_on(seed) for policy in policies):
            seeds.append(seed)
        seed += 1
    return seeds


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of an episode of the script."""

    success: bool
    score: float
    steps: int


def _experts(policy: Policy, seeds: Sequence[int]):
    """Yield the script's episodes, first as it is, then with its actions through the policy's bins."""
    facts = policy.facts
    environment = make_environment(facts.environment.name, **facts.settings)
    if not isinstance(environment, Scripted):
        return
    session = Session(environment)
    bins = ActionBins(facts.action_low, facts.action_high, getattr(policy, "num_bins", 256))

    def through(action: np.ndarray) -> np.ndarray:
        return bins.decode(bins.encode(torch.from_numpy(action))).numpy()

    for change in (None, through):
        for seed in seeds:
            play_expert(session, seed, through=change)
            yield Outcome(session.success, session.score, session.steps)


def _outcome(played: dict[str, list[Episode]], scripts: dict[str, list[Outcome]]) -> Section:
    share = {name: fmean(e.success for e in made) for name, made in {**scripts, **played}.items() if made}
    score = {name: fmean(e.score for e in made) for name, made in {**scripts, **played}.items() if made}
    steps = {name: fmean(e.steps for e in made) for name, made in scripts.items() if made}
    steps |= {name: fmean(len(e.actions) for e in made) for name, made in played.items()}
    cut = {name: fmean(not e.ended for e in made) for name, made in played.items()}
    jerks = {name: np.array([e.boundary_jerk() for e in made]) for name, made in played.items()}
    meets, within = ({n: float(np.nanmean(j[:, i])) for n, j in jerks.items()} for i in (0, 1))
    return Section(
        "What it reaches",
        [
            Row("success", share, "", 3, "higher"),
            Row("return", score, "", 1, "higher"),
            Row("steps", steps, "", 1),
            Row("cut at the time limit", cut, "", 3, "lower"),
            Row("change of the actions where chunks meet", meets, "", 4),
            Row("change within chunks", within, "", 4),
        ],
    )


def _unseen(systems: dict[str, Policy], unseen: Sequence[str], seeds: Sequence[int], fields: dict[str, Any]) -> Section:
    """Success in kinds of tasks that no demonstration was of, as many episodes as of the others."""
    share = {}
    for name, policy in systems.items():
        kept = {key: value for key, value in fields.items() if key in policy.Request.model_fields}
        asked = [policy.Request(seed=seed, instruction=unseen[i % len(unseen)], **kept) for i, seed in enumerate(seeds)]
        share[name] = fmean(e.success for e in play(policy, asked))
    return Section(f"{len(unseen)} kinds of tasks never trained on", [Row("success there", share, "", 3, "higher")])


@dataclass(frozen=True, eq=False)
class Cost:
    """What a decoding needs for chunks: evaluations of each, places computed, the share that is equal to plain's."""

    rounds: np.ndarray
    positions: float
    equal: float
    fixed: np.ndarray


@torch.no_grad()
def cost_of(policy: ChunkPolicy, pairs: Sequence[tuple[Moment, Plan]], decoding: str, fields: dict[str, Any]) -> Cost:
    """Plan the chunks of recorded moments again by a decoding, and compare with what was planned."""
    request = policy.Request(decoding=decoding, **fields)  # type: ignore[arg-type]
    before, rounds, equal, fixed = policy.positions, [], [], []
    for members in grouped(pairs, lambda pair: pair[0].number):
        for batch in chunks(members, ROWS):
            made = policy.plan([moment for moment, _ in batch], request)
            for plan, (_, asked) in zip(made, batch, strict=True):
                assert plan.tokens is not None and asked.tokens is not None  # a ChunkPolicy plans by tokens
                rounds.append(plan.rounds)
                equal.append(np.array_equal(plan.tokens, asked.tokens))
                fixed.append(plan.fixed)
    positions = (policy.positions - before) / len(pairs)
    return Cost(np.array(rounds), positions, fmean(equal), np.stack(fixed))


def _speeds(
    systems: dict[str, Policy], pairs: Sequence[tuple[Moment, Plan]], fields: dict[str, Any], timed: int
) -> dict[str, float | str | None]:
    """Chunks a second, one at a time, of each decoding and each other policy, which take turns: the median of them."""
    ways: dict[str, Any] = {}
    for name, policy in systems.items():
        kept = {key: value for key, value in fields.items() if key in policy.Request.model_fields}
        if isinstance(policy, ChunkPolicy) and name == "plain":
            ways |= {d: (policy, policy.Request(decoding=d, **kept)) for d in DECODINGS}  # type: ignore[arg-type]
        else:
            ways[name] = (policy, policy.Request(**kept))
    stride = max(1, len(pairs) // timed)
    moments = [moment for moment, _ in pairs[::stride]][:timed]
    spent: dict[str, list[float]] = {name: [] for name in ways}
    with torch.no_grad():
        for turn in range(TURNS + 1):  # the first warms up
            for name, (policy, request) in ways.items():
                start = time.perf_counter()
                for moment in moments:
                    policy.plan([moment], request)
                if turn:
                    spent[name].append(time.perf_counter() - start)
    return {name: len(moments) / median(seconds) for name, seconds in spent.items()}


def _cost(costs: dict[str, Cost], speeds: dict[str, Any], num_tokens: int) -> Section:
    plain = speeds["plain"]
    return Section(
        f"What a chunk of {num_tokens} tokens costs",
        [
            Row("chunks with plain's tokens", {d: 100 * c.equal for d, c in costs.items()}, "%", 2, "higher"),
            Row("evaluations", {d: float(c.rounds.mean()) for d, c in costs.items()}, "mean", 2, "lower"),
            Row(
                "evaluations, most",
                {d: float(np.quantile(c.rounds, 0.95)) for d, c in costs.items()},
                "95 %",
                1,
                "lower",
            ),
            Row(
                "evaluations by tokens",
                {d: float(c.rounds.mean()) / num_tokens for d, c in costs.items()},
                "",
                3,
                "lower",
            ),
            Row("places computed, batches of 64", {d: c.positions for d, c in costs.items()}, "", 1, "lower"),
            Row("chunks a second, one at a time", speeds, "", 1, "higher"),
            Row("times plain's", {name: speed / plain for name, speed in speeds.items()}, "", 2, "higher"),
        ],
    )


def _fixed(policy: Policy, cost: Cost) -> Section:
    """In which round of Jacobi iteration each number of an action had its value for good."""
    names = policy.facts.environment.action_names
    rows = []
    for i, name in enumerate(names):
        each = cost.fixed[:, :, i]
        rows.append(Row(f"{name}: round in which it was fixed", {"jacobi": float(each.mean())}, "mean", 2, "lower"))
        rows.append(Row(f"{name}: fixed in the first round", {"jacobi": 100 * float((each == 1).mean())}, "%", 1))
    return Section("When tokens were fixed", rows)

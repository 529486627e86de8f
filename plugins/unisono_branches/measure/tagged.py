"""Evaluation of tagged texts: are the answers right, and what do branches save?

Systems, all on the same prompts, in turns, one request at a time::

    parallel    the model, paths side by side
    serial      the same model, one path at a time: the same tokens
    …           other exports (--against), such as a branches/chain of the same size

What is given is the prompt of each line; right is an answer that ends the last conclusion as the line's own text does.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
from unisono import Text
from unisono.errors import RecipeError, RequestError
from unisono.evaluation import Report, Row, Section
from unisono.export import load

from unisono_branches.corpus.sums import answer_of
from unisono_branches.corpus.tagged import Example, TaggedData
from unisono_branches.multiverse.model import Multiverse

RIGHT, SAME, EQUAL = "answers right", "texts as the corpus has them", "texts with the tokens of parallel"
EVALUATIONS, DEPTH, TOKENS = "evaluations of the network", "positions", "tokens written"
SECONDS, SPEED = "time, one text by itself, median", "speed, parallel is 1"


@dataclass
class System:
    """One way to write the texts, and what was measured of it."""

    name: str
    synthesizer: Any
    fields: dict[str, Any]
    made: dict[int, Text] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)


def evaluate(
    synthesizer: Any,
    data: str | Path,
    *,
    limit: int = 40,
    checkpoint: Any = None,
    against: Sequence[str] = (),
) -> Report:
    """Measure a model on the first ``limit`` lines of a file of tagged texts.

    ``against`` are other exports of this plugin's models of tagged texts. A prompt that a model refuses is a failure.
    Raises ``DataError`` for a file without a text that can be used, and ``RecipeError`` for a model of another kind.
    """
    examples = read_examples(data)[:limit]
    systems = systems_of(synthesizer, against)
    failures = []
    for system in systems:
        system.synthesizer({"text": examples[0].prompt, **system.fields})  # warms up, and refuses what fits nothing
    for number, example in enumerate(examples):
        turn = number % len(systems)
        for system in [*systems[turn:], *systems[:turn]]:
            start = time.perf_counter()
            try:
                made = system.synthesizer({"text": example.prompt, "seed": number, **system.fields})
            except RequestError as error:
                failures.append({"id": f"line {number + 1}", "system": system.name, "reason": str(error)})
                continue
            system.seconds.append(time.perf_counter() - start)
            system.made[number] = made
    first, names = systems[0], [system.name for system in systems]
    found = {system.name: _measures(system, examples, first) for system in systems}

    def row(measure: str, unit: str = "", digits: int = 2, better: str = "") -> Row:
        return Row(measure, {name: found[name].get(measure) for name in names}, unit, digits, better)

    answers = [row(RIGHT, "", 3, "higher"), row(SAME, "", 3, "higher"), row(EQUAL, "", 3)]
    cost = [
        row(EVALUATIONS, "a text", 1, "lower"),
        row(DEPTH, "a text, prompt included", 1, "lower"),
        row(TOKENS, "a text", 1),
        row(SECONDS, "s", 4, "lower"),
        row(SPEED, "", 2, "higher"),
    ]
    return Report(
        title=f"{len(examples)} prompts",
        systems=names,
        sections=[Section("What is written", answers), Section("What that costs", cost)],
        facts={"prompts": len(examples), "threads": torch.get_num_threads()},
        items=[
            {"prompt": examples[number].prompt, "system": system.name, "text": made.text, **made.facts}
            for system in systems
            for number, made in system.made.items()
        ],
        failures=failures,
    )


def systems_of(synthesizer: Any, against: Sequence[str] = ()) -> list[System]:
    """Return the ways in which a model and its rivals write: side by side and one by one, where they have branches."""
    systems = [System("parallel", synthesizer, {})]
    if synthesizer.model.beside:
        systems.append(System("serial", synthesizer, {"execution": "serial"}))
    else:
        systems[0].name = "chain"
    for rival in against or ():
        other = load(rival)
        if not isinstance(other.model, Multiverse):
            raise RecipeError(
                f"{rival} is a {other.info['model']}: give a branches/multiverse or branches/chain",
                code="type",
                path="--against",
                value=other.info["model"],
            )
        systems.append(System(Path(rival).name, other, {}))
    return systems


def _measures(system: System, examples: Sequence[Example], first: System) -> dict[str, float]:
    """What was measured of a system, over the prompts that it wrote to."""
    if not system.made:
        return {}
    pairs = [(made, examples[number]) for number, made in system.made.items()]
    both = [number for number in system.made if number in first.made]
    found = {
        RIGHT: fmean(answer_of(made.text) == answer_of(example.text) for made, example in pairs),
        SAME: fmean(made.text == example.prompt + example.text for made, example in pairs),
        EVALUATIONS: fmean(made.facts["steps"] for made, _ in pairs),
        DEPTH: fmean(made.facts["depth"] for made, _ in pairs),
        TOKENS: fmean(len(made.tokens) - made.facts["prompt_tokens"] for made, _ in pairs),
        SECONDS: median(system.seconds),
        SPEED: median(first.seconds) / median(system.seconds) if first.seconds else float("nan"),
    }
    if both:
        found[EQUAL] = fmean(system.made[number].tokens == first.made[number].tokens for number in both)
    return found


def read_examples(path: str | Path) -> list[Example]:
    """Return the texts of a file that can be used; raises ``DataError`` where there is none."""
    module = TaggedData(root=str(path), context=2**20, val_size=0, batch_size=1)
    module.prepare(progress=False)
    return module.train_set.examples

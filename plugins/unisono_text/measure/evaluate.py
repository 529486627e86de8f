"""Evaluation of a text model: how well it predicts text that it has not seen, what it writes, and what that costs.

Two systems are compared::

    held out     text of the corpus that was not trained on, in rows as long as what is made
    model        texts of the model, as many, from their beginning or after the corpus's own prompts

How likely held-out text is, an autoregressive model says exactly and a diffusion model by a bound that is drawn at
random: the mean of so many samples of it, with the standard error that the drawing leaves (what the choice of text
leaves is not in it). What a model writes is read by the component ``judge``, an autoregressive model: its perplexity
alone says nothing, for a text that repeats itself is likely, so entropy, self-BLEU and distinct pairs stand beside it.

Shapes: n rows, r repeats.
"""

import inspect
import math
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from rich.console import Console
from rich.progress import track
from unisono import Text, plugin
from unisono.arguments import build, nested
from unisono.data import derive_seed
from unisono.errors import DataError
from unisono.evaluation import Probe, Report, Row, Section

from unisono_text.corpus.data import TextData
from unisono_text.corpus.files import FilesData
from unisono_text.corpus.packing import collate_rows
from unisono_text.measure import variety

HELD, MODEL = "held out", "model"
SYSTEMS = [HELD, MODEL]
PERPLEXITY, BITS = "judge's perplexity", "judge's bits per character"
ENTROPY, BLEU, DISTINCT = "entropy, nats", "self-BLEU", "distinct pairs"
AT_ONCE = 16
REPEATS = 4
SPEED_REPEATS = 3


def evaluate(
    synthesizer: Any,
    data: str | Path | TextData,
    *,
    limit: int = 40,
    num_samples: int = 16,
    device: str | None = None,
    checkpoint: str | Path | None = None,
    progress: bool = True,
    **fields: Any,
) -> Report:
    """Measure a text model on a corpus and return one report.

    ``data`` is the corpus that the model's recipe reads, at another place maybe, or a data module. ``limit`` rows of
    its held-out part are measured, spread over it, and ``limit`` texts are made; ``fields`` are those of the request
    (``num_steps=20``). ``num_samples`` of the bound are drawn for each row, at least 2, of models that have no exact
    likelihood. Raises ``DataError`` where there are fewer than two rows.
    """
    if device is not None:
        synthesizer.to(device)
    if num_samples < 2:
        raise DataError(
            f"num_samples={num_samples} must be at least 2: the error of drawing is measured",
            code="range",
            path="num_samples",
            value=num_samples,
        )
    model, held = synthesizer.model, HeldOut.read(synthesizer.model, data, limit)
    bar = {"console": Console(stderr=True), "disable": not progress}
    likelihood = _likelihood(model, held, num_samples, bar)
    asked = [
        {**request, "seed": derive_seed("evaluate", number), **fields} for number, request in enumerate(held.requests)
    ]
    before, spent = model.token_forwards, time.perf_counter()
    made: list[Text] = []
    for first in track(range(0, len(asked), AT_ONCE), "writing", **bar):
        made += synthesizer(asked[first : first + AT_ONCE])
    spent = time.perf_counter() - spent
    writing = Writing(model, held)
    prompts = held.shown
    if fields.keys() & {"text", "chat"}:
        prompts = [request["text"] for request in asked]
    found = {HELD: writing.measure(held.texts, held.prompts), MODEL: writing.measure([m.text for m in made], prompts)}
    pieces = [len(writing.learnt(m.text, prompt)) for m, prompt in zip(made, prompts, strict=True)]
    computed = model.token_forwards - before
    evaluations, alone = _alone(synthesizer, asked[0])
    cost = [
        Row("evaluations of the network", {MODEL: evaluations}, "a text by itself", 1),
        Row("positions computed", {MODEL: computed / max(sum(pieces), 1)}, "per token", 1),
        Row(f"time, {min(AT_ONCE, len(made))} at once", {MODEL: spent / len(made)}, "s per text", 3, "lower"),
        Row("time, one by itself", {MODEL: alone}, "s per text", 3, "lower"),
    ]
    drift = [value for text in made for value in text.facts.get("drift", [])]
    if drift:
        name = "total variation from no cache"
        cost += [Row(f"{name}, mean", {MODEL: fmean(drift)}, "", 4, "lower")]
        cost += [Row(f"{name}, largest", {MODEL: max(drift)}, "", 4, "lower")]
    rows = [Row(name, {s: found[s][name] for s in SYSTEMS}, "", 3, way) for name, way in writing.better.items()]
    rows += [Row("tokens", {s: found[s]["tokens"] for s in SYSTEMS}, "per text", 1)]
    rows += [Row("texts without a word", {s: found[s]["empty"] for s in SYSTEMS}, "", 0, "lower")]
    return Report(
        title=f"{synthesizer.info.get('model', 'text model')}: {held.num_rows} rows, {len(made)} texts",
        systems=SYSTEMS,
        sections=[likelihood, Section("What it writes", rows), Section("What that costs", cost)],
        facts={"corpus": held.kind, "judge": writing.name, "threads": torch.get_num_threads(), **fields},
        items=[{"request": request, "text": text.text} for request, text in zip(asked, made, strict=True)],
    )


def probe(synthesizer: Any, data: str | Path | TextData, *, limit: int = 16) -> Probe:
    """Return what ``unisono sweep`` asks of a text model: perplexity under the judge where there is one, always with
    the entropy of the tokens, self-BLEU and distinct pairs; what held-out text has of each is among the facts."""
    held = HeldOut.read(synthesizer.model, data, limit)
    writing = Writing(synthesizer.model, held)

    better = {name: way for name, way in writing.better.items() if name != BITS}

    def measure(made: list[Text]) -> dict[str, float]:
        found = writing.measure([text.text for text in made], held.shown)
        return {name: found[name] for name in better}

    real = writing.measure(held.texts, held.prompts)
    facts = {"corpus": held.kind, "judge": writing.name}
    facts |= {f"{name} of held-out text": f"{real[name]:.3f}" for name in better}
    return Probe(held.requests, measure, better, facts)


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What a text model is measured on.

    ``rows`` are (tokens, how many of them are given), ``texts`` and ``prompts`` what they read; ``requests`` fields of
    requests, ``shown`` how their prompts read in what is made; ``kind`` which part of the corpus it is.
    """

    rows: list[tuple[list[int], int]]
    texts: list[str]
    prompts: list[str]
    requests: list[dict[str, Any]]
    shown: list[str]
    kind: str

    @property
    def num_rows(self) -> int:
        """How many rows are measured."""
        return len(self.rows)

    @classmethod
    def read(cls, model: Any, data: str | Path | TextData, limit: int) -> "HeldOut":
        """Read a corpus for a model, in its tokens and its context; raises ``DataError`` as ``evaluate`` does."""
        module = data if isinstance(data, TextData) else corpus_of(model, str(data))
        if module.train_set is None:
            module.lend(model.tokenizer)
        module.setup()
        if module.tokenizer is None or module.tokenizer.digest != model.tokenizer.digest:
            raise DataError(
                f"the data has {module.tokenizer!r} and the model {model.tokenizer!r}, which are not the same: "
                "give the corpus as a path, or lend the model's tokenizer before the data is prepared",
                code="conflict",
                path="data",
            )
        part = module.val_set or module.train_set
        assert part is not None
        kind = "held out of training" if module.val_set else "all of it: no part is known to be held out"
        count = min(limit, len(part))
        if count < 2:
            raise DataError(
                f"{len(part)} rows of text, and limit={limit}: at least 2 are needed",
                code="limit",
                path="limit",
                value=count,
            )
        generator = torch.Generator().manual_seed(0)
        items = [part.item(number * len(part) // count, generator) for number in range(count)]
        rows = [(item["tokens"].tolist()[: model.context], int(item["prompt"])) for item in items]
        end = model.special["eos"]
        for tokens, given in rows:  # one end is said by every model; more would be cheap tokens without characters
            while len(tokens) > given + 1 and tokens[-1] == tokens[-2] == end:
                tokens.pop()
        rows = [(tokens, given) for tokens, given in rows if len(tokens) > given]
        prompts = [model.tokenizer.decode(tokens[:given]) for tokens, given in rows]
        texts = [model.tokenizer.decode(tokens) for tokens, _ in rows]
        requests, shown = [], []
        for prompt, (tokens, given) in zip(prompts, rows, strict=True):
            said = _said(model, module.describe().get("chat"), tokens[:given])
            form = {} if said is None else {"chat": True}
            requests.append({"text": prompt if said is None else said[0], **form, "length": model.context - given})
            shown.append(prompt if said is None else said[1])
        return cls(rows, texts, prompts, requests, shown, f"{len(part)} rows, {kind}")


class Writing:
    """Measures texts: how likely a judge finds them, and how varied they are.

    Attributes:
        name: of the judge, or that there is none.
        better: the measures, and which way is better.
    """

    def __init__(self, model: Any, held: HeldOut):
        self.tokenizer = model.tokenizer
        self.judge = model.components.get("judge")
        self.name = "none: give one with --component judge=FOLDER"
        self.better: dict[str, Any] = {}
        if self.judge is not None:
            kind = self.judge.recipe.get("model", {}).get("name", type(self.judge).__name__)
            self.name = f"{kind} of {self.judge.vocabulary} ids"
            self.judge.tokenizer.encode("".join(held.texts))  # refuses before anything is made
            self.better |= {PERPLEXITY: "lower", BITS: "lower"}
        self.better |= {ENTROPY: "higher"}
        if held.num_rows > 1:
            self.better |= {BLEU: "lower", DISTINCT: "higher"}

    def learnt(self, text: str, prompt: str) -> list[int]:
        """Return the tokens of what comes after the prompt."""
        return self.tokenizer.encode(text.removeprefix(prompt))

    def measure(self, texts: Sequence[str], prompts: Sequence[str]) -> dict[str, float]:
        """Return each measure of texts, prompts left out of account; texts without a word are counted, and left out."""
        pairs = [(text.removeprefix(prompt), prompt) for text, prompt in zip(texts, prompts, strict=True)]
        said = [(text, prompt) for text, prompt in pairs if words(text)]
        spent = [self.tokenizer.encode(text) for text, _ in said]
        found = {"empty": float(len(pairs) - len(said)), "tokens": fmean(map(len, spent)) if said else 0.0}
        found[ENTROPY] = fmean(variety.unigram_entropy(ids) for ids in spent) if said else math.nan
        spelt = [words(text) for text, _ in said]
        found[BLEU] = variety.self_bleu(spelt) if len(said) > 1 else math.nan
        found[DISTINCT] = variety.distinct_n(spelt, 2)
        if self.judge is not None:
            rows = [row for text, prompt in said for row in self._judged(text, prompt)]
            nats = float(nats_of(self.judge, rows, 1, 1).sum()) if rows else math.nan
            count = sum(len(tokens) - given for tokens, given in rows)
            characters = sum(len(text) for text, _ in said)
            found[PERPLEXITY] = _exp(nats / count) if count else math.nan
            found[BITS] = nats / math.log(2) / characters if characters else math.nan
        return found

    def _judged(self, text: str, prompt: str) -> Iterator[tuple[list[int], int]]:
        """Yield a text in rows that the judge can read at once; of a prompt, the end that leaves half of a row."""
        context = self.judge.context
        given = self.judge.tokenizer.encode(prompt)[-(context // 2) :] if prompt else []
        rest = self.judge.tokenizer.encode(text)
        first = context - len(given)
        yield [*given, *rest[:first]], len(given)
        for start in range(first, len(rest), context):
            yield rest[start : start + context], 0


def nats_of(
    model: Any,
    rows: Sequence[tuple[list[int], int]],
    num_samples: int,
    repeats: int,
    progress: dict[str, Any] | None = None,
) -> Float[np.ndarray, "n r"]:
    """Return what rows cost a model beyond what is given of them, in nats, by ``repeats`` drawings of the bound that
    have ``num_samples`` each."""
    order = sorted(range(len(rows)), key=lambda number: len(rows[number][0]))
    batches = [order[first : first + AT_ONCE] for first in range(0, len(order), AT_ONCE)]
    found = np.zeros((len(rows), repeats))
    with torch.inference_mode():
        for chosen in track(batches, "reading", **(progress or {"disable": True})):
            items = [
                {"tokens": torch.tensor(rows[number][0]), "prompt": rows[number][1], "row": number} for number in chosen
            ]
            batch = {name: value.to(model.device) for name, value in collate_rows(items, 0).items()}
            for repeat in range(repeats):
                nats = model.bound(batch, num_samples, derive_seed("bound", repeat))
                found[chosen, repeat] = nats.double().cpu().numpy()
    return found


def corpus_of(model: Any, root: str) -> TextData:
    """Make the data module that a model was trained on, at another place, in the model's own tokens.

    Its held-out part is that of the recipe; where a recipe names files to hold out, or makes its data on the spot, it
    is all of ``root``.
    """
    section = dict(model.recipe.get("data", {"name": "text/toy"}))
    kind = plugin.resolve(section.pop("name"), "data")
    section = nested(section, kind.flat, "data", "the model's recipe")
    if "root" not in inspect.signature(kind).parameters:
        kind, section = FilesData, {"corpus": {"val": 0.0}}
    corpus = {**section.get("corpus", {}), "tokenizer": "bytes"}
    if not isinstance(corpus.get("val", 0.1), int | float):
        corpus["val"] = 0.0
    known = inspect.signature(kind).parameters
    changed = {
        "root": root, "corpus": corpus, "context": model.context, "batch_size": 1, "num_workers": 0, "pack": False,
        "form": model.facts.chat or {},
    }  # fmt: skip
    given = {name: value for name, value in {**section, **changed}.items() if name in known}
    module = build(kind, given, "data", "the model's recipe")
    module.lend(model.tokenizer)
    return module


def _said(model: Any, form: dict[str, str] | None, tokens: list[int]) -> tuple[str, str] | None:
    """Return what a user says in a prompt of a form and how that reads; None where a request cannot be put so."""
    if form is None or form != model.facts.chat or "chat" not in model.Request.model_fields:
        return None
    before, between = (model.tokenizer.encode(form[name], special=True) for name in ("before", "between"))
    own = tokens[len(before) : len(tokens) - len(between)]
    text = model.tokenizer.decode(own)
    if [*before, *model.tokenizer.encode(text), *between] != tokens:
        return None
    return text, f"{form['before']}{text}{form['between']}"


def words(text: str) -> list[str]:
    """Return a text's words and signs, each by itself; blanks are between them."""
    return re.findall(r"\w+|[^\w\s]", text)


def _likelihood(model: Any, held: HeldOut, num_samples: int, progress: dict[str, Any]) -> Section:
    """Say how likely held-out rows are to a model."""
    repeats = 1 if model.exact else min(REPEATS, num_samples)
    each = 1 if model.exact else num_samples // repeats
    nats = nats_of(model, held.rows, each, repeats, progress)
    total = float(nats.mean(1).sum())
    # Of the mean of all drawings, for these rows: drawings of different rows are independent.
    error = math.nan if repeats == 1 else math.sqrt(float(nats.var(1, ddof=1).sum()) / repeats)
    texts = [text.removeprefix(prompt) for text, prompt in zip(held.texts, held.prompts, strict=True)]
    tokens = sum(len(row) - given for row, given in held.rows)
    characters, spaced = sum(map(len, texts)), sum(len(text.split()) for text in texts)
    if not characters:
        raise DataError(
            "the rows that are measured have no characters: raise the limit, or give more data",
            code="empty",
            path="data",
        )
    bits = 1 / math.log(2) / characters
    how = "exact" if model.exact else f"at most: {each * repeats} samples of the bound for each row"
    return Section(
        f"Held-out text ({how})",
        [
            Row("bits per character", {MODEL: total * bits}, "", 4, "lower"),
            Row("  standard error of the drawing", {MODEL: error * bits}, "", 4),
            Row("perplexity per token", {MODEL: _exp(total / tokens)}, "", 3, "lower"),
            Row("  standard error of the drawing", {MODEL: _exp(total / tokens) * error / tokens}, "", 3),
            Row("perplexity per word between blanks", {MODEL: _exp(total / max(spaced, 1))}, "", 1, "lower"),
            Row("characters measured", {HELD: float(characters)}, "", 0),
        ],
    )


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf


def _alone(synthesizer: Any, request: dict[str, Any]) -> tuple[float, float]:
    """Return the evaluations of the network for one text by itself, and the median of its times."""
    times, before = [], synthesizer.model.evaluations
    for _ in range(SPEED_REPEATS):
        start = time.perf_counter()
        synthesizer(request)
        times.append(time.perf_counter() - start)
    return (synthesizer.model.evaluations - before) / SPEED_REPEATS, median(times)

"""Promises of a model about what it makes: alone, in a batch, as a stream, from any seed, in another process."""

import copy
import random
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unisono.errors import MissingExtra, MissingProgram, RequestError
from unisono.export import ALLOWED_SUFFIXES, WEIGHTS
from unisono.testing.check import CheckFailed, ensure
from unisono.testing.compare import distance, farthest, numbers, sizes
from unisono.testing.model_under_test import Subject, asked, given_sizes

BATCH_TOLERANCE = 1e-4
"""Alone against in a batch, relative to the peak: products of another size are summed in another order. A
model that magnifies rounding (Griffin-Lim does) is allowed ten times what rounding its weights does to it, up
to ``BATCH_LIMIT``: padding that leaks does more."""

BATCH_LIMIT = 0.05


def output_is_what_it_says(subject: Subject) -> None:
    """Outputs are of their kind, finite, drawn, saved in each format, with times within; a live view ends with one."""
    kind, target = subject.target.Media, subject.target
    made = subject.synthesizer(list(subject.requests))
    ensure(
        len(made) == len(subject.requests),
        f"{len(subject.requests)} requests gave {len(made)} outputs",
        "output-count",
        target.synthesize,
    )
    views = list(subject.synthesizer.snapshots(subject.requests[0]))
    for item in [*made, *subject.synthesizer.stream(subject.requests[0]), *views[-1:]]:
        named = f"a {type(item).__name__} came out, not a {kind.__name__}"
        ensure(isinstance(item, kind), named, "output-kind", target.synthesize)
    ensure(bool(views), "a live view shows nothing, not even the output", "no-view", target.snapshots)
    for index, item in enumerate(made):
        for name, array in numbers(item).items():
            finite = array.dtype.kind not in "f" or not np.isinf(array).any()
            ensure(
                finite, f"{name} of request {index} is not finite", "output-not-finite", target.synthesize, field=name
            )
        times = item.times()
        try:
            told = [] if times is None else [times.stretches(of) for of in times.kinds]
        except RequestError as error:
            raise CheckFailed(f"times of request {index}: {error}", "times-wrong", target.synthesize) from error
        timed = times is None or any(told) or _is_nothing(item)
        ensure(timed, f"times of request {index} are empty", "times-wrong", target.synthesize)
    for suffix in kind.suffixes:
        path = subject.folder / f"output{suffix}"
        try:
            made[0].save(path)
        except (MissingExtra, MissingProgram):
            continue
        except Exception as error:
            if _is_nothing(made[0]) and isinstance(error, RequestError) and error.code == "empty":
                continue
            sentence = f"{suffix} is among the suffixes, but {type(error).__name__}: {error}"
            raise CheckFailed(sentence, "suffix-unwritable", kind, suffix=suffix) from error
        size = path.stat().st_size if path.is_file() else 0
        ensure(size > 0 or _is_nothing(made[0]), f"{path.name} is empty", "output-empty", kind, suffix=suffix)
    made[0].plot().savefig(subject.folder / "figure.png")
    ensure(subject.synthesizer([]) == [], "no requests must give no outputs", "output-count", target.synthesize)


def _is_nothing(item: Any) -> bool:
    """Whether an output says itself that it is nothing, such as the text of a silence."""
    return item.amount is not None and not item.amount[0]


def every_listed_request_is_served(subject: Subject) -> None:
    """Each of `check_requests()` is served, or refused by RequestError; previews are served."""
    subject.raise_broken()
    for request in subject.requests:
        reason = subject.served.refused.get(repr(request), "")
        ensure(not reason, f"the preview {asked(request)} is refused: {reason}", "preview-refused", subject.target)


def alone_equals_in_a_batch(subject: Subject) -> None:
    """Padding, batch size and order change nothing: an item alone is the item in any batch."""
    chosen = subject.of_several_sizes
    several = (chosen * 3)[: max(3, len(chosen))]
    ways = (("in a batch", several), ("in a permuted batch", several[::-1]))
    made = [(what, batch, subject.synthesize(batch)) for what, batch in ways]
    for request in chosen:
        (alone,) = subject.synthesize([request])
        allowed = max(BATCH_TOLERANCE, min(BATCH_LIMIT, 10 * subject.rounding(request)))
        for what, batch, outputs in made:
            far, name = distance(alone, outputs[next(i for i, other in enumerate(batch) if other is request)])
            ensure(
                far <= allowed,
                f"{asked(request)} alone and {what} differ by {far:.1e} of the peak in {name}; "
                f"at most {allowed:.0e} is rounding",
                "batch-differs",
                subject.target.synthesize,
                distance=far,
                array=name,
            )
    if subject.varied_data:
        # Where all outputs are of one size, as vectors are, what is given is what is padded.
        fixed = len({sizes(numbers(output)) for _, output in subject.served.made}) == 1
        lengths = {given_sizes(request) for request in chosen} if fixed else {sizes(output) for output in made[0][2]}
        ensure(
            len(lengths) > 1,
            "padding was never tested: the data's items differ in length, but all requests are of one; let "
            "check_requests() list a short and a long one",
            "padding-untested",
            subject.target.check_requests,
        )


def a_stream_is_the_whole(subject: Subject) -> None:
    """The pieces of a stream, joined, are what a call returns."""
    target = subject.target
    for request in subject.of_several_sizes[:3]:
        pieces = list(subject.synthesizer.stream(request))
        ensure(bool(pieces), f"the stream of {asked(request)} is empty", "stream-empty", target.stream)
        if len(pieces) > 1 and not target.streams_the_whole:
            continue
        joined = numbers(target.Media.join(pieces))
        # What a text tells beside itself, such as the step of each token, a stream does not know before its end.
        known = {_field(name) for name in joined}
        whole = {name: value for name, value in numbers(subject.synthesizer(request)).items() if _field(name) in known}
        far, name = distance(whole, joined)
        allowed = max(BATCH_TOLERANCE, min(BATCH_LIMIT, 10 * subject.rounding(request))) if far else 0.0
        ensure(
            far <= allowed,
            f"the {len(pieces)} pieces of the stream of {asked(request)} and the whole differ by {far:.1e} of the peak "
            f"in {name}",
            "stream-differs",
            target.stream,
            distance=far,
            array=name,
        )


def what_is_given_stands(subject: Subject) -> None:
    """What a request gives (a prompt, the ends of an in-between) stands in the output, in every sampler."""
    target = subject.target
    for request, made in subject.served.made:
        for number, (given, found) in enumerate(target.given_parts(subject.synthesizer.model, request, made)):
            far, name = distance(numbers(given), numbers(found))
            ensure(
                far == 0,
                f"{asked(request)}: part {number} of what is given differs in the output by {far:.1e} in {name}",
                "given-changed",
                target.synthesize,
            )
    loose = subject.served.loose
    ensure(
        not loose,
        f"{loose[0] if loose else 0} given tokens are known but not frozen where a masked decoding begins, so that a "
        "sampler which revises may change them: use canvas.freeze; start_from is for drafts",
        "given-not-frozen",
        target.synthesize,
        tokens=loose,
    )


def same_seed_same_output(subject: Subject) -> None:
    """The same requests give the same outputs, bit by bit."""
    far, name = farthest(subject.outputs, subject.synthesize(subject.requests))
    ensure(
        far == 0,
        f"the same requests again differ by {far:.1e} of the peak in {name}",
        "seed-not-kept",
        subject.target.synthesize,
    )


def another_seed_another_output(subject: Subject) -> None:
    """Another seed gives another output, unless the model says that it is deterministic; so does another generator."""
    target, requests = subject.target, subject.requests

    def seeded(number: int) -> list[dict[str, np.ndarray]]:
        return subject.synthesize([r.model_copy(update={"seed": r.seed + number}) for r in requests])

    def drawn(number: int) -> list[dict[str, np.ndarray]]:
        return subject.synthesize(requests, generator=torch.Generator().manual_seed(number))

    for what, make in (("seed", seeded), ("generator", drawn)):
        first = make(0)
        changed = any(farthest(first, make(number))[0] > 0 for number in (1, 2, 3))
        if target.deterministic:
            sentence = f"another {what} changes the output, but the model is said to be deterministic"
            ensure(not changed, sentence, "not-deterministic", target)
        else:
            sentence = (
                f"the {what} is ignored: others give the same outputs; draw from request_generator() or seed_of(), or "
                "set deterministic = True"
            )
            ensure(changed, sentence, f"{what}-ignored", target.synthesize)


def global_randomness_is_left_alone(subject: Subject) -> None:
    """Building, reading data and synthesizing neither read nor change a global random state."""
    recipe, facts = subject.recipe(), subject.short.model.facts

    def weights() -> list[dict[str, np.ndarray]]:
        return [numbers(dict(recipe.build_model(copy.deepcopy(facts)).state_dict()))]

    def items() -> list[dict[str, np.ndarray]]:
        data = recipe.build_data()
        data.prepare(progress=False)
        return [numbers(data.train_set.item(0, torch.Generator().manual_seed(0)))]

    for what, make in (
        ("building the model", weights),
        ("reading the data", items),
        ("synthesizing", lambda: subject.synthesize(subject.requests)),
    ):
        results = [_undisturbed(what, make, seed) for seed in (1, 2)]
        far, name = farthest(*results)
        ensure(
            far == 0,
            f"{what} depends on the global random state: {name} differs",
            "global-randomness-read",
            subject.target,
            what=what,
        )


def fresh_process_gives_the_same(subject: Subject) -> None:
    """The export, loaded by another process, gives the same outputs."""
    here, there = numbers(subject.synthesizer(list(subject.requests))), subject.fresh()
    far, name = distance(here, there)
    ensure(
        far <= BATCH_TOLERANCE,
        f"another process differs by {far:.1e} of the peak in {name}",
        "process-differs",
        subject.target.synthesize,
    )


def nothing_executable_is_kept(subject: Subject) -> None:
    """Training state opens weights-only; an export holds numbers and text, and no path of this machine."""
    if subject.target.learns:
        _ = subject.straight  # its state was read weights-only
    private = {str(subject.folder), str(Path.home()), str(Path.cwd()), sys.prefix} - {"/"}
    for file in sorted(p for p in subject.export.rglob("*") if p.is_file()):
        known = file.suffix in ALLOWED_SUFFIXES
        ensure(known, f"the export holds {file.name!r}", "export-holds", subject.target, file=file.name)
        if file.name != WEIGHTS:
            text = file.read_text(encoding="utf-8")
            found = [path for path in private if path in text]
            ensure(
                not found,
                f"{file.name} of the export names a folder of this machine, {found[:1]}",
                "export-private",
                subject.target,
                file=file.name,
            )


def _field(name: str) -> str:
    """The field of a medium that an array of its numbers belongs to."""
    return re.split(r"[.\[]", name)[1] if name != "output" else name


def _undisturbed(what: str, make: Callable[[], Any], seed: int) -> Any:
    with _global_seed(seed):
        before = _global_state()
        made = make()
        ensure(
            _global_state() == before,
            f"{what} changes the global random state: use a torch.Generator",
            "global-randomness-changed",
            what=what,
        )
    return made


def _global_state() -> tuple[Any, ...]:
    return torch.random.get_rng_state().numpy().tobytes(), repr(np.random.get_state()), random.getstate()


@contextmanager
def _global_seed(seed: int) -> Iterator[None]:
    kept = torch.random.get_rng_state(), np.random.get_state(), random.getstate()
    torch.random.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        torch.random.set_rng_state(kept[0])
        np.random.set_state(kept[1])
        random.setstate(kept[2])

"""Every model under every strategy: several processes end with the weights of one, and go on from one another's states.

Two processes under ddp and fsdp2 are promises of the conformance kit; here are the other numbers and strategies.
"""

from pathlib import Path

import pytest
import torch
from unisono import plugin as plugins
from unisono.export import export_run, find_training_state, load
from unisono.recipe import Recipe
from unisono.testing.model_under_test import PROPORTIONAL, UNVALIDATED, Start, subject, training_state
from unisono.testing.promises.training import ensure_equal, ensure_processes
from unisono.train.strategies.tensor import plans_of

REGISTERED = [f"{name}/{model}" for name in plugins.discover() for model in plugins.get(name).models]
MODELS = [name for name in REGISTERED if plugins.resolve(name, "models").learns]
HSDP = "{name: hsdp, replicate: 2}"
TENSOR = "{name: tensor, size: 2}"
SHARED = (
    *("asr/paraformer", "branches/chain", "branches/hogwild", "branches/multiverse", "branches/parscale"),
    *("codec/gmlm", "codec/soundstorm", "control/oft", "control/policy"),
    *("image/arpg", "image/critic", "image/dit", "image/lpd", "image/maskgit", "image/tokenizer-line", "image/unet"),
    *("motion/matcher", "motion/mmm", "motion/momask", "music/grid", "outline/pvd", "outline/vertex-ar"),
    *("text/anchored", "text/ar", "text/block", "text/dream", "text/fastdllm", "text/llada", "text/llama"),
    *("text/llama-pard", "text/llama-space", "text/mdlm", "text/pard", "text/parallelspec", "text/seed", "text/space"),
    "views/sharp-it",
)
"""Models whose blocks declare a plan."""
CONVOLVED = "image/unet"
FAST = {
    ("text/mdlm", 2, HSDP),
    ("codec/vocos-gan", 4, "fsdp2"),
    ("text/mdlm", 2, TENSOR),
    ("image/dit", 4, TENSOR),
}
CASES = [
    *((model, 2, HSDP) for model in MODELS),
    *((model, 4, strategy) for model in MODELS for strategy in ("ddp", "fsdp2", HSDP)),
    *((model, count, TENSOR) for model in SHARED for count in (2, 4)),
]


def known(model: str):
    return subject(*model.split("/"))


def equal(model: str, several: dict, one=None) -> None:
    ensure_equal(*(one or known(model).one_process), several, "differs", "see what the strategy does")


@pytest.mark.parametrize(
    ("model", "count", "strategy"),
    [pytest.param(*given, marks=[] if given in FAST else [pytest.mark.slow]) for given in CASES],
)
def test_several_processes_equal_one(model, count, strategy):
    several = known(model).on_processes(count, strategy, UNVALIDATED)
    ensure_processes(known(model), several, count, strategy, "differs", "see what the strategy does")


def test_every_model_is_tried_under_every_strategy():
    assert len(MODELS) >= 33 and set(FAST) <= set(CASES)
    assert len(CASES) == 4 * len(MODELS) + 2 * len(SHARED)


@pytest.mark.slow
def test_every_model_with_a_plan_is_shared_by_processes():
    declared = set()
    for name in MODELS:
        recipe = Recipe.read(f"{name}-tiny")
        data = recipe.build_data()
        data.prepare(progress=False)
        if plans_of(recipe.build_model(data.describe())):
            declared.add(name)
    assert declared == set(SHARED)


def one_with(model: str, *flags: str):
    """One process with other settings: its last state, and the weights it began with."""
    start, found = Start(), known(model)
    run = "one" + "".join(c for c in "".join(flags) if c.isalnum())
    return training_state(found.train(found.recipe(*PROPORTIONAL, *flags, run=run), [start]).folder), start.weights


@pytest.mark.parametrize(
    "flags",
    [
        ("--optim.clip_norm=0.05", "--trainer.accumulate_grad_batches=2"),
        pytest.param(
            ("--trainer.gradient_clip_val=0.001", "--trainer.gradient_clip_algorithm=value"), marks=pytest.mark.slow
        ),
    ],
)
def test_clipping_and_accumulation_see_the_whole_gradient(flags):
    several = known("text/mdlm").on_processes(2, "fsdp2", *flags, run="clipped" + flags[0][-3:])
    equal("text/mdlm", several, one_with("text/mdlm", *flags))


@pytest.mark.slow
@pytest.mark.parametrize(
    "strategy", ["{name: ddp, static_graph: true, gradient_as_bucket_view: true}", "{name: ddp, bucket_cap_mb: 1}"]
)
def test_options_of_ddp_change_no_weight(strategy):
    equal("text/mdlm", known("text/mdlm").on_processes(2, strategy))


@pytest.mark.parametrize(
    ("model", "strategy"), [("text/mdlm", "fsdp2"), pytest.param("codec/vocos-gan", "fsdp2", marks=pytest.mark.slow)]
)
def test_validation_and_previews_do_not_hang_and_change_nothing(model, strategy):
    """Each rank makes its own previews on the average's gathered weights, and training goes on from the raw ones."""
    found = known(model)
    flags = ("--trainer.val_check_interval=1", "--run.preview_seconds=600")
    equal(model, found.on_processes(2, strategy, *flags, run="previewed"))
    made = {path.name.split(".")[0] for path in (found.folder / "previewed").rglob("previews/step-*")}
    wanted = {"text/mdlm": 3, "codec/vocos-gan": 1}[model]  # a vocoder shows what its own rank validated: one of two
    assert len({name for name in made if name.startswith("step-0000001")}) >= wanted


def resume_chain(model: str) -> None:
    """1 → 2 (fsdp2) → 4 (hsdp) → 1: weights, averages and moments are those of an uninterrupted process."""
    found = known(model)
    long = ("--trainer.max_steps=8", "--optim.schedule=constant", UNVALIDATED)
    straight, start = one_with(model, *long)
    legs = [(1, "auto", 2), (2, "fsdp2", 4), (4, HSDP, 6), (1, "auto", 8)]
    state, run = "", f"chain-{model.replace('/', '-')}"
    for number, (count, strategy, steps) in enumerate(legs):
        flags = (*long, f"--trainer.max_steps={steps}", "--run.checkpoint.every=2")
        made = found.on_processes(count, strategy, *flags, run=run, resume=state)
        assert made["global_step"] == steps, number
        state = str(find_training_state(found.folder / run / found.recipe().name / "0001"))
    equal(model, made, (straight, start))
    for one, several in zip(straight["optimizer_states"], made["optimizer_states"], strict=True):
        assert one["state"].keys() == several["state"].keys()
        for index, values in one["state"].items():
            for name, value in values.items():
                if isinstance(value, torch.Tensor):
                    torch.testing.assert_close(several["state"][index][name], value, rtol=3e-3, atol=1e-8)
    folder = export_run(Path(state), found.folder / f"export-{run}", overwrite=True)
    for name, weight in load(folder).model.state_dict().items():
        torch.testing.assert_close(weight, made["state_dict"][name], rtol=0, atol=0)


@pytest.mark.parametrize(
    "model",
    [
        "text/mdlm",
        *(
            pytest.param(m, marks=pytest.mark.slow)
            for m in ("tts/fastspeech", "codec/rvq", "image/dit", "motion/momask")
        ),
    ],
)
def test_a_run_goes_on_with_another_number_of_processes(model):
    resume_chain(model)

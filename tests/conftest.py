"""What tests share: tiny voices with made-up statistics, their export, and one real run.

Weights are random: what is tested here is what holds for any weights. Under pytest-xdist the tests of a file run in one
process, which makes its fixtures once; the conformance kit's run together by model.
"""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FRAMES_PER_SYMBOL = 6
SLOW_SECONDS = 3600
"""The limit of a slow test that names none of its own: minutes alone, and many times that beside other work."""

if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as cores: one thread each, set before torch is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group tests by file, unless they say how they are grouped; slow ones have a limit of their own."""
    for item in items:
        if item.get_closest_marker("slow") and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(SLOW_SECONDS))
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.stem + item.path.parent.name))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each group to a process; one that dies fails a test, and the others go on."""
    if config.getoption("dist") != "loadgroup":
        return None
    from groups import Groups

    return Groups(config, log)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory) -> Path:
    """Keep features, corpora and runs of the tests out of the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNISONO_CACHE", str(folder))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield folder


def voice_facts(speakers: tuple[str, ...] = ("kathleen", "lj"), **changes: Any) -> dict[str, Any]:
    """What a corpus would say of itself; every speaker has statistics of their own."""
    from unisono_sound.signal import MelSpec
    from unisono_sound.text import IPA

    return {
        "symbols": list(IPA),
        "front_end": "espeak",
        "front_end_version": "made up",
        "language": "en-us",
        "speakers": list(speakers),
        "mel_spec": MelSpec().to_dict(),
        "mel_mean": -5.0,
        "mel_std": 2.0,
        "pitch": {s: {"mean": math.log(120 + 90 * i), "std": 0.2 + 0.1 * i} for i, s in enumerate(speakers)},
        "energy": {s: {"mean": 2.5 + i, "std": 0.5 + 0.2 * i} for i, s in enumerate(speakers)},
        "sample_texts": ["This is what it sounds like."],
        "held_out": [],
        "hours": 0.0,
        "given_durations": True,
        **changes,
    }


@pytest.fixture(scope="session")
def make_voice() -> Callable[..., Any]:
    """Return a function that makes an acoustic model whose symbols last about six frames."""

    def make(
        recipe: str = "tts/fastpitch-tiny",
        speakers: tuple[str, ...] = ("kathleen", "lj"),
        **facts: Any,
    ):
        import torch
        from unisono.recipe import Recipe

        model = Recipe.read(recipe).build_model(voice_facts(speakers, **facts))
        with torch.no_grad():
            model.durations.out.bias.fill_(math.log1p(FRAMES_PER_SYMBOL))
        return model.eval()

    return make


@pytest.fixture(scope="session")
def make_vocoder() -> Callable[..., Any]:
    """Return a function that makes a tiny vocoder, for any mel spec."""

    def make(**spec: Any):
        from unisono.recipe import Recipe
        from unisono_sound.signal import MelSpec

        return Recipe.read("codec/vocos-tiny").build_model({"mel_spec": MelSpec(**spec).to_dict()}).eval()

    return make


@pytest.fixture(scope="session")
def voice(make_voice, make_vocoder):
    """A loaded voice of two speakers, as ``unisono.load`` returns it."""
    from unisono import Synthesizer

    model = make_voice()
    model.attach("vocoder", make_vocoder())
    return Synthesizer(model)


@pytest.fixture(scope="session")
def voice_export(voice, tmp_path_factory) -> Path:
    """The export of ``voice``, its vocoder inside. Read-only: copy it to change it."""
    from unisono.export import save_export

    return save_export(voice.model, tmp_path_factory.mktemp("exports") / "voice")


@pytest.fixture(scope="session")
def vocoder_export(make_vocoder, tmp_path_factory) -> Path:
    """The export of a tiny vocoder. Read-only."""
    from unisono.export import save_export

    return save_export(make_vocoder(), tmp_path_factory.mktemp("exports") / "vocoder")


@pytest.fixture(scope="session")
def voice_run(tmp_path_factory) -> Path:
    """The folder of a real run: ``tts/fastpitch-tiny``, two steps on six sentences. Read-only."""
    from unisono.recipe import Recipe
    from unisono.train import train

    runs = tmp_path_factory.mktemp("runs")
    overrides = [
        f"--run.dir={runs}",
        "--run.preview_seconds=0",
        "--data.num_sentences=6",
        "--data.num_processes=1",
    ]
    return train(Recipe.read("tts/fastpitch-tiny", overrides), progress=False).folder

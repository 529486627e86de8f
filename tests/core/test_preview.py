"""Previews: what is made at a validation is kept beside each other, and none of it can end a training."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from unisono import Audio, Image, Media, Text
from unisono.errors import RequestError
from unisono.model import Model, Request
from unisono.train.callbacks.preview import Previews


class Maker(Model):
    """A model that makes what it is told to, or fails."""

    def __init__(self, *outcomes):
        super().__init__()
        self.outcomes = outcomes
        self.asked = 0

    def preview_requests(self):
        return [Request(seed=i) for i in range(len(self.outcomes))]

    def synthesize(self, requests, generator=None, on_step=None):
        self.asked += 1
        assert torch.is_inference_mode_enabled() and not self.training
        outcome = self.outcomes[requests[0].seed]
        if isinstance(outcome, BaseException):
            raise outcome
        return [outcome]


def validate(folder, model, callback=None, step=7):
    """Run one validation's previews as a trainer of one process does."""
    callback = callback or Previews(folder, 100.0)
    trainer = SimpleNamespace(
        sanity_checking=False, state=SimpleNamespace(fn="fit"), global_rank=0, world_size=1, global_step=step,
        is_global_zero=True, loggers=[], strategy=None,
    )  # fmt: skip
    callback.on_validation_epoch_end(trainer, model.train())
    assert model.training
    return callback


def names(folder):
    return sorted(path.name for path in folder.iterdir())


class Sick(Media):
    """A medium that cannot be drawn."""

    suffixes = (".txt",)

    def _write(self, path):
        path.write_text("sick")

    def plot(self):
        raise ZeroDivisionError("no axes")


class Unwritable(Sick):
    def _write(self, path):
        raise KeyError("no key")


GOOD = Text("ab", (1, 2), ("a", "b"), (0, 1))


def test_a_picture_is_not_overwritten_by_its_figure(tmp_path):
    image = Image(np.full((3, 5, 4), 77, np.uint8))
    validate(tmp_path, Maker(image, GOOD))
    assert names(tmp_path) == [
        "step-0000007-0-figure.png", "step-0000007-0.png", "step-0000007-1.png", "step-0000007-1.txt",
    ]  # fmt: skip
    from PIL import Image as Pillow

    with Pillow.open(tmp_path / "step-0000007-0.png") as kept:
        assert np.array_equal(np.asarray(kept), image.bytes)


@pytest.mark.parametrize(
    "broken", [ValueError("bad"), RuntimeError("out of memory"), AssertionError(), Sick(), Unwritable(), KeyError("x")]
)
def test_whatever_goes_wrong_with_a_preview_is_told_once_and_the_others_are_made(tmp_path, broken):
    model = Maker(broken, GOOD)
    with pytest.warns(UserWarning, match=r"preview 0 failed: \w+: .*; training goes on") as told:
        callback = validate(tmp_path, model)
        validate(tmp_path, model, callback, step=9)
    assert len(told) == 1
    assert {"step-0000007-1.txt", "step-0000009-1.txt"} <= set(names(tmp_path))


def test_what_is_missing_is_told_once_and_not_tried_again(tmp_path):
    model = Maker(RequestError("this Maker has no vocoder"), GOOD)
    with pytest.warns(UserWarning, match=r"no previews: this Maker has no vocoder; training goes on") as told:
        callback = validate(tmp_path, model)
        validate(tmp_path, model, callback)
    assert len(told) == 1 and model.asked == 1


def test_requests_that_cannot_be_named_end_no_training(tmp_path):
    model = Maker()
    model.preview_requests = lambda: 1 / 0
    with pytest.warns(UserWarning, match="no previews: ZeroDivisionError"):
        validate(tmp_path, model)


def test_an_interruption_is_the_users(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        validate(tmp_path, Maker(KeyboardInterrupt()))


def test_time_is_limited(tmp_path):
    model = Maker(GOOD, GOOD)
    validate(tmp_path, model, Previews(tmp_path, -1.0))
    assert model.asked == 0


def test_a_sound_is_kept_as_sound(tmp_path):
    validate(tmp_path, Maker(Audio(np.zeros((1, 4000), np.float32), 8000)))
    assert names(tmp_path) == ["step-0000007-0.png", "step-0000007-0.wav"]

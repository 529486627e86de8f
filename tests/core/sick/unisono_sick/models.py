"""Hum, fifteen times: once healthy, and with one thing wrong each time."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import torch
from pydantic import ConfigDict
from torch import nn
from unisono.duration import log_durations
from unisono_hum.model import Hum, HumRequest


def louder(audios, gains):
    """The same sounds at other levels."""
    return [dataclasses.replace(a, waveform=a.waveform * np.float32(g)) for a, g in zip(audios, gains, strict=True)]


class Healthy(Hum):
    """Nothing is wrong."""


class Deaf(Hum):
    """A parameter takes no part."""

    def build(self, facts):
        super().build(facts)
        self.unused = nn.Parameter(torch.zeros(3))


class Forgetful(Hum):
    """Training depends on a count that no checkpoint holds."""

    count = 0

    def losses(self, batch):
        parts = super().losses(batch)
        self.count += 1
        return {**parts, "loss": parts["loss"] * self.count + parts["pitch"] / self.count}


class Lopsided(Hum):
    """Each process takes the mean over its own items."""

    def losses(self, batch):
        mask = batch["durations"] > 0
        log_duration, log_hz = self.predict(batch["letters"], mask)
        duration = (log_duration - log_durations(batch["durations"])).square()[mask].mean()
        pitch = (log_hz - batch["log_hz"]).square()[mask].mean()
        return {"loss": duration + pitch}


class Leaky(Hum):
    """Padding is heard by the letters beside it."""

    def predict(self, letters, mask):
        return super().predict(letters, torch.ones_like(mask))


class Moody(Hum):
    """The output depends on the global random state."""

    def synthesize(self, requests, generator=None, on_step=None):
        return louder(super().synthesize(requests, generator, on_step), torch.rand(len(requests)).tolist())


class Fidgety(Hum):
    """The global random state is seeded, and so the output is always the same."""

    def synthesize(self, requests, generator=None, on_step=None):
        torch.manual_seed(0)
        return super().synthesize(requests, generator, on_step)


class Homesick(Hum):
    """The output depends on the process."""

    def synthesize(self, requests, generator=None, on_step=None):
        bits = np.array([os.getpid() >> i & 1 for i in range(32)], np.float32)
        made = super().synthesize(requests, generator, on_step)
        return [dataclasses.replace(a, waveform=a.waveform + np.resize(bits, a.waveform.shape)) for a in made]


class Talkative(Hum):
    """The facts name a folder of this machine."""

    def build(self, facts):
        super().build({**facts, "home": str(Path.home())})


class Lenient(Hum):
    """A misspelt field is ignored."""

    class Request(HumRequest):
        model_config = ConfigDict(extra="ignore")


class Silent(Hum):
    """Progress is never told."""

    def synthesize(self, requests, generator=None, on_step=None):
        return super().synthesize(requests, generator)


class Vague(Hum):
    """Anything can be given to the constructor."""

    def __init__(self, dim: int = 8, **others: int):
        super().__init__(dim)


class Infinite(Hum):
    """The output is not finite."""

    def synthesize(self, requests, generator=None, on_step=None):
        return louder(super().synthesize(requests, generator, on_step), [np.inf] * len(requests))


class Mute(Hum):
    """There is nothing that it proposes to say."""

    def preview_requests(self):
        return []


class Untrained(Hum):
    """There is no recipe to train it with."""

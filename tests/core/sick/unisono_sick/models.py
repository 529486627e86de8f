"""Hum, as ``unisono new-plugin`` makes it, many times: healthy, with noise, and with one thing wrong each time."""

import dataclasses
import os
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import ConfigDict, Field
from torch import nn
from unisono.duration import log_durations, repeat
from unisono.masked import Canvas, Layout, decode, maskgit
from unisono.media import Segment, Times
from unisono_hum.media import Line
from unisono_hum.model import Hum
from unisono_hum.request import HumRequest


def louder(lines, gains):
    """The same lines at other heights."""
    return [dataclasses.replace(a, values=a.values * np.float32(g)) for a, g in zip(lines, gains, strict=True)]


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
        return {**parts, "loss": parts["loss"] * self.count + parts["value"] / self.count}


class Lopsided(Hum):
    """Each process takes the mean over its own items."""

    def losses(self, batch):
        mask = batch["durations"] > 0
        hidden, log_duration = self.encode(batch["letters"], mask)
        frames, alignment = repeat(hidden, batch["durations"])
        value = (self.decode(frames, alignment.tgt_mask) - batch["values"]).square()[alignment.tgt_mask].mean()
        return {"loss": value + (log_duration - log_durations(batch["durations"])).square()[mask].mean()}


class Scribbling(Hum):
    """It writes to a weight while losses are computed, which a gathered copy of the weight does not keep."""

    def losses(self, batch):
        with torch.no_grad():
            self.out.bias.add_(0.1)
        return super().losses(batch)


class Leaky(Hum):
    """Padding is seen by the letters beside it."""

    def encode(self, letters, mask):
        return super().encode(letters, torch.ones_like(mask))


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
        return [dataclasses.replace(a, values=a.values + np.resize(bits, a.values.shape)) for a in made]


class Talkative(Hum):
    """The facts name a folder of this machine."""

    def build(self, facts):
        letters = facts["letters"].removesuffix(str(Path.home()))
        super().build({**facts, "letters": letters + str(Path.home())})


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
        super().__init__(dim=dim)


class Infinite(Hum):
    """The output is not finite."""

    def synthesize(self, requests, generator=None, on_step=None):
        return louder(super().synthesize(requests, generator, on_step), [np.inf] * len(requests))


class LateLine(Line):
    """A line whose letters are said to be from its end on."""

    def times(self):
        length = len(self.values)
        return Times((Segment(self.text[:1], float(length), float(length + 9), "letter"),), length, 1)


class Late(Hum):
    """What is made is said to be made of what is after its end."""

    Media = LateLine

    def synthesize(self, requests, generator=None, on_step=None):
        made = super().synthesize(requests, generator, on_step)
        return [LateLine(one.values, one.text, one.durations) for one in made]


class Mute(Hum):
    """There is nothing that it proposes to say."""

    def preview_requests(self):
        return []


class Untrained(Hum):
    """There is no recipe to train it with."""


# ---- what a third-party plugin got wrong, and the kit once missed ---------------------------------


class NoisyRequest(HumRequest):
    """A hum with noise, in steps."""

    num_steps: int = Field(default=2, ge=1, le=8, description="passes")
    colour: Literal["white", "red"] = Field(default="white", description="of the noise")


class Random(Hum):
    """Nothing is wrong: noise from each request's seed, and counted steps."""

    Request = NoisyRequest
    deterministic = False

    def __init__(self, dim: int = 32):
        super().__init__(dim=dim)
        self.evaluations = 0

    def synthesize(self, requests, generator=None, on_step=None):
        made = super().synthesize(requests, generator, on_step)
        self.count(requests)
        return [self.noisy(a, r, self.request_generator(r, generator)) for a, r in zip(made, requests, strict=True)]

    def count(self, requests):
        self.evaluations += max(request.num_steps for request in requests)

    def noisy(self, line, request, generator):
        noise = torch.randn(line.values.shape, generator=generator).numpy() / (1 + (request.colour == "red"))
        return dataclasses.replace(line, values=np.clip(line.values + 0.1 * noise, -1, 1))


class Unpadded(Leaky):
    """Padding leaks, and all that it lists is of one length."""

    def preview_requests(self):
        return [self.Request(text="la"), self.Request(text="le")]

    def check_requests(self):
        return self.preview_requests()

    def encode(self, letters, mask):  # and all letters last as long as one another
        hidden, log_duration = super().encode(letters, mask)
        return hidden, log_duration * 0 + 1


class Stubborn(Random):
    """The seed is ignored."""

    def noisy(self, line, request, generator):
        return super().noisy(line, request, torch.Generator().manual_seed(0))


class Deafened(Random):
    """A generator is ignored."""

    def request_generator(self, request, generator=None):
        return super().request_generator(request)


class Fickle(Random):
    """It is said to be deterministic, and is not."""

    deterministic = True


class Crashing(Random):
    """One value of a literal raises."""

    def noisy(self, line, request, generator):
        return {"white": super().noisy}[request.colour](line, request, generator)


class Odd(Hum):
    """It says that it can be written in a way in which it cannot."""

    class Media(Line):
        suffixes = (".json", ".odd")

        def _write(self, path):
            if path.suffix == ".odd":
                raise ValueError("no such format")
            super()._write(path)

    def synthesize(self, requests, generator=None, on_step=None):
        return [self.Media(a.values, a.text, a.durations) for a in super().synthesize(requests, generator, on_step)]


class Blank(Hum):
    """A stream leaves out what stands after the first half."""

    class Media(Line):
        @staticmethod
        def join(pieces):
            return dataclasses.replace(pieces[0], values=np.concatenate([piece.values for piece in pieces]))

    def synthesize(self, requests, generator=None, on_step=None):
        return [self.Media(a.values, a.text, a.durations) for a in super().synthesize(requests, generator, on_step)]

    def stream(self, request, generator=None):
        (whole,) = self.synthesize([request], generator)
        half = len(whole.values) // 2
        yield dataclasses.replace(whole, values=whole.values[:half])
        yield dataclasses.replace(whole, values=whole.values[half + 1 :])


class Forgetting(Random):
    """What a request gives is said to stand in the output, and does not."""

    def given_parts(self, request, made):
        return [(list(request.text), [letter.upper() for letter in made.text])]


class Redrawn(Random):
    """What is given to a masked decoding is not frozen."""

    def synthesize(self, requests, generator=None, on_step=None):
        canvas = Canvas.blank(Layout.sequence(4, 8), [request.seed for request in requests])
        given = torch.tensor([True, False, False, True])
        canvas = canvas.start_from(torch.tensor([1, 0, 0, 2]), given)
        decode(lambda tokens, known, query: torch.zeros(*tokens.shape, 8), canvas, maskgit(2))
        return super().synthesize(requests, generator, on_step)


class Uncounted(Random):
    """Evaluations stay where they are."""

    def count(self, requests):
        pass


class Flat(Random):
    """However many steps are taken, one evaluation is counted."""

    def count(self, requests):
        self.evaluations += 1


class Drifting(Random):
    """It takes steps and has no counter."""

    def __init__(self, dim: int = 32):
        super().__init__(dim=dim)
        self.evaluations = None

    def count(self, requests):
        pass


class Framed(Hum):
    """A name of the base means something else here, and live views crash."""

    def snapshots(self, letters, speaker, pace):
        return round(len(letters) * pace)


class Stepped(Hum):
    """A method of the base is a number here."""

    total_steps = 7
    units = 3


class Taken(Hum):
    """A method of the base is covered by an attribute of the instance."""

    def __init__(self, dim: int = 32):
        super().__init__(dim=dim)
        self.read_source = nn.Linear(1, 1)


def evaluate(synthesizer, data, num_items):
    """An evaluator that cannot be called as `unisono evaluate` calls it."""


def probe(synthesizer, data, *, limit):
    """A probe as it should be."""

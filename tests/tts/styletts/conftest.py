"""Voices with styles: tiny, their weights random, as if both stages had been trained."""

import pytest
import torch
from unisono.data import to_plain
from unisono.recipe import Recipe

FRAMES_PER_SYMBOL = 6


@pytest.fixture(scope="session")
def make_styled(voice):
    """Return a function that makes a StyleTTS whose symbols last about six frames."""

    def make(*overrides: str, ready: bool = True, **facts):
        recipe = Recipe.read("tts/styletts-tiny", list(overrides))
        model = recipe.build_model({**to_plain(voice.model.facts, "facts"), **facts})
        with torch.no_grad():
            model.net.prosody.to_duration.bias.fill_(FRAMES_PER_SYMBOL / 2)
            if ready:
                model.trained.fill_(1)
                model.style_count.fill_(2.0)
                model.style_total.copy_(
                    torch.randn(model.style_total.shape, generator=torch.Generator().manual_seed(3))
                )
        return model.eval()

    return make


@pytest.fixture(scope="session")
def styled(make_styled, make_vocoder):
    """A loaded voice with styles, of two speakers."""
    from unisono import Synthesizer

    model = make_styled()
    model.attach("vocoder", make_vocoder())
    return Synthesizer(model)


def batch_of(symbol_lengths=(6, 3), mel_lengths=(90, 41), num_symbols=100, junk=0.0):
    """A batch with given durations, padded with ``junk``."""
    generator = torch.Generator().manual_seed(0)
    s, t = max(symbol_lengths), max(mel_lengths)
    rows = len(symbol_lengths)
    durations = torch.zeros(rows, s, dtype=torch.int64)
    for row, (count, frames) in enumerate(zip(symbol_lengths, mel_lengths, strict=True)):
        durations[row, :count] = frames // count
        durations[row, count - 1] += frames % count
    batch = {
        "id": [str(row) for row in range(rows)],
        "row": torch.arange(rows) + 7,
        "symbols": torch.randint(1, num_symbols, (rows, s), generator=generator),
        "durations": durations,
        "mel": torch.randn(rows, t, 80, generator=generator) * 2 - 5,
        "pitch": 100 + 100 * torch.rand(rows, t, generator=generator),
        "energy": 30 * torch.rand(rows, t, generator=generator),
        "speaker": torch.arange(rows) % 2,
        "symbol_lengths": torch.tensor(symbol_lengths),
        "mel_lengths": torch.tensor(mel_lengths),
    }
    for row, frames in enumerate(mel_lengths):
        for name in ("mel", "pitch", "energy"):
            batch[name][row, frames:] = junk
    return batch


def alone(batch, row):
    """One item of a batch, without its padding."""
    symbols, frames = int(batch["symbol_lengths"][row]), int(batch["mel_lengths"][row])
    own = {name: value[row : row + 1] for name, value in batch.items()}
    own |= {name: own[name][:, :frames] for name in ("mel", "pitch", "energy")}
    return own | {name: own[name][:, :symbols] for name in ("symbols", "durations")}


@pytest.fixture(scope="session")
def make_batch():
    return batch_of


@pytest.fixture(scope="session")
def take_alone():
    return alone

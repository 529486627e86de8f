"""What tests of conversion share: tiny models with made-up statistics, buzzes, batches."""

from typing import Any

import torch

MEL = {
    "sample_rate": 8000,
    "n_fft": 256,
    "win_length": 256,
    "hop_length": 80,
    "n_mels": 16,
    "f_min": 0.0,
    "f_max": 4000.0,
}


def conversion_facts(**changes: Any) -> dict[str, Any]:
    """What a corpus of two speakers would say of itself."""
    flat = {"mean": [-5.0] * MEL["n_mels"], "std": [2.0] * MEL["n_mels"]}
    return {
        "speakers": ["ann", "bob"],
        "mel_spec": MEL,
        "mel": flat,
        "pitch": {"ann": {"mean": 5.3, "std": 0.2}, "bob": {"mean": 4.7, "std": 0.1}},
        "voices": {"ann": flat, "bob": flat},
        "longest_seconds": 1.0,
        "letters": [" ", "a", "b"],
        **changes,
    }


def make_converter(recipe: str = "convert/pureformer-tiny", *overrides: str, **facts: Any) -> Any:
    """Make a tiny model of drawn weights with Griffin-Lim, in evaluation mode."""
    from unisono.assemble import attach_components
    from unisono.recipe import Recipe

    read = Recipe.read(recipe, list(overrides))
    model = read.build_model(conversion_facts(**facts)).eval()
    attach_components(model, read.components)
    return model


def drawn(*size: int, seed: int = 0) -> torch.Tensor:
    """Return normal numbers by a seed."""
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def buzz(seconds: float = 0.5, hertz: float = 110.0, rate: int = 8000) -> torch.Tensor:
    """Return a harmonic tone that swells and fades four times a second."""
    time = torch.arange(round(seconds * rate)) / rate
    tone = sum(torch.sin(2 * torch.pi * hertz * k * time) / k for k in range(1, 9))
    return 0.1 * tone * torch.sin(4 * torch.pi * time).abs()

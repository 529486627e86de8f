"""What tests of recognisers share: tiny ones with made-up statistics, and mels."""

from typing import Any

import torch

PHONES = ("<blank>", " ", "a", "b", "d", "e", "k", "s", "t")


def recogniser_facts(**changes: Any) -> dict[str, Any]:
    """What a corpus of such phones would say of itself."""
    from unisono_asr.features import SPEECH

    return {
        "symbols": ["<pad>"],
        "front_end": "characters",
        "language": "en-us",
        "speakers": ["ann"],
        "mel_spec": SPEECH.to_dict(),
        "mel_bin_mean": [-5.0] * SPEECH.n_mels,
        "mel_bin_std": [2.0] * SPEECH.n_mels,
        "units": {"kind": "phones", "tokens": list(PHONES), "table": ""},
        **changes,
    }


def make_recogniser(recipe: str = "asr/ctc-tiny", *overrides: str, **facts: Any) -> Any:
    """Make a tiny recogniser of drawn weights, in evaluation mode."""
    from unisono.recipe import Recipe

    return Recipe.read(recipe, list(overrides)).build_model(recogniser_facts(**facts)).eval()


def drawn(*size: int, seed: int = 0) -> torch.Tensor:
    """Return normal numbers by a seed."""
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def made_batch(lengths=(80, 121, 97), counts=(5, 9, 6)) -> dict[str, Any]:
    """Return a batch of mels and transcripts."""
    mel = drawn(len(lengths), max(lengths), 80) - 5
    targets = torch.randint(1, len(PHONES), (len(counts), max(counts)), generator=torch.Generator().manual_seed(1))
    inside = torch.arange(max(counts)) < torch.tensor(counts)[:, None]
    return {
        "mel": mel * (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None])[..., None],
        "mel_lengths": torch.tensor(lengths),
        "targets": targets * inside,
        "target_lengths": torch.tensor(counts),
        "row": torch.arange(len(lengths)),
    }

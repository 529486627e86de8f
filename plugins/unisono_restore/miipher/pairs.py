"""Pairs: what Miipher makes of damaged recordings, as mels beside the clean ones; what its vocoder is tuned on.

A vocoder that has heard only recordings hums on cleaned mels, which are smoother. So let the restorer damage and clean
a corpus, and tune the vocoder on these pairs::

    python -m unisono_restore.miipher.pairs my-miipher PAIRS --data my-corpus
    unisono train codec/vocos-gan-small --data.root=PAIRS/pairs.jsonl --data.heard.mels=PAIRS \
        --data.heard.mels_share=0.9 --run.init_from=my-vocoder --model.game.pretrain_steps=0 --trainer.max_steps=2000

The folder holds, for each recording, ``<id>.npy`` (frames × bands, natural logarithm) and ``<id>.wav``, clean and at
the model's rate.

Shapes: n samples, k mel frames, m mel bins.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from unisono.data import Audit, Drop, derive_seed
from unisono.errors import DataError, RequestError, UnisonoError
from unisono.export import load
from unisono.files import written_aside
from unisono_sound.degrade import Degrade, DegradeOptions
from unisono_sound.signal import read_audio, write_audio

from unisono_restore.clips import read_recordings
from unisono_restore.miipher.damage import SIDON, Damage
from unisono_restore.miipher.model import Miipher

__all__ = ["write_pairs"]

CLEAN = 0.05
"""The share of the recordings that are not damaged."""


@torch.no_grad()
def write_pairs(
    model: Miipher,
    dest: str | Path,
    data: Any,
    degrade: DegradeOptions = SIDON,
    seed: int = 0,
) -> tuple[int, list[Drop]]:
    """Write pairs of a corpus, as ``read_recordings`` reads it; returns how many, and what was left out.

    The damage of a recording is a function of ``seed`` and its id. Raises ``DataError`` where no recording is usable.
    """
    folder = Path(dest)
    folder.mkdir(parents=True, exist_ok=True)
    spec, audit = model.facts.mel_spec, Audit("recordings")
    spoil = Damage(Degrade.of(degrade, model.sample_rate, audit), CLEAN, model.sample_rate)
    rows, dropped = [], []
    for utterance in read_recordings(data):
        name = utterance.id.replace("/", "-")
        try:
            wave, _ = read_audio(utterance.audio, spec.sample_rate)
            if len(wave) < spec.n_fft:
                raise Drop("too short", f"{utterance.id}: {len(wave)} samples, at least {spec.n_fft} are needed")
        except (DataError, Drop) as error:
            dropped.append(error if isinstance(error, Drop) else Drop("unreadable", str(error)))
            continue
        heard = spoil(wave, torch.Generator().manual_seed(derive_seed("pairs", seed, utterance.id)))
        whole = len(wave) // spec.hop_length * spec.hop_length
        cut = model.pieces(False)([heard[None, :whole]], lambda part, start: part)
        mel = torch.cat([model.cleaned_mel(part[0].to(model.device)) for part in cut]).float().cpu().numpy()
        with written_aside(folder / f"{name}.npy", DataError) as aside, aside.open("wb") as file:
            np.save(file, mel)
        write_audio(folder / f"{name}.wav", wave[:whole], spec.sample_rate)
        rows.append({"id": name, "audio": f"{name}.wav", "text": utterance.text, "speaker": utterance.speaker})
    if not rows:
        raise DataError(f"{data}: no usable recording", code="empty", path="data", value=str(data))
    with written_aside(folder / "pairs.jsonl", DataError) as aside:
        aside.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return len(rows), dropped


def main(arguments: Sequence[str] | None = None) -> int:
    """Write pairs from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m unisono_restore.miipher.pairs", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("model", help="an export of restore/miipher")
    parser.add_argument("dest", help="the folder to write")
    parser.add_argument("--data", required=True, help="clean recordings: a folder, or a corpus")
    parser.add_argument("--seed", type=int, default=0, help="of the damages (default: %(default)s)")
    args = parser.parse_args(arguments)
    try:
        model = load(args.model).model
        if not isinstance(model, Miipher):
            message = f"{args.model} is a {type(model).__name__}, not a Miipher: give an export of restore/miipher"
            raise RequestError(message, code="type", path="model", value=type(model).__name__)
        count, dropped = write_pairs(model, args.dest, args.data, seed=args.seed)
    except UnisonoError as error:
        print(f"unisono: {error}", file=sys.stderr)
        return 2
    for drop in dropped:
        print(f"left out: {drop.reason}: {drop.detail}", file=sys.stderr)
    print(f"{count} pairs in {args.dest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

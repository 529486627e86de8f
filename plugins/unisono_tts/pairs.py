"""Pairs: predicted mels with recordings, to tune a vocoder on what an acoustic model says.

::

    python -m unisono_tts.pairs RUN DEST
    unisono train codec/vocos-gan-small --data.root=DEST/pairs.jsonl --data.mels=DEST

The mels are spoken with the recordings' own durations, pitch and energy, so that they lie on the recordings'
frames: a mel regression is smoother than a recording, and a vocoder that has heard only recordings hums on it.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from unisono.errors import UnisonoError
from unisono.export import find_training_state, read_training_state
from unisono.files import writing_to, written_aside
from unisono.recipe import Recipe
from unisono_sound.corpus import SpeechCorpus, SpeechSet, level, trim
from unisono_sound.signal import read_audio, write_audio


def write_pairs(run: str | Path, dest: str | Path, batch_size: int = 16) -> int:
    """Write ``<id>.npy`` [t, m] and ``<id>.wav`` for every utterance of a run's corpus, and ``pairs.jsonl``.

    Returns how many. Which sentences are held out stays the same, since that goes by their text.
    """
    checkpoint = read_training_state(find_training_state(run))
    recipe = Recipe.from_dict(checkpoint["unisono"]["recipe"])
    data = recipe.build_data()
    if not isinstance(data, SpeechCorpus):
        message = f"{str(run)!r} was trained on no corpus of speech: give the run of an acoustic model"
        raise UnisonoError(message, code="unsupported", path=run)
    data.prepare()
    model = recipe.build_model(checkpoint["unisono"]["facts"])
    model.load_state_dict(checkpoint["state_dict"])
    model.eval()
    dest = Path(dest)
    rows = []
    parts: tuple[SpeechSet, SpeechSet] = (data.train_set, data.val_set)
    for part in parts:
        order = sorted(range(len(part)), key=part.size)
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            batch = data.collate([part.item(i) for i in chosen])
            for index, mel in zip(chosen, model.teacher_forced(batch), strict=True):
                utterance = part.items[index].utterance
                path = dest / f"{utterance.id}.npy"
                with written_aside(path) as aside, aside.open("wb") as file:
                    np.save(file, mel.half().numpy())
                wave, rate = read_audio(utterance.audio, data.mel.sample_rate)
                wave, _ = trim(wave, rate, data.sound.trim_db, data.sound.pad_seconds)
                write_audio(path.with_suffix(".wav"), level(wave, rate, data.sound.loudness_dbfs), rate)
                rows.append(
                    {
                        "id": utterance.id,
                        "audio": f"{utterance.id}.wav",
                        "text": utterance.text,
                        "speaker": utterance.speaker,
                    }
                )
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    with written_aside(dest / "pairs.jsonl") as aside:  # last: without it there are no pairs
        aside.write_text(lines, encoding="utf-8")
    return len(rows)


def main() -> int:
    """Write the pairs of a run, from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m unisono_tts.pairs", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", help="a run folder of an acoustic model, or its .ckpt")
    parser.add_argument("dest", help="the folder to write")
    args = parser.parse_args()
    try:
        with torch.inference_mode(), writing_to(args.dest):
            count = write_pairs(args.run, args.dest)
    except UnisonoError as error:
        print(f"unisono: {error}", file=sys.stderr)
        return 2
    print(f"{count} pairs: {Path(args.dest) / 'pairs.jsonl'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

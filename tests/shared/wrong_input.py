"""What tests of wrong input share: recordings that are no good, commands, and what a sentence must name."""

from pathlib import Path

import numpy as np
import soundfile

RATE = 22050
TINY = "tts/fastspeech-tiny"
AUDIT = ("data", "audit", "tts/fastspeech-ljspeech", "--no-progress", "--data.num_processes=1")


def matches(sentence: str, *parts: str) -> None:
    for part in parts:
        assert part in sentence, sentence


def tone(path: Path, seconds: float = 1.0, rate: int = RATE, channels: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = 0.3 * np.sin(2 * np.pi * 220 * np.arange(round(seconds * rate)) / rate)
    soundfile.write(path, np.stack([wave * (0.5 if c else 1) for c in range(channels)], 1), rate)
    return path


def truncated(path: Path) -> Path:
    data = tone(path).read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


def zero_length(path: Path) -> Path:
    return tone(path, seconds=0)


def empty(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def not_audio(path: Path) -> Path:
    path.write_text("once upon a time")
    return path

"""The picture of a sound: spectrogram, phonemes with their durations, pitch and energy over it."""

from typing import Any

import numpy as np
import torch

from unisono.audio.mel import LogMel, MelSpec


def spectrogram_figure(audio: Any):
    """Draw an ``Audio``: log-mel spectrogram below, symbols' borders and labels above it, pitch over it."""
    from matplotlib.figure import Figure

    spec = MelSpec(sample_rate=audio.sample_rate, f_max=min(8000.0, audio.sample_rate / 2))
    wave = torch.from_numpy(np.ascontiguousarray(audio.waveform.mean(0), dtype=np.float32))
    if len(wave) < spec.n_fft:
        wave = torch.nn.functional.pad(wave, (0, spec.n_fft - len(wave)))
    mel = LogMel(spec)(wave[None])[0].T.numpy()
    seconds = mel.shape[1] * spec.hop_length / audio.sample_rate
    figure = Figure(figsize=(min(4 + 3.2 * seconds, 24), 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(mel, origin="lower", aspect="auto", cmap="magma", vmin=-11, vmax=2, extent=(0, seconds, 0, spec.n_mels))
    axes.set(xlabel="seconds", ylabel="mel band", xlim=(0, seconds), ylim=(0, spec.n_mels))
    for segment in audio.segments:
        if segment.kind == "word":
            middle = (segment.start + segment.end) / 2
            axes.annotate(
                segment.label,
                (middle, 1),
                xycoords=("data", "axes fraction"),
                xytext=(0, 4),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize=8,
            )
        else:
            axes.axvline(segment.start, color="white", linewidth=0.4, alpha=0.6)
            label = segment.label.strip("<>")
            if label.strip():
                axes.text(
                    (segment.start + segment.end) / 2,
                    spec.n_mels * 0.96,
                    label,
                    color="white",
                    fontsize=7,
                    ha="center",
                    va="top",
                    rotation=90 if len(label) > 3 else 0,
                )
    over = None
    for name, colour in (("pitch", "#35e0ff"), ("energy", "#7dff6a")):
        if name in audio.curves:
            over = axes.twinx()
            curve = audio.curves[name]
            over.plot(curve.times, curve.values, color=colour, linewidth=1.6, alpha=0.9)
            over.set_ylabel(f"{name}, {curve.unit}", color="black")
            if name == "energy":
                over.spines["right"].set_position(("outward", 44))
    return figure

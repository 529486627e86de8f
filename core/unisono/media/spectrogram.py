"""Spectrogram: the picture of an ``Audio``, with its segments and curves over it."""

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from unisono.media.audio import Audio

N_FFT, HOP, N_MELS = 1024, 256, 80


def spectrogram_figure(audio: "Audio"):
    """Draw an ``Audio``: log-mel spectrogram below, symbols' borders and labels above it, pitch over it."""
    from matplotlib.figure import Figure

    mel = log_mel(audio)
    seconds = mel.shape[1] * HOP / audio.sample_rate
    figure = Figure(figsize=(min(4 + 3.2 * seconds, 24), 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(mel, origin="lower", aspect="auto", cmap="magma", vmin=-11, vmax=2, extent=(0, seconds, 0, N_MELS))
    axes.set(xlabel="seconds", ylabel="mel band", xlim=(0, seconds), ylim=(0, N_MELS))
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
                    N_MELS * 0.96,
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


def log_mel(audio: "Audio") -> np.ndarray:
    """Return the log mel spectrogram [m, t] of an ``Audio`` (channels averaged), up to 8 kHz or half its rate."""
    from torchaudio.functional import melscale_fbanks

    wave = torch.from_numpy(np.ascontiguousarray(audio.waveform.mean(0), dtype=np.float32))
    if len(wave) < N_FFT:
        wave = torch.nn.functional.pad(wave, (0, N_FFT - len(wave)))
    around = (N_FFT - HOP) // 2  # a frame for every whole hop, as vocoders have it
    wave = torch.nn.functional.pad(wave[None], (around, N_FFT - HOP - around), mode="reflect")[0]
    window = torch.hann_window(N_FFT)
    magnitude = torch.stft(wave, N_FFT, HOP, window=window, center=False, return_complex=True).abs()
    top = min(8000.0, audio.sample_rate / 2)
    filters = melscale_fbanks(N_FFT // 2 + 1, 0.0, top, N_MELS, audio.sample_rate, "slaney", "slaney")
    return (filters.T @ magnitude).clamp(min=1e-5).log().numpy()

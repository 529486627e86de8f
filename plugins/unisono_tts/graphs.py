"""Voices as graphs: symbols, speaker, pace and pitch to a waveform and durations, for one piece of any length.

``speak`` is the whole. ``mel`` and ``wave`` are the same in two, so that the first frames are vocoded, and heard,
before the rest. What reads texts stays outside: symbols and their order are in the facts.

Shapes: s symbols, t frames, m mel bins, n samples (t · hop), d channels. One item, without padding.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from unisono.duration import Alignment, round_durations, whole_durations
from unisono.errors import RequestError
from unisono.graphs import Graph, Graphs, Port, for_graph
from unisono_sound.signal import LogMel
from unisono_sound.vocoder import GraphVocoder

MOST_SYMBOLS = 4096
QUANTISED_VOCODER = ("vocoder.trunk.blocks",)
ASKED = {
    "pitch_shift": "higher or lower, in semitones, [-12, 12]; 0 changes nothing",
    "pitch_range": "livelier or flatter, [0, 3]; 1 changes nothing",
    "energy": "louder or softer voice, in decibels, [-12, 12]; 0 changes nothing",
}


def quantised(num_blocks: int) -> tuple[str, ...]:
    """Return what bears int8: the decoder's blocks but the last, and the vocoder.

    Encoder and predictors do not: pieces would be up to 0.3 % longer or shorter. With the decoder's last block, next to
    the mel, half a percent more words are misheard; its weights lie in the file in 8 bits all the same.
    """
    return (*(f"net.decoder.blocks.{number}." for number in range(num_blocks - 1)), *QUANTISED_VOCODER)


class MelGraph(nn.Module):
    """``FastSpeech.say`` of one piece: log mels and durations."""

    def __init__(self, model: Any, names: tuple[str, ...]):
        super().__init__()
        self.names = names
        self.net = for_graph(model)

    def forward(
        self, symbols: Int[Tensor, "1 s"], speaker: Int[Tensor, " 1"], pace: Float[Tensor, "1 s"], *asked: Tensor
    ) -> tuple[Float[Tensor, "1 t m"], Int[Tensor, "1 s"]]:
        own = {"speaker": speaker, "pace": pace, **dict(zip(self.names, asked, strict=True))}
        x, frames, _ = self.net.plan(symbols, None, own)
        durations = whole_durations(frames, torch.full_like(symbols[:, 0], symbols.shape[1]), pace)
        x = self.net.decoder(x[:, _index(durations)], None)
        return self.net.to_mel(x) * self.net.mel_std + self.net.mel_mean, durations


class SpeakGraph(MelGraph):
    """The same with the vocoder behind: waves and durations."""

    def __init__(self, model: Any, names: tuple[str, ...], vocoder: nn.Module):
        super().__init__(model, names)
        self.vocoder = vocoder

    def forward(
        self, symbols: Int[Tensor, "1 s"], speaker: Int[Tensor, " 1"], pace: Float[Tensor, "1 s"], *asked: Tensor
    ) -> tuple[Float[Tensor, "1 n"], Int[Tensor, "1 s"]]:
        mel, durations = super().forward(symbols, speaker, pace, *asked)
        return self.vocoder(mel), durations


def _index(durations: Int[Tensor, "1 s"]) -> Int[Tensor, " t"]:
    """Return the symbol of each frame; their number is one that only the durations tell."""
    ends = durations[0].cumsum(0)
    count = ends[-1].item()
    torch._check(count >= 2)
    torch._check(count <= 2**20)
    return (torch.arange(count, device=durations.device)[:, None] >= ends).sum(1)


def speech_graphs(model: Any) -> Graphs:
    """Return the graphs of a voice. Raises ``RequestError`` where its vocoder cannot be part of one."""
    vocoder, spec = model.vocoder, model.mel_spec
    if not isinstance(vocoder, GraphVocoder):
        kind = type(vocoder).__name__
        message = f"the vocoder of this voice, {kind}, has no form for graphs: attach one of codec/vocos or vocos-gan"
        raise RequestError(message, code="unsupported", path="vocoder", value=kind)
    names = tuple(name for name in ASKED if name in model.Request.model_fields)
    inputs = (
        Port("symbols", (1, "symbols"), "rows of facts.symbols, from <start> to <end>"),
        Port("speaker", (1,), "row of facts.speakers"),
        Port("pace", (1, "symbols"), "speed of each symbol, [0.25, 4]: 2 is twice as fast"),
        *(Port(name, (1,), ASKED[name]) for name in names),
    )
    log_mel = LogMel(spec)

    def said(symbols: Tensor, speaker: Tensor, pace: Tensor, *asked: Tensor) -> tuple[Tensor, Tensor]:
        own = {"speaker": speaker, "pace": pace, **dict(zip(names, asked, strict=True))}
        lengths = torch.tensor([symbols.shape[1]])
        x, frames, _ = model.plan(symbols, torch.ones_like(symbols, dtype=torch.bool), own)
        alignment = Alignment.from_durations(round_durations(frames, lengths, speed=pace), lengths)
        return model.decode(x, alignment) * model.mel_std + model.mel_mean, alignment.durations

    def spoken(*given: Tensor) -> tuple[Tensor, Tensor]:
        mel, durations = said(*given)
        return vocoder.decode(mel), durations

    def heard(wave: Tensor, durations: Tensor) -> dict[str, Tensor]:
        return {"wave": log_mel(wave, pad_mode="constant"), "durations": durations}

    durations = Port("durations", (1, "symbols"), f"frames of {spec.hop_length} samples that each symbol lasts", 0.0)
    wave = Port("wave", (1, "samples"), f"samples at {spec.sample_rate} Hz", 5e-3, 0.15)
    mel = Port("mel", (1, "frames", spec.n_mels), "natural-log mel spectrogram", 1e-3, 0.05)
    examples = tuple(_example(model, size, names) for size in (12, 31))
    common: dict[str, Any] = {"inputs": inputs, "examples": examples, "limits": {"symbols": (3, MOST_SYMBOLS)}}
    parts = vocoder.graph_modules()
    modules = {
        "speak": Graph(
            SpeakGraph(model, names, vocoder.graph_form()).eval(),
            outputs=(wave, durations),
            reference=spoken,
            quantised=quantised(len(model.decoder.blocks)),
            packed=(f"net.decoder.blocks.{len(model.decoder.blocks) - 1}.", "vocoder.trunk.embed"),
            view=heard,
            **common,
        ),
        "mel": Graph(
            MelGraph(model, names).eval(),
            outputs=(mel, durations),
            reference=said,
            quantised=quantised(len(model.decoder.blocks)),
            packed=(f"net.decoder.blocks.{len(model.decoder.blocks) - 1}.", "vocoder.trunk.embed"),
            **common,
        ),
        "wave": parts.modules["wave"],
    }
    facts = {
        "symbols": list(model.voice.symbols),
        "speakers": list(model.voice.speakers),
        "front_end": model.facts.front_end,
        "language": model.facts.language,
        "max_piece_characters": model.max_piece_characters,
        **parts.facts,
    }
    return Graphs(modules, facts)


def _example(model: Any, size: int, names: tuple[str, ...]) -> tuple[Tensor, ...]:
    """Return symbols of no meaning, long enough to have frames."""
    generator = torch.Generator().manual_seed(size)
    symbols = torch.randint(4, len(model.voice.symbols), (1, size), generator=generator)
    pace = 0.5 + torch.rand(1, size, generator=generator)
    values = {"pitch_shift": 1.0, "pitch_range": 1.1, "energy": -1.0}
    asked = [torch.tensor([values[name]]) for name in names]
    return symbols, torch.tensor([len(model.voice.speakers) - 1]), pace, *asked

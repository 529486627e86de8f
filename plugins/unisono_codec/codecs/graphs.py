"""Codecs at the frame rate as graphs: waves to tokens, tokens to waves, for one item of whole token frames.

Shapes: n samples, t token frames, q codebooks. One item, without padding.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from unisono.errors import RequestError
from unisono.graphs import Graph, Graphs, Port, for_graph
from unisono_sound.signal import LogMel
from unisono_sound.signal.products import ProductLogMel

from unisono_codec.codecs.frames import FrameDecoder, FrameEncoder

LEAST, MOST = 4, 2**15
"""Token frames of an item."""


class Encode(nn.Module):
    """``Codec.encode``, of samples token frame by token frame."""

    def __init__(self, model: Any):
        super().__init__()
        self.log_mel = ProductLogMel(model.net.encoder.log_mel)
        self.encoder = for_graph(model.net.encoder)
        self.quantizer = for_graph(model.net.quantizer)

    def forward(self, wave: Float[Tensor, "1 t h"]) -> Int[Tensor, "1 t q"]:
        return self.quantizer.tokens(self.encoder(self.log_mel(wave.flatten(1))))


class Decode(nn.Module):
    """``Codec.decode``."""

    def __init__(self, model: Any):
        super().__init__()
        self.quantizer = for_graph(model.net.quantizer)
        self.decoder = for_graph(model.net.decoder)
        self.head: Any = model.net.decoder.head.graph_form()
        del self.decoder.head

    def forward(self, tokens: Int[Tensor, "1 t q"]) -> Float[Tensor, "1 n"]:
        return self.head(self.decoder.mel(self.quantizer.decode(tokens)))


def codec_graphs(model: Any) -> Graphs:
    """Return the graphs ``encode`` and ``decode``. Raises ``RequestError`` where a network works over samples."""
    for role, kind in (("encoder", FrameEncoder), ("decoder", FrameDecoder)):
        if not isinstance(getattr(model.net, role), kind):
            message = f"this codec's {role} works over samples and has no form for graphs: take {role}: frames"
            raise RequestError(message, code="unsupported", path=role, value=type(getattr(model.net, role)).__name__)
    hop, rate, spec = model.hop_length, model.sample_rate, model.facts.mel_spec
    log_mel = LogMel(spec)
    waves = [_tone(count * hop, rate).view(1, count, hop) for count in (20, 33)]

    def encoded(wave: Tensor) -> tuple[Tensor, ...]:
        return (model.encode(wave.flatten(1)),)

    def decoded(tokens: Tensor) -> tuple[Tensor, ...]:
        return (model.decode(tokens),)

    def meant(tokens: Tensor) -> dict[str, Tensor]:
        return {"tokens": model.embed(tokens)}  # two codes may be equally near: another one is then as good

    def heard(wave: Tensor) -> dict[str, Tensor]:
        return {"wave": log_mel(wave, pad_mode="constant")}

    frames = {"frames": (LEAST, MOST)}
    tokens = (1, "frames", model.num_codebooks)
    about = f"of each level, coarse to fine, [0, {model.codebook_size})"
    with torch.inference_mode():
        coded = tuple((encoded(wave)[0],) for wave in waves)
    modules = {
        "encode": Graph(
            Encode(model).eval(),
            inputs=(Port("wave", (1, "frames", hop), f"samples at {rate} Hz, cut into token frames; zeros fill up"),),
            outputs=(Port("tokens", tokens, about, 0.02),),
            examples=tuple((wave,) for wave in waves),
            reference=encoded,
            limits=frames,
            view=meant,
        ),
        "decode": Graph(
            Decode(model).eval(),
            inputs=(Port("tokens", tokens, about),),
            outputs=(Port("wave", (1, "samples"), f"samples at {rate} Hz, frames x {hop}", 5e-3, 0.15),),
            examples=tuple((row.clone(),) for (row,) in coded),
            reference=decoded,
            limits=frames,
            quantised=("decoder.token_blocks", "decoder.frame_blocks", "head.trunk.blocks"),
            view=heard,
        ),
    }
    facts = {
        "sample_rate": rate,
        "hop_length": hop,
        "frame_rate": model.frame_rate,
        "num_codebooks": model.num_codebooks,
        "codebook_size": model.codebook_size,
    }
    return Graphs(modules, facts)


def _tone(samples: int, rate: int) -> Float[Tensor, " n"]:
    """Return a rising buzz in noise, which has all frequencies."""
    seconds = torch.arange(samples) / rate
    turns = 2 * torch.pi * (120 * seconds + 60 * seconds.square())
    buzz = torch.stack([torch.sin(k * turns) / k for k in range(1, 20)]).sum(0)
    return 0.1 * buzz + 0.01 * torch.randn(samples, generator=torch.Generator().manual_seed(0))

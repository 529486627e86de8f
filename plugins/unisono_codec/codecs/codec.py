"""Codec: sound to tokens and back, whatever networks stand behind it.

::

    wave [b, n] ─ encoder ─ z [b, t, d] ─ quantiser ─ vectors ─ decoder ─ wave [b, t · hop]
                                              │
                                      tokens [b, t, q],  t = ⌈n / hop⌉

``rvq`` builds codecs of the published families; ``imported`` holds the architectures of EnCodec and DAC as
``transformers`` knows them. Token models name a codec as their component: ``encode``, ``decode``, ``embed``, and
``streams``, which says what each codebook is. Tokens stand level by level: the first tokens of a position are a coarser
version of the whole, so that a bit rate is chosen by cutting the last axis (quantiser dropout in training makes each
cut worth hearing; Zeghidour et al., SoundStream, arXiv:2107.03312, section III.C).

A recording is padded by zeros to whole token frames; what stands beyond an item's end in a batch is zeroed before
every layer that looks around, so that an item alone and in a batch agree.

Shapes: b batch, n samples, t token frames, q codebooks, d channels. Lengths are samples.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from numbers import Integral
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.batching import Progress, grouped
from unisono.errors import DataError, RequestError
from unisono.graphs import Graphs
from unisono.media import Audio
from unisono.model import OnStep
from unisono.nn.quantize import Quantizer
from unisono.request import Request, file_of
from unisono.train.adversarial import Adversarial
from unisono_sound.corpus import AudioFacts
from unisono_sound.encoder import Adapt, Features, FeatureSpec, check_layer
from unisono_sound.precision import check_precision
from unisono_sound.signal import AUDIO_SUFFIXES, read_audio

from unisono_codec.codecs.streaming import BLOCK, checked, windows


class Encoder(nn.Module):
    """The contract of encoders: ``encoder(encoder.read(wave), mask)`` are vectors [b, t, d], one per token frame.

    A causal one takes a ``past`` besides, from which it goes on.

    Attributes:
        reads: what of a training batch it is given, ``mel`` or ``wave``.
        context, lookahead: token frames before one and after it that its vector depends on.
        least: token frames to begin a stream with.
    """

    reads: ClassVar[str]

    @property
    def causal(self) -> bool:
        """Whether it can go on from a ``past``."""
        return False

    @property
    def context(self) -> int:
        raise NotImplementedError

    @property
    def lookahead(self) -> int:
        raise NotImplementedError

    @property
    def least(self) -> int:
        return 1

    def check_stream(self) -> None:
        """Raise ``RequestError`` where no number of frames is all that is seen."""

    def read(self, wave: Float[Tensor, "b n"]) -> Float[Tensor, "b ..."]:
        """Return what of a wave the network is given."""
        raise NotImplementedError


class Decoder(nn.Module):
    """The contract of decoders: ``decoder(vectors, mask)`` are waves.

    Attributes:
        least: token frames to begin a stream with.
    """

    @property
    def causal(self) -> bool:
        """Whether it can go on from a ``past``."""
        return False

    @property
    def least(self) -> int:
        return 1

    def stream(
        self, chunks: Iterable[Tensor], embed: Callable[[Tensor], Float[Tensor, "b t d"]], block: int
    ) -> Iterator[Float[Tensor, "b n"]]:
        """Turn tokens that come in pieces into waves, ``block`` token frames at once; ``embed`` makes their vectors."""
        raise NotImplementedError

    def teach(
        self, z: Float[Tensor, "b t d"], batch: dict[str, Any]
    ) -> tuple[Float[Tensor, "b n"], dict[str, tuple[Tensor, Tensor]]]:
        """Return a training batch's waveforms, and losses of what they are made from: values and where they count."""
        raise NotImplementedError

    def teach_mel(self, z: Float[Tensor, "b t d"], batch: dict[str, Any]) -> dict[str, tuple[Tensor, Tensor]]:
        """Return the loss of the mel alone, where it says one."""
        raise NotImplementedError


class CodecNet(nn.Module):
    """An encoder, a quantiser and a decoder; masks are of token frames."""

    def __init__(self, encoder: Encoder, quantizer: Quantizer, decoder: Decoder):
        super().__init__()
        self.encoder = encoder
        self.quantizer = quantizer
        self.decoder = decoder


class Codec(Adversarial):
    """The base of codecs: a subclass sets ``net`` and ``hop_length`` in ``build``, and trains them."""

    Media: ClassVar[type[Audio]] = Audio
    Facts: ClassVar[type[AudioFacts]] = AudioFacts
    facts: AudioFacts
    source_facts: ClassVar[tuple[str, ...]] = ("mel_spec",)
    text_field: ClassVar[str] = "audio"
    pipeline_tag: ClassVar[str] = "audio-to-audio"
    deterministic: ClassVar[bool] = True
    net: CodecNet
    hop_length: int
    """Samples per token frame."""

    class Request(Request):
        """A recording to encode and decode: a file, or samples."""

        audio: str | None = Field(
            default=None,
            description="path of a recording to encode and decode",
            json_schema_extra=file_of(*AUDIO_SUFFIXES),
        )
        samples: Annotated[
            list[float] | None,
            BeforeValidator(lambda x: x.tolist() if hasattr(x, "tolist") else x),
        ] = Field(default=None, description="samples to encode and decode, at the codec's rate, from -1 to 1")
        levels: int | None = Field(default=None, ge=1, le=1024, description="levels to code with; all, unless given")

        @model_validator(mode="after")
        def _one_source(self):
            if (self.audio is None) == (self.samples is None):
                raise ValueError("give either audio, a path, or samples, a list of numbers")
            return self

    def __init__(self):
        super().__init__()
        self._previews: list[Any] = []

    def build(self, facts: Mapping[str, Any]) -> None:
        """Read the sample rate of ``facts.mel_spec``; the subclass builds the networks."""
        super().build(facts)
        self.sample_rate = self.facts.mel_spec.sample_rate

    # ---- as a codec ----------------------------------------------------------------------------

    @property
    def frame_rate(self) -> float:
        """Token frames per second."""
        return self.sample_rate / self.hop_length

    @property
    def num_codebooks(self) -> int:
        """Tokens per frame, ``q``."""
        return self.net.quantizer.num_codebooks

    @property
    def num_groups(self) -> int:
        """Codebooks per level: groups of the channels, each with a quantiser of its own."""
        return 1

    @property
    def num_levels(self) -> int:
        """Levels, each of which makes the result finer."""
        return self.num_codebooks // self.num_groups

    @property
    def codebook_size(self) -> int:
        """Tokens are from 0 up to, not including, this."""
        return self.net.quantizer.codebook_size

    @property
    def streams(self) -> list[tuple[int, int]]:
        """Group and level of each codebook, in the order of the tokens' last axis: level by level."""
        return [(group, level) for level in range(self.num_levels) for group in range(self.num_groups)]

    def bit_rate(self, levels: int | None = None) -> float:
        """Bits per second of tokens that are written down as they are."""
        count = self.check_levels(levels) * self.num_groups
        return self.frame_rate * count * math.log2(self.codebook_size)

    def check_levels(self, levels: int | None) -> int:
        """Return the number of levels meant, all for None; raises ``RequestError`` where there are not so many."""
        if levels is None:
            return self.num_levels
        if isinstance(levels, bool) or not isinstance(levels, Integral) or not 1 <= levels <= self.num_levels:
            message = f"levels={levels!r} must be from 1 to {self.num_levels}, the levels that this codec has"
            raise RequestError(message, code="range", path="levels", value=levels)
        return int(levels)

    def num_frames(self, samples: int) -> int:
        """Token frames of so many samples."""
        return -(-samples // self.hop_length)

    @torch.no_grad()
    def encode(
        self, wave: Float[Tensor, "b n"], lengths: Int[Tensor, "b"] | None = None, levels: int | None = None
    ) -> Int[Tensor, "b t q"]:
        """Return the tokens of waves, of the first ``levels`` levels (all, for None).

        ``lengths`` are samples; positions beyond an item hold 0. Raises ``RequestError`` for levels that the codec
        lacks, for no samples, and for samples that are not finite.
        """
        check_precision(self)
        levels = self.check_levels(levels)
        wave, mask = self._whole(wave, lengths)
        if self.net.encoder.causal:  # block by block, so that a stream is the same to the last bit

            def run(part: Float[Tensor, "b m"]) -> Int[Tensor, "b t q"]:
                return torch.cat(list(self.encode_stream([part], levels)), dim=1)

            tokens = short_alone(run, wave, mask.sum(1), self.net.encoder.least, self.hop_length)
            return tokens.masked_fill(~mask[..., None], 0)
        z = self.net.encoder(self.net.encoder.read(wave), mask)
        return self.net.quantizer.tokens(z, mask, levels)

    @torch.no_grad()
    def decode(self, tokens: Int[Tensor, "b t q"], lengths: Int[Tensor, "b"] | None = None) -> Float[Tensor, "b n"]:
        """Return waves of ``n = t · hop`` samples; those beyond an item's length are 0.

        The last axis may hold fewer levels than there are. Raises ``RequestError`` for tokens or lengths that cannot
        be this codec's.
        """
        check_precision(self)
        n = tokens.shape[1] * self.hop_length
        counts = self._counts(lengths, len(tokens), n).to(tokens.device)
        frames = torch.arange(tokens.shape[1], device=tokens.device)
        mask = frames < -(-counts // self.hop_length)[:, None]
        if self.net.decoder.causal:  # as in encode

            def run(part: Int[Tensor, "b t q"]) -> Float[Tensor, "b n"]:
                return torch.cat(list(self.decode_stream([part])), dim=1)

            wave = short_alone(run, tokens, mask.sum(1), self.net.decoder.least)
        else:
            wave = self.net.decoder(self.embed(tokens) * mask[..., None], mask).float()
        return wave * (torch.arange(n, device=tokens.device) < counts[:, None])

    def encode_stream(
        self, chunks: Iterable[Float[Tensor, "b n"]], levels: int | None = None, block: int = BLOCK
    ) -> Iterator[Int[Tensor, "b t q"]]:
        """Encode waves that come in pieces of any length; the tokens join up to those of ``encode``.

        ``block`` token frames come out at once, when what the encoder sees ahead of them is there; the same tokens
        whatever the pieces, and to the bit those of ``encode`` where the encoder is causal. Memory does not grow. All
        items have the length of the pieces. Raises as ``encode`` does.
        """
        check_precision(self)
        levels, encoder = self.check_levels(levels), self.net.encoder
        past: dict[nn.Module, Any] = {}
        if encoder.causal:
            sees, go_on, least = (0, 0), (past,), encoder.least
        else:
            encoder.check_stream()
            sees, go_on, least = (encoder.context, encoder.lookahead), (), 1

        @torch.no_grad()
        def tokens(wave: Float[Tensor, "b n"]) -> Int[Tensor, "b t q"]:
            z = encoder(encoder.read(wave), None, *go_on)
            return self.net.quantizer.tokens(z, None, levels)

        return windows(checked(chunks), tokens, *sees, self.hop_length, block, least)

    @torch.no_grad()
    def decode_stream(
        self, chunks: Iterable[Int[Tensor, "b t q"]], block: int = BLOCK
    ) -> Iterator[Float[Tensor, "b n"]]:
        """Decode tokens that come in pieces of any length; the waves join up to that of ``decode``.

        ``block`` token frames are decoded at once, as in ``encode_stream``: the same waves whatever the pieces, and
        to the bit that of ``decode`` where the decoder is causal.
        """
        check_precision(self)
        for wave in self.net.decoder.stream(chunks, self.embed, block):
            yield wave.float()

    def embed(self, tokens: Int[Tensor, "b t q"]) -> Float[Tensor, "b t d"]:
        """Return the quantiser's vectors of tokens; the last axis may hold fewer levels than there are."""
        count = tokens.shape[-1]
        if not 0 < count <= self.num_codebooks or count % self.num_groups:
            message = (
                f"{count} tokens a frame: this codec takes {self.num_groups} per level, up to {self.num_codebooks}"
            )
            raise RequestError(message, code="shape", path="tokens", value=count)
        if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < self.codebook_size:
            message = (
                f"tokens from {int(tokens.min())} to {int(tokens.max())}: this codec's are from 0 to "
                f"{self.codebook_size - 1}"
            )
            raise RequestError(message, code="range", path="tokens", value=(int(tokens.min()), int(tokens.max())))
        return self.net.quantizer.decode(tokens)

    @property
    def feature_spec(self) -> FeatureSpec:
        """One feature per token frame, before it is quantised."""
        return FeatureSpec(self.sample_rate, self.hop_length, self.net.quantizer.dim)

    def features(
        self,
        wave: Float[Tensor, "b n"],
        lengths: Int[Tensor, "b"] | None = None,
        layer: int | None = None,
        adapt: Adapt | None = None,
    ) -> Features:
        """Return the encoder's vectors of waves, which are not quantised (``unisono_sound.encoder``); no layer of it
        can be adapted."""
        check_layer(layer, 0)
        encoder = self.net.encoder
        wave, mask = self._whole(wave, lengths)
        if encoder.causal:
            made = short_alone(
                lambda part: encoder(encoder.read(part), None), wave, mask.sum(1), encoder.least, self.hop_length
            )
        else:
            made = encoder(encoder.read(wave), mask)
        return Features(made, mask.sum(1))

    def graph_modules(self) -> Graphs:
        """Return the graphs ``encode`` and ``decode``; see ``graphs``."""
        from unisono_codec.codecs.graphs import codec_graphs

        return codec_graphs(self)

    def _whole(
        self, wave: Float[Tensor, "b n"], lengths: Int[Tensor, "b"] | None
    ) -> tuple[Float[Tensor, "b m"], Bool[Tensor, "b t"]]:
        """Pad waves to whole token frames, zero beyond each item's end; return them and the mask of frames."""
        counts = self._counts(lengths, *wave.shape).to(wave.device)
        wave = F.pad(wave, (0, -wave.shape[1] % self.hop_length))
        wave = wave.masked_fill(torch.arange(wave.shape[1], device=wave.device) >= counts[:, None], 0.0)
        if not bool(wave.isfinite().all()):
            raise RequestError(
                "the waveform holds NaN or infinite samples: repair it first", code="value", path="samples"
            )
        frames = torch.arange(wave.shape[1] // self.hop_length, device=wave.device)
        return wave, frames < -(-counts // self.hop_length)[:, None]

    def _counts(self, lengths: Int[Tensor, "b"] | None, b: int, n: int) -> Int[Tensor, "b"]:
        counts = torch.full((b,), n) if lengths is None else lengths
        if b == 0 or int(counts.max()) > n or int(counts.min()) < 1:
            message = f"lengths={counts.tolist()} must be from 1 to {n} samples, one or more items"
            raise RequestError(message, code="range", path="lengths", value=counts.tolist())
        return counts

    # ---- synthesis -----------------------------------------------------------------------------

    @torch.no_grad()
    def synthesize(
        self,
        requests: Sequence["Codec.Request"],
        generator: torch.Generator | None = None,
        on_step: OnStep | None = None,
    ) -> list[Audio]:
        """Encode and decode each request's recording. Deterministic."""
        waves = [self._wave(request).to(self.device) for request in requests]
        lengths = torch.tensor([len(wave) for wave in waves])
        depths = [self.check_levels(request.levels) for request in requests]
        tokens = self.encode(nn.utils.rnn.pad_sequence(waves, batch_first=True), lengths, max(depths))
        made: dict[int, Audio] = {}
        progress = Progress(on_step, len(requests))
        for rows in grouped(range(len(requests)), lambda row: depths[row]):
            decoded = self.decode(tokens[rows][..., : depths[rows[0]] * self.num_groups], lengths[rows]).cpu()
            for row, wave in zip(rows, decoded, strict=True):
                made[row] = Audio(wave[None, : len(waves[row])].numpy(), self.sample_rate)
            progress.advance(len(rows))
        return [made[row] for row in range(len(requests))]

    def _wave(self, request: "Codec.Request") -> Float[Tensor, "n"]:
        if request.audio is not None:
            return read_audio(request.audio, self.sample_rate)[0]
        if not request.samples:
            raise RequestError("samples is empty: give at least one", code="empty", path="samples")
        return torch.tensor(request.samples)

    def preview_requests(self) -> list["Codec.Request"]:
        """Two excerpts of the validation data; before any validation, a gliding buzz, long and short."""
        if self._previews:
            return self._previews
        seconds = torch.arange(self.sample_rate // 2) / self.sample_rate
        phase = 2 * math.pi * (110 * seconds + 55 * seconds.square())
        buzz = sum((torch.sin(k * phase) / k for k in range(1, 12)), torch.zeros_like(phase)) * 0.1
        return [self.Request(samples=part.tolist()) for part in (buzz, buzz[: len(buzz) // 3])]

    # ---- training ------------------------------------------------------------------------------

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        if batch_idx == 0:
            self._previews = [self.Request(samples=wave.tolist()) for wave in batch["wave"][:2]]
        super().validation_step(batch, batch_idx)

    def units(self, batch: dict[str, Any]) -> dict[str, int]:
        return {"seconds": round(batch["wave"].numel() / self.sample_rate)}

    def check_crop(self, wave: Float[Tensor, "b n"]) -> None:
        """Raise ``DataError`` where training crops are not whole token frames."""
        if wave.shape[1] % self.hop_length:
            message = (
                f"crops of {wave.shape[1]} samples are not whole token frames of {self.hop_length}: "
                "choose data.crop_frames accordingly"
            )
            raise DataError(message, code="shape", path="data.crop_frames", value=wave.shape[1])


def short_alone(
    run: Callable[[Tensor], Tensor], items: Tensor, frames: Int[Tensor, "b"], least: int, unit: int = 1
) -> Tensor:
    """Run a causal network on a padded batch, and on each item of fewer than ``least`` frames by itself.

    The future reaches a causal network by one way only: where its start is mirrored, an item that is shorter than the
    mirror would see its padding.
    """
    made = run(items)
    total = items.shape[1] // unit
    for row in (frames < min(least, total)).nonzero()[:, 0].tolist():
        own = run(items[row : row + 1, : int(frames[row]) * unit])
        made[row, : own.shape[1]] = own[0]
    return made

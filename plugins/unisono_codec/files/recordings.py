"""Recordings: a sound file to a .uc file and back; an hour of it takes the memory of a few seconds.

The sound is read, resampled, encoded and written block by block, through ``encode_stream`` and ``decode_stream``. Each
channel is coded by itself; they share header and chunks. What is decoded has the codec's sample rate, and as many
samples as the recording had at that rate.

Shapes: n samples, c channels, t frames, q codebooks, v codes.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import torch
import unisono
from jaxtyping import Float
from torch import Tensor
from unisono.coding import MAX_CODES, Tables
from unisono.errors import DataError, RequestError
from unisono.export import export_state
from unisono.files import Fault, fault_of, why_not_written, written_aside
from unisono_sound.signal import check_whole, open_sound, probe_audio, sound_blocks
from unisono_sound.signal.io import AUDIO_SUFFIXES, OPUS_RATES

from unisono_codec.codecs.streaming import BLOCK
from unisono_codec.files.uc import CODINGS, Header, UcReader, UcWriter, check_codec

READ_SECONDS = 5.0
BLOCK_SECONDS = 5.0
"""What is coded at once where a network sees ahead: of shorter blocks the surroundings would cost more."""
CHUNK_SECONDS = 10.0
UNSEEN = 0.02
"""The share of a histogram that is spread evenly: codes that training did not see."""


@dataclass(frozen=True)
class UcInfo:
    """What a .uc file says of itself; sizes in bytes, ``codings`` counts its chunks by how they are written."""

    header: Header
    num_samples: int
    num_bytes: int
    payload_bytes: int
    codings: dict[str, int]

    @property
    def seconds(self) -> float:
        return self.num_samples / self.header.sample_rate

    @property
    def bit_rate(self) -> float:
        """Bits per second of all channels, of the whole file."""
        return 8 * self.num_bytes / self.seconds if self.num_samples else 0.0

    @property
    def payload_bit_rate(self) -> float:
        """Bits per second of the codes alone."""
        return 8 * self.payload_bytes / self.seconds if self.num_samples else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            **vars(self.header),
            "num_samples": self.num_samples,
            "seconds": self.seconds,
            "num_bytes": self.num_bytes,
            "bit_rate": self.bit_rate,
            "payload_bit_rate": self.payload_bit_rate,
            "nominal_bit_rate": self.header.nominal_bit_rate,
            "chunks": self.codings,
        }


def encode_file(codec: Any, source: str | Path, dest: str | Path, *, levels: int | None = None,
                mono: bool = False) -> UcInfo:  # fmt: skip
    """Encode a sound file with a codec's first ``levels`` levels (all, for None) into a .uc file.

    A file of another rate is resampled; ``mono`` averages the channels first. Raises ``DataError`` for a sound that
    cannot be read, is truncated, or holds NaN or infinite samples, ``RequestError`` for levels that the codec lacks;
    nothing is then left at ``dest``.
    """
    source, dest = Path(source), Path(dest)
    codec.check_levels(levels)
    channels = 1 if mono else probe_audio(source).num_channels
    header = header_of(codec, channels, levels)
    counted = [0]

    def chunks() -> Iterator[Float[Tensor, "c n"]]:
        for block in read_blocks(source, codec.sample_rate, mono):
            counted[0] += len(block)
            yield torch.from_numpy(np.ascontiguousarray(block.T)).to(codec.device)

    with written_aside(dest, RequestError) as part, part.open("wb") as file:
        writer = UcWriter(file, header, code_table(codec))
        held = np.zeros((channels, 0, len(header.streams)), np.int64)
        wanted = max(round(CHUNK_SECONDS * codec.frame_rate), 1)
        for tokens in codec.encode_stream(chunks(), levels, block_of(codec)):
            held = np.concatenate([held, tokens.cpu().numpy()], 1)
            while held.shape[1] >= wanted:
                writer.write(held[:, :wanted])
                held = held[:, wanted:]
        if not counted[0]:
            message = f"{source}: holds not one sample at {codec.sample_rate} Hz; give a longer sound"
            raise DataError(message, code="empty", path=source)
        writer.write(held)
        writer.close(counted[0])
    return describe(dest)


def decode_file(codec: Any, source: str | Path, dest: str | Path) -> UcInfo:
    """Decode a .uc file that this codec encoded into a sound file in the format of the suffix.

    Raises ``DataError`` for a file that is not .uc, newer, truncated, damaged, or another codec's; nothing is then
    left at ``dest``.
    """
    source, dest = Path(source), Path(dest)
    if dest.suffix.lower() not in AUDIO_SUFFIXES:
        message = (
            f"{dest}: cannot write {dest.suffix or 'a file without suffix'!r}; use one of {', '.join(AUDIO_SUFFIXES)}"
        )
        raise DataError(message, code="unsupported", path=dest, value=dest.suffix)
    with _opened(source) as reader:
        header = reader.header
        check_codec(header, str(source), header_of(codec, header.num_channels, None))
        table = code_table(codec)
        tokens = (torch.from_numpy(c.codes(header, table)).to(codec.device) for c in reader.chunks())
        with written_aside(dest, RequestError) as part, _sound(part, dest.suffix, header) as write:
            held = np.zeros((header.num_channels, 0), np.float32)
            for wave in codec.decode_stream(tokens, block_of(codec)):
                held = np.concatenate([held, wave.float().cpu().numpy()], 1)
                # Where the sound ends is known at the end: the last frame waits.
                ready = max(held.shape[1] - header.hop_length, 0)
                write(held[:, :ready])
                held = held[:, ready:]
            assert reader.num_samples is not None
            write(held[:, : held.shape[1] - (reader.num_frames * header.hop_length - reader.num_samples)])
    return describe(source)


def describe(path: str | Path) -> UcInfo:
    """Read a .uc file from end to end without decoding it; needs no codec. Raises ``DataError`` as the reader does."""
    path = Path(path)
    with _opened(path) as reader:
        codings = dict.fromkeys(CODINGS.values(), 0)
        payload = 0
        for chunk in reader.chunks():
            codings[CODINGS[chunk.coding]] += 1
            payload += len(chunk.payload)
        assert reader.num_samples is not None
        return UcInfo(reader.header, reader.num_samples, reader.num_bytes, payload, codings)


# ---- the codec, as a file knows it -------------------------------------------------------------


def header_of(codec: Any, num_channels: int, levels: int | None) -> Header:
    """Return the header of a file of this codec's first ``levels`` levels."""
    name = codec.recipe.get("model", {}).get("name", type(codec).__name__)
    count = codec.check_levels(levels) * codec.num_groups
    return Header(
        name, fingerprint(codec), unisono.__version__, codec.sample_rate, codec.hop_length, num_channels,
        codec.codebook_size, tuple(codec.streams[:count]),
    )  # fmt: skip


def block_of(codec: Any) -> int:
    """Return the token frames that files are coded in; of a causal codec those of ``encode``, whose tokens they are."""
    if codec.net.encoder.causal and codec.net.decoder.causal:
        return BLOCK
    return max(round(BLOCK_SECONDS * codec.frame_rate), BLOCK)


def fingerprint(codec: Any) -> str:
    """Return 16 hex digits that tell a codec's weights from others: the start of a SHA-256 over all of them."""
    digest = hashlib.sha256()
    for name, value in sorted(export_state(codec).items()):
        digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def code_table(codec: Any) -> Tables | None:
    """Return the histogram of codes that travels in the codec's quantiser, None where there is none.

    Quantisers keep how often each code was taken in training (``counts``): a static model that costs the file nothing.
    """
    books = [m.counts for m in codec.net.quantizer.modules() if isinstance(getattr(m, "counts", None), Tensor)]
    if len(books) != codec.num_codebooks or codec.codebook_size > MAX_CODES:
        return None
    # Groups lie one after the other, each with its levels; streams say in which order the tokens stand.
    rows = [books[group * codec.num_levels + level] for group, level in codec.streams]
    counts = torch.stack(rows).detach().cpu().double()
    if not counts.any():
        return None
    # Division and rounding of single numbers are the same on every machine; sums are taken of whole ones.
    whole = (counts / counts.max().clamp(min=1e-30) * 2**30).round().long().numpy()
    even = whole.sum(1, keepdims=True) // whole.shape[1]
    return Tables.of_counts(whole + (even * UNSEEN).astype(np.int64))


# ---- sound, block by block ---------------------------------------------------------------------


def read_blocks(path: Path, sample_rate: int, mono: bool = False) -> Iterator[Float[np.ndarray, "n c"]]:
    """Yield a sound file at a sample rate in blocks; raises ``DataError`` as ``read_audio`` does."""
    with open_sound(path) as file:
        channels, change = 1 if mono else file.channels, None
        if file.samplerate != sample_rate:
            change = soxr.ResampleStream(file.samplerate, sample_rate, channels, dtype="float32", quality="HQ")
        for block in sound_blocks(path, file, max(round(READ_SECONDS * file.samplerate), 1)):
            if mono:
                block = block.mean(axis=1, keepdims=True)
            if change is not None:
                block = change.resample_chunk(block)
            if len(block):
                yield block
    if change is not None:
        rest = change.resample_chunk(np.zeros((0, channels), np.float32), last=True)
        if len(rest):
            yield rest


@contextmanager
def _sound(path: Path, suffix: str, header: Header) -> Iterator[Any]:
    """Open a sound file to write; yields a function that writes [c, n]."""
    rate, change, form, subtype = header.sample_rate, None, suffix[1:].upper(), None
    if suffix.lower() == ".opus":
        form, subtype = "OGG", "OPUS"
        if rate not in OPUS_RATES:
            rate = 48000
            change = soxr.ResampleStream(header.sample_rate, rate, header.num_channels, dtype="float32", quality="HQ")
    elif suffix.lower() == ".ogg":
        subtype = "VORBIS"
    written = 0
    try:
        with soundfile.SoundFile(str(path), "w", rate, header.num_channels, subtype, format=form) as file:

            def write(wave: Float[np.ndarray, "c n"], last: bool = False) -> None:
                nonlocal written
                samples = np.ascontiguousarray(wave.T)
                if change is not None:
                    samples = change.resample_chunk(samples, last=last)
                file.write(samples.clip(-1, 1))
                written += len(samples)

            yield write
            write(np.zeros((header.num_channels, 0), np.float32), last=True)
    except (soundfile.LibsndfileError, AssertionError) as error:
        raise _unwritten(path, error) from None
    # what a file is closed with is written in silence, or not
    try:
        check_whole(path)
        lacks = soundfile.info(str(path)).frames < written
    except (DataError, soundfile.LibsndfileError):
        lacks = True
    if lacks:
        raise _unwritten(path, OSError("only a part of the sound is there"))


def _unwritten(path: Path, error: Exception) -> OSError:
    return OSError(why_not_written(error, path))


@contextmanager
def _opened(path: Path) -> Iterator[UcReader]:
    if (fault := fault_of(path)) is not None:
        raise Fault(fault.reason, f"no such .uc file: {fault.detail}", fault.fix, path).error(DataError)
    with path.open("rb") as file:
        yield UcReader(file, str(path))

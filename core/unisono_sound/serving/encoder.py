"""Encoder: sound in OpenAI's formats, whole or piece by piece, of which ``pcm`` has a rate that its clients know."""

from collections.abc import Iterator
from typing import Literal

from unisono.errors import RequestError
from unisono.media import Audio
from unisono.media import encoder as pieces_encoder
from unisono.media.opus import opus_rate

Format = Literal["mp3", "wav", "flac", "opus", "pcm"]
TYPES: dict[str, str] = {
    "mp3": "audio/mpeg",
    "wav": "audio/wav",
    "flac": "audio/flac",
    "opus": "audio/ogg",
    "pcm": "audio/pcm",
}
PCM_RATE = 24_000
"""Of ``pcm``, which has no header to say it: what OpenAI's clients play."""


def rate_of(format: Format, sample_rate: int) -> int:
    """Return the rate in Hz at which a sound of ``sample_rate`` is sent."""
    if format == "pcm":
        return PCM_RATE
    return opus_rate(sample_rate) if format == "opus" else sample_rate


def encoded(pieces: Iterator[Audio], format: Format) -> Iterator[bytes]:
    """Yield the bytes of pieces of sound, of one rate and number of channels, as soon as there are any.

    Raises ``RequestError`` where the format cannot hold the sound.
    """
    try:
        yield from pieces_encoder.encoded(pieces, format, PCM_RATE if format == "pcm" else None)
    except RequestError as error:
        if error.path == "format":
            error.path = "response_format"  # as OpenAI's clients name it
        raise


def whole(audio: Audio, format: Format) -> bytes:
    """Return the content of a file, whose header knows how long it is."""
    if format == "pcm":
        return b"".join(encoded(iter([audio]), format))
    return audio.encoded(f".{format}")

"""Made speech: speakers that espeak-ng speaks on the spot (``convert/espeak``); no download."""

from unisono_sound.corpus import FrontEndOptions, MadeOptions, MadeSpeech, SoundOptions
from unisono_sound.signal import MelSpec

from unisono_convert.corpus.data import SpeakerData


class EspeakSpeakers(MadeSpeech, SpeakerData):
    """A corpus of espeak-ng's voices: made on the spot, no download.

    Args:
        made: what is said, and how; each of its voices is a speaker.
        language: what the sentences are read as.
        crop_frames, reference_frames, val_size, mel, num_processes, batch_size, num_workers: as in
            ``convert/speakers``.
    """

    def __init__(
        self,
        *,
        made: MadeOptions = MadeOptions(voices=("plain", "f2", "m3", "f5")),  # noqa: B008
        language: str = "en-us",
        crop_frames: int = 128,
        reference_frames: int = 128,
        val_size: float = 0.05,
        mel: MelSpec = MelSpec(),  # noqa: B008
        num_processes: int | None = None,
        batch_size: int = 16,
        num_workers: int = 0,
    ):
        self.made, self.reading = made, FrontEndOptions(language=language)
        super().__init__(
            root="",
            crop_frames=crop_frames,
            reference_frames=reference_frames,
            val_size=val_size,
            mel=mel,
            sound=SoundOptions(trim_db=0.0),
            num_processes=num_processes,
            batch_size=batch_size,
            num_workers=num_workers,
        )

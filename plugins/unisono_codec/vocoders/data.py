"""Data for vocoders: random crops of recordings with their log mels, and tones made on the spot.

Items are ``{"mel": [t, m], "wave": [n]}``; with ``pitch: true`` also ``pitch`` [t] in hertz, interpolated where
there is no voice, ``voiced`` [t], and ``start``, the number of the crop's first sample in its recording. ``row``
numbers the crop in the set.

Shapes: b batch, t frames of a crop, m mel channels, n = t * hop_length samples.
"""

import math
from dataclasses import dataclass, fields, replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from unisono.data import Audit, DataModule, Drop, Features, collate_items, derive_seed, prepare_features
from unisono.errors import DataError
from unisono_sound.corpus import AudioFacts, AudioLimits, Manifest, Utterance, find_audio, read_manifests, wave_facts
from unisono_sound.signal import LogMel, MelSpec, fill_gaps, pitch, read_audio

DEFAULT_MEL = MelSpec()
MAX_SECONDS = 3600.0
LOWEST_HZ, HIGHEST_HZ = 50.0, 800.0
UNHEARD_HZ = 150.0
"""The pitch of a recording without any."""


@dataclass(frozen=True, kw_only=True)
class HeardOptions:
    """What training crops sound like, and which mels are predicted.

    mels: a folder of predicted mels, ``<id>.npy`` [frames, m] on the recording's own frames, used instead of the
        recordings' mels: to fine-tune on what an acoustic model says.
    mels_share: of the training crops that have a predicted mel, the share that use it; below 1 the vocoder goes on
        hearing recordings too.
    gain_db: training crops are made louder or softer by up to this, so that the vocoder serves speech of any level;
        crops with a predicted mel keep theirs.
    """

    mels: str | None = None
    mels_share: float = 1.0
    gain_db: float = 0.0

    def __post_init__(self):
        if self.gain_db < 0:
            message = f"data.heard.gain_db={self.gain_db} must be at least 0"
            raise DataError(message, code="range", path="data.heard.gain_db", value=self.gain_db)
        if not 0 < self.mels_share <= 1:
            message = f"data.heard.mels_share={self.mels_share} must be in (0, 1]"
            raise DataError(message, code="range", path="data.heard.mels_share", value=self.mels_share)


class AudioData(DataModule):
    """Crops of recordings, drawn anew each epoch.

    An epoch draws as many crops as would tile the recordings, each from its own stretch of them.
    Waveforms are cached at the spec's rate in 16 bits and read crop by crop; the mel of a crop is
    that of the whole recording at those frames.

    Args:
        root: a folder of audio files (any depth), a corpus in LJSpeech layout, a CSV or JSONL
            manifest, a list of these, or a mapping from speaker to one. Of several, ids are
            ``speaker/id``.
        mel: the mel spectrogram to invert.
        crop_frames: frames of a crop.
        batch_size: crops per step over all processes.
        val_size: recordings held out for validation (one crop each); the same as other models of
            the corpus hold out, if that has texts.
        heard: what training crops sound like, and which mels are predicted.
        in_memory: hold the waveforms in memory instead of mapping the cache.
        num_workers: loading processes per rank.
        pitch: measure the recordings' pitch too, for ``model.source: harmonic``.
    """

    flat: ClassVar[dict[str, str]] = {field.name: f"heard.{field.name}" for field in fields(HeardOptions)}

    def __init__(
        self,
        root: str | list[str] | dict[str, str],
        *,
        mel: MelSpec = DEFAULT_MEL,
        crop_frames: int = 48,
        batch_size: int = 16,
        val_size: int = 16,
        heard: HeardOptions = HeardOptions(),
        in_memory: bool = False,
        num_workers: int = 0,
        pitch: bool = False,
    ):
        super().__init__(batch_size, num_workers)
        if crop_frames < 1:
            message = f"crop_frames={crop_frames} must be at least 1"
            raise DataError(message, code="range", path="data.crop_frames", value=crop_frames)
        self.root = root
        self.mel = mel
        self.crop_frames = crop_frames
        self.val_size = val_size
        self.heard = heard
        self.in_memory = in_memory
        self.pitch = pitch
        self.held_out: list[str] = []
        """Texts (ids, where there is none) of the recordings that are kept for validation."""

    def prepare(self, progress: bool = True) -> Audit:
        manifest = read_recordings(self.root)
        spec = self.mel
        results = prepare_features(
            manifest.utterances,
            partial(read_wave, spec=spec, with_pitch=self.pitch),
            f"wave-1 {spec.sample_rate}" + f" pitch-1 {spec.hop_length}" * self.pitch,
            file=attrgetter("audio"),
            progress=progress,
            description="reading audio",
        )
        context = sum(LogMel(self.mel).context)
        samples = max(self.crop_frames * self.mel.hop_length, context)
        limits = AudioLimits(samples / self.mel.sample_rate, MAX_SECONDS)
        audit = Audit("recordings")
        recordings: dict[str, Recording] = {}
        manifest.tell(audit)
        for utterance, result in zip(manifest, results, strict=True):
            if isinstance(result, Drop):
                audit.drop(utterance.id, result.reason, result.detail)
                continue
            facts = result.features.facts
            try:
                if found := limits.judge(facts):
                    raise Drop(*found)
                num_frames = self.mel.frames(result.features.shapes["wave"][0])
                mel_path = self._mel_path(utterance, num_frames)
            except Drop as drop:
                audit.drop(utterance.id, drop.reason, drop.detail)
                continue
            audit.keep(utterance.id, facts["seconds"] / 3600, "hours", utterance.speaker)
            if self.in_memory:
                result.features.hold()
            recordings[utterance.id] = Recording(result.features, num_frames, mel_path)
        if not recordings:
            message = f"{self.root}: no usable recording; dropped: {audit.reasons}"
            raise DataError(message, code="empty", path="data.root", value=self.root)
        usable = Manifest(tuple(u for u in manifest if u.id in recordings))
        train, val = usable.split(self.val_size)
        crops = partial(CropSet, spec=self.mel, crop_frames=self.crop_frames)
        self.train_set = crops(
            [recordings[u.id] for u in train],
            tiled=True,
            gain_db=self.heard.gain_db,
            mels_share=self.heard.mels_share,
        )
        self.val_set = crops([recordings[u.id] for u in val], tiled=False)
        self.held_out = sorted({u.text or u.id for u in val})
        return self.finish(audit)

    def _mel_path(self, utterance: Utterance, num_frames: int) -> Path | None:
        if self.heard.mels is None:
            return None
        path = Path(self.heard.mels).expanduser() / f"{utterance.id}.npy"
        if not path.is_file():
            raise Drop("no predicted mel", f"{path} does not exist")
        try:
            shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
        except (ValueError, OSError) as error:
            raise Drop("unreadable mel", f"{path}: {error}") from None
        if shape != (num_frames, self.mel.n_mels):
            raise Drop("wrong mel", f"{path}: {shape}, expected {(num_frames, self.mel.n_mels)}")
        return path

    def describe(self) -> AudioFacts:
        return AudioFacts(mel_spec=self.mel, pitch=self.pitch, held_out=tuple(self.held_out))

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        return collate_items(items)


@dataclass
class Recording:
    """One usable recording; ``mel_path`` where its mel was predicted."""

    features: Features
    num_frames: int
    mel_path: Path | None = None


class CropSet:
    """Crops of recordings; ``tiled``, as many of each as its frames hold, each from its own stretch
    of it, else one crop per recording."""

    def __init__(
        self,
        recordings: list[Recording],
        spec: MelSpec,
        crop_frames: int,
        tiled: bool,
        gain_db: float = 0.0,
        mels_share: float = 1.0,
    ):
        self.gain_db = gain_db
        self.mels_share = mels_share
        self.recordings = recordings
        self.crop_frames = crop_frames
        self.log_mel = LogMel(spec)
        counts = [r.num_frames // crop_frames if tiled else 1 for r in recordings]
        self.places = [(i, j, n) for i, n in enumerate(counts) for j in range(n)]

    def __len__(self) -> int:
        return len(self.places)

    def size(self, index: int) -> int:
        return self.crop_frames

    def item(self, index: int, generator: torch.Generator) -> dict[str, Tensor]:
        which, stretch, num_stretches = self.places[index]
        recording = self.recordings[which]
        starts = recording.num_frames - self.crop_frames + 1
        low, high = stretch * starts // num_stretches, (stretch + 1) * starts // num_stretches
        start = int(torch.randint(low, max(high, low + 1), (), generator=generator))
        gain = 1.0
        if recording.mel_path is not None and self.mels_share < 1:
            if float(torch.rand((), generator=generator)) >= self.mels_share:
                recording = replace(recording, mel_path=None)
        if self.gain_db and recording.mel_path is None:
            share = float(torch.rand((), generator=generator))
            gain = 10 ** ((2 * share - 1) * self.gain_db / 20)
        wave, mel = crop(recording, self.log_mel, start, self.crop_frames, gain)
        item = {"mel": mel, "wave": wave}
        if "pitch" in recording.features.shapes:
            pitch = recording.features.load("pitch", start, start + self.crop_frames)
            item |= {"pitch": pitch.abs(), "voiced": pitch > 0}
            item["start"] = torch.tensor(start * self.log_mel.spec.hop_length)
        return item


def crop(
    recording: Recording, log_mel: LogMel, start: int, num_frames: int, gain: float = 1.0
) -> tuple[Float[Tensor, "n"], Float[Tensor, "t m"]]:
    """Read frames ``start`` to ``start + num_frames``: their samples, and their mel as it is in the
    mel of the whole recording, both at ``gain`` times the level."""
    hop = log_mel.spec.hop_length
    left, right = log_mel.context
    low, high = start * hop - left, (start + num_frames) * hop + right
    total = recording.features.shapes["wave"][0]
    samples = recording.features.load("wave", max(low, 0), min(high, total)).float()
    samples = samples * (gain / 32768)
    beyond = (max(-low, 0), max(high - total, 0))
    if any(beyond):  # as the transform of the whole recording reflects its ends
        samples = F.pad(samples[None, None], beyond, mode="reflect")[0, 0]
    wave = samples[left : left + num_frames * hop]
    if recording.mel_path is None:
        return wave, log_mel(samples[None], pad_mode="none")[0]
    mels = np.load(recording.mel_path, mmap_mode="r", allow_pickle=False)
    return wave, torch.from_numpy(mels[start : start + num_frames].astype(np.float32))


def read_wave(
    utterance: Utterance, spec: MelSpec, with_pitch: bool = False
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a recording for the cache: 16-bit samples at the wanted rate, and its pitch [t] in hertz, negative where
    it is not heard but interpolated."""
    wave, _ = read_audio(utterance.audio, spec.sample_rate)
    samples = (wave * 32768).round().clamp(-32768, 32767).to(torch.int16)
    features = {"wave": samples}
    if with_pitch:
        hz = pitch(wave, spec, LOWEST_HZ, HIGHEST_HZ)
        voiced = hz > 0
        between = fill_gaps(hz.clamp(min=1).log()[None], voiced[None])[0].exp()
        features["pitch"] = torch.where(voiced, hz, -between if voiced.any() else torch.tensor(-UNHEARD_HZ))
    return features, wave_facts(wave, spec.sample_rate)


def read_recordings(root: str | list[str] | dict[str, str]) -> Manifest:
    """List the recordings of what ``AudioData`` has as its root."""
    if isinstance(root, str) and Path(root).expanduser().is_dir():
        folder = Path(root).expanduser()
        if not (folder / "metadata.csv").is_file():
            return find_audio(folder)
    return read_manifests(root)


class ToneData(DataModule):
    """Harmonic tones that glide, over a little noise, made on the spot: for tests and tiny recipes.

    Items as of ``AudioData``, with the pitch that they were made of. No file is read or written.

    Args:
        num_items: tones to train on.
        mel, crop_frames, batch_size, val_size, num_workers: as of ``AudioData``.
    """

    def __init__(
        self,
        *,
        num_items: int = 64,
        mel: MelSpec = DEFAULT_MEL,
        crop_frames: int = 32,
        batch_size: int = 8,
        val_size: int = 4,
        num_workers: int = 0,
    ):
        super().__init__(batch_size, num_workers)
        self.num_items = num_items
        self.mel = mel
        self.crop_frames = crop_frames
        self.val_size = val_size

    def prepare(self, progress: bool = True) -> Audit:
        self.train_set = ToneSet(range(self.num_items), self.mel, self.crop_frames)
        held_out = range(self.num_items, self.num_items + self.val_size)
        self.val_set = ToneSet(held_out, self.mel, self.crop_frames)
        audit = Audit("tones")
        for number in range(self.num_items):
            audit.keep(f"tone-{number}", self.mel.seconds(2 * self.crop_frames), "seconds")
        return self.finish(audit)

    def describe(self) -> AudioFacts:
        return AudioFacts(mel_spec=self.mel, pitch=True)

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        return collate_items(items)


class ToneSet:
    """Random crops, half as long as the tones."""

    def __init__(self, numbers: range, spec: MelSpec, crop_frames: int):
        self.numbers = numbers
        self.crop_frames = crop_frames
        self.log_mel = LogMel(spec)

    def __len__(self) -> int:
        return len(self.numbers)

    def size(self, index: int) -> int:
        return self.crop_frames

    def item(self, index: int, generator: torch.Generator) -> dict[str, Tensor]:
        spec = self.log_mel.spec
        hop = spec.hop_length
        number, num_samples = self.numbers[index], 2 * self.crop_frames * hop
        wave, hz = make_tone(number, num_samples, spec.sample_rate), tone_pitch(number, num_samples)
        mel = self.log_mel(wave[None])[0]
        start = int(torch.randint(0, self.crop_frames + 1, (), generator=generator))
        stop = start + self.crop_frames
        return {
            "mel": mel[start:stop],
            "wave": wave[start * hop : stop * hop],
            "pitch": hz[hop // 2 :: hop][start:stop],
            "voiced": torch.ones(self.crop_frames, dtype=torch.bool),
            "start": torch.tensor(start * hop),
        }


def make_tone(number: int, num_samples: int, sample_rate: int) -> Float[Tensor, "n"]:
    """Make the tone of a number: 80 to 400 Hz, gliding up to half an octave, 12 harmonics, faint
    noise."""
    hz = tone_pitch(number, num_samples)
    generator = torch.Generator().manual_seed(derive_seed("noise", number))
    tilt = torch.rand((), generator=generator)
    phase = 2 * math.pi * torch.cumsum(hz.double(), 0) / sample_rate
    harmonics = torch.arange(1, 13)[:, None]
    level = harmonics ** -(0.7 + tilt) * (harmonics * hz < 0.45 * sample_rate)
    tone = (level * torch.sin(harmonics * phase)).sum(0)
    noise = torch.randn(num_samples, generator=generator)
    return (0.3 * tone / tone.abs().max() + 0.003 * noise).float()


def tone_pitch(number: int, num_samples: int) -> Float[Tensor, "n"]:
    """Return the pitch in hertz of the tone of a number, at every sample."""
    generator = torch.Generator().manual_seed(derive_seed("tone", number))
    start, glide = torch.rand(2, generator=generator).tolist()
    return 80 * 5**start * 2 ** ((glide - 0.5) * torch.linspace(0, 1, num_samples))

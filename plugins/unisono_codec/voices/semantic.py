"""Semantic tokens: what is said, as one whole number per codec frame; what token models of speech are conditioned on.

Two providers, which a model does not tell apart but by their ``SemanticSpec``:

- ``Phonemes``: the symbols of a text, each stretched by its duration. Works anywhere; speaks any text, since
  durations can be predicted.
- ``HubertUnits``: the nearest of k means over a layer of HuBERT (Hsu et al., arXiv:2106.07447), as AudioLM and SpeechLM
  have them; for those who can download a model of ``transformers``. Made of sound alone, of any speaker.

::

    python -m unisono_codec.voices.semantic facebook/hubert-base-ls960 UNITS --data CORPUS --layer 9 --clusters 500
    unisono train codec/soundstorm-small --data.reading.semantic=hubert:UNITS …

Frame rates. Providers count in frames of their own, mels' or HuBERT's (50 a second); tokens come at the codec's.
Durations are added up, divided, and the sums rounded, so that nothing drifts. Of HuBERT's frames, the one whose
centre, (320 j + 200) / 16000 s, is nearest to the codec frame's, (i + 1/2) / rate, is taken.

Shapes: b batch, s symbols, t codec frames, n samples, k clusters, d channels.
"""

import argparse
import logging
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from unisono.duration import round_durations
from unisono.errors import DataError, MissingExtra, RequestError, UnisonoError
from unisono.files import written_aside
from unisono_sound.corpus import find_audio, read_manifests
from unisono_sound.signal import read_audio, resample

PHONEMES, HUBERT = "phonemes", "hubert"
HUBERT_RATE, HUBERT_HOP, HUBERT_FIELD = 16000, 320, 400
UNITS = "units.safetensors"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SemanticSpec:
    """Whose tokens these are, how many kinds there are (0 … vocabulary − 1), and how many come a second."""

    provider: str
    vocabulary: int
    frame_rate: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON; ``from_dict`` takes it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "SemanticSpec":
        """Return the spec that ``to_dict`` described."""
        return cls(**values)

    def check(self, tokens: Int[Tensor, "*b t"], frame_rate: float | None = None, what: str = "semantic") -> None:
        """Raise ``RequestError`` for tokens that cannot be these: none, another rate, or outside of the vocabulary."""
        if frame_rate is not None and not math.isclose(frame_rate, self.frame_rate, rel_tol=1e-3):
            message = (
                f"{what} tokens come at {frame_rate:g} a second, this model's at {self.frame_rate:g}: "
                "make them at the codec's frame rate"
            )
            raise RequestError(message, code="conflict", path=f"{what}_rate", value=frame_rate)
        if not tokens.numel():
            raise RequestError(f"{what} holds no token: give at least one", code="empty", path=what)
        low, high = int(tokens.min()), int(tokens.max())
        if low < 0 or high >= self.vocabulary:
            message = (
                f"{what} tokens from {low} to {high}: this model's {self.provider} have {self.vocabulary} kinds, "
                f"0 to {self.vocabulary - 1}"
            )
            raise RequestError(message, code="range", path=what, value=(low, high))


class Phonemes:
    """Symbols of a text, each as long as it lasts.

    ``frame_rate`` is the codec's, ``duration_rate`` that of the frames in which durations are counted.
    """

    def __init__(self, symbols: Sequence[str], frame_rate: float, duration_rate: float):
        self.spec = SemanticSpec(PHONEMES, len(symbols), frame_rate)
        self.ratio = duration_rate / frame_rate

    def durations(
        self,
        durations: Float[Tensor, "b s"],
        lengths: Int[Tensor, " b"],
        total: Int[Tensor, " b"] | None = None,
        pace: float | Float[Tensor, "b s"] = 1.0,
    ) -> Int[Tensor, "b s"]:
        """Return durations in codec frames, whole, that sum to ``total`` where it is given; some may be 0."""
        return round_durations(durations.double() / self.ratio, lengths, speed=pace, total=total)

    def __call__(self, symbols: Int[Tensor, " s"], frames: Int[Tensor, " s"]) -> Int[Tensor, " t"]:
        """Return the tokens of one utterance, ``frames`` being codec frames of each symbol."""
        tokens = torch.repeat_interleave(symbols, frames)
        self.spec.check(tokens)
        return tokens


class HubertUnits:
    """Clusters of HuBERT's frames.

    Args:
        model: a ``transformers`` HubertModel.
        centres: the clusters' means.
        layer: whose output is looked up; 0 is what goes into the first.
        frame_rate: the codec's.
        normalise: whether the model was trained on waveforms of mean 0 and variance 1.
    """

    def __init__(
        self, model: Any, centres: Float[Tensor, "k d"], layer: int, frame_rate: float, normalise: bool = True
    ):
        check_layer(model, layer)
        if centres.shape[1] != model.config.hidden_size:
            message = (
                f"clusters of {centres.shape[1]} channels, but the model has {model.config.hidden_size}: "
                "they were made of another model"
            )
            raise DataError(message, code="shape", path="centres", value=centres.shape[1])
        self.model, self.centres, self.layer, self.normalise = model.eval(), centres, layer, normalise
        self.spec = SemanticSpec(HUBERT, len(centres), frame_rate)

    @classmethod
    def read(cls, folder: str | Path, frame_rate: float) -> "HubertUnits":
        """Read clusters as ``write_units`` wrote them, and the model that they name."""
        path = Path(folder).expanduser() / UNITS
        try:
            with safe_open(path, "pt") as file:
                centres, facts = file.get_tensor("centres"), file.metadata()
        except (OSError, SafetensorError) as error:
            message = (
                f"{path}: cannot be read ({error}): make it with  "
                f"python -m unisono_codec.voices.semantic MODEL {folder}"
            )
            raise DataError(
                message, code="missing" if isinstance(error, FileNotFoundError) else "damaged", path=path
            ) from None
        model, normalise = load_hubert(facts["model"])
        return cls(model, centres, int(facts["layer"]), frame_rate, normalise)

    @torch.no_grad()
    def __call__(self, wave: Float[Tensor, " n"], sample_rate: int) -> Int[Tensor, " t"]:
        """Return the tokens of a recording, one per codec frame that it has begun."""
        count = math.ceil(len(wave) * self.spec.frame_rate / sample_rate - 1e-9)
        if count < 1:
            raise RequestError("the recording holds no sample: there is nothing to hear", code="empty", path="wave")
        heard = hubert_frames(self.model, wave, sample_rate, self.layer, self.normalise)
        units = nearest(heard, self.centres)
        return units[nearest_frames(count, self.spec.frame_rate, len(units))]


def nearest_frames(count: int, frame_rate: float, available: int) -> Int[Tensor, " t"]:
    """Return which of HuBERT's frames has its centre nearest to that of each of ``count`` codec frames."""
    centre = (torch.arange(count, dtype=torch.float64) + 0.5) / frame_rate
    place = (centre * HUBERT_RATE - HUBERT_FIELD / 2) / HUBERT_HOP
    return (place + 0.5).floor().long().clamp(0, available - 1)


def hubert_frames(
    model: Any, wave: Float[Tensor, " n"], sample_rate: int, layer: int, normalise: bool
) -> Float[Tensor, "u d"]:
    """Return what a layer of HuBERT makes of a recording, 50 times a second; a short one is padded with silence."""
    wave = resample(wave, sample_rate, HUBERT_RATE)
    if normalise:
        wave = (wave - wave.mean()) / (wave.var(correction=0) + 1e-7).sqrt()
    wave = torch.nn.functional.pad(wave, (0, max(0, HUBERT_FIELD - len(wave))))
    with torch.no_grad():
        return model(wave[None], output_hidden_states=True).hidden_states[layer][0]


def nearest(x: Float[Tensor, "n d"], centres: Float[Tensor, "k d"]) -> Int[Tensor, " n"]:
    """Return each vector's nearest centre; of equals the first."""
    return torch.cat([torch.cdist(part, centres).argmin(1) for part in x.split(8192)])


def k_means(x: Float[Tensor, "n d"], num_clusters: int, num_rounds: int = 30, seed: int = 0) -> Float[Tensor, "k d"]:
    """Return the means of clusters: Lloyd's rounds from k-means++'s start (Arthur and Vassilvitskii, 2007).

    A cluster that loses all its vectors takes the vector that is farthest from its own mean.
    """
    if not 1 <= num_clusters <= len(x):
        message = f"{num_clusters} clusters of {len(x)} vectors: give at least one, and no more than vectors"
        raise DataError(message, code="range", path="num_clusters", value=num_clusters)
    generator = torch.Generator().manual_seed(seed)
    first = int(torch.randint(len(x), (), generator=generator))
    centres = [x[first]]
    gap = (x - x[first]).square().sum(1).double()
    for _ in range(num_clusters - 1):
        odds = gap if float(gap.sum()) > 0 else torch.ones_like(gap)
        reached = torch.rand((), generator=generator, dtype=torch.float64) * odds.sum()
        chosen = int(torch.searchsorted(odds.cumsum(0), reached).clamp(max=len(x) - 1))
        centres.append(x[chosen])
        gap = torch.minimum(gap, (x - x[chosen]).square().sum(1).double())
    means = torch.stack(centres)
    for _ in range(num_rounds):
        owner = nearest(x, means)
        count = torch.bincount(owner, minlength=num_clusters)
        sums = torch.zeros_like(means).index_add_(0, owner, x)
        new = torch.where(count[:, None] > 0, sums / count.clamp(min=1)[:, None], means)
        for lonely in (count == 0).nonzero()[:, 0].tolist():
            far = int((x - new[owner]).square().sum(1).argmax())
            new[lonely], owner[far] = x[far], lonely
        if torch.equal(new, means):
            break
        means = new
    return means


def load_hubert(name: str) -> tuple[Any, bool]:
    """Return a HubertModel from a folder or a hub id, and whether it wants waveforms normalised.

    Only safetensors are opened. Raises ``MissingExtra`` without ``transformers``.
    """
    try:
        from transformers import HubertModel, Wav2Vec2FeatureExtractor
    except ImportError as error:
        raise MissingExtra("transformers", "hubert") from error
    try:
        model = HubertModel.from_pretrained(name, use_safetensors=True)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{name!r} cannot be loaded as a HuBERT model with safetensors: {error}", code="format", path=name
        ) from None
    try:
        normalise = bool(Wav2Vec2FeatureExtractor.from_pretrained(name).do_normalize)
    except (OSError, ValueError):  # a folder without that file: as HuBERT's own
        normalise = True
    return model.eval().requires_grad_(False), normalise


def check_layer(model: Any, layer: int) -> None:
    """Raise ``DataError`` for a layer that the model lacks."""
    if not 0 <= layer <= model.config.num_hidden_layers:
        message = f"layer={layer} must be from 0 to {model.config.num_hidden_layers}, which the model has"
        raise DataError(message, code="range", path="layer", value=layer)


def write_units(
    name: str,
    dest: str | Path,
    data: str | list[str] | dict[str, str],
    layer: int = 9,
    num_clusters: int = 500,
    most_frames: int = 200_000,
    seed: int = 0,
) -> Path:
    """Cluster a layer's frames over a corpus, at most ``most_frames`` drawn at random, and write the means.

    Lines of the corpus that cannot be used are warned of.
    """
    model, normalise = load_hubert(name)
    check_layer(model, layer)
    folder = Path(data).expanduser() if isinstance(data, str) else None
    plain = folder is not None and folder.is_dir() and not (folder / "metadata.csv").is_file()
    manifest = find_audio(str(folder)) if plain else read_manifests(data)
    for _, fault in manifest.faults:
        log.warning("left out: %s", fault)
    heard = []
    for utterance in manifest:
        wave, rate = read_audio(utterance.audio, HUBERT_RATE)
        heard.append(hubert_frames(model, wave, rate, layer, normalise))
    frames = torch.cat(heard)
    order = torch.randperm(len(frames), generator=torch.Generator().manual_seed(seed))
    centres = k_means(frames[order[:most_frames]], num_clusters, seed=seed)
    path = Path(dest) / UNITS
    with written_aside(path, DataError, also=(SafetensorError,)) as aside:
        save_file({"centres": centres.contiguous()}, aside, {"model": name, "layer": str(layer)})
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """Cluster what HuBERT hears of a corpus, from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m unisono_codec.voices.semantic", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("model", help="a HuBERT model: a folder or a hub id")
    parser.add_argument("dest", help="the folder to write")
    parser.add_argument("--data", required=True, help="recordings: a folder, or a corpus")
    parser.add_argument("--layer", type=int, default=9, help="whose output is clustered (default: %(default)s)")
    parser.add_argument("--clusters", type=int, default=500, help="kinds of tokens (default: %(default)s)")
    args = parser.parse_args(arguments)
    try:
        print(write_units(args.model, args.dest, args.data, args.layer, args.clusters))
    except UnisonoError as error:
        print(f"unisono: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

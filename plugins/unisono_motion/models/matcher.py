"""A motion–text encoder: texts and motions in one space, near each other where they say the same.

It measures motion models, as the encoders of Guo et al., "Generating Diverse and Natural 3D Human Motions from
Text" (CVPR 2022, §4), do: FID, R-precision and distances are taken in its space. Trained contrastively, as TMR
(Petrovich et al., arXiv:2305.00976), by the symmetric InfoNCE of CLIP (arXiv:2103.00020) over the whole batch.

Differences: no variational heads and no decoder, only the encoders; clips of the batch of which the same is said
are positives of each other, not negatives; vectors have length 1.

Shapes: b batch, t frames, w tokens of a caption, d channels, e dimensions of the space.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F
from unisono import Media, Model, Request, peers
from unisono.data import Drop
from unisono.errors import DataError, RequestError
from unisono.model import OnStep
from unisono.nn.captions import SmallTextEncoder
from unisono.nn.fft import sinusoids
from unisono.nn.transformer import Block
from unisono.request import FILE

from unisono_motion.corpus.facts import MotionFacts
from unisono_motion.corpus.fit import fit
from unisono_motion.models.caption_encoders import read_caption
from unisono_motion.models.sizes import NETWORK, TransformerSizes
from unisono_motion.skeleton import Motion


@dataclass(frozen=True, eq=False)
class Place(Media):
    """Where a text or a motion lies: ``vector`` [e] of length 1."""

    vector: np.ndarray
    of: str

    suffixes: ClassVar[tuple[str, ...]] = (".json", ".npz")

    def distance(self, other: "Place") -> float:
        """Return the Euclidean distance to another place: 0 the same, √2 unrelated, 2 opposite."""
        return float(np.linalg.norm(self.vector - other.vector))

    def _write(self, path: Path) -> None:
        if path.suffix.lower() == ".npz":
            with path.open("wb") as file:
                np.savez_compressed(file, vector=self.vector, of=np.array(self.of))
        else:
            path.write_text(json.dumps({"of": self.of, "vector": self.vector.tolist()}) + "\n", encoding="utf-8")

    def plot(self):
        """Draw the vector's numbers as bars."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 2), layout="constrained")
        axes = figure.subplots()
        axes.bar(np.arange(len(self.vector)), self.vector)
        axes.set_title(self.of)
        return figure


class MotionMatcher(Model):
    """Two encoders into one space.

    ::

        caption ─ small text encoder ─ linear ─┐
                                               ├─ length 1 ─ temperature · inner products ─ InfoNCE
        features ─ conv 4, stride 2 × 2 ─ block × num_layers ─ mean ─ linear ─┘

    Args:
        network: sizes of both transformers; ``num_layers`` of the motions'.
        text_layers: of the text encoder.
        space_dim: dimensions of the common space.
        spell_share: the share of words that are spelled while training.
    """

    Media: ClassVar[type[Place]] = Place
    Facts: ClassVar[type[MotionFacts]] = MotionFacts
    facts: MotionFacts
    source_facts: ClassVar[tuple[str, ...]] = ("words", "motion")
    salt: ClassVar[str] = "matcher"
    flat: ClassVar[dict[str, str]] = NETWORK
    deterministic: ClassVar[bool] = True

    class Request(Request):
        """A text, or a motion's file, to find the place of."""

        text: str | None = Field(default=None, description="a caption")
        motion: str | None = Field(default=None, description="path of a BVH or NPZ file", json_schema_extra=FILE)
        metres_per_unit: float = Field(
            default=0.01, gt=0, le=1000, description="the BVH file's unit of length, in metres"
        )

        @model_validator(mode="after")
        def _one_of_both(self):
            if (self.text is None) == (self.motion is None):
                raise RequestError(
                    "give either text or motion", code="missing" if self.text is None else "conflict", path="text"
                )
            return self

    def __init__(
        self,
        *,
        network: TransformerSizes = TransformerSizes(dim=256, num_layers=4, num_heads=4),  # noqa: B008
        text_layers: int = 2,
        space_dim: int = 64,
        spell_share: float = 0.1,
    ):
        super().__init__()
        self.network, self.space_dim, self.spell_share = network, space_dim, spell_share
        self.text_layers = text_layers

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build for the features and the words of the data."""
        super().build(facts)
        self.spec = self.facts.motion
        mean, std = torch.tensor(self.facts.mean), torch.tensor(self.facts.std)
        for columns in self.spec.slices.values():
            std[columns] = std[columns].mean().clamp(min=1e-4) if std[columns].numel() else std[columns]
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)
        dim, heads, dropout = self.network.dim, self.network.num_heads, self.network.dropout
        self.text = SmallTextEncoder(self.facts.words, dim, self.text_layers, heads, dropout)
        self.text_out = nn.Linear(dim, self.space_dim)
        self.down = nn.ModuleList([nn.Conv1d(self.spec.dim, dim, 4, 2, 1), nn.Conv1d(dim, dim, 4, 2, 1)])
        self.blocks = nn.ModuleList(Block(dim, heads, dropout) for _ in range(self.network.num_layers))
        self.norm = nn.LayerNorm(dim)
        self.motion_out = nn.Linear(dim, self.space_dim)
        self.log_scale = nn.Parameter(torch.tensor(2.7))  # exp: 14.9, CLIP's start

    # ---- the encoders --------------------------------------------------------------------------

    def place_texts(
        self, captions: Sequence[str], spell_share: float = 0.0, seeds: Sequence[int] = ()
    ) -> Float[Tensor, "b e"]:
        """Return the places of captions."""
        *_, sentence = self.text.read(captions, spell_share, seeds)
        return F.normalize(self.text_out(sentence).float(), dim=-1)

    def place_features(self, features: Float[Tensor, "b t d"], lengths: Int[Tensor, " b"]) -> Float[Tensor, "b e"]:
        """Return the places of motions, given as features with their lengths in frames."""
        kept = torch.arange(features.shape[1], device=features.device) < lengths[:, None]
        x = ((features - self.mean) / self.std * kept[..., None]).mT.to(self.down[0].get_parameter("weight").dtype)
        if x.shape[-1] % 4:
            x, kept = (F.pad(part, (0, 4 - part.shape[-1] % 4)) for part in (x, kept))
        for conv in self.down:
            # A place holds something if its first frame does.
            kept = kept[:, ::2]
            x = F.gelu(conv(x)) * kept[:, None]
        x = x.mT
        x = x + sinusoids(x.shape[1], self.network.dim, x.device).to(x.dtype)
        for block in self.blocks:
            x = block(x, kept)
        x = self.norm(x) * kept[..., None]
        mean = x.sum(1) / kept.sum(1, keepdim=True).clamp(min=1)
        return F.normalize(self.motion_out(mean).float(), dim=-1)

    def features(self, motion: Motion) -> Float[Tensor, "t d"]:
        """Return a motion's features, fitted to this matcher's skeleton and rate; raises ``RequestError``."""
        try:
            return torch.from_numpy(self.spec.encode(fit(motion, self.spec)))
        except Drop as drop:
            raise RequestError(
                f"this motion cannot be matched: {drop}", code="unsupported", path="motion", value=drop.reason
            ) from None

    @torch.no_grad()
    def place_motions(self, motions: Sequence[Motion]) -> Float[np.ndarray, "b e"]:
        """Return the places of motions, each encoded by itself."""
        places = []
        for motion in motions:
            features = self.features(motion).to(self.device)
            places.append(self.place_features(features[None], torch.tensor([len(features)], device=self.device)))
        return torch.cat(places).cpu().numpy()

    # ---- training ------------------------------------------------------------------------------

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        seeds = self.row_seeds(batch)
        empty = [i for i, caption in enumerate(batch["caption"]) if not caption.strip()]
        if empty:
            raise DataError(
                f"item {int(batch['row'][empty[0]])} has no caption: a matcher needs one for every clip",
                code="missing",
                path="caption",
                value=int(batch["row"][empty[0]]),
            )
        texts = self.place_texts(batch["caption"], self.spell_share if self.training else 0.0, seeds)
        motions = self.place_features(batch["features"], batch["length"])
        label = batch["label"]
        if self.training:  # validation batches differ in size between ranks
            texts, motions, label = gather(texts), gather(motions), gather(label)
        logits = self.log_scale.clamp(max=4.6).exp() * texts @ motions.mT
        same = label[:, None] == label
        target = same / same.sum(1, keepdim=True)
        loss = 0.5 * (F.cross_entropy(logits, target) + F.cross_entropy(logits.mT, target))
        best = same.gather(1, logits.argmax(0)[:, None]).float().mean()
        return {"loss": loss, "found": best.detach()}

    def units(self, batch: dict[str, Any]) -> dict[str, int]:
        return {"frames": int(batch["length"].sum())}

    # ---- synthesis -----------------------------------------------------------------------------

    def synthesize(
        self,
        requests: Sequence["MotionMatcher.Request"],
        generator: torch.Generator | None = None,
        on_step: OnStep | None = None,
    ) -> list[Place]:
        """Return the place of each text or motion. Deterministic."""
        places = []
        for done, request in enumerate(requests, 1):
            if request.text is not None:
                read_caption(request.text)
                vector = self.place_texts([request.text])[0].cpu().numpy()
                places.append(Place(vector, request.text))
            else:
                assert request.motion is not None
                try:
                    motion = Motion.read(request.motion, request.metres_per_unit)
                except DataError as error:
                    raise RequestError(str(error), code=error.code, path="motion", value=request.motion) from None
                places.append(Place(self.place_motions([motion])[0], request.motion))
            if on_step is not None:
                on_step(done, len(requests))
        return places

    def preview_requests(self) -> list["MotionMatcher.Request"]:
        return [self.Request(text=text) for text in self.facts.sample_captions[:3]]


class _Gather(torch.autograd.Function):
    """All ranks' rows, in the order of ranks; a row's gradient is the sum of what all ranks say of it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.cat(peers.gather(x))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return peers.add_up(grads[0]).chunk(peers.num_peers())[peers.peer_rank()]


def gather(x: Tensor) -> Tensor:
    """Return the rows of all ranks, which hold equally many; the rows themselves without ranks.

    A loss over all of them is the same on every rank. Its gradient with respect to a rank's own rows comes out once
    per rank; averaging over ranks, as distributed training does, then gives that of one process.
    """
    return x if peers.num_peers() == 1 else _Gather.apply(x)

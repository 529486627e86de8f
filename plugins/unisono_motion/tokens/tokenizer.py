"""Motion tokenizers: a convolutional VQ-VAE from features to a few tokens a second, and back.

::

    BVH ─ fit, features (features.py) ─ normalise ─ encoder ─ quantiser ─ decoder ─ features ─ Motion
                                                                 │
                                                     tokens [b, n, q], n = ⌈t / downsampling⌉

- ``MotionTokenizer``: one or more residual levels (MoMask, arXiv:2312.00063; one level is the tokenizer of
  T2M-GPT, arXiv:2301.06052, and MMM, arXiv:2312.03596), codebooks that follow by moving averages.
- ``ScalarMotionTokenizer``: finite scalar quantisation (arXiv:2309.15505), nothing to collapse.
- ``PartsMotionTokenizer``: an encoder and codebooks each for lower and upper body (MMM, section 3.5), so that one
  can be kept while the other is made anew.

Token models name one as their component: ``encode`` and ``decode`` work on features as they are (the tokenizer
normalises by its own statistics), ``spec`` says what they mean, ``motion`` makes media of them.

Differences: features are normalised per group as HumanML3D does, the root's and the contacts' five times as
strong; beside the published velocity loss on places relative to the root, one on the way walked (``way_weight``),
because small errors of turns and velocities add up along it; frames beyond a multiple of the
downsampling repeat the last one.

Shapes: b batch, t frames, n token positions, q codebooks, d features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F
from unisono import Model, Request
from unisono.data import Drop
from unisono.errors import DataError, RecipeError, RequestError
from unisono.model import OnStep
from unisono.nn.quantize import GroupedQuantizer, Quantised, Quantizer, ResidualQuantizer, ScalarQuantizer
from unisono.request import FILE

from unisono_motion.corpus.facts import MotionFacts
from unisono_motion.corpus.fit import fit
from unisono_motion.skeleton import Motion
from unisono_motion.tokens.codec import MotionDecoder, MotionEncoder, pad_to_multiple
from unisono_motion.tokens.sizes import (
    FLAT,
    SCALAR_FLAT,
    CodebookObjective,
    CodebookSizes,
    ConvSizes,
    ScalarObjective,
)

STRONG = 5.0
"""How much more the root's features and the contacts count, as in HumanML3D."""


class MotionTokenizer(Model):
    """A VQ-VAE of motion with residual levels.

    Args:
        network: sizes of the convolutions.
        codebook: sizes of the codebooks, and how they follow.
        objective: weights of the losses.
    """

    Media: ClassVar[type[Motion]] = Motion
    Facts: ClassVar[type[MotionFacts]] = MotionFacts
    facts: MotionFacts
    source_facts: ClassVar[tuple[str, ...]] = ("motion",)
    text_field: ClassVar[str] = "motion"
    deterministic: ClassVar[bool] = True
    flat: ClassVar[dict[str, str]] = FLAT

    class Request(Request):
        """A motion to encode and decode: a file, or features."""

        motion: str | None = Field(
            default=None, description="path of a BVH or NPZ file to reconstruct", json_schema_extra=FILE
        )
        features: Annotated[
            list[list[float]] | None,
            BeforeValidator(lambda x: x.tolist() if hasattr(x, "tolist") else x),
        ] = Field(default=None, description="features to reconstruct, frames by numbers")
        metres_per_unit: float = Field(
            default=0.01, gt=0, le=1000, description="the BVH file's unit of length, in metres"
        )

        @model_validator(mode="after")
        def _one_source(self):
            if (self.motion is None) == (self.features is None):
                raise RequestError(
                    "give either motion, a path, or features, a list of frames",
                    code="missing" if self.motion is None else "conflict",
                    path="motion",
                )
            return self

    def __init__(
        self,
        *,
        network: ConvSizes = ConvSizes(),  # noqa: B008
        codebook: CodebookSizes = CodebookSizes(),  # noqa: B008
        objective: CodebookObjective = CodebookObjective(),  # noqa: B008
    ):
        super().__init__()
        _check_downsampling(network.downsampling)
        self.network, self.codebook, self.objective = network, codebook, objective
        self._previews: list[Any] = []

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build for the features that ``facts.motion`` describes, normalised by ``facts.mean`` and ``facts.std``."""
        super().build(facts)
        self.spec = self.facts.motion
        mean, std = torch.tensor(self.facts.mean), torch.tensor(self.facts.std)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", self._group_std(std), persistent=False)
        self.quantizer = self._quantizer()
        code_dim = self.codebook.code_dim
        self.encoders = nn.ModuleList(
            MotionEncoder(len(columns), code_dim, self.network) for columns in self._columns()
        )
        self.decoder = MotionDecoder(self.spec.dim, code_dim * len(self.encoders), self.network)

    def _columns(self) -> list[list[int]]:
        """The features that each encoder sees."""
        return [list(range(self.spec.dim))]

    def _quantizer(self) -> Quantizer:
        return ResidualQuantizer(
            self.codebook.code_dim,
            self.codebook.codebook_size,
            self.codebook.num_levels,
            self.codebook.level_dropout,
            self.codebook.ema_decay,
            self.codebook.dead_below,
        )

    def _group_std(self, std: Float[Tensor, "d"]) -> Float[Tensor, "d"]:
        """One scale per group: a joint that hardly moves is not magnified."""
        std = std.clone()
        for name, columns in self.spec.slices.items():
            if std[columns].numel():
                scale = std[columns].mean().clamp(min=1e-4)
                std[columns] = scale / (STRONG if name in ("turn", "velocity", "height", "contacts") else 1.0)
        return std

    # ---- as a tokenizer ------------------------------------------------------------------------

    @property
    def downsampling(self) -> int:
        """Frames per token position."""
        return self.network.downsampling

    @property
    def codebook_size(self) -> int:
        """Tokens are from 0 up to, not including, this."""
        return self.quantizer.codebook_size

    @property
    def num_codebooks(self) -> int:
        """Tokens per position, ``q``."""
        return self.quantizer.num_codebooks

    @property
    def streams(self) -> list[tuple[str, int]]:
        """Part of the body and residual level of each codebook, in the order of the tokens' last axis."""
        return [("body", level) for level in range(self.num_codebooks)]

    def num_positions(self, frames: int) -> int:
        """Token positions of a motion of so many frames."""
        return -(-frames // self.downsampling)

    @torch.no_grad()
    def encode(self, features: Float[Tensor, "b t d"], lengths: Int[Tensor, "b"] | None = None) -> Int[Tensor, "b n q"]:
        """Return the tokens of features; positions beyond an item's length (in frames) hold 0.

        Raises ``RequestError`` where the weights have 16 bits, in which codes are not told apart.
        """
        if self.mean.dtype.itemsize < 4:
            raise RequestError(
                f"this tokenizer's weights are {self.mean.dtype}, and motions are read in 32 bits: call its float(), "
                "and run under torch.autocast where that is to be faster",
                code="unsupported",
                path="motion",
                value=str(self.mean.dtype),
            )
        z, mask = self._encoded(*self._normalised(features, lengths))
        training = self.quantizer.training
        self.quantizer.eval()  # reading tokens moves no codebook
        try:
            return self.quantizer(z, mask).tokens
        finally:
            self.quantizer.train(training)

    def decode(self, tokens: Int[Tensor, "b n q"], lengths: Int[Tensor, "b"] | None = None) -> Float[Tensor, "b t d"]:
        """Return features of ``t = n · downsampling`` frames; those beyond an item's length (in frames) are 0.

        The last axis may hold fewer levels than there are, of a tokenizer with residual levels.
        """
        b, n = tokens.shape[:2]
        frames = n * self.downsampling
        counts = torch.full((b,), frames) if lengths is None else lengths.cpu()
        if int(counts.max()) > frames or int(counts.min()) < 1:
            raise RequestError(
                f"lengths={counts.tolist()} must be from 1 to {frames}, which {n} positions hold",
                code="range",
                path="lengths",
                value=counts.tolist(),
            )
        counts = counts.to(tokens.device)
        positions = torch.arange(n, device=tokens.device)
        mask = positions < -(-counts // self.downsampling)[:, None]
        made = self.decoder(self.quantizer.decode(tokens) * mask[..., None], mask)
        features = made.float() * self.std + self.mean
        kept = torch.arange(frames, device=tokens.device) < counts[:, None]
        return features * kept[..., None]

    def motion(self, features: Float[Tensor, "t d"], caption: str = "") -> Motion:
        """Return one item's features as a motion."""
        return self.spec.decode(features, caption)

    def read(self, path: str, metres_per_unit: float = 0.01) -> Float[Tensor, "t d"]:
        """Return the features of a BVH or NPZ file, fitted to this tokenizer's skeleton; raises ``RequestError``."""
        try:
            motion = fit(Motion.read(path, metres_per_unit), self.spec)
            return torch.from_numpy(self.spec.encode(motion))
        except Drop as drop:
            raise RequestError(f"{path}: {drop}", code="unsupported", path=path, value=drop.reason) from None
        except DataError as error:
            raise RequestError(str(error), code=error.code, path=error.path, value=error.value) from None

    def _normalised(
        self, features: Float[Tensor, "b t d"], lengths: Int[Tensor, "b"] | None
    ) -> tuple[Float[Tensor, "b u d"], Bool[Tensor, "b u"]]:
        counts = [features.shape[1]] * len(features) if lengths is None else lengths.tolist()
        if max(counts) > features.shape[1] or min(counts) < 1:
            raise RequestError(
                f"lengths={counts} must be from 1 to {features.shape[1]} frames",
                code="range",
                path="lengths",
                value=counts,
            )
        x, mask = pad_to_multiple(features, counts, self.downsampling)
        return (x - self.mean) / self.std * mask[..., None], mask

    def _encoded(
        self, x: Float[Tensor, "b u d"], mask: Bool[Tensor, "b u"]
    ) -> tuple[Float[Tensor, "b n c"], Bool[Tensor, "b n"]]:
        seen = zip(self.encoders, self._columns(), strict=True)
        parts = [encoder(x[..., columns], mask) for encoder, columns in seen]
        return torch.cat(parts, dim=-1), mask[:, :: self.downsampling]

    # ---- synthesis -----------------------------------------------------------------------------

    @torch.no_grad()
    def synthesize(
        self,
        requests: Sequence["MotionTokenizer.Request"],
        generator: torch.Generator | None = None,
        on_step: OnStep | None = None,
    ) -> list[Motion]:
        """Encode and decode each request's motion. Deterministic."""
        items = [self._features(request).to(self.device) for request in requests]
        lengths = torch.tensor([len(item) for item in items])
        features = nn.utils.rnn.pad_sequence(items, batch_first=True)
        made = self.decode(self.encode(features, lengths), lengths)
        motions = [self.motion(item[:length]) for item, length in zip(made, lengths.tolist(), strict=True)]
        if on_step is not None:
            on_step(1, 1)
        return motions

    def _features(self, request: "MotionTokenizer.Request") -> Float[Tensor, "t d"]:
        if request.motion is not None:
            return self.read(request.motion, request.metres_per_unit)
        assert request.features is not None
        widths = {len(frame) for frame in request.features}
        if widths != {self.spec.dim}:
            raise RequestError(
                f"features has frames of {sorted(widths)} numbers: give at least one frame, each of {self.spec.dim}",
                code="shape",
                path="features",
                value=sorted(widths),
            )
        return torch.tensor(request.features)

    def preview_requests(self) -> list[Any]:
        """Two motions of the validation data; before any validation, the mean pose, swaying, long and short."""
        if self._previews:
            return self._previews
        time = torch.arange(50)[:, None] / self.spec.fps
        phase = torch.arange(self.spec.dim)
        sway = torch.tensor(self.facts.mean) + 0.5 * torch.tensor(self.facts.std) * torch.sin(4 * time + phase)
        return [self.Request.parse(features=part) for part in (sway, sway[:22])]

    # ---- training ------------------------------------------------------------------------------

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        made, quantised, target, mask = self._reconstruct(batch)
        distance = F.smooth_l1_loss(made, target, reduction="none").mean(-1)
        places = self.spec.slices["places"]
        moved = made[:, :, places].diff(dim=1), target[:, :, places].diff(dim=1)
        velocity = F.smooth_l1_loss(*moved, reduction="none").mean(-1)
        walked = self.spec.positions(made * self.std + self.mean), self.spec.positions(target * self.std + self.mean)
        way = self.global_mean((walked[0] - walked[1]).abs().mean((-1, -2)), mask)
        features = self.global_mean(distance, mask)
        velocity = self.global_mean(velocity, mask[:, 1:])
        commitment = self.global_mean(quantised.commitment, mask[:, :: self.downsampling])
        loss = features + self.objective.velocity_weight * velocity + self.objective.way_weight * way
        loss = loss + self.objective.commitment_weight * commitment
        return {
            "loss": loss,
            "features": features,
            "velocity": velocity,
            "way": way,
            "commitment": commitment,
            "perplexity": quantised.perplexity.mean(),
            "utilisation": quantised.utilisation.mean(),
        }

    def _reconstruct(
        self, batch: dict[str, Any]
    ) -> tuple[Float[Tensor, "b u d"], Quantised, Float[Tensor, "b u d"], Bool[Tensor, "b u"]]:
        """Return normalised features as made and as given, what the quantiser did, and the mask."""
        target, mask = self._normalised(batch["features"], batch["length"])
        z, kept = self._encoded(target, mask)
        quantised = self.quantizer(z, kept, batch["row"])
        made = self.decoder(quantised.vectors, kept)
        return made.float(), quantised, target, mask

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Log losses, and how far joints are off, in millimetres: of the pose, and with the way walked."""
        if batch_idx == 0:
            lengths = batch["length"].tolist()[:2]
            items = [f[:n].cpu() for f, n in zip(batch["features"], lengths, strict=False)]
            self._previews = [self.Request.parse(features=item) for item in items]
        super().validation_step(batch, batch_idx)
        features, lengths = batch["features"], batch["length"]
        made = self.decode(self.encode(features, lengths), lengths)[:, : features.shape[1]]
        kept = torch.arange(features.shape[1], device=self.device) < lengths[:, None]
        places = self.spec.slices["places"]
        pose = (made - features)[..., places].unflatten(-1, (-1, 3)).norm(dim=-1).mean(-1)
        way = (self.spec.positions(made) - self.spec.positions(features)).norm(dim=-1).mean(-1)
        parts = {"pose_mm": 1000 * pose[kept].mean(), "way_mm": 1000 * way[kept].mean()}
        self.log_losses("val", parts, batch_size=int(kept.sum()), sync_dist=True)

    def units(self, batch: dict[str, Any]) -> dict[str, int]:
        return {"frames": int(batch["length"].sum())}


class ScalarMotionTokenizer(MotionTokenizer):
    """The tokenizer with finite scalar quantisation.

    Args:
        levels: levels of each channel of a code; their product is the codebook (the paper: [8, 5, 5, 5] make
            1,000, [8, 6, 5] make 240).
        code_dim: channels of a code.
        network, objective: as of ``MotionTokenizer``.
    """

    flat: ClassVar[dict[str, str]] = SCALAR_FLAT

    def __init__(
        self,
        *,
        levels: list[int],
        code_dim: int = 512,
        network: ConvSizes = ConvSizes(),  # noqa: B008
        objective: ScalarObjective = ScalarObjective(),  # noqa: B008
    ):
        super().__init__(
            network=network,
            codebook=CodebookSizes(code_dim=code_dim),
            objective=CodebookObjective(**asdict(objective)),
        )
        if not levels or min(levels) < 2:
            raise RecipeError(
                f"model.levels={levels} must be whole numbers of at least 2, one or more",
                code="range",
                path="model.levels",
                value=levels,
            )
        self.levels = levels

    def _quantizer(self) -> Quantizer:
        return ScalarQuantizer(self.codebook.code_dim, self.levels)


class PartsMotionTokenizer(MotionTokenizer):
    """The tokenizer with codebooks of their own for the lower body (with the way walked) and the upper body.

    Arguments are those of ``MotionTokenizer``; its codebooks' sizes count for each part.
    """

    @property
    def streams(self) -> list[tuple[str, int]]:
        """Part of the body and residual level of each codebook, in the order of the tokens' last axis."""
        return [(part, level) for part in self.spec.parts for level in range(self.codebook.num_levels)]

    def _columns(self) -> list[list[int]]:
        return list(self.spec.parts.values())

    def _quantizer(self) -> Quantizer:
        return GroupedQuantizer([super(PartsMotionTokenizer, self)._quantizer() for _ in self.spec.parts])


def _check_downsampling(value: int) -> None:
    if value < 2 or value & (value - 1):
        raise RecipeError(
            f"model.downsampling={value} must be a power of 2 from 2 on",
            code="range",
            path="model.downsampling",
            value=value,
        )

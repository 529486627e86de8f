"""``image/tokenizer``: pictures as a grid of tokens and back, for generators that work on tokens.

::

    picture ─ encoder, ↓ 2^(levels − 1) ─ vectors ─ quantiser ─ vectors ─ decoder ─ picture
                                                        │
                                           tokens [b, n], row by row

One trainer, encoder and decoder; published tokenizers are the quantiser that ``quantizer.name`` says, and sizes:

- ``vq``: LlamaGen (Sun et al., arXiv:2406.06525), codes of length 1 that learn by gradient;
- ``vq-ema``: codes that follow by moving averages (van den Oord et al., arXiv:1711.00937);
- ``fsq``: finite scalar quantisation (Mentzer et al., arXiv:2309.15505);
- ``lfq``: Open-MAGVIT2 (Luo et al., arXiv:2409.04410), signs;
- ``ibq``: IBQ (Shi et al., arXiv:2412.02692), all codes of which learn at each step.

The losses are VQGAN's (Esser et al., arXiv:2012.09841, section 3.1): distance of pixels, distance of features,
commitment, and after ``game.pretrain_steps`` a discriminator of patches, whose weight is fixed or balanced.

Differences: see `unisono_image.models.game` for the perceptual distance and `unisono_image.models.grid` for the
    networks.

Shapes: b batch, y x height and width of pictures, n tokens, d channels of vectors. Pictures are from −1 to 1.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from unisono import Model
from unisono.errors import RecipeError, RequestError
from unisono.model import OnStep
from unisono.nn.quantize import Quantised, Quantizer
from unisono.peers import add_up
from unisono.train.adversarial import Played

from unisono_image.corpus.facts import ImageFacts
from unisono_image.models.game import PictureGame
from unisono_image.models.grid import GridCodec
from unisono_image.models.sizes import PatchGame
from unisono_image.models.token_media import TOKEN_FILE, TokenImage, TokenizerRequest, read_tokens
from unisono_image.models.token_sizes import GridSizes, QuantizerSpec, TokenizerObjective
from unisono_image.models.vae import half_light
from unisono_image.request import start_pixels

AT_ONCE = 64
SLACK = 1e-3
"""By how much a picture may leave −1 to 1, as rounding does."""
PREVIEWS = 4


class TokenCodec(nn.Module):
    """The network, and the quantiser in its middle: what is trained, and what an export holds."""

    def __init__(self, codec: nn.Module, quantizer: Quantizer):
        super().__init__()
        self.codec: Any = codec
        self.quantizer = quantizer


class Tokenizer(PictureGame, Model):
    """A tokenizer of pictures.

    Attributes:
        grid: rows and columns of tokens.
        num_codes: tokens are from 0 up to, not including, this.
        picture_size: height and width of pictures.

    Args:
        quantizer: which one, and its codes.
        network: sizes of encoder and decoder.
        objective: weights of the losses beside the game.
        game: the discriminator and when it begins.
    """

    Media: ClassVar[type[TokenImage]] = TokenImage
    Facts: ClassVar[type[ImageFacts]] = ImageFacts
    facts: ImageFacts
    Request: ClassVar[type[TokenizerRequest]] = TokenizerRequest
    reads_weights: ClassVar[tuple[str, ...]] = (*PictureGame.reads_weights, "tokens", "pictures")
    kept_whole: ClassVar[tuple[str, ...]] = (
        *PictureGame.kept_whole,
        "net.codec.decoder.out.",
    )  # by which losses are balanced
    text_field: ClassVar[str] = "image"
    salt: ClassVar[str] = "tokenizer"
    deterministic: ClassVar[bool] = True
    grid: tuple[int, int]
    num_codes: int
    picture_size: int

    def __init__(
        self,
        *,
        quantizer: QuantizerSpec,
        network: GridSizes = GridSizes(),  # noqa: B008
        objective: TokenizerObjective = TokenizerObjective(),  # noqa: B008
        game: PatchGame = PatchGame(),  # noqa: B008
    ):
        super().__init__()
        self.quantizer, self.objective = quantizer, objective
        self.network: Any = network
        objective.check_quantizer(quantizer.name)
        self.set_game(game)
        self._previews: list[Any] = []
        self._counts: Tensor | None = None

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build the networks for pictures of one size."""
        super().build(facts)
        self.picture_size = self.facts.size
        self.net = TokenCodec(self.make_codec(), self.quantizer.make(self.network.latent_channels))
        self.num_codes = self.net.quantizer.codebook_size

    def make_codec(self) -> nn.Module:
        """Make encoder and decoder, and set ``grid``."""
        size, downsampling = self.picture_size, self.network.downsampling
        if size % downsampling:
            raise RecipeError(
                f"data.size={size} must be a multiple of {downsampling}, a token's side",
                code="shape",
                path="data.size",
                value=size,
            )
        self.grid = (size // downsampling, size // downsampling)
        return GridCodec(self.network, self.grid)

    # ---- as a tokenizer ------------------------------------------------------------------------

    @property
    def num_tokens(self) -> int:
        """Tokens of a picture."""
        return self.grid[0] * self.grid[1]

    @torch.no_grad()
    def tokens(self, pictures: Float[Tensor, "b 3 y x"]) -> Int[Tensor, "b n"]:
        """Return the tokens of pictures from −1 to 1, row by row; the same whatever they share a batch with.

        Raises ``RequestError`` for pictures of another size, type or range.
        """
        self.check_pictures(pictures)
        with torch.autocast(pictures.device.type, enabled=False):
            return in_parts(lambda part: self.net.quantizer.tokens(self.net.codec.encode(part))[..., 0], pictures)

    @torch.no_grad()
    def pictures(self, tokens: Int[Tensor, "b n"]) -> Float[Tensor, "b 3 y x"]:
        """Return the pictures of tokens, from −1 to 1; the same whatever they share a batch with.

        Raises ``RequestError`` for tokens of another number, type or range.
        """
        self.check_tokens(tokens)
        with torch.autocast(tokens.device.type, enabled=False):
            return in_parts(self.decode, tokens).clamp(-1, 1)

    def decode(self, tokens: Int[Tensor, "b n"]) -> Float[Tensor, "b 3 y x"]:
        """Return what the decoder makes of tokens, about −1 to 1."""
        return self.net.codec.decode(self.net.quantizer.decode(tokens[..., None])).float()

    def check_pictures(self, pictures: Tensor) -> None:
        """Raise ``RequestError`` unless these are pictures of this tokenizer's size, from −1 to 1."""
        size = self.picture_size
        if pictures.ndim != 4 or pictures.shape[1:] != (3, size, size):
            raise RequestError(
                f"pictures of shape {list(pictures.shape)}: this tokenizer reads [b, 3, {size}, {size}]",
                code="shape",
                path="pictures",
                value=list(pictures.shape),
            )
        if not pictures.is_floating_point():
            raise RequestError(
                f"pictures are {pictures.dtype}: give numbers from −1 to 1, such as pixels / 127.5 − 1",
                code="type",
                path="pictures",
                value=str(pictures.dtype),
            )
        # Not abs() > limit, which NaN passes.
        if pictures.numel() and not bool((pictures.detach().abs() <= 1 + SLACK).all()):
            value = float(pictures.detach().abs().max())
            raise RequestError(
                f"pictures reach {value:g}: give numbers from −1 to 1, such as pixels / 127.5 − 1",
                code="range",
                path="pictures",
                value=value,
            )

    def check_tokens(self, tokens: Tensor) -> None:
        """Raise ``RequestError`` unless these are pictures' tokens, int64 from 0 to below ``num_codes``."""
        if tokens.dtype != torch.int64:
            raise RequestError(
                f"tokens are {tokens.dtype}: give int64", code="type", path="tokens", value=str(tokens.dtype)
            )
        if tokens.ndim != 2 or tokens.shape[1] != self.num_tokens:
            raise RequestError(
                f"tokens of shape {list(tokens.shape)}: a picture has {self.num_tokens}, so give "
                f"[b, {self.num_tokens}]",
                code="shape",
                path="tokens",
                value=list(tokens.shape),
            )
        if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < self.num_codes:
            value = int(tokens.min()) if int(tokens.min()) < 0 else int(tokens.max())
            raise RequestError(
                f"token {value} must be from 0 to {self.num_codes - 1}", code="range", path="tokens", value=value
            )

    # ---- training ------------------------------------------------------------------------------

    def last_layer(self) -> Tensor | None:
        return self.net.codec.decoder.out.weight if self.game.balanced else None

    def play(self, batch: dict[str, Any]) -> Played:
        real = batch["image"]
        vectors = self.net.codec.encode(real)
        quantised = self.net.quantizer(vectors, rows=batch["row"])
        fake = self.net.codec.decode(quantised.vectors)
        loss, parts = self.compared(real, fake)
        added, coded = self.coded(vectors, quantised)
        return Played(fake, real, {"loss": loss + added, **parts, **coded})

    def compared(
        self, real: Float[Tensor, "b 3 y x"], fake: Float[Tensor, "b 3 y x"]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum of what tells two batches of pictures apart, and its parts."""
        off, objective = (fake.float() - real).flatten(1), self.objective
        parts = {"absolute": self.mean(off.abs().mean(1)), "square": self.mean(off.square().mean(1))}
        parts |= self.perceptual(real, fake)
        loss = torch.stack([getattr(objective, f"{name}_weight") * value for name, value in parts.items()]).sum()
        return loss, parts

    def coded(self, vectors: Float[Tensor, "b n d"], quantised: Quantised) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum of what a quantiser asks of vectors and codes, its parts, and how codes are used."""
        objective = self.objective
        parts = {
            "commitment": self.mean(quantised.commitment.mean(1)),
            "codebook": self.mean(quantised.codebook.mean(1)),
        }
        if objective.joint_weight:
            apart = (quantised.vectors.float() - vectors.float()).square()
            parts["joint"] = self.mean(apart.flatten(1).mean(1))
        loss = torch.stack([getattr(objective, f"{name}_weight") * value for name, value in parts.items()]).sum()
        if quantised.sample_entropy is not None and quantised.batch_entropy is not None:
            parts["sample_entropy"] = self.mean(quantised.sample_entropy.mean(1))
            parts["batch_entropy"] = quantised.batch_entropy
            doubt = parts["sample_entropy"] - objective.evenness * parts["batch_entropy"]
            loss = loss + objective.entropy_weight * doubt
        used = {"perplexity": quantised.perplexity.mean(), "utilisation": quantised.utilisation.mean()}
        return loss, {**parts, **used}

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        return self.play(batch).parts

    def on_validation_epoch_start(self) -> None:
        self._counts = torch.zeros(self.num_codes, device=self.device)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Log losses and PSNR in dB, and count which tokens occur."""
        super().validation_step(batch, batch_idx)
        pictures = batch["image"]
        tokens = self.tokens(pictures)
        if batch_idx == 0:
            self._previews = [self.Request(tokens=row.tolist()) for row in tokens[:PREVIEWS]]
        made = self.pictures(tokens)
        error = ((made - pictures) / 2).square().flatten(1).mean(1)
        psnr = {"psnr": (-10 * error.clamp(min=1e-10).log10()).mean()}
        self.log_losses("val", psnr, batch_size=len(pictures), sync_dist=True)
        if self._counts is not None:
            self._counts += torch.bincount(tokens.flatten(), minlength=self.num_codes)

    def on_validation_epoch_end(self) -> None:
        """Log the share of codes that the validation pictures use, and the tokens' entropy in bits."""
        if self._counts is None:
            return
        counts = add_up(self._counts)
        share = counts / counts.sum().clamp(min=1)
        used = {"usage": (counts > 0).float().mean(), "bits": torch.special.entr(share).sum() / np.log(2)}
        self.log_losses("val", used)
        self._counts = None

    def units(self, batch: dict[str, Any]) -> dict[str, int]:
        return {"images": len(batch["image"])}

    # ---- use -----------------------------------------------------------------------------------

    def synthesize(
        self,
        requests: Sequence[TokenizerRequest],
        generator: torch.Generator | None = None,
        on_step: OnStep | None = None,
    ) -> list[TokenImage]:
        """Return what the tokenizer makes of pictures, scaled and cropped to its size, or of tokens. Deterministic."""
        rows = torch.stack([self._tokens_of(request) for request in requests])
        made = ((self.pictures(rows) + 1) / 2).cpu().numpy()
        if on_step is not None:
            on_step(len(requests), len(requests))
        tokens = rows.cpu().numpy()
        return [TokenImage(*pair, self.grid, self.num_codes) for pair in zip(made, tokens, strict=True)]

    def _tokens_of(self, request: TokenizerRequest) -> Int[Tensor, " n"]:
        given, picture, size = request.tokens, request.image, self.picture_size
        if isinstance(picture, str) and picture.lower().endswith(TOKEN_FILE):
            given = read_tokens(picture, self.grid, self.num_codes)
        if given is not None:
            if any(abs(token) >= 2**63 for token in given):
                value = max(given, key=abs)
                message = f"token {value} must be from 0 to {self.num_codes - 1}"
                raise RequestError(message, code="range", path="tokens", value=value)
            rows = torch.tensor([given], dtype=torch.int64, device=self.device)
            self.check_tokens(rows)
            return rows[0]
        background = self.facts.background
        pixels = half_light(size) if picture is None else start_pixels(picture, background, size, size)
        return self.tokens(torch.from_numpy(pixels).to(self.device)[None].float() / 127.5 - 1)[0]

    def preview_requests(self) -> list[TokenizerRequest]:
        """A few pictures of the validation data; before any validation, a made picture and made tokens."""
        if self._previews:
            return self._previews
        return [self.Request(), self.Request(tokens=[place % self.num_codes for place in range(self.num_tokens)])]


def in_parts(network: Callable[[Tensor], Tensor], items: Tensor) -> Tensor:
    """Run a network over at most ``AT_ONCE`` items at a time, and over no less than two.

    Convolutions of one item are computed in another order than those of several: a lone one goes twice, so that it is
    what it is in a batch, on most processors to the bit.
    """
    parts = [
        network(part if len(part) > 1 else part.repeat_interleave(2, 0))[: len(part)] for part in items.split(AT_ONCE)
    ]
    return torch.cat(parts)

"""``image/tokenizer-line``: pictures as a short line of tokens and back (TiTok: Yu et al., arXiv:2406.07550).

A token of a line stands for no place, so that 32 of them can hold a picture. It is trained in two stages (section 3.3),
each a run of its own:

1. without ``model.pixels``: the decoder finds the tokens that the component ``proxy``, a trained tokenizer of a grid,
   has of the picture (cross-entropy); pictures are then made by the proxy's decoder. Without a proxy, published
   trainings collapse.
2. with ``model.pixels``, the sizes of the proxy's networks, begun by ``run.init_from``: encoder and quantiser stand
   still, and the decoder learns on with one of pictures, which begins as the proxy's, by the losses of
   ``image/tokenizer``.

Differences: those of `unisono_image.models.line` and of ``image/tokenizer``.

Shapes: b batch, y x height and width of pictures, n tokens, m places of the proxy, v its codes.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.errors import RecipeError
from unisono.train.adversarial import Played

from unisono_image.models.classifier import ImageClassifier
from unisono_image.models.game import PictureGame
from unisono_image.models.grid import GridDecoder
from unisono_image.models.line import LineCodec, Painter, mixed
from unisono_image.models.sizes import PatchGame
from unisono_image.models.token_sizes import GridSizes, LineSizes, QuantizerSpec, TokenizerObjective
from unisono_image.models.tokenizer import Tokenizer


class LineTokenizer(Tokenizer):
    """A tokenizer whose tokens stand in a line; ``grid`` is (1, n).

    Args:
        quantizer: which one, and its codes (published: ``vq``, 4,096 of 12 channels).
        network: sizes of the transformers, and of the proxy's codes.
        pixels: sizes of the proxy's networks, for the second stage; null is the first.
        objective: weights of the losses; in the first stage those of commitment and codes alone.
        game: the discriminator and when it begins; in the second stage alone.
    """

    kept_whole: ClassVar[tuple[str, ...]] = (*PictureGame.kept_whole, "net.painter.decoder.out.")
    roles: ClassVar[dict[str, str]] = {
        **PictureGame.roles,
        "proxy": "a trained image/tokenizer, whose tokens are learnt from and whose decoder makes the pictures",
    }
    component_kinds: ClassVar[dict[str, Any]] = {"classifier": ImageClassifier, "proxy": Tokenizer}
    builtin_components: ClassVar[dict[str, str]] = {"untrained": "unisono_image.models.untrained:tokenizer"}

    def __init__(
        self,
        *,
        quantizer: QuantizerSpec,
        network: LineSizes = LineSizes(),  # noqa: B008
        pixels: GridSizes | None = None,
        objective: TokenizerObjective = TokenizerObjective(perceptual_weight=0.0),  # noqa: B008
        game: PatchGame = PatchGame(adversarial_weight=0.0),  # noqa: B008
    ):
        super().__init__(quantizer=quantizer, network=network, objective=objective, game=game)  # pyright: ignore
        self.pixels = pixels
        for path, value in (
            ("objective.perceptual_weight", objective.perceptual_weight),
            ("game.adversarial_weight", game.adversarial_weight),
        ):
            if value and pixels is None:
                raise RecipeError(
                    f"model.{path}={value:g} is for the second stage: give model.pixels, or set it to 0",
                    code="conflict",
                    path=f"model.{path}",
                    value=value,
                )

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build the networks for pictures of one size."""
        super().build(facts)
        if self.pixels is None:
            return
        if self.picture_size // self.pixels.downsampling != self.places[0]:
            raise RecipeError(
                f"model.pixels halves pictures to {self.picture_size // self.pixels.downsampling} a side, patches of "
                f"{self.network.patch_size} to {self.places[0]}: they must agree",
                code="conflict",
                path="model.pixels.multipliers",
                value=list(self.pixels.multipliers),
            )
        table = torch.randn(self.network.num_codes, self.pixels.latent_channels)
        self.net.painter = Painter(table, GridDecoder(self.pixels), self.places)
        for part in (self.net.codec.encoder, self.net.quantizer):
            part.requires_grad_(False)

    def make_codec(self) -> nn.Module:
        """Make encoder and decoder, and set ``grid`` and ``places``, the proxy's grid."""
        size, patch = self.picture_size, self.network.patch_size
        if size % patch:
            raise RecipeError(
                f"data.size={size} must be a multiple of model.network.patch_size={patch}",
                code="shape",
                path="data.size",
                value=size,
            )
        self.grid, self.places = (1, self.network.num_tokens), (size // patch, size // patch)
        return LineCodec(self.network, self.places[0] * self.places[1])

    # ---- the proxy -----------------------------------------------------------------------------

    def attach(self, role: str, component: Any) -> None:
        """Take a component; a proxy must fit, and is what the second stage begins with."""
        self.check_component(role, component)
        if role == "proxy":
            own = (self.picture_size, self.places, self.network.num_codes)
            its = (component.picture_size, component.grid, component.num_codes)
            names = ("data.size", "model.network.patch_size", "model.network.num_codes")
            for name, mine, given in zip(names, own, its, strict=True):
                if mine != given:
                    raise RecipeError(
                        f"the proxy's {('pictures', 'grid', 'codes')[names.index(name)]} are {given}, here {mine}: "
                        f"set {name} to fit it",
                        code="conflict",
                        path=name,
                        value=mine,
                    )
            if self.pixels is not None and not self.net.painter.copied:
                self._copy(component)
        super().attach(role, component)

    @torch.no_grad()
    def _copy(self, proxy: Tokenizer) -> None:
        painter, decoder = self.net.painter, proxy.net.codec.decoder
        own = {name: weight.shape for name, weight in painter.decoder.state_dict().items()}
        if {name: weight.shape for name, weight in decoder.state_dict().items()} != own:
            raise RecipeError(
                "model.pixels: the proxy's decoder has other sizes: give those of its recipe's model.network",
                code="conflict",
                path="model.pixels",
            )
        painter.decoder.load_state_dict(decoder.state_dict())
        painter.table.copy_(table_of(proxy))
        painter.copied.fill_(True)

    def on_train_start(self) -> None:
        super().on_train_start()
        if "proxy" not in self.components:
            raise RecipeError(
                "a line of tokens is learnt from a proxy's: add --components.proxy=FOLDER, an export "
                "of image/tokenizer",
                code="missing",
                path="components.proxy",
            )

    # ---- pictures ------------------------------------------------------------------------------

    def paint(self, logits: Float[Tensor, "b m v"]) -> Float[Tensor, "b 3 y x"]:
        """Return the pictures of logits of the proxy's tokens."""
        if self.pixels is not None:
            return self.net.painter(logits)
        proxy = self.component("proxy")
        return proxy.net.codec.decode(mixed(logits, table_of(proxy)))

    def decode(self, tokens: Int[Tensor, "b n"]) -> Float[Tensor, "b 3 y x"]:
        return self.paint(self.net.codec.decode(self.net.quantizer.decode(tokens[..., None]))).float()

    # ---- training ------------------------------------------------------------------------------

    def last_layer(self) -> Tensor | None:
        return self.net.painter.decoder.out.weight if self.game.balanced and self.pixels is not None else None

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        if self.pixels is not None:
            return super().losses(batch)
        real = batch["image"]
        target = self.component("proxy").tokens(real)
        vectors = self.net.codec.encode(real)
        quantised = self.net.quantizer(vectors, rows=batch["row"])
        logits = self.net.codec.decode(quantised.vectors).float()
        lost = F.cross_entropy(logits.mT, target, reduction="none")
        parts = {
            "codes": self.mean(lost.mean(1)),
            "accuracy": self.mean((logits.argmax(-1) == target).float().mean(1)),
        }
        loss, coded = self.coded(vectors, quantised)
        return {"loss": parts["codes"] + loss, **parts, **coded}

    def play(self, batch: dict[str, Any]) -> Played:
        real = batch["image"]
        with torch.no_grad():  # the quantiser stands still as well: reading tokens moves no code
            tokens = self.net.quantizer.tokens(self.net.codec.encode(real))
            vectors = self.net.quantizer.decode(tokens)
        fake = self.paint(self.net.codec.decode(vectors))
        loss, parts = self.compared(real, fake)
        return Played(fake, real, {"loss": loss, **parts})


def table_of(tokenizer: Tokenizer) -> Float[Tensor, "v d"]:
    """Return the vectors of all of a tokenizer's codes."""
    codes = torch.arange(tokenizer.num_codes, device=tokenizer.device)
    return tokenizer.net.quantizer.decode(codes[None, :, None])[0]

"""Token model: what models of a codec's tokens under semantic tokens share (SoundStorm, G-MLM).

A subclass says in ``build`` which order its streams are learnt in (``masking``), builds ``net`` with ``heads``
(`TokenHeads`), and decodes.

Shapes: b batch, t codec frames, q streams, d channels.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F
from unisono import Audio
from unisono.errors import RecipeError, raised_as
from unisono.masked import Plan, PlanMasking, Scheduled
from unisono.masked.model import MaskedModel
from unisono.masked.training.corrupt import Corrupted
from unisono_sound.voice import Voice

from unisono_codec.codecs.codec import Codec
from unisono_codec.voices.data import check_codec
from unisono_codec.voices.facts import TokenFacts
from unisono_codec.voices.semantic import PHONEMES, Phonemes


class TokenModel(MaskedModel):
    """A network that fills in a codec's tokens, and the codec that makes them heard."""

    Media: ClassVar[type[Audio]] = Audio
    Facts: ClassVar[type[TokenFacts]] = TokenFacts
    facts: TokenFacts
    source_facts: ClassVar[tuple[str, ...]] = ("symbols", "semantic", "codec")
    roles: ClassVar[dict[str, str]] = {"codec": "turns sound into tokens and back"}
    component_kinds: ClassVar[dict[str, Any]] = {"codec": Codec}

    net: Any
    label_smoothing: float

    def build(self, facts: Mapping[str, Any]) -> None:
        """Read what the data knows of the voice, the semantic tokens and the codec."""
        super().build(facts)
        self.voice = Voice.from_facts(self.facts)
        self.spec = self.facts.semantic
        self.codebook_size = int(self.facts.codec["codebook_size"])
        self.speaks = self.spec.provider == PHONEMES
        if self.speaks:
            assert self.facts.duration_rate is not None  # the data says it with phonemes
            self.phonemes = Phonemes(self.voice.symbols, self.spec.frame_rate, self.facts.duration_rate)

    def masking_of(self, num_sets: int, weights: Sequence[float] | None, name: str, what: str) -> PlanMasking:
        """Return the corruption that draws one of so many sets of streams, ``weights`` saying how often each; raises
        ``RecipeError`` for another number of weights, naming the recipe's key and what the sets are."""
        if weights is not None and len(weights) != num_sets:
            message = f"model.{name} has {len(weights)} numbers for {num_sets} {what}: give one for each"
            raise RecipeError(message, code="shape", path=f"model.{name}", value=len(weights))
        return PlanMasking(Plan(Scheduled((1,) * num_sets)), weights)

    # ---- the codec -----------------------------------------------------------------------------

    @property
    def codec(self) -> Any:
        """The component that turns sound into tokens and back."""
        return self.component("codec")

    def attach(self, role: str, component: Any) -> None:
        """Take the codec whose codes were learnt; raises ``RecipeError`` for another one."""
        self.check_component(role, component)
        if role == "codec":
            with raised_as(RecipeError, role):
                check_codec(component, self.facts.codec)
        super().attach(role, component)

    # ---- training ------------------------------------------------------------------------------

    def token_losses(
        self,
        x: Float[Tensor, "b t d"],
        codes: Int[Tensor, "b t q"],
        corrupted: Corrupted,
        apart: Mapping[str, Bool[Tensor, " q"]],
    ) -> dict[str, Tensor]:
        """Return cross-entropy and accuracy of the hidden tokens of the sets that were drawn, and nothing else's;
        beside them, for watching, the cross-entropy of the streams that ``apart`` names."""
        wanted = corrupted.weights.view(codes.shape) > 0
        row, frame, stream = place = wanted.nonzero(as_tuple=True)
        logits = self.net.heads.of(x[row, frame], stream).float()
        targets = codes[place]
        loss = F.cross_entropy(logits, targets, reduction="none", label_smoothing=self.label_smoothing)
        right = (logits.argmax(-1) == targets).float()
        blank = torch.zeros(codes.shape, device=codes.device)
        whole = blank.index_put(place, loss)
        parts = {
            "tokens": self.global_mean(whole, wanted),
            "accuracy": self.global_mean(blank.index_put(place, right), wanted).detach(),
        }
        for name, streams in apart.items():
            parts[name] = self.global_mean(whole.detach(), wanted & streams.to(codes.device))
        return parts

    def units(self, batch: dict[str, Any]) -> dict[str, int]:
        return {"frames": int(batch["lengths"].sum())}

"""Miipher-2: restoration of speech by cleaning the features of a frozen encoder, and speaking them anew.

Karita et al. (arXiv:2505.04457), with findings of its open replica Sidon (arXiv:2509.17052)::

    damaged ─ level ─ encoder, frozen, with adapters ─ cleaned features ─ (head) ─ mel ─ vocoder ─ level ─ restored
    clean ─── level ─ encoder, frozen ─────────────── clean features ─── what they are compared with

    loss   |F − F̂| + |F − F̂|² + ‖F − F̂‖ / ‖F‖        each a mean, over features and items

No text and no speaker are asked for. What is learnt are the adapters (``network``) alone: encoder and vocoder are
components, and no weight of theirs is in the optimiser or in a checkpoint.

Differences: the encoder is any component that is an ``unisono_sound.encoder.Encoder``, since the paper's is closed;
without one the mel itself is cleaned, which is the plainest form of the method. Features that are no mels are spoken by
way of a mel (``network.MelHead``), learnt on clean and on cleaned features alike, from which no gradient reaches the
adapters: the paper's vocoder reads features, and is tuned on cleaned ones afterwards. What is heard is brought to one
level, and the output back from it, so that a restorer serves sound of any level. Long sounds are cut in pauses
(``cuts``).

Shapes: b batch, c channels, n samples, t features, k mel frames, m mel bins, d channels of features.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from unisono.errors import RecipeError
from unisono_sound.encoder import Encoder, LogMelEncoder
from unisono_sound.signal import GriffinLim, resample
from unisono_sound.vocoder import Vocoder

from unisono_restore.baselines import DENOISERS
from unisono_restore.miipher.cuts import QuietCuts
from unisono_restore.miipher.damage import conditions
from unisono_restore.miipher.facts import FeatureFacts
from unisono_restore.miipher.network import MiipherNet, spectral_convergence
from unisono_restore.miipher.sizes import AdapterSizes, CleanerSizes, HeadSizes, MiipherObjective
from unisono_restore.restorer import Restorer
from unisono_restore.trial import Baseline, Condition

__all__ = ["Miipher"]

LEVEL, FAINTEST = 0.05, 1e-4
"""The root mean square that is heard, and the least that is brought to it."""
LONGEST_SECONDS, QUIET_SECONDS = 30.0, 0.1


class Miipher(Restorer):
    """The restorer.

    Args:
        layer: of the encoder, whose output is cleaned, from 1; None for the last.
        adapters: sizes of the adapters, for an encoder with layers.
        cleaner: sizes of the cleaner, for features without.
        head: sizes of what makes mels of features, for an encoder.
        objective: weights of the losses.
    """

    Facts: ClassVar[type[FeatureFacts]] = FeatureFacts
    facts: FeatureFacts
    roles: ClassVar[dict[str, str]] = {
        "encoder": "gives the features that are cleaned: a recogniser, a codec, a folder of transformers; without one, "
        "mels are cleaned",
        "vocoder": "turns cleaned mels into sound",
    }
    component_kinds: ClassVar[dict[str, Any]] = {"encoder": Encoder, "vocoder": Vocoder}
    builtin_components: ClassVar[dict[str, str]] = {"griffin-lim": "unisono_restore.miipher.model:griffin_lim"}

    def __init__(
        self,
        *,
        layer: int | None = None,
        adapters: AdapterSizes = AdapterSizes(),  # noqa: B008
        cleaner: CleanerSizes = CleanerSizes(),  # noqa: B008
        head: HeadSizes = HeadSizes(),  # noqa: B008
        objective: MiipherObjective = MiipherObjective(),  # noqa: B008
    ):
        super().__init__()
        self.layer, self.adapters, self.cleaner, self.head = layer, adapters, cleaner, head
        self.objective = objective

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build for the features and the mel of ``facts``; raises ``RecipeError`` for a layer that there is not."""
        super().build(facts)
        features, mel_spec = self.facts.features, self.facts.mel_spec
        layers = features.num_layers if features is not None else 0
        if self.layer is not None and not 1 <= self.layer <= layers:
            what = f"must be from 1 to {layers}" if layers else "is given, but there are no layers to choose from"
            message = f"model.layer={self.layer} {what}: leave it out for the encoder's output"
            raise RecipeError(message, code="range", path="model.layer", value=self.layer)
        self.mels = LogMelEncoder(mel_spec)
        self.net = MiipherNet(features, self.layer, mel_spec, self.adapters, self.cleaner, self.head)

    def attach(self, role: str, component: Any) -> None:
        """Take an encoder of the features that this was built for, or a vocoder of its mel."""
        self.check_component(role, component)
        wanted, its = self.facts.mel_spec, getattr(component, "mel_spec", None)
        if role == "encoder":
            wanted, its = self.facts.features, component.feature_spec
        if its != wanted:
            message = f"the {role} is for {its}, this model for {wanted}: attach the one that it was trained with"
            raise RecipeError(message, code="conflict", path=f"components.{role}", value=its)
        super().attach(role, component)

    def check_source(self, facts: dict[str, Any]) -> None:
        """Refuse a start from a model of another mel or of other features."""
        super().check_source(facts)
        self.check_same_facts(facts, ("mel_spec", "features"))

    def conditions(self) -> list[Condition]:
        """Damages one by one and together, and noises that were kept from training."""
        options = self.recipe.get("data", {}).get("degrade") or {}
        return conditions(self.sample_rate, options.get("held_out", ()))

    def baselines(self) -> Sequence[Baseline]:
        """RNNoise and spectral gating, where they are installed."""
        return DENOISERS

    # ---- features ------------------------------------------------------------------------------

    @property
    def encoder(self) -> Encoder:
        """What hears: the component, or the mel."""
        return self.mels if self.facts.features is None else self.component("encoder")

    @torch.no_grad()
    def frozen(self, wave: Float[Tensor, "b n"]) -> Float[Tensor, "b t d"]:
        """Return the encoder's features of waves at its rate, as they are."""
        return self.encoder.features(wave, None, self.layer).values.float()

    def cleaned(self, wave: Float[Tensor, "b n"]) -> Float[Tensor, "b t d"]:
        """Return cleaned features of waves at the encoder's rate; before training they are the frozen ones."""
        values = self.encoder.features(wave, None, self.layer, self.net.adapters).values.float()
        return values if self.net.cleaner is None else self.net.cleaner(values)

    def mel_of(self, features: Float[Tensor, "b t d"], num_frames: int) -> Float[Tensor, "b k m"]:
        """Return the log mel that features stand for."""
        return features[:, :num_frames] if self.net.head is None else self.net.head(features, num_frames)

    # ---- training ------------------------------------------------------------------------------

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Return the distances of features, and with an encoder those of mels: ``mel`` of cleaned features, and
        ``mel_clean`` of clean ones, which tells what a layer's features keep of the sound."""
        wave, weights = batch["wave"], self.objective
        gain = to_level(batch["heard"])
        true = self.frozen(batch.get("clean", wave) * gain)
        made = self.cleaned(batch["heard"] * gain)
        everyone = torch.ones(len(true), dtype=torch.bool, device=true.device)
        distance = made - true
        parts = {
            "l1": self.global_mean(distance.abs().flatten(1).mean(1), everyone),
            "l2": self.global_mean(distance.square().flatten(1).mean(1), everyone),
            "convergence": self.global_mean(spectral_convergence(made, true), everyone),
        }
        loss = weights.l1 * parts["l1"] + weights.l2 * parts["l2"] + weights.convergence * parts["convergence"]
        if self.net.head is not None:
            mel = self.mels.features(wave * gain).values
            for name, features in (("mel", made.detach()), ("mel_clean", true)):
                apart = (self.net.head(features, mel.shape[1]) - mel).abs()
                parts[name] = self.global_mean(apart.flatten(1).mean(1), everyone)
                loss = loss + weights.mel * parts[name]
        return {"loss": loss, **parts}

    def units(self, batch: dict[str, Any]) -> dict[str, int]:
        return {"seconds": round(batch["wave"].numel() / self.sample_rate)}

    # ---- restoring -----------------------------------------------------------------------------

    def pieces(self, streamed: bool) -> Any:
        """Pieces of at most half a minute, cut in pauses."""
        hop = self.facts.mel_spec.hop_length
        quiet = max(1, round(QUIET_SECONDS * self.sample_rate / hop))
        return QuietCuts(round(LONGEST_SECONDS * self.sample_rate / hop) * hop, hop, quiet)

    def restore(self, wave: Float[Tensor, "c n"], known: Any) -> Float[Tensor, "c n"]:
        """Restore a stretch; a channel that is silent stays so."""
        spec, count = self.facts.mel_spec, wave.shape[1]
        length = max(count, spec.n_fft)
        length += -length % spec.hop_length
        gain = to_level(wave)
        heard = self._at_encoder(F.pad(wave * gain, (0, length - count)))
        mel = self.mel_of(self.cleaned(heard), length // spec.hop_length)
        made = self.component("vocoder").decode(mel) / gain
        return made[:, :count].masked_fill(~wave.any(1, keepdim=True), 0.0)

    def cleaned_mel(self, wave: Float[Tensor, " n"]) -> Float[Tensor, "k m"]:
        """Return the mel that is made of a recording at the model's rate, at the recording's level: what a vocoder is
        tuned on. It has ``n // hop`` frames."""
        spec = self.facts.mel_spec
        gain = to_level(wave[None])
        mel = self.mel_of(self.cleaned(self._at_encoder(wave[None] * gain)), len(wave) // spec.hop_length)
        return mel[0] - gain.log()[0]

    def _at_encoder(self, wave: Float[Tensor, "c n"]) -> Float[Tensor, "c n"]:
        features = self.facts.features
        if features is None or features.sample_rate == self.sample_rate:
            return wave
        rates = (self.sample_rate, features.sample_rate)
        return torch.stack([resample(row.cpu(), *rates) for row in wave]).to(wave.device)


def to_level(wave: Float[Tensor, "b n"]) -> Float[Tensor, "b 1"]:
    """Return what each wave is multiplied by to be heard at one level."""
    return LEVEL / wave.square().mean(1, keepdim=True).sqrt().clamp(min=FAINTEST)


def griffin_lim(facts: FeatureFacts) -> GriffinLim:
    """The built-in vocoder without weights, by explicit choice only."""
    return GriffinLim(facts.mel_spec)

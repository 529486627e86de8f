"""StarGANv2-VC: one generator for all pairs of speakers, by a game (Li, Zare, Mesgarani, arXiv:2107.10394).

From the paper alone. As published: generator with instance normalisation on the way in and adaptive one on the way out,
the pitch network's features beside the bottleneck; mapping network, style encoder, discriminator and source classifier
with a head for each speaker; in each iteration two steps of the judges and two of the generator, styles drawn in the
first and read from references in the second, in which the generator alone learns; all losses of section 2.2.

What is different:

- Statistics and averages are taken under masks, and recordings are of any length, so that an item does not depend on
  its batch. Published are crops of 192 frames.
- Pitch and recogniser features are a tutor's (``convert/tutor``), a component, frozen. Its pitch features have no axis
  of frequency: they are repeated along the bottleneck's.
- Mels are standardised per channel by the corpus, not as (ln mel + 4) / 4.
- Maps are halved by averages; the discriminator's consistency (bCR) is under a random tilt of the spectrum.
- An iteration of four updates counts as one step; ``classifier_start`` and ``consistency_start`` are in steps.

Only speakers of the training data can be asked for. A style is drawn by the request's seed.

Shapes: b batch, t frames, m mel channels, z latent, e style, k speakers.
"""

from collections.abc import Mapping as MappingOf
from typing import Any, ClassVar, Literal, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.data import derive_seed
from unisono.errors import RecipeError, RequestError
from unisono.train.adversarial import Adversarial

from unisono_convert.converting import Converter
from unisono_convert.networks.maps import everywhere
from unisono_convert.starganv2.generator import Generator, GeneratorSizes
from unisono_convert.starganv2.losses import adversarial, contour, gradient_penalty, loudness_change
from unisono_convert.starganv2.objective import Objective
from unisono_convert.starganv2.styles import (
    Discriminator,
    EncoderSizes,
    Mapping,
    MappingSizes,
    StyleEncoder,
    of_speaker,
)
from unisono_convert.tutor.model import Tutor

__all__ = ["StarGANv2"]

Phase = Literal["drawn", "read"]
PHASES: tuple[Phase, ...] = ("drawn", "read")
TILT = 0.5


class StarGANv2(Adversarial, Converter):
    """A game over speakers.

    ::

        mel ─┬─ generator ─ mel ─┬─ discriminator, classifier
             └─ tutor ─ pitch ─┘ └─ style encoder; tutor: letters, pitch
        z ─ mapping ─ style ─┘

    Args:
        generator, mapping, encoder: sizes; ``encoder`` is that of style encoder, discriminator and classifier.
        style_dim: of a style.
        objective: weights of the losses.
        judges_lr: learning rate of the judges, relative to ``optim.lr``.
    """

    roles: ClassVar[dict[str, str]] = {
        **Converter.roles,
        "tutor": "hears pitch and letters: a convert/tutor of the same mel spectrogram",
    }
    component_kinds: ClassVar[dict[str, Any]] = {**Converter.component_kinds, "tutor": Tutor}
    builtin_components: ClassVar[dict[str, str]] = {
        **Converter.builtin_components,
        "untrained": "unisono_convert.tutor.model:untrained",
    }
    deterministic: ClassVar[bool] = False
    salt: ClassVar[str] = "starganv2"
    reads_weights: ClassVar[tuple[str, ...]] = ("losses", "judged", "played")
    kept_whole: ClassVar[tuple[str, ...]] = ("discriminators.", "net.")

    def __init__(
        self,
        *,
        generator: GeneratorSizes = GeneratorSizes(),  # noqa: B008
        mapping: MappingSizes = MappingSizes(),  # noqa: B008
        encoder: EncoderSizes = EncoderSizes(),  # noqa: B008
        style_dim: int = 64,
        objective: Objective = Objective(),  # noqa: B008
        judges_lr: float = 1.0,
    ):
        super().__init__()
        self.generator_sizes, self.mapping_sizes, self.encoder_sizes = generator, mapping, encoder
        self.style_dim, self.objective, self.discriminator_lr = style_dim, objective, judges_lr

    def build(self, facts: MappingOf[str, Any]) -> None:
        super().build(facts)
        known = len(self.facts.speakers)
        if known < 2:
            message = f"convert/starganv2 needs the names of at least 2 speakers, the data has {known}: label them"
            raise RecipeError(message, code="value", path="data.labelled", value=known)
        generator = Generator(self.mel_spec.n_mels, self.generator_sizes, self.style_dim)
        mapping = Mapping(self.mapping_sizes, known, self.style_dim)
        style = StyleEncoder(self.encoder_sizes, known, self.style_dim)
        self.net = nn.ModuleDict({"generator": generator, "mapping": mapping, "style": style})

    def attach(self, role: str, component: Any) -> None:
        self.check_component(role, component)
        if role == "tutor":
            check_tutor(component, self)
        super().attach(role, component)

    @property
    def tutor(self) -> Tutor:
        """The attached tutor."""
        return self.component("tutor")

    # ---- the network ---------------------------------------------------------------------------

    def log_mels(self, mel: Float[Tensor, "b t m"]) -> Float[Tensor, "b t m"]:
        """Undo ``standardised``: what the tutor hears."""
        return mel * self.mel_std + self.mel_mean

    def made(
        self, mel: Float[Tensor, "b t m"], mask: Bool[Tensor, "b t"], style: Float[Tensor, "b e"]
    ) -> Float[Tensor, "b t m"]:
        """Return standardised mels in a style, their own pitch contours beside them."""
        pitch = self.tutor.listen(self.log_mels(mel), mask).pitch_features
        return self.net["generator"](mel, mask, pitch, style)

    def voice_named(self, speaker: int, generator: torch.Generator) -> Float[Tensor, "1 e"]:
        latent = torch.randn(1, self.mapping_sizes.latent_dim, generator=generator).to(self.device)
        return self.net["mapping"](latent, torch.tensor([speaker], device=self.device))

    def voice_heard(self, mel: Float[Tensor, "1 t m"]) -> Float[Tensor, "1 e"]:
        message = (
            f"this model takes the voices of its {len(self.facts.speakers)} speakers alone: give speaker, not a prompt"
        )
        raise RequestError(message, code="unsupported", path="prompt", value=list(self.facts.speakers))

    def convert(
        self, mel: Float[Tensor, "1 t m"], voice: Float[Tensor, "1 e"], wave: Float[Tensor, "n"]
    ) -> Float[Tensor, "1 t m"]:
        return self.made(mel, everywhere(mel), voice)

    # ---- the game ------------------------------------------------------------------------------

    def judges(self) -> dict[str, tuple[nn.Module, float]]:
        known = len(self.facts.speakers)
        return {
            "discriminator": (Discriminator(self.encoder_sizes, known), 1.0),
            "classifier": (Discriminator(self.encoder_sizes, known), 1.0),
        }

    def styles(self, batch: dict[str, Any], phase: Phase) -> tuple[Float[Tensor, "b e"], Float[Tensor, "b e"]]:
        """Return two styles of each item's target: drawn, or read from its two references."""
        target = batch["target"]
        if phase == "drawn":
            size = (2, self.mapping_sizes.latent_dim)
            seeds = [derive_seed("latent", seed) for seed in self.row_seeds(batch)]
            latents = torch.stack([torch.randn(size, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
            one, other = latents.to(self.device).unbind(1)
            return self.net["mapping"](one, target), self.net["mapping"](other, target)
        one, other = (self._read(batch, name, target) for name in ("other", "another"))
        return one, other

    def _read(self, batch: dict[str, Any], name: str, speaker: Tensor) -> Float[Tensor, "b e"]:
        mel = self.standardised(batch[name])
        return self.net["style"](mel, inside(batch[f"{name}_lengths"], mel), speaker)

    def judged(self, batch: dict[str, Any], phase: Phase) -> dict[str, Tensor]:
        """Return the judges' losses: of real recordings, of converted ones, and what they are regularised by."""
        own, everyone = self.objective, torch.ones_like(batch["speaker"], dtype=torch.bool)
        mel = self.standardised(batch["mel"])
        mask = inside(batch["mel_lengths"], mel)
        with torch.no_grad():
            fake = self.made(mel, mask, self.styles(batch, phase)[0])
        discriminator, classifier = self.discriminators["discriminator"], self.discriminators["classifier"]
        mel = mel.requires_grad_() if own.penalty else mel
        real_logits = discriminator(mel, mask)
        real, made = logit_of(real_logits, batch["speaker"]), logit_of(discriminator(fake, mask), batch["target"])
        parts = {"discriminator": self.global_mean(adversarial(real, True) + adversarial(made, False), everyone)}
        if own.penalty:
            parts["penalty"] = own.penalty * self.global_mean(gradient_penalty(real, mel), everyone)
        if own.source and self.global_step >= own.classifier_start:
            lost = F.cross_entropy(classifier(fake, mask), batch["speaker"], reduction="none")
            parts["source"] = own.source * self.global_mean(lost, everyone)
        if own.consistency and self.global_step >= own.consistency_start:
            tilted = discriminator(mel.detach() + self._tilts(batch, mel) * mask[..., None], mask)
            changed = (logit_of(tilted, batch["speaker"]) - real).square()
            parts["consistency"] = own.consistency * self.global_mean(changed, everyone)
        parts["loss"] = torch.stack(list(parts.values())).sum()
        return parts

    def _tilts(self, batch: dict[str, Any], mel: Float[Tensor, "b t m"]) -> Float[Tensor, "b 1 m"]:
        """Return a straight line over the mel channels for each item, up to ``TILT`` deviations high and steep."""
        seeds = [derive_seed("tilt", seed) for seed in self.row_seeds(batch)]
        drawn = torch.stack([torch.rand(2, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
        height, slope = (2 * TILT * (drawn - 0.5)).unbind(1)
        line = height[:, None] + slope[:, None] * torch.linspace(-1, 1, mel.shape[2])
        return line[:, None].to(mel)

    def played(self, batch: dict[str, Any], phase: Phase) -> dict[str, Tensor]:
        """Return the generator's losses in the game, its own among them."""
        own, everyone = self.objective, torch.ones_like(batch["speaker"], dtype=torch.bool)
        parts, fake, mask = self._kept(batch, phase)
        judge, classifier = self.discriminators["discriminator"], self.discriminators["classifier"]
        passed = adversarial(logit_of(judge(fake, mask), batch["target"]), True)
        parts["adversarial"] = own.adversarial * self.global_mean(passed, everyone)
        if own.classifier and self.global_step >= own.classifier_start:
            lost = F.cross_entropy(classifier(fake, mask), batch["target"], reduction="none")
            parts["classifier"] = own.classifier * self.global_mean(lost, everyone)
        parts["loss"] = torch.stack(list(parts.values())).sum()
        return parts

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Return what is kept or lost of recordings in styles that are read from others, without the judges."""
        parts, _, _ = self._kept(batch, "read")
        parts["loss"] = torch.stack(list(parts.values())).sum()
        return parts

    def _kept(
        self, batch: dict[str, Any], phase: Phase
    ) -> tuple[dict[str, Tensor], Float[Tensor, "b t m"], Bool[Tensor, "b t"]]:
        own, everyone = self.objective, torch.ones_like(batch["speaker"], dtype=torch.bool)
        mel = self.standardised(batch["mel"])
        mask = inside(batch["mel_lengths"], mel)
        style, second = self.styles(batch, phase)
        heard = self.tutor.listen(self.log_mels(mel), mask)
        generator = self.net["generator"]
        fake = generator(mel, mask, heard.pitch_features, style)
        again = self.tutor.listen(self.log_mels(fake), mask)
        found = self.net["style"](fake, mask, batch["target"])
        parts = {"style": own.style * self.global_mean((found - style).abs(), everyone)}
        if own.diversity:
            other = generator(mel, mask, heard.pitch_features, second)
            apart = self.global_mean((fake - other).abs(), mask)
            other_pitch = self.tutor.listen(self.log_mels(other), mask).pitch_features
            apart = apart + self.global_mean((again.pitch_features - other_pitch).abs(), mask)
            parts["diversity"] = -own.diversity * apart
        if own.content:
            assert heard.letter_features is not None and again.letter_features is not None  # attach saw to it
            moved = F.smooth_l1_loss(again.letter_features, heard.letter_features, reduction="none")
            parts["content"] = own.content * self.global_mean(moved, mask)
        moved = (contour(again.hertz, mask) - contour(heard.hertz, mask)).abs()
        parts["pitch"] = own.pitch * self.global_mean(moved, mask)
        change = loudness_change(self.log_mels(mel), self.log_mels(fake))
        parts["loudness"] = own.loudness * self.global_mean(change, mask)
        if own.cycle and (not self.training or self.global_step % own.cycle_every == 0):
            home = generator(fake, mask, again.pitch_features, self.net["style"](mel, mask, batch["speaker"]))
            parts["cycle"] = own.cycle * self.global_mean((home - mel).abs(), mask)
        return parts, fake, mask

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Two steps of the judges and two of the generator; the last counts."""
        (mine, theirs), (my_schedule, their_schedule) = cast(Any, self.optimizers()), cast(Any, self.lr_schedulers())
        told: dict[str, Tensor] = {}
        for phase in PHASES:
            self.discriminators.zero_grad()
            judged = self.judged(batch, phase)
            self._backward(judged["loss"], self.discriminators)
            self._clip(theirs)
            # Not theirs.step(), which Lightning would count as a training step.
            self.trainer.strategy.optimizer_step(theirs.optimizer, lambda: None)
            told |= {f"judges_{name}": value for name, value in judged.items() if name != "loss"}
        their_schedule.step()
        judging = [weight for weight in self.discriminators.parameters() if weight.requires_grad]
        resting = [weight for name in ("mapping", "style") for weight in self.net[name].parameters()]
        resting = [weight for weight in resting if weight.requires_grad]
        _learn(judging, False)
        for phase in PHASES:
            _learn(resting, phase == "drawn")
            mine.zero_grad()
            played = self.played(batch, phase)
            self._backward(played["loss"], self.net)
            self._clip(mine)
            told |= played
            if phase == "drawn":
                self.trainer.strategy.optimizer_step(mine.optimizer, lambda: None)
        self.log_losses("train", told)
        mine.step()
        my_schedule.step()
        _learn([*judging, *resting], True)

    def units(self, batch: dict[str, Any]) -> dict[str, int]:
        return {"frames": int(batch["mel_lengths"].sum())}


def check_tutor(tutor: Tutor, model: StarGANv2) -> None:
    """Refuse a tutor of another mel spectrogram or width, and one without letters where content counts."""
    wanted, found = model.generator_sizes.pitch_features, tutor.dim
    if tutor.mel_spec != model.mel_spec:
        message = f"the tutor hears {tutor.mel_spec}, this model makes {model.mel_spec}: train one of them again"
        raise RecipeError(message, code="conflict", path="components.tutor", value=tutor.mel_spec)
    if found != wanted:
        message = f"the tutor's trunk is {found} wide: set model.generator.pitch_features={found}, not {wanted}"
        raise RecipeError(message, code="conflict", path="model.generator.pitch_features", value=wanted)
    if model.objective.content and not tutor.letters:
        message = "the tutor was trained without texts and hears no letters: set model.objective.content=0"
        raise RecipeError(message, code="conflict", path="model.objective.content", value=model.objective.content)


def inside(lengths: Tensor, mel: Float[Tensor, "b t m"]) -> Bool[Tensor, "b t"]:
    """Return which frames lie within lengths."""
    return torch.arange(mel.shape[1], device=mel.device) < lengths[:, None]


def logit_of(logits: Float[Tensor, "b k"], speaker: Tensor) -> Float[Tensor, " b"]:
    """Return each item's own logit."""
    return of_speaker(logits[..., None], speaker)[:, 0]


def _learn(weights: list[nn.Parameter], whether: bool) -> None:
    for weight in weights:
        weight.requires_grad_(whether)

"""The game of a generator against discriminators: two players, and their alternating steps.

``Adversarial`` is mixed into a model whose generator is ``self.net``. The model says what it makes of a batch and
what that is worth by itself (``play``), which discriminators judge it and with which weight (``judges``), and how the
game is scored (``scoring``). Vocoders, codecs and autoencoders of pictures train by this one loop::

    discriminators   Σ_k w_k · (score_D(k) + anchor_weight · LeCam(k))
    generator        loss of play + balance · adversarial_weight · Σ_k w_k · score_G(k)
                                  + feature_weight · Σ_k w_k · FM(k)

What to know about it:

- The generator runs once per step, and its output serves both players.
- ``global_step``, ``trainer.max_steps``, checkpoints and schedules count batches. Lightning counts every optimiser
  step under manual optimisation, two per batch here; the discriminators' step therefore goes through the strategy,
  uncounted.
- ``balance`` is 1, unless the model names a last layer: then it is what brings the adversarial term's gradient there to
  the size of the others' (Esser et al., VQGAN, arXiv:2012.09841, equation 7). It is a number, through which nothing is
  learnt, and that of all ranks.
- LeCam (Tseng et al., arXiv:2104.03310, equation 4) keeps scores of what is real near the moving average of what is
  made, and the other way round: for few data.
- The discriminators exist only while training: exports hold the generator alone.
- Gradients are averaged over ranks here, after each backward, because part of the parameters take no part in each:
  plain ``ddp`` works, and needs no search for unused parameters. Where weights are sharded, the generator's are; the
  discriminators are kept whole on every rank.
- Precisions ``32-true`` and ``bf16-mixed``. Two losses cannot share the one gradient scaler of ``16-mixed``, which
  is refused.

Shapes: b batch, … the rest of an item: a waveform's samples, a picture.
"""

from contextlib import nullcontext
from typing import Any, ClassVar, Literal, NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from unisono.errors import RecipeError
from unisono.model import Model
from unisono.peers import add_up, num_peers
from unisono.train import discriminator_losses
from unisono.train.strategies.sharded import Sharded

SCORES = {
    "hinge": (discriminator_losses.discriminator_hinge, discriminator_losses.generator_hinge),
    "squares": (discriminator_losses.discriminator_squares, discriminator_losses.generator_squares),
    "logistic": (discriminator_losses.discriminator_logistic, discriminator_losses.generator_logistic),
}
"""By ``scoring``: what the discriminators minimise, and the generator."""
BALANCE_LIMIT = 1e4
ANCHOR_DECAY = 0.999
"""Of the moving averages of scores (published: 0.99 to 0.999)."""


class Played(NamedTuple):
    """What a generator made of a batch, what it should have been, and losses: ``loss`` and its parts, scalars.

    ``fake`` may hold several versions of the batch, one whole batch after the other: all are judged, and each counts
    the same.
    """

    fake: Float[Tensor, "k*b ..."]
    real: Float[Tensor, "b ..."]
    parts: dict[str, Tensor]


class Adversarial(Model):
    """A model that trains against discriminators; mix it in before the model.

    Attributes that a model may set:
        pretrain_steps: steps on ``losses`` alone before the game begins.
        scoring: ``hinge`` (Vocos, EnCodec), ``squares`` (HiFi-GAN, DAC, Parallel WaveGAN) or ``logistic`` (StyleTTS).
        adversarial_weight, feature_weight: of the generator's two terms; 0 leaves one out.
        gradient_weight: of the penalty on the discriminators' slope at what is real (R1); 0 leaves it out.
        anchor_weight: of the discriminators' LeCam term; 0 leaves it out.
        discriminator_lr: learning rate of the discriminators, relative to ``optim.lr``.
    """

    training_only: ClassVar[tuple[str, ...]] = ("discriminators.", "anchors.")
    kept_whole: ClassVar[tuple[str, ...]] = training_only
    reads_weights: ClassVar[tuple[str, ...]] = ("losses", "play")
    net: Any
    """The generator, a module; open, so that each model states its own kind."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.pretrain_steps = 0
        self.scoring: Literal["hinge", "squares", "logistic"] = "hinge"
        self.adversarial_weight = 1.0
        self.feature_weight = 1.0
        self.gradient_weight = 0.0
        self.anchor_weight = 0.0
        self.discriminator_lr = 1.0
        self.discriminators: Any = None  # a ModuleDict while training
        self.anchors: Any = None  # of each discriminator, while training with LeCam
        self.automatic_optimization = False

    # ---- what a model defines ------------------------------------------------------------------

    def play(self, batch: dict[str, Any]) -> Played:
        """Make outputs of a batch."""
        raise TypeError(f"{type(self).__name__} defines no play()")

    def judges(self) -> dict[str, tuple[nn.Module, float]]:
        """Make the discriminators, each with its weight; an empty dict disables adversarial training."""
        raise TypeError(f"{type(self).__name__} defines no judges()")

    def last_layer(self) -> Tensor | None:
        """Return the generator's last weight, by whose gradients the adversarial term is balanced; None does not.

        ``kept_whole`` names it, since a shard has no gradient of the whole.
        """
        return None

    # ---- the players ---------------------------------------------------------------------------

    def configure_model(self) -> None:
        """Add what only training needs; Lightning calls it before it restores a checkpoint.

        Constants are made in float32, as the generator's are: Lightning's default type, where it calls this first, is
        the run's, and a resumed run that has called this itself would hold others.
        """
        if self.discriminators is not None:
            return
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        try:
            with torch.random.fork_rng(devices=[]):
                torch.random.manual_seed(self.recipe.get("seed", 0) + 1)
                judges = self.judges()
        finally:
            torch.set_default_dtype(default)
        self.discriminators = nn.ModuleDict({name: judge for name, (judge, _) in judges.items()})
        self.judge_weights = {name: weight for name, (_, weight) in judges.items()}
        kind = cast(torch.dtype, self.dtype)
        self.discriminators.to(self.device, kind)
        if self.anchor_weight:
            self.anchors = nn.ModuleDict({name: Anchor() for name in judges}).to(self.device, kind)

    def load_state_dict(self, state_dict, strict: bool = True, assign: bool = False):
        """Load weights; a model that is not in training leaves the discriminators' out."""
        if self.discriminators is None:
            state_dict = {k: v for k, v in state_dict.items() if not k.startswith(Adversarial.training_only)}
        return super().load_state_dict(state_dict, strict, assign)

    def configure_optimizers(self) -> Any:
        if self.trainer.precision == "16-mixed":
            raise RecipeError(
                "trainer.precision='16-mixed': two losses cannot share one gradient scaler; use bf16-mixed or 32-true",
                code="unsupported",
                path="trainer.precision",
                value="16-mixed",
            )
        options = getattr(self.trainer.strategy, "_ddp_kwargs", {})
        for name, given in (
            ("comm_hook", getattr(self.trainer.strategy, "_ddp_comm_hook", None)),
            ("static_graph", options.get("static_graph")),
        ):
            if given:
                raise RecipeError(
                    f"trainer.strategy: {name} does nothing for {type(self).__name__}, whose gradients are averaged "
                    "after each of two backward passes: leave it out",
                    path=f"trainer.strategy.{name}",
                    value=given,
                    code="unsupported",
                )
        if isinstance(self.last_layer(), DTensor):
            raise RecipeError(
                f"trainer.strategy shards weights, and {type(self).__name__} balances its losses by a whole layer's "
                "gradient: take ddp, a fixed adversarial weight, or name the last layer in kept_whole",
                path="trainer.strategy",
                value=type(self.trainer.strategy).__name__,
                code="unsupported",
            )
        generator = self.make_optimizer(self.net)
        schedule = self.optim.scheduler(generator, lambda: self.total_steps)
        if not self.discriminators:
            return [generator], [schedule]
        discriminator = self.make_optimizer(self.discriminators)
        for group in discriminator.param_groups:
            group["lr"] *= self.discriminator_lr

        def adversarial_steps() -> int:
            return max(self.total_steps - self.pretrain_steps, 1)

        return [generator, discriminator], [schedule, self.optim.scheduler(discriminator, adversarial_steps)]

    # ---- the steps -----------------------------------------------------------------------------

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        optimizers = cast(Any, self.optimizers())
        schedules = cast(Any, self.lr_schedulers())
        if not isinstance(optimizers, list):
            optimizers, schedules = [optimizers], [schedules]
        judging: list[nn.Parameter] = []
        if not self.discriminators or self.global_step < self.pretrain_steps:
            parts = self.losses(batch)
        else:
            judging = [parameter for parameter in self.discriminators.parameters() if parameter.requires_grad]
            played = self.play(batch)
            score = self.discriminator_loss(played.fake.detach(), played.real)
            self.step_losses = {"discriminator": score.detach()}
            self._backward(score, self.discriminators)
            self._clip(optimizers[1])
            # Not optimizers[1].step(), which Lightning would count as a training step.
            self.trainer.strategy.optimizer_step(optimizers[1].optimizer, lambda: None)
            schedules[1].step()
            # Frozen, they still hand the gradient on, but spend no time on their own.
            for parameter in judging:
                parameter.requires_grad_(False)
            parts = self._generator_losses(played)
            parts["discriminator"] = score
        self.log_losses("train", parts)
        optimizers[0].zero_grad()
        self._backward(parts["loss"], self.net)
        self._clip(optimizers[0])
        optimizers[0].step()
        schedules[0].step()
        for parameter in judging:
            parameter.requires_grad_(True)

    def discriminator_loss(self, fake: Tensor, real: Tensor) -> Tensor:
        """Return what the discriminators lose, their gradients cleared; a game with other goals than true and false
        has its own."""
        self.discriminators.zero_grad()
        score, total = SCORES[self.scoring][0], torch.zeros((), device=real.device)
        versions = len(fake) // len(real)
        real = real.detach().requires_grad_(bool(self.gradient_weight))
        for name, judge in self.discriminators.items():
            halves = [said.split(len(real)) for said in judge(torch.cat([real, fake]))]
            truths = [truth for truth, _ in halves]
            lost = self.mean(score([truth.repeat(versions) for truth in truths], [guess for _, guess in halves]))
            if self.gradient_weight:
                penalty = discriminator_losses.gradient_penalty(truths, real)
                lost = lost + self.gradient_weight * self.mean(penalty)
            if self.anchor_weight:
                lost = lost + self.anchor_weight * self.mean(self.anchors[name](truths, [guess for _, guess in halves]))
            total = total + self.judge_weights[name] * lost
        return total

    def _generator_losses(self, played: Played) -> dict[str, Tensor]:
        score = SCORES[self.scoring][1]
        adversarial, features = (torch.zeros((), device=self.device) for _ in range(2))
        for name, judge in self.discriminators.items():
            weight, guess = self.judge_weights[name], judge(played.fake)
            adversarial = adversarial + weight * self.mean(score(guess))
            if self.feature_weight:
                with torch.no_grad():
                    truth = [said.repeat(len(played.fake) // len(played.real)) for said in judge(played.real)]
                features = features + weight * self.mean(discriminator_losses.feature_matching(truth, guess))
        parts = {**played.parts, "adversarial": adversarial}
        weight = self.adversarial_weight
        if (last := self.last_layer()) is not None and weight:
            parts["balance"] = balance(played.parts["loss"], adversarial, last)
            weight = weight * parts["balance"]
        parts["loss"] = played.parts["loss"] + weight * adversarial
        if self.feature_weight:
            parts["features"] = features
            parts["loss"] = parts["loss"] + self.feature_weight * features
        return parts

    def mean(self, values: Float[Tensor, "b"]) -> Float[Tensor, ""]:
        """Return the mean over the items of all ranks."""
        return self.global_mean(values, torch.ones_like(values, dtype=torch.bool))

    def _backward(self, loss: Tensor, module: nn.Module) -> None:
        strategy = cast(Any, self.trainer.strategy)
        alone = self.trainer.world_size == 1 or isinstance(strategy, Sharded)  # which averages by itself
        with nullcontext() if alone else strategy.block_backward_sync():
            self.manual_backward(loss)
        if not alone:
            gradients = [p.grad for p in module.parameters() if p.grad is not None]
            flat = nn.utils.parameters_to_vector(gradients)
            torch.distributed.all_reduce(flat)
            nn.utils.vector_to_parameters(flat / self.trainer.world_size, gradients)

    def _clip(self, optimizer: Any) -> None:
        if self.optim.clip_norm:
            self.clip_gradients(optimizer, self.optim.clip_norm, "norm")


def balance(loss: Tensor, adversarial: Tensor, last: Tensor) -> Tensor:
    """Return how many times larger a loss' gradient at a weight is than that of the adversarial term, at most 10⁴.

    Gradients are those of all ranks, as a step takes them: each rank's losses are scaled for their mean.
    """
    norms = []
    for part in (loss, adversarial):
        (gradient,) = torch.autograd.grad(part, last, retain_graph=True)
        norms.append((add_up(gradient.detach().float().clone()) / num_peers()).norm())
    return (norms[0] / (norms[1] + 1e-4)).clamp(0, BALANCE_LIMIT).detach()


class Anchor(nn.Module):
    """Moving averages of a discriminator's scores, real and made, and the LeCam distance from them."""

    def __init__(self):
        super().__init__()
        self.real: Tensor
        self.fake: Tensor
        self.count: Tensor
        for name in ("real", "fake", "count"):
            self.register_buffer(name, torch.zeros(()))

    def forward(
        self, real: list[discriminator_losses.Judgement], fake: list[discriminator_losses.Judgement]
    ) -> Float[Tensor, "b"]:
        """Take the averages along, then return ``max(0, D(x) − ᾱ_made)² + max(0, ᾱ_real − D(x̂))²``, as many as items.

        Averages are over all ranks; the first batch sets them.
        """
        scores = [torch.cat([said.scores.float() for said in side], 1) for side in (real, fake)]
        with torch.no_grad():
            sums = add_up(torch.stack([*(side.double().sum() for side in scores), *map(count_of, scores)]))
            share = 1.0 if not self.count else 1 - ANCHOR_DECAY
            self.real.lerp_((sums[0] / sums[2]).to(self.real), share)
            self.fake.lerp_((sums[1] / sums[3]).to(self.fake), share)
            self.count += 1
        far = (scores[0] - self.fake).relu().square().mean(1), (self.real - scores[1]).relu().square().mean(1)
        versions = len(far[1]) // len(far[0])
        return far[0] + far[1].view(versions, -1).mean(0)


def count_of(x: Tensor) -> Tensor:
    """Return how many numbers there are, as a number beside sums of them."""
    return torch.tensor(float(x.numel()), dtype=torch.float64, device=x.device)

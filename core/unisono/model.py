"""Model: a LightningModule that can also synthesize.

A model is three things beside its training losses: a typed ``Request``, an output ``Media`` type, and
``synthesize``. From the one request declaration come the Python call, the flags of ``unisono generate`` and
the JSON schema.

Life of a model::

    __init__(plain typed arguments)     the recipe's ``model:`` section
        └─ build(facts)                 what only the data knows: symbols, classes, statistics
             ├─ losses(batch)           training and validation; the core logs and steps
             ├─ attach(role, component) a vocoder, a codec: kept out of this model's own weights
             └─ synthesize(requests)    lists in, media out; alone or in a batch, the same
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from unisono.cases import cases
from unisono.data import derive_seed, facts_of, to_plain
from unisono.errors import CheckpointError, RecipeError, RequestError, did_you_mean, shown
from unisono.media import Media as AnyMedia
from unisono.optim import OptimSpec
from unisono.peers import add_up, num_peers
from unisono.request import Request

OnStep = Callable[[int, int], None]
"""Called as ``on_step(done, total)`` while a synthesis goes on.

Counted in what the model knows beforehand (characters, frames, solver steps): ``total`` is the same at each
call, ``done`` only grows, and the last call has ``done == total``.
"""
LOG_EVERY = 10
"""Steps of a training after which its losses are logged at the latest, for the progress bar."""


AnyRequest = Request  # within Model the name means the model's own


def choices_of(kind: "type[Model]", facts: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return, by field, the names that a kind of model takes with such facts, as its ``choices`` say."""
    return {field: tuple(map(str, facts.get(fact) or ())) for field, fact in kind.choices.items()}


class Model(LightningModule):
    """The base of every generator; see the module's docstring for its life."""

    Request: ClassVar[Any] = AnyRequest
    """The kind of request (a class derived from ``unisono.request.Request``); open, so that each model states its own
    as ``ClassVar[type[...]]``."""
    Media: ClassVar[Any] = AnyMedia
    """The kind of output (a class derived from ``unisono.media.Media``)."""
    text_field: ClassVar[str] = "text"
    choices: ClassVar[dict[str, str]] = {}
    """Fields of the request whose values are names that a fact lists: field → fact, such as ``{"label": "classes"}``.
    A ``Synthesizer`` has each list under the fact's name."""
    pipeline_tag: ClassVar[str] = ""
    """What it does, in the hub's words for tasks, such as ``text-to-image``; empty where it has none."""
    roles: ClassVar[dict[str, str]] = {}
    builtin_components: ClassVar[dict[str, str]] = {}
    component_kinds: ClassVar[dict[str, Any]] = {}
    """What the component of a role must be, where not any will do: a class, or a protocol checked at run time."""
    Facts: ClassVar[Any] = None
    """The family of facts (a class derived from ``unisono.data.Facts``) that the model is built from; None takes any
    mapping of plain JSON."""
    flat: ClassVar[dict[str, str]] = {}
    """Where constructor arguments of recipe format 1 are now: ``{"dim": "network.dim"}``."""
    salt: ClassVar[str] = ""
    """Sets a model's random choices apart from those of others with the same seed."""
    learns: ClassVar[bool] = True
    """Whether there is anything to train. A model of its components alone has no weights of its own, and is made by
    ``unisono assemble``."""
    deterministic: ClassVar[bool] = False
    """Whether the output is the same for every seed. Else the conformance kit expects that a seed changes it."""
    adapter_targets: ClassVar[tuple[str, ...]] = ()
    """Patterns of the layers that ``adapters:`` adapts where a recipe names none; without, every linear layer inside
    repeated layers."""
    reads_weights: ClassVar[tuple[str, ...]] = ("losses",)
    """Methods beside ``forward`` in which training reads weights; sharded ones are gathered around them."""
    kept_whole: ClassVar[tuple[str, ...]] = ()
    """Beginnings of the names of parameters that are not sharded, and scalars, which never are."""
    regions: ClassVar[tuple[str, ...]] = ()
    """Patterns of names of the submodules that ``run.compile`` and ``run.activation_checkpointing`` act on, such as
    ``("net.blocks.*",)``; by default the blocks that the model repeats."""
    requests_at_once: ClassVar[int] = 1
    """How many requests ``unisono serve`` makes together at most. More than 1 where that was measured to be faster than
    one after the other, and where it changes no byte of an output."""
    streams_the_whole: ClassVar[bool] = True
    """Whether the joined pieces of ``stream`` equal the output of a call; not where a stream cuts a text elsewhere."""
    source_facts: ClassVar[tuple[str, ...]] = ()
    """Facts without which learnt weights mean something else, such as ``("classes", "words")``: `check_source` refuses
    a start (``run.init_from``) from a model in which one of them differs."""

    def __init__(self):
        super().__init__()
        # Counts of the network so far: None here, int in a model that makes its output in steps and declares so.
        self.evaluations: Any = None
        self.rounds: Any = None  # of evaluations side by side, where some need not wait for others
        self.facts: Any = {}
        self.optim = OptimSpec()
        self.recipe: dict[str, Any] = {}
        self.adapted: frozenset[str] = frozenset()  # what is learnt beside frozen weights; see unisono.nn.adapters
        self.step_losses: dict[str, Tensor] = {}  # of the training step in progress, or the last one
        self.time_share: float | None = None  # of trainer.max_time that is over; set by the run
        self._components: dict[str, Any] = {}

    # ---- what a model defines ------------------------------------------------------------------

    def build(self, facts: Mapping[str, Any]) -> None:
        """Create what depends on the data; ``facts`` (``Facts``, or plain JSON) travel in every export.

        A model calls this first and then reads ``self.facts``, which are checked and of its own family.
        """
        self.facts = facts_of(facts, self.Facts)

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Return the total under ``loss`` and its parts under their own names, all scalars."""
        raise TypeError(f"{type(self).__name__} defines no losses()")

    def units(self, batch: dict[str, Any]) -> dict[str, int]:
        """Count what a batch holds, in the task's own units, for the throughput display."""
        return {}

    def synthesize(
        self,
        requests: Sequence[Any],
        generator: torch.Generator | None = None,
        on_step: OnStep | None = None,
    ) -> list[Any]:
        """Return one media object per request; an item alone equals the same item in a batch.

        Randomness comes from each request's ``seed``; ``generator``, where given, is drawn from instead.
        """
        raise TypeError(f"{type(self).__name__} defines no synthesize()")

    def stream(self, request: Any, generator: torch.Generator | None = None) -> Iterator[Any]:
        """Yield the output piece by piece; a model that cannot stream yields one piece."""
        yield from self.synthesize([request], generator)

    def snapshots(self, request: Any, generator: torch.Generator | None = None) -> Iterator[Any]:
        """Yield what the output looks like while it is made, and the output last; by default the output alone."""
        yield from self.synthesize([request], generator)

    def preview_requests(self) -> list[Any]:
        """Return a few fixed requests that show, at each validation, what the model has learnt."""
        return []

    def check_requests(self) -> list[Any]:
        """Return the requests that the conformance kit tries; each is served, or refused by ``RequestError``.

        By default ``preview_requests()``, and the first of them with every literal, each limit and two lengths of text.
        A model whose fields depend on one another, or whose length is another field, adds requests of its own.
        """
        return cases(self.Request, self.preview_requests(), self.text_field)

    def given_parts(self, request: Any, made: Any) -> list[tuple[Any, Any]]:
        """Return what a request gives that must stand in the output, as pairs (asked, found) that must be equal."""
        return []

    def check_source(self, facts: dict[str, Any]) -> None:
        """Raise ``CheckpointError`` where weights that were trained on ``facts`` would mean something else here.

        Asked before ``run.init_from`` takes over weights of equal names and shapes. By default, where one of
        ``source_facts`` differs; a model that compares more calls this first.
        """
        self.check_same_facts(facts, self.source_facts)

    def check_same_facts(self, facts: Mapping[str, Any], names: Sequence[str]) -> None:
        """Raise ``CheckpointError`` unless the named facts of a source of weights are this model's."""
        for name in names:
            its, mine = facts.get(name), self.facts.get(name)
            if its != mine:
                if isinstance(its, Mapping) and isinstance(mine, Mapping):  # what is equal in both says nothing
                    keys = [key for key in {**its, **mine} if its.get(key) != mine.get(key)]
                    its, mine = ({key: of.get(key) for key in keys} for of in (its, mine))
                raise CheckpointError(
                    f"run.init_from has {name}={shown(its)}, the data has {shown(mine)}: prepare the data likewise, or "
                    "start from a model of its kind",
                    code="conflict",
                    path="run.init_from",
                    value=name,
                )

    def read_source(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return a source's weights (``run.init_from``) under the names that they have here; as they are, unless a
        model can begin with a part of itself."""
        return state

    def shard_units(self) -> list[nn.Module]:
        """Return the modules that are gathered one at a time where weights are sharded; see `unisono.train.strategies`.

        Training calls their ``forward`` and nothing else of them. By default they are the blocks that are repeated.
        """
        from unisono.train.strategies.units import repeated_blocks

        return repeated_blocks(self)

    # ---- components ----------------------------------------------------------------------------

    def attach(self, role: str, component: Any) -> None:
        """Give the model a component for a role; it stays out of this model's weights and optimiser."""
        self.check_component(role, component)
        if isinstance(component, nn.Module):
            component.eval().requires_grad_(False)
            component.to(self.device)
        self._components[role] = component

    def check_component(self, role: str, component: Any) -> None:
        """Raise ``RecipeError`` for an unknown role, and for a component that is not of its kind.

        A model whose ``attach`` looks at the component calls this first.
        """
        if role not in self.roles:
            raise RecipeError(
                f"{type(self).__name__} has no component {role!r}{did_you_mean(role, self.roles)}",
                code="unknown",
                path=f"components.{role}",
                value=role,
            )
        kind = self.component_kinds.get(role)
        if kind is not None and not isinstance(component, kind):
            raise RecipeError(
                f"the {role} must be of the kind {kind.__name__}, not {type(component).__name__}: attach another one",
                code="type",
                path=f"components.{role}",
                value=type(component).__name__,
            )

    def check_agreement(self, role: str, sizes: Mapping[str, tuple[Any, Any]]) -> None:
        """Raise ``RecipeError`` unless a component's sizes are this model's.

        ``sizes`` has (mine, its) by the name that the size has in the recipe's ``model:`` section.
        """
        for name, (mine, its) in sizes.items():
            if mine != its:
                raise RecipeError(
                    f"model.{name}={mine}, the {role} has {its}: set model.{name} to {its}",
                    code="conflict",
                    path=f"model.{name}",
                    value=mine,
                )

    @property
    def components(self) -> dict[str, Any]:
        """The attached components by role."""
        return dict(self._components)

    def component(self, role: str) -> Any:
        """Return a component, or raise ``RequestError`` that says how to give one."""
        if role not in self._components:
            builtin = "".join(f", or {name}" for name in self.builtin_components)
            raise RequestError(
                f"this {type(self).__name__} has no {role} ({self.roles[role]}): "
                f"give one with components={{{role!r}: FOLDER}}, or --component {role}=FOLDER on the command line "
                f"(--components.{role}=FOLDER to unisono train){builtin}",
                code="missing",
                path=f"components.{role}",
            )
        return self._components[role]

    def _apply(self, fn, recurse=True):
        for component in self._components.values():
            if isinstance(component, nn.Module):
                component._apply(fn)
        return super()._apply(fn, recurse)

    # ---- training ------------------------------------------------------------------------------

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor | None:
        parts = self.losses(batch)
        self.log_losses("train", parts)
        return parts["loss"]

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        parts = self.losses(batch)
        size = len(next(v for v in batch.values() if isinstance(v, Tensor)))
        self.log_losses("val", parts, batch_size=size, sync_dist=True)

    def log_losses(self, stage: str, parts: dict[str, Tensor], **kwargs: Any) -> None:
        """Log each part as ``stage/name``; the total goes to the progress bar.

        Those of training are in ``step_losses`` at each step. Lightning's ``log`` is slow beside a small step, so they
        are logged at the steps that reach a logger, at every tenth, and at each where a callback monitors one of them.
        """
        if stage == "train":
            self.step_losses = {name: value.detach() for name, value in parts.items()}
            if not self.logs_now:
                return
        for name, value in parts.items():
            self.log(f"{stage}/{name}", value.detach(), prog_bar=name == "loss", **kwargs)

    @property
    def logs_now(self) -> bool:
        """Whether values of the training step in progress are logged."""
        trainer: Any = self.trainer  # Lightning puts `log_every_n_steps` there without declaring it
        done = trainer.fit_loop.epoch_loop._batches_that_stepped  # what Lightning's loggers count
        if done % LOG_EVERY == 0 or (done + 1) % max(trainer.log_every_n_steps, 1) == 0 or trainer.should_stop:
            return True
        return any(str(getattr(callback, "monitor", "")).startswith("train/") for callback in trainer.callbacks)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.trainer.should_stop:  # the step that is the last one is logged, whichever it is
            for name, value in self.step_losses.items():
                self.log(f"train/{name}", value)

    @property
    def known_steps(self) -> int | None:
        """Optimiser steps after which ``max_steps`` or ``max_epochs`` end the run; None where neither does."""
        steps = self.trainer.estimated_stepping_batches
        return int(steps) if 0 < steps < math.inf else None

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole run, for schedules; where a time ends it, as far as can be told by now.

        A schedule that asks at each step ends with the run, whatever ends that.
        """
        known = self.known_steps
        if self.time_share is None:
            if known is None and self.optim.schedule in ("cosine", "linear"):
                raise RecipeError(
                    f"optim.schedule={self.optim.schedule} needs an end: give trainer.max_steps, max_epochs or "
                    "max_time, or take constant or inverse_sqrt",
                    path="optim.schedule",
                    value=self.optim.schedule,
                    code="value",
                )
            return 1 if known is None else known
        by_time = math.ceil(min(max(self.trainer.global_step, 1) / max(self.time_share, 1e-9), 2**53))
        return by_time if known is None else min(known, by_time)

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer(self)
        schedule = self.optim.scheduler(optimizer, lambda: self.total_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def make_optimizer(self, module: nn.Module) -> torch.optim.Optimizer:
        """Make the recipe's optimiser over this model, or over a part of it, for ``configure_optimizers``."""
        scaled = self._trainer is not None and self._trainer.precision == "16-mixed"
        return self.optim.make(module, self, scaled)

    def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None):
        clip = gradient_clip_val or self.optim.clip_norm
        if clip:
            self.clip_gradients(optimizer, clip, gradient_clip_algorithm or "norm")

    def clip_gradients(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None):
        """Clip as Lightning does, over all ranks where gradients are sharded."""
        clip: Any = getattr(self.trainer.strategy, "clip_gradients", None)
        if clip is None:
            super().clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        else:
            clip(optimizer, gradient_clip_val, gradient_clip_algorithm or "norm")

    def global_mean(self, values: Float[Tensor, "b ..."], mask: Bool[Tensor, "b ..."]) -> Float[Tensor, ""]:
        """Mean of ``values`` where ``mask`` holds, over the items of *all* ranks.

        Distributed training averages gradients over ranks; a plain masked mean would weigh a rank with few
        frames as much as one with many. Here each rank divides by the global count and multiplies by the
        number of ranks, so that the averaged gradient is that of one process on the whole batch.
        """
        mask = mask.reshape(mask.shape + (1,) * (values.ndim - mask.ndim))
        weights = mask.to(values.dtype).expand_as(values)
        count = add_up(weights.sum(dtype=torch.float64))
        return (values * weights).sum() * (num_peers() / count.clamp(min=1)).to(values.dtype)

    def row_seeds(self, batch: dict[str, Any]) -> list[int]:
        """Return one seed per item of a batch (its ``row``), of the run's seed, the step and the item.

        They are the same on any rank and after a restart. In validation, all steps are one.
        """
        step = self.global_step if self.training else -1
        return [derive_seed(self.salt, self.recipe.get("seed", 0), step, row) for row in batch["row"].tolist()]

    def draw_uniform(self, seeds: Sequence[int], purpose: str) -> Float[Tensor, " b"]:
        """Return a number in [0, 1] per item, drawn from its own seed; those of two purposes are independent."""
        return torch.tensor([derive_seed(seed, purpose) / 2**63 for seed in seeds], device=self.device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["unisono"] = {"recipe": self.recipe, "facts": to_plain(self.facts, "facts")}

    def request_generator(self, request: AnyRequest, generator: torch.Generator | None = None) -> torch.Generator:
        """Return the generator for one request: the given one, or a fresh one from the request's seed."""
        return generator or torch.Generator().manual_seed(request.seed)

    @staticmethod
    def seed_of(request: AnyRequest, generator: torch.Generator | None = None) -> int:
        """Return the seed of a request's random choices: its own, or one drawn from a generator."""
        return request.seed if generator is None else int(torch.randint(2**62, (), generator=generator))

"""Policy: what every policy shares: an observation encoder, bins of the training data, and playing.

::

    observation ─ encoder ─ prefix [b, p, d] ─ a chunk of actions ─ environment ─ observation …

The fingerprint of the statistics (``ControlFacts.mark``) is a buffer of the weights. Weights of another data set or
chunk length, put beside these facts, are refused when they are loaded, not noticed when the robot moves.

Shapes: b batch, m actions of a chunk, a numbers of an action, p vectors of the prefix, d channels.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from unisono import Model
from unisono.errors import CheckpointError
from unisono.model import OnStep
from unisono.nn.swiglu import LayerSizes

from unisono_control.demonstrations.facts import ControlFacts
from unisono_control.models.bins import ActionBins
from unisono_control.models.observing import ObservationEncoder
from unisono_control.models.transformer import Transformer
from unisono_control.playing.episode import Episode
from unisono_control.playing.play import Moment, Plan, play
from unisono_control.playing.request import EpisodeRequest

MEANS = {
    "environment": "another environment",
    "chunk": "chunks of another length",
    "action_low": "other statistics of the actions",
    "action_high": "other statistics of the actions",
    "state_mean": "other statistics of the state",
    "state_std": "other statistics of the state",
    "words": "other words",
    "max_words": "instructions of another length",
}


class Policy(Model):
    """The base of the policies, which give it a network, ``losses`` and ``plan``.

    Args:
        network: sizes of the transformer.

    Attributes:
        evaluations: of the network so far, each of a whole batch.
        rounds: the same: none goes on beside another.
        positions: places computed so far, over all rows.
    """

    Media: ClassVar[type[Episode]] = Episode
    Facts: ClassVar[type[ControlFacts]] = ControlFacts
    facts: ControlFacts
    Request: ClassVar[Any] = EpisodeRequest
    text_field: ClassVar[str] = "instruction"
    choices: ClassVar[dict[str, str]] = {}
    pipeline_tag: ClassVar[str] = "robotics"
    salt: ClassVar[str] = "control"
    mark: Tensor

    def __init__(self, *, network: LayerSizes = LayerSizes()):  # noqa: B008
        super().__init__()
        self.sizes = network
        self.evaluations: int = 0
        self.rounds: int = 0
        self.positions: int = 0

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build for the environment, the chunk and the statistics of the data."""
        super().build(facts)
        self.encoder = ObservationEncoder(self.facts, self.sizes.dim)
        self.transformer = Transformer(self.sizes)
        self.register_buffer("mark", torch.tensor(self.facts.mark))
        self.register_load_state_dict_post_hook(_check_mark)

    @property
    def num_tokens(self) -> int:
        """Numbers of a chunk: actions × numbers of an action."""
        return self.facts.chunk * self.facts.environment.num_actions

    def percentiles(self, bins: int = 2) -> ActionBins:
        """Return bins between the percentiles of the training actions."""
        return ActionBins(self.facts.action_low, self.facts.action_high, bins)

    def check_source(self, facts: dict[str, Any]) -> None:
        """Refuse a start from a policy whose chunk, statistics or words mean something else."""
        its = ControlFacts.from_json(facts)
        for name, what in MEANS.items():
            mine, other = getattr(self.facts, name), getattr(its, name)
            if mine != other:
                shown = "" if name in ("environment", "words") else f" ({_short(other)}, the data have {_short(mine)})"
                raise CheckpointError(
                    f"run.init_from has {what} than the data{shown}: start from a policy of the same demonstrations",
                    code="conflict",
                    path="run.init_from",
                    value=name,
                )

    def prefix(self, batch: dict[str, Any]) -> Float[Tensor, "b p d"]:
        """Return the vectors of a batch's observations."""
        return self.encoder(batch["state"], batch.get("words"), batch.get("picture"))

    def units(self, batch: dict[str, Any]) -> dict[str, int]:
        return {"actions": batch["actions"].shape[0] * batch["actions"].shape[1]}

    def plan(self, moments: Sequence[Moment], request: Any) -> list[Plan]:
        """Return a chunk for each moment, all of as many chunks before; a moment alone has the same as in a batch."""
        raise TypeError(f"{type(self).__name__} defines no plan()")

    def batch_of(self, moments: Sequence[Moment]) -> dict[str, Tensor]:
        """Return the observations of moments as a batch."""
        seen = [moment.observation for moment in moments]
        batch = {"state": torch.stack([torch.from_numpy(o.state) for o in seen])}
        if self.facts.max_words:
            batch["words"] = torch.tensor([self.facts.read_words(o.instruction) for o in seen])
        if self.facts.environment.picture_size:
            batch["picture"] = torch.stack([torch.from_numpy(o.picture) for o in seen])  # a Session has checked it
        return {key: value.to(self.device) for key, value in batch.items()}

    def synthesize(
        self,
        requests: Sequence[Any],
        generator: torch.Generator | None = None,
        on_step: OnStep | None = None,
    ) -> list[Episode]:
        """Play an episode for each request; see `unisono_control.playing.play`."""
        return play(self, requests, generator, on_step)

    def preview_requests(self) -> list[Any]:
        said = self.facts.sample_instructions[:1]
        seeds = self.facts.held_out[:2] or (0, 1)
        return [
            *(self.Request(seed=seed) for seed in seeds),
            *(self.Request(instruction=text, seed=seeds[0]) for text in said),
        ]

    def given_parts(self, request: Any, made: Episode) -> list[tuple[Any, Any]]:
        return [(request.instruction, made.instruction)] if request.instruction else []


def _check_mark(module: Any, keys: Any) -> None:
    """Refuse weights whose fingerprint is not that of the facts."""
    if int(module.mark) != module.facts.mark:
        raise CheckpointError(
            "the weights were trained with another chunk length or other statistics than the facts beside them say "
            f"(fingerprint {int(module.mark)}, not {module.facts.mark}): take both from one export",
            code="conflict",
            path="mark",
            value=int(module.mark),
        )


def _short(value: Any) -> str:
    return repr(value) if not isinstance(value, tuple) else ", ".join(f"{part:.4g}" for part in value[:4])

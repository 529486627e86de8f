"""Model: means over all ranks, and the seeds of items."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from rank_mean import LENGTHS, mean_and_gradient, rows
from refused import refused
from torch import nn
from unisono.data import Facts, derive_seed
from unisono.errors import CheckpointError, RecipeError, RequestError
from unisono.model import Model
from unisono.testing.processes import other_processes


def test_a_global_mean_is_the_mean_over_what_counts():
    values, mask = rows(0, 1)
    by_hand = sum(values[row, :length].square().sum() for row, length in enumerate(LENGTHS)) / (2 * sum(LENGTHS))
    torch.testing.assert_close(Model().global_mean(values.square(), mask), by_hand)
    assert Model().global_mean(values, torch.zeros_like(mask)) == 0  # of nothing, rather than NaN


def test_two_processes_average_to_the_gradient_of_one(tmp_path):
    """The halves have 6 and 9 frames: a mean of each half's own mean would be another."""
    place, results = tmp_path / "group", [tmp_path / f"{rank}.pt" for rank in range(2)]
    programs = [["rank_mean", str(rank), str(place), str(results[rank])] for rank in range(2)]
    other_processes(programs, [{}, {}], modules=["torch", "unisono.model"])
    mean, gradient = mean_and_gradient(*rows(0, 1))
    for path in results:
        found = torch.load(path, weights_only=True)
        torch.testing.assert_close(found["mean"], mean)
        torch.testing.assert_close(found["gradient"], gradient)
    alone = [mean_and_gradient(*rows(rank, 2))[1] for rank in range(2)]
    assert not torch.allclose((alone[0] + alone[1]) / 2, gradient, rtol=0.01)  # else nothing is tested


class Seeded(Model):
    salt = "test"
    step = 0

    @property
    def global_step(self):
        return self.step


def test_items_have_seeds_of_run_step_and_item_and_in_validation_all_steps_are_one():
    model, batch = Seeded(), {"row": torch.tensor([3, 8])}
    model.recipe = {"seed": 5}
    drawn = {}
    for training in (True, False):
        model.train(training)
        for model.step in (0, 7):
            drawn[training, model.step] = model.row_seeds(batch)
    assert drawn[True, 0] == [derive_seed("test", 5, 0, row) for row in (3, 8)]
    assert drawn[True, 7] == [derive_seed("test", 5, 7, row) for row in (3, 8)]
    assert drawn[False, 0] == drawn[False, 7]
    assert not set(drawn[False, 0]) & {*drawn[True, 0], *drawn[True, 7]}
    model.recipe = {"seed": 6}
    assert not set(model.row_seeds(batch)) & set(drawn[False, 0])


class Playing(Model):
    roles: ClassVar[dict[str, str]] = {"player": "what plays it"}
    component_kinds: ClassVar[dict[str, type]] = {"player": nn.Linear}
    builtin_components: ClassVar[dict[str, str]] = {"whistle": "json:loads"}


def test_components_are_of_their_role_and_kind_and_stay_out_of_the_weights():
    model = Playing()
    with refused(RequestError, "missing", "components.player", names=["--component player=FOLDER", "whistle"]):
        model.component("player")
    with refused(RecipeError, "unknown", "components.plaier", value="plaier", names="'player'"):
        model.attach("plaier", nn.Linear(1, 1))
    with refused(RecipeError, "type", "components.player", value="ReLU", names="Linear"):
        model.attach("player", nn.ReLU())
    player = nn.Linear(1, 1).train()
    model.attach("player", player)
    assert model.component("player") is player and not player.training
    assert not any(p.requires_grad for p in player.parameters()) and not model.state_dict()
    model.to(torch.float64)
    assert player.weight.dtype == torch.float64  # it goes where the model goes


@pytest.mark.parametrize("given", [True, False])
def test_the_seed_of_a_request_is_its_own_or_drawn(given):
    request = Model.Request(seed=11)
    generator = torch.Generator().manual_seed(2) if given else None
    seeds = [Model.seed_of(request, generator) for _ in range(2)]
    assert (seeds == [11, 11]) is not given and all(0 <= seed < 2**62 for seed in seeds)
    first = Model().request_generator(request, generator)
    assert (first is generator) is given and (given or first.initial_seed() == 11)


@dataclass(frozen=True)
class BeadFacts(Facts):
    colours: list[str]
    size: int
    shine: float | None = None


class Beads(Model):
    Facts = BeadFacts
    source_facts = ("colours", "shine")
    roles: ClassVar[dict[str, str]] = {"string": "holds them"}


def test_a_source_of_other_facts_is_refused_where_they_give_weights_their_meaning():
    model = Beads()
    model.build({"colours": ["red"], "size": 3})
    model.check_source({"colours": ["red"], "size": 4})
    with refused(CheckpointError, "conflict", "run.init_from", value="colours", names=["red", "blue"]):
        model.check_source({"colours": ["blue"], "size": 3})
    with refused(CheckpointError, "conflict", "run.init_from", value="shine"):
        model.check_source({"colours": ["red"], "size": 3, "shine": 0.5})
    Model().check_source({"colours": ["blue"]})


def test_a_components_sizes_are_the_models():
    model = Beads()
    model.check_agreement("string", {"size": (3, 3)})
    with refused(RecipeError, "conflict", "model.knots", value=2, names=["string", "5"]):
        model.check_agreement("string", {"size": (3, 3), "knots": (2, 5)})


def test_numbers_of_items_are_of_their_seeds_and_purposes():
    model = Beads()
    drawn = model.draw_uniform(list(range(4000)), "a")
    assert torch.equal(drawn[7:9], model.draw_uniform([7, 8], "a"))
    assert not (drawn == model.draw_uniform(list(range(4000)), "b")).any()
    # Means and quarters of 4,000 numbers: five standard deviations.
    assert drawn.min() >= 0 and drawn.max() <= 1 and abs(drawn.mean() - 0.5) < 5 / (12 * 4000) ** 0.5
    assert abs((drawn < 0.25).double().mean() - 0.25) < 5 * (0.25 * 0.75 / 4000) ** 0.5

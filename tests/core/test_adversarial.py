"""The adversarial losses, by hand: each weight counts, and so does each discriminator's own."""

import pytest
import torch
from torch import nn
from unisono.train.adversarial import Adversarial, Played
from unisono.train.discriminator_losses import Judgement


class Judge(nn.Module):
    """Scores are a quarter of what is judged, the features twice of it."""

    def forward(self, x: torch.Tensor) -> list[Judgement]:
        return [Judgement(x / 4, [2 * x])]


class Toy(Adversarial):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(1, 1)

    def judges(self) -> dict[str, tuple[nn.Module, float]]:
        return {"one": (Judge(), 1.0), "other": (Judge(), 0.5)}


def parts_of(adversarial_weight: float, feature_weight: float) -> dict[str, float]:
    model = Toy()
    model.configure_model()
    model.adversarial_weight, model.feature_weight = adversarial_weight, feature_weight
    fake, real = torch.tensor([[1.0, 3.0]]), torch.tensor([[2.0, 0.0]])
    made = model._generator_losses(Played(fake, real, {"loss": torch.tensor(10.0)}))
    return {name: float(value) for name, value in made.items()}


@pytest.mark.parametrize(("adversarial_weight", "feature_weight"), [(1.0, 1.0), (3.0, 2.0), (0.0, 5.0)])
def test_each_term_counts_by_its_weight(adversarial_weight, feature_weight):
    """Hinge: the mean of 1 − 0.25 and 1 − 0.75; features: the mean of 2 · 1 and 2 · 3; judges of weights 1 and 0.5."""
    made = parts_of(adversarial_weight, feature_weight)
    assert made["adversarial"] == pytest.approx(1.5 * 0.5) and made["features"] == pytest.approx(1.5 * 4)
    assert made["loss"] == pytest.approx(10 + adversarial_weight * 0.75 + feature_weight * 6)


def test_a_weight_of_zero_leaves_the_features_out():
    made = parts_of(1.0, 0.0)
    assert "features" not in made and made["loss"] == pytest.approx(10 + made["adversarial"])

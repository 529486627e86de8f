"""The adversarial losses, by hand: each weight counts, and so does each discriminator's own."""

import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits
from unisono.train.adversarial import ANCHOR_DECAY, BALANCE_LIMIT, SCORES, Adversarial, Anchor, Played, balance
from unisono.train.discriminator_losses import Judgement, gradient_penalty


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


def test_logistic_scores_are_the_cross_entropy_of_real_and_made():
    real, fake = torch.tensor([[2.0, -1.0], [30.0, 0.0]]), torch.tensor([[0.5, -3.0], [-40.0, 1.0]])
    said = [Judgement(real, [])], [Judgement(fake, [])]
    for row, value in enumerate(SCORES["logistic"][0](*said).tolist()):
        wanted = binary_cross_entropy_with_logits(real[row], torch.ones(2)) + binary_cross_entropy_with_logits(
            fake[row], torch.zeros(2)
        )
        assert value == pytest.approx(float(wanted), rel=1e-6)
    made = SCORES["logistic"][1](said[1])
    assert float(made[0]) == pytest.approx(float(binary_cross_entropy_with_logits(fake[0], torch.ones(2))), rel=1e-6)


def test_the_penalty_is_half_the_squared_slope_of_each_item():
    x = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    weight = nn.Parameter(torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0]))
    penalty = gradient_penalty([Judgement((x.square() @ weight)[:, None], [])], x)
    wanted = (2 * x * weight).square().sum(1) / 2
    torch.testing.assert_close(penalty, wanted)
    (slope,) = torch.autograd.grad(penalty.sum(), weight)  # it is learnt through
    torch.testing.assert_close(slope, (4 * x.square() * weight).sum(0))


def test_the_penalty_counts_by_its_weight():
    """Of a judge whose two scores are x / 4, half of the slope's square is 1 / 16; the judges weigh 1 and 0.5."""
    model = Toy()
    model.configure_model()
    fake, real = torch.tensor([[1.0, 3.0]]), torch.tensor([[2.0, 0.0]])
    plain = float(model.discriminator_loss(fake, real))
    model.gradient_weight = 3.0
    assert model.discriminator_loss(fake, real).item() == pytest.approx(plain + 1.5 * 3 / 16)


def test_what_else_is_for_training_only_is_loaded_without_discriminators():
    class Beside(Toy):
        training_only = ("discriminators.", "aligner.")

        def __init__(self):
            super().__init__()
            self.aligner = nn.Linear(1, 1)

    model = Beside()
    model.configure_model()
    kept = {name: value + 1 for name, value in model.state_dict().items()}
    other = Beside()
    other.load_state_dict(kept)  # strict, and without the discriminators
    assert torch.equal(other.aligner.bias, kept["aligner.bias"])


def test_versions_of_a_batch_are_judged_each_beside_the_same_truth():
    model = Toy()
    model.configure_model()
    real = torch.tensor([[2.0, 0.0], [1.0, -1.0]])
    versions = torch.tensor([[[1.0, 3.0], [0.5, 2.0]], [[-2.0, 0.0], [4.0, 1.0]], [[0.0, 0.0], [2.0, -3.0]]])
    alone = []
    for fake in versions:
        made = model._generator_losses(Played(fake, real, {"loss": torch.tensor(0.0)}))
        alone.append([made["adversarial"], made["features"], model.discriminator_loss(fake, real)])
    together = model._generator_losses(Played(versions.flatten(0, 1), real, {"loss": torch.tensor(0.0)}))
    found = [together["adversarial"], together["features"], model.discriminator_loss(versions.flatten(0, 1), real)]
    torch.testing.assert_close(torch.stack(found), torch.tensor(alone).mean(0))


class Last(Toy):
    """A generator of one weight, whose output is judged."""

    def last_layer(self):
        return self.net.weight


def test_balance_is_the_ratio_of_gradients_at_the_last_layer():
    model = Last()
    model.configure_model()
    model.adversarial_weight, model.feature_weight = 0.5, 0.0
    fake = model.net(torch.tensor([[2.0], [1.0]]))
    own = 3 * fake.square().mean()
    (mine,) = torch.autograd.grad(own, model.net.weight, retain_graph=True)
    made = model._generator_losses(Played(fake, torch.zeros(2, 1), {"loss": own}))
    (theirs,) = torch.autograd.grad(made["adversarial"], model.net.weight, retain_graph=True)
    wanted = float(mine.norm() / (theirs.norm() + 1e-4))
    assert float(made["balance"]) == pytest.approx(wanted, rel=1e-5) and not made["balance"].requires_grad
    total = float(own.detach()) + 0.5 * wanted * float(made["adversarial"].detach())
    assert float(made["loss"].detach()) == pytest.approx(total, rel=1e-5)


def test_balance_has_a_limit():
    model = Last()
    fake = model.net(torch.ones(1, 1))
    assert float(balance(1e9 * fake.sum(), 0.0 * fake.sum(), model.net.weight)) == BALANCE_LIMIT


def test_anchors_are_moving_averages_and_hold_scores_near_them():
    """LeCam, equation 4: by hand, for the first batch, which sets the averages, and for the next."""
    anchor = Anchor()
    real, fake = [Judgement(torch.tensor([[1.0, 3.0], [2.0, 2.0]]), [])], [Judgement(torch.tensor([[-1.0], [0.0]]), [])]
    found = anchor(real, fake)
    assert (float(anchor.real), float(anchor.fake)) == (2.0, -0.5)
    # max(0, D(x) + 0.5)² over places, and max(0, 2 − D(x̂))².
    assert found.tolist() == pytest.approx([(1.5**2 + 3.5**2) / 2 + 3.0**2, 2.5**2 + 2.0**2])
    anchor([Judgement(torch.zeros(2, 2), [])], fake)
    assert float(anchor.real) == pytest.approx(2.0 * ANCHOR_DECAY)


def test_anchors_count_by_their_weight_and_are_not_exported():
    model = Toy()
    model.anchor_weight = 0.25
    model.configure_model()
    fake, real = torch.tensor([[1.0, 3.0]]), torch.tensor([[2.0, 0.0]])
    with_anchors = float(model.discriminator_loss(fake, real))
    lecam = float(Anchor()([Judgement(real / 4, [])], [Judgement(fake / 4, [])]))
    model.anchor_weight = 0.0
    assert with_anchors == pytest.approx(float(model.discriminator_loss(fake, real)) + 1.5 * 0.25 * lecam)
    assert any(name.startswith("anchors.") for name in model.state_dict())
    assert all(name.startswith(Toy.training_only) for name in model.state_dict() if "net." not in name)

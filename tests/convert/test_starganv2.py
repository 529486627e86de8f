"""StarGANv2-VC: masks, styles, losses by formula, and who learns in which step of the game."""

import math

import pytest
import torch
from converters import buzz, conversion_facts, drawn, make_converter
from einops import rearrange
from refused import refused
from torch import nn
from torch.nn import functional as F
from unisono import Synthesizer
from unisono.errors import RecipeError, RequestError

LENGTHS = (13, 7, 1)


def mask_of(lengths, size=None) -> torch.Tensor:
    return torch.arange(size or max(lengths)) < torch.tensor(lengths)[:, None]


@pytest.fixture(scope="module")
def model():
    return make_converter("convert/starganv2-tiny")


def game_batch(size: int = 3) -> dict:
    """A batch as the data make it."""
    lengths = {"mel": (24, 17, 21), "same": (9, 5, 8), "other": (16, 20, 8), "another": (6, 11, 14)}
    batch = {name: drawn(size, max(count), 16, seed=i) - 5 for i, (name, count) in enumerate(lengths.items())}
    batch |= {f"{name}_lengths": torch.tensor(count) for name, count in lengths.items()}
    return batch | {
        "speaker": torch.tensor([0, 1, 0]),
        "target": torch.tensor([1, 0, 1]),
        "row": torch.arange(size),
        "pitch": torch.full((size, 24), 120.0),
    }


def test_pairs_of_frames_are_averaged_as_far_as_they_are_there():
    from unisono_convert.networks.maps import doubled, halved

    x, mask = drawn(3, 2, 13, 4), mask_of(LENGTHS)
    found, after = halved(x, mask, "both")
    assert after.sum(1).tolist() == [7, 4, 1]
    for row, length in enumerate(LENGTHS):
        for step in range(-(-length // 2)):
            own = x[row, :, 2 * step : min(2 * step + 2, length)].mean(1)
            torch.testing.assert_close(found[row, :, step], rearrange(own, "c (g two) -> c g two", two=2).mean(-1))
    by_frequency, same = halved(x, mask, "frequency")
    assert by_frequency.shape == (3, 2, 13, 2) and torch.equal(same, mask)
    back = doubled(found, 13, "both")
    assert back.shape == x.shape and torch.equal(back[:, :, 5, 3], found[:, :, 2, 1])


@pytest.mark.parametrize("length", [1, 2, 5, 13])
def test_alone_and_in_a_batch_everything_is_the_same(model, length):
    generator, style_of = model.net["generator"], model.net["style"]
    (judge, _), _ = model.judges().values()
    lengths = (13, length, 4)
    mel, pitch, style = drawn(3, 13, 16), drawn(3, 13, 8, seed=1), drawn(3, 4, seed=2)
    mask, speaker = mask_of(lengths), torch.tensor([0, 1, 0])
    own = (mel[1:2, :length], mask_of((length,)))
    close = {"atol": 2e-5, "rtol": 1e-4}
    made = generator(mel, mask, pitch, style)
    assert made.shape == mel.shape and not made[~mask].any()
    torch.testing.assert_close(made[1, :length], generator(*own, pitch[1:2, :length], style[1:2])[0], **close)
    torch.testing.assert_close(style_of(mel, mask, speaker)[1], style_of(*own, speaker[1:2])[0], **close)
    torch.testing.assert_close(judge(mel, mask)[1], judge(*own)[0], **close)


def test_the_published_sizes_fit_their_mel_and_bring_it_back():
    from unisono_convert.starganv2.generator import Generator, GeneratorSizes

    sizes = GeneratorSizes(dim=2, max_dim=4, pitch_dim=2, pitch_features=3)
    assert sizes.frame_factor == 4 and sizes.frequency_factor == 16
    made = Generator(40, sizes, 4)(drawn(1, 9, 40), mask_of((9,)), drawn(1, 9, 3), drawn(1, 4))
    assert made.shape == (1, 9, 40)  # 40 channels are filled up to 48, and cut again
    with refused(RecipeError, "value", "model.generator", names="bottleneck=0"):
        GeneratorSizes(bottleneck=0)


def test_a_latent_is_one_style_of_each_speaker(model):
    mapping, latent = model.net["mapping"], drawn(1, 4).expand(2, -1)
    one, other = mapping(latent, torch.tensor([0, 1]))
    assert torch.equal(one, mapping(latent, torch.tensor([0, 0]))[1]) and not torch.allclose(one, other)


def test_losses_are_their_formulas():
    from unisono_convert.starganv2.losses import adversarial, contour, gradient_penalty, log_energy, loudness_change

    logit = torch.tensor([-50.0, -1.0, 0.5, 50.0])
    held = logit.clamp(-10, 10)
    torch.testing.assert_close(adversarial(logit, True), -F.logsigmoid(held))
    torch.testing.assert_close(adversarial(logit, False), -F.logsigmoid(-held))
    mel, weight = drawn(2, 5, 3).requires_grad_(), drawn(5, 3, seed=1)
    half = (weight.square().sum() / 2).expand(2)
    torch.testing.assert_close(gradient_penalty((mel * weight).sum((1, 2)), mel), half)
    hertz, mask = 100 + drawn(2, 6).abs() * 20, mask_of((6, 4))
    torch.testing.assert_close(contour(hertz, mask), contour(1.7 * hertz, mask))
    assert contour(hertz, mask)[1, :4].mean() == pytest.approx(1, rel=1e-5) and not contour(hertz, mask)[1, 4:].any()
    plain = drawn(2, 5, 3)
    torch.testing.assert_close(log_energy(plain), plain.exp().norm(dim=-1).log())
    torch.testing.assert_close(loudness_change(plain, plain + 0.4), torch.zeros(2, 5))
    torch.testing.assert_close(loudness_change(plain, plain - 1.5), torch.ones(2, 5), atol=1e-5, rtol=1e-5)


class Says(nn.Module):
    """A judge that says the same logits of anything, but for a trace of what it hears."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, mel, mask):
        return self.logits.expand(len(mel), -1) + 0 * mel.sum()


def test_judges_and_generator_ask_for_the_right_speakers(model):
    batch = game_batch()
    model.discriminators = nn.ModuleDict({"discriminator": Says([2.0, -1.0]), "classifier": Says([0.5, 0.0])})
    try:
        judged, played = model.judged(batch, "drawn"), model.played(batch, "read")
    finally:
        model.discriminators = None
    logits, named = torch.tensor([2.0, -1.0]), torch.tensor([0.5, 0.0]).log_softmax(0)
    real, made = logits[batch["speaker"]], logits[batch["target"]]
    torch.testing.assert_close(judged["discriminator"], (F.softplus(-real) + F.softplus(made)).mean())
    torch.testing.assert_close(judged["source"], 0.1 * -named[batch["speaker"]].mean())
    torch.testing.assert_close(judged["penalty"], torch.tensor(0.0))
    torch.testing.assert_close(played["adversarial"], 2 * F.softplus(-made).mean())
    torch.testing.assert_close(played["classifier"], 0.5 * -named[batch["target"]].mean())
    names = ("style", "diversity", "content", "pitch", "loudness", "cycle", "adversarial", "classifier")
    torch.testing.assert_close(played["loss"], sum(played[name] for name in names))
    assert played["diversity"] < 0


def test_what_is_kept_costs_nothing_where_nothing_changes(model, monkeypatch):
    monkeypatch.setattr(model.net["generator"], "forward", lambda mel, mask, pitch, style: mel * mask[..., None])
    parts = model.losses(game_batch())
    for name in ("content", "pitch", "loudness", "cycle", "diversity"):
        assert abs(float(parts[name])) < 1e-5, name


def test_styles_are_drawn_by_item_and_read_from_both_references(model):
    batch = game_batch()
    one, other = model.styles(batch, "drawn")
    turned = {name: value.flip(0) for name, value in batch.items()}
    torch.testing.assert_close(model.styles(turned, "drawn")[0], one.flip(0))
    assert not torch.allclose(one, other)
    read = model.styles(batch, "read")
    changed = model.styles(batch | {"other": batch["other"] + 1}, "read")
    assert torch.equal(read[1], changed[1]) and not torch.allclose(read[0], changed[0])


def test_a_game_is_two_steps_each_and_counts_as_one(tmp_path, monkeypatch):
    from unisono.recipe import Recipe
    from unisono.train import train
    from unisono_convert.starganv2.model import StarGANv2

    told, clip = [], StarGANv2._clip

    def recorded(self, optimizer):
        def reached(module):
            return any(weight.grad is not None and weight.grad.any() for weight in module.parameters())

        inside = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
        judges = any(id(weight) in inside for weight in self.discriminators.parameters())
        told.append("judges" if judges else [name for name in self.net if reached(self.net[name])])
        return clip(self, optimizer)

    monkeypatch.setattr(StarGANv2, "_clip", recorded)
    flags = [f"--run.dir={tmp_path}", "--trainer.enable_model_summary=false", "--run.preview_seconds=0"]
    result = train(Recipe.read("convert/starganv2-tiny", flags), progress=False)
    assert told == 2 * ["judges", "judges", ["generator", "mapping", "style"], ["generator"]]
    assert result is not None and all(math.isfinite(value) for value in result.metrics.values())
    assert {"train/judges_penalty", "train/judges_source", "train/judges_consistency"} <= set(result.metrics)
    assert all(weight.requires_grad for weight in result.model.net.parameters())


def test_prompts_and_tutors_that_do_not_fit_are_refused(model):
    from unisono_convert.tutor.model import Tutor

    with refused(RequestError, "unsupported", "prompt", value=["ann", "bob"]):
        Synthesizer(model)(samples=buzz(), prompt_samples=buzz())
    made = Synthesizer(model)
    first, again, other = (made(samples=buzz(), speaker="bob", seed=seed).waveform for seed in (1, 1, 2))
    assert (first == again).all() and (first != other).any()

    def tutor(dim=8, **facts):
        found = Tutor(dim=dim, num_blocks=1)
        found.build(conversion_facts(**facts))
        return found

    with refused(RecipeError, "conflict", "model.generator.pitch_features", names=["12", "8"]):
        model.attach("tutor", tutor(dim=12))
    with refused(RecipeError, "conflict", "model.objective.content"):
        model.attach("tutor", tutor(letters=[]))
    with refused(RecipeError, "conflict", "components.tutor"):
        spec = {**conversion_facts()["mel_spec"], "hop_length": 64}
        model.attach("tutor", tutor(mel_spec=spec))
    with refused(RecipeError, "type", "components.tutor", value="Linear"):
        model.attach("tutor", nn.Linear(1, 1))


def test_one_speaker_is_no_game():
    with refused(RecipeError, "value", "data.labelled", value=0):
        make_converter("convert/starganv2-tiny", speakers=[], pitch={}, voices={})

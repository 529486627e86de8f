"""Picture generators: networks, requests, samplers; with random weights, for what holds for any."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from picture_facts import FACTS
from refused import refused
from unisono import Image, Synthesizer
from unisono.diffusion.schedulers import NAMES, make_scheduler
from unisono.errors import CheckpointError, RecipeError, RequestError
from unisono.nn.condition import Condition, Conditioner, ConditionSizes
from unisono.nn.dit import positions
from unisono.recipe import Recipe
from unisono_image.models.dit import DiT
from unisono_image.models.patches import PatchDiscriminator, perceptual_distance
from unisono_image.models.sizes import DiTSizes
from unisono_image.models.transformer import DiffusionTransformer
from unisono_image.models.untrained import vae
from unisono_image.request import read_request

SMALL = DiTSizes(patch_size=2, dim=16, num_layers=2, num_heads=2)


def make(recipe: str = "dit-tiny", *overrides: str, noise: float = 0.3, **facts) -> Synthesizer:
    """A generator whose zeros are noise as well, so that its network answers something."""
    model = Recipe.read(f"image/{recipe}", list(overrides)).build_model({**FACTS, **facts})
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.net.parameters():
            parameter.add_(noise * torch.randn(parameter.shape, generator=g) / max(parameter.shape[-1], 1) ** 0.5)
    if model.latent:
        model.attach("vae", vae(model.facts))
    return Synthesizer(model)


@pytest.fixture(scope="module")
def synth() -> Synthesizer:
    return make()


def apart(a: Image, b: Image) -> float:
    return float(np.abs(a.pixels - b.pixels).max())


# ---- the network -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def net() -> DiffusionTransformer:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = DiffusionTransformer(SMALL, 3, 8)
        for parameter in net.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return net


def condition(n: int, words: int) -> Condition:
    g = torch.Generator().manual_seed(5)
    vector, memory = torch.randn(n, 8, generator=g), torch.randn(n, 4, 8, generator=g)[:, :words]
    return Condition(vector, memory, torch.ones(n, words, dtype=torch.bool))


def test_patches_lie_where_they_were(net):
    x = torch.arange(2 * 3 * 6 * 4.0).view(2, 3, 6, 4)
    with torch.no_grad():
        net.embed.linear.weight.zero_()[:12, :12] = torch.eye(12)  # a token is its patch
        net.embed.linear.bias.zero_()
        tokens = net.embed(x) - positions(3, 2, 16)
    assert tokens.shape == (2, 6, 16)
    # The last patch of the second row: rows 2 and 3, columns 2 and 3, channel by channel.
    torch.testing.assert_close(tokens[1, 3, :12], x[1, :, 2:4, 2:4].flatten(), rtol=0, atol=1e-4)


def test_a_transformer_at_the_start_answers_nothing():
    fresh = DiffusionTransformer(SMALL, 3, 8)
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert (fresh(x, torch.tensor([3.0, 900.0]), condition(2, 2)) == 0).all()


def test_a_convolution_behind_it_begins_with_what_it_is_given(net):
    smoothed = DiffusionTransformer(replace(SMALL, smooth=True), 3, 8)
    missing = smoothed.load_state_dict(net.state_dict(), strict=False).missing_keys
    assert sorted(missing) == ["smooth.bias", "smooth.weight"]
    inputs = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(0)), torch.tensor([3.0, 900.0])
    with torch.no_grad():
        plain = net(*inputs, condition(2, 2))
        assert torch.equal(smoothed(*inputs, condition(2, 2)), plain)
        smoothed.smooth.weight.fill_(0.1)
        made = torch.nn.functional.conv2d(plain, torch.full((3, 3, 3, 3), 0.1), padding=1)
        torch.testing.assert_close(smoothed(*inputs, condition(2, 2)), made)


def test_words_that_are_masked_change_nothing(net):
    x = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    time = torch.tensor([3.0, 900.0])
    long = condition(2, 4)
    cut = Condition(long.vector, long.words, torch.tensor([[True, True, False, False]] * 2))
    short = Condition(long.vector, long.words[:, :2], torch.ones(2, 2, dtype=torch.bool))
    with torch.no_grad():
        torch.testing.assert_close(net(x, time, cut), net(x, time, short))
        assert not torch.allclose(net(x, time, long), net(x, time, short))


def test_conditions_are_told_apart():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        conditioner = Conditioner(2, ["a", "red", "circle"], ConditionSizes(dim=8, text_layers=1, text_heads=2)).eval()
    labels = torch.tensor([0, 1, -1, -1])
    captions = ["", "", "a red circle", ""]
    with torch.no_grad():
        told = conditioner(labels, captions, torch.zeros(4, dtype=torch.bool))
        forgot = conditioner(labels, captions, torch.ones(4, dtype=torch.bool))
    assert told.mask.sum(1).tolist() == [0, 0, 3, 0]
    assert len({tuple(row.tolist()) for row in told.vector}) == 4
    assert not forgot.mask.any() and (forgot.vector == forgot.vector[:1]).all()
    torch.testing.assert_close(forgot.vector[0], told.vector[3])
    joined = Condition.join(told, Condition(told.vector, told.words[:, :0], told.mask[:, :0]))
    assert joined.words.shape[:2] == (8, told.words.shape[1]) and not joined.mask[4:].any()


# ---- sampling ----------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", ["flow", "v", "edm"])
def test_every_scheduler_makes_a_picture(objective):
    synth = make("dit-tiny", f"--model.objective={objective}")
    family = synth.model.objective.family
    seen = []
    for name in NAMES[family]:
        (made,) = synth([{"label": 0, "scheduler": name, "num_steps": 5, "guidance_scale": 1.0}])
        assert np.isfinite(made.pixels).all() and made.pixels.std() > 0.01
        seen.append(made)
    assert apart(seen[0], seen[1]) > 1e-4
    with refused(RequestError, "unknown", "scheduler", value="ddmi"):
        synth(label=0, scheduler="ddmi")


def test_parallel_is_serial(synth):
    asked = {"prompt": "a red circle", "num_steps": 12, "guidance_scale": 2.0}
    serial = synth(asked)
    assert synth.model.reports[0].rounds == 12
    before = synth.model.evaluations, synth.model.rounds
    for solver in ("picard", "anderson", "parareal"):
        made = synth(asked, solver=solver, tolerance=1e-5, **({} if solver == "parareal" else {"window": 6}))
        assert apart(made, serial) < 1e-3, solver
    report = synth.model.reports[0]
    assert synth.model.rounds > before[1] and synth.model.evaluations > before[0]
    assert report.num_samples == 1 and report.num_steps == 12
    synth(asked, solver="parastep", window=3)
    assert synth.model.reports[0].rounds == 1 + 4  # one serial step, then ⌈11 / 3⌉ windows


@pytest.mark.parametrize("objective", ["flow", "eps"])
def test_pictures_on_the_way_end_with_the_picture(objective):
    synth = make("dit-tiny", f"--model.objective={objective}")
    for name in NAMES[synth.model.objective.family]:
        asked = {"label": 0, "scheduler": name, "num_steps": 4, "seed": 3}
        before = synth.model.evaluations
        made = synth(asked)
        cost = synth.model.evaluations - before
        views = list(synth.snapshots(asked))
        assert synth.model.evaluations == before + 2 * cost, name
        assert len(views) == synth.model.reports[0].rounds and (views[-1].pixels == made.pixels).all(), name
    assert apart(views[0], views[-1]) > 1e-3
    (only,) = synth.snapshots(asked, solver="picard", window=2, scheduler=NAMES[synth.model.objective.family][0])
    assert isinstance(only, Image)


def test_pictures_on_the_way_of_a_drawn_seed(synth):
    asked = {"label": 1, "num_steps": 3}
    made = synth(asked, generator=torch.Generator().manual_seed(5))
    *_, last = synth.snapshots(asked, generator=torch.Generator().manual_seed(5))
    assert (last.pixels == made.pixels).all()


def test_noise_that_a_scheduler_draws_is_each_requests_own():
    synth = make("dit-tiny", "--model.objective=eps")
    asked = [{"label": i, "seed": i, "scheduler": "ddpm", "num_steps": 4} for i in range(2)]
    together = synth(asked)
    for request, made in zip(asked, together, strict=True):
        assert apart(synth(request), made) < 1e-4
    parallel = synth(asked, solver="picard", tolerance=1e-5, window=4)
    assert max(apart(a, b) for a, b in zip(parallel, together, strict=True)) < 1e-3


def test_requests_of_all_kinds_share_a_call(synth):
    asked = [
        {"prompt": "a red circle", "guidance_scale": 3.0},
        {"label": "square", "num_steps": 3},
        {"seed": 4},
        {"label": 1, "height": 16, "width": 12, "seed": 5},
        {"prompt": "circle", "negative_prompt": "red", "guidance_scale": 3.0},
    ]
    together = synth(asked, num_steps=4)
    assert [(image.height, image.width) for image in together[3:]] == [(16, 12), (8, 8)]
    for request, made in zip(asked, together, strict=True):
        assert apart(synth({**request, "num_steps": 4}), made) < 1e-4


def test_guidance_and_what_it_leads_away_from(synth):
    plain = synth("a red circle", guidance_scale=1.0, num_steps=4)
    guided = synth("a red circle", guidance_scale=4.0, num_steps=4)
    away = synth("a red circle", guidance_scale=4.0, negative_prompt="circle", num_steps=4)
    assert apart(plain, guided) > 1e-4 and apart(guided, away) > 1e-4


def test_guidance_is_the_way_from_no_condition_to_the_condition_and_beyond(synth):
    """u + s(c − u), Ho and Salimans (arXiv:2207.12598)."""
    model = synth.model
    x, time = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([500.0])
    none = torch.tensor([-1])
    for more, other in (({}, ""), ({"negative_prompt": "circle"}, "circle")):
        request = model.Request(prompt="a red circle", guidance_scale=3.0, **more)
        with torch.no_grad():
            guided = model.network([read_request(model, request)])(x, time, torch.zeros(1, dtype=torch.int64))
            c, u = (model.denoise(x, time, model.condition_of(none, [said])) for said in ("a red circle", other))
        assert not torch.equal(c, u)
        torch.testing.assert_close(guided, u + 3 * (c - u), rtol=1e-4, atol=1e-5)


def test_guidance_is_on_the_bill(synth):
    for scale, each in ((1.0, 1), (3.0, 2)):
        before = synth.model.evaluations
        synth("a red circle", guidance_scale=scale, num_steps=4, scheduler="flow-euler")
        assert synth.model.evaluations - before == 4 * each


def test_a_start_is_mixed_with_noise_in_the_models_range(synth):
    """(1 − t)·x + t·noise with x from −1, black, to 1, white."""
    model, states = synth.model, []
    for grey in (0, 255):
        start = Image(np.full((3, 8, 8), grey, np.uint8))
        request = model.Request(image=start, strength=0.5, num_steps=10, scheduler="flow-euler")
        states.append(model.chain([read_request(model, request)], [7])[1])
    black, white = states
    noise = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(7))[None]
    t = 1 - float((white - black).mean()) / 2
    assert 0.4 < t < 0.6
    torch.testing.assert_close(black + white, 2 * t * noise, rtol=1e-4, atol=1e-4)


def test_a_picture_to_start_from(synth, tmp_path):
    start = Image(np.full((3, 16, 24), 220, np.uint8))
    path = str(start.save(tmp_path / "start.png"))
    near = synth(image=path, strength=0.1, num_steps=20)
    far = synth(image=path, strength=0.9, num_steps=20)
    light = Image(np.full((3, 8, 8), 220, np.uint8))
    assert synth.model.reports[0].num_steps == 18
    assert np.abs(near.pixels - light.pixels / 255).mean() < np.abs(far.pixels - light.pixels / 255).mean()
    assert apart(near, synth(image=start, strength=0.1, num_steps=20)) == 0
    again = synth.request(**synth.request(image=path, num_steps=5).model_dump(mode="json"))
    assert apart(synth(again), synth(image=path, strength=0.6, num_steps=5)) == 0
    assert synth.model.reports[0].num_steps == 3


def test_heun_starts_between_two_of_its_pairs():
    synth = make("dit-tiny", "--model.objective=flow")
    synth(image=Image(np.zeros((3, 8, 8), np.uint8)), strength=0.5, num_steps=6, scheduler="flow-heun")
    assert synth.model.reports[0].num_steps == 5  # three of six steps, the last without its second half


def test_a_start_picture_has_one_noise_with_every_scheduler():
    start = Image(np.full((3, 8, 8), 220, np.uint8))
    synth = make("dit-tiny", "--model.objective=eps")
    steps = {}
    for name in ("dpm++2m", "ddim", "euler", "deis", "lms"):
        synth(image=start, strength=0.3, num_steps=10, scheduler=name)
        steps[name] = synth.model.reports[0].num_steps
    # A grid that ends at 0 has one step more below the level that the others begin at.
    assert steps == {"dpm++2m": 3, "ddim": 4, "euler": 4, "deis": 3, "lms": 4}
    with refused(RequestError, "unsupported", "scheduler", value="pndm"):
        synth(image=start, strength=0.3, num_steps=10, scheduler="pndm")


def test_threads_that_share_a_model_have_their_own_pictures_and_bills(synth):
    asked = [{"label": i % 2, "seed": i, "num_steps": 3 + i % 2, "guidance_scale": 1.0} for i in range(4)]
    alone = [synth(request) for request in asked]
    before = synth.model.evaluations, synth.model.rounds
    with ThreadPoolExecutor(4) as pool:
        shared = list(pool.map(lambda request: synth(request), asked))
    assert all(apart(a, b) == 0 for a, b in zip(alone, shared, strict=True))
    assert len(synth.model.reports) == 1
    assert (synth.model.evaluations - before[0], synth.model.rounds - before[1]) == (14, 14)


def test_a_vaes_losses_by_hand():
    """Distance, divergence and their sum, with weights that are not 0 or 1."""
    model = Recipe.read(
        "image/vae-tiny", ["--model.kl_weight=0.25", "--model.adversarial_weight=0", "--model.perceptual_weight=0"]
    ).build_model(FACTS)
    images = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    batch = {"image": images, "row": torch.arange(3)}
    with torch.no_grad():
        model.eval()
        parts = model.losses(batch)
        mean, log_variance = model.posterior(images)
        noise = torch.stack(
            [torch.randn(mean.shape[1:], generator=torch.Generator().manual_seed(s)) for s in model.row_seeds(batch)]
        )
        made = model.net.decoder(model.net.post_quant_conv(mean + log_variance.exp().sqrt() * noise))
    distance = (made - images).abs().mean()
    # The divergence of N(m, v) from N(0, 1), summed over latents and spread over the picture's values.
    kl = (0.5 * (mean**2 + log_variance.exp() - 1 - log_variance)).sum((1, 2, 3)).mean() / (3 * 8 * 8)
    torch.testing.assert_close(parts["distance"], distance)
    torch.testing.assert_close(parts["kl"], kl)
    torch.testing.assert_close(parts["loss"], distance + 0.25 * kl)
    assert model.judges() == {}


def test_a_vaes_spread_moves_a_hundredth_of_the_way():
    coder = vae(FACTS)
    coder.measure(torch.full((2, 4, 4, 4), 3.0))
    assert float(coder.spread) == pytest.approx(3.0)  # at the first step all of it
    coder.__class__ = type("Later", (type(coder),), {"global_step": 500})
    coder.measure(torch.full((2, 4, 4, 4), -5.0))
    assert float(coder.spread) == pytest.approx(3.0 + 0.01 * 2.0)


def test_latents_and_pixels():
    synth = make("unet-tiny")
    made = synth("a red circle", num_steps=3, height=16)
    assert made.pixels.shape == (3, 16, 8)
    coder = synth.model.component("vae")
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        latents = coder.encode(images)
        assert latents.shape == (2, 4, 4, 4)
        twice = coder.encode(images, torch.ones_like(latents))
        deviation = (coder.posterior(images)[1] / 2).exp()
        torch.testing.assert_close(twice - latents, deviation / coder.spread)
        coder.spread.fill_(2.0)
        torch.testing.assert_close(coder.encode(images), latents / 2)
        torch.testing.assert_close(coder.decode(latents / 2), coder.net.decoder(coder.net.post_quant_conv(latents)))


def test_a_generator_of_latents_checks_its_vae():
    model = Recipe.read("image/unet-tiny", ["--model.downsampling=4"]).build_model(FACTS)
    with refused(RequestError, "missing", "components.vae"):
        Synthesizer(model)(label=0)
    with refused(RecipeError, "conflict", "model.downsampling", value=4, names="2"):
        model.attach("vae", vae(FACTS))
    with refused(RecipeError, "conflict", "components.vae"):
        Recipe.read("image/dit-tiny").build_model(FACTS).attach("vae", vae(FACTS))


def test_layers_that_agree_are_at_no_distance():
    g = torch.Generator().manual_seed(0)
    layers = [torch.randn(2, 4, 3, 3, generator=g), torch.randn(2, 6, 2, 2, generator=g)]
    other = [torch.roll(layer, 1, 0) for layer in layers]
    assert (perceptual_distance(layers, [2 * layer for layer in layers]) < 1e-6).all()
    assert (perceptual_distance(layers, other) > 0.5).all()
    (judged,) = PatchDiscriminator(4, num_layers=2)(torch.rand(2, 3, 8, 8, generator=g))
    assert judged.scores.shape[0] == 2 and len(judged.features) == 3


# ---- training ----------------------------------------------------------------------------------


def test_a_classes_only_model_has_no_words():
    model = Recipe.read("image/dit-tiny").build_model({**FACTS, "words": [], "sample_captions": []})
    assert model.conditioner.text is None and model.net.words is None
    synth = Synthesizer(model)
    assert apart(synth("square", num_steps=2), synth(label=1, num_steps=2)) == 0
    assert [request.label for request in model.preview_requests()] == ["circle", "square"]
    unconditional = Recipe.read("image/dit-tiny").build_model({**FACTS, "words": [], "classes": []})
    assert Synthesizer(unconditional)(num_steps=2).pixels.shape == (3, 8, 8)


def test_noise_is_each_items_own():
    model = Recipe.read("image/dit-tiny").build_model(FACTS)
    noise, uniform = model.draw([3, 4, 3], (3, 8, 8))
    assert torch.equal(noise[0], noise[2]) and not torch.equal(noise[0], noise[1])
    assert torch.equal(uniform[0], uniform[2]) and uniform.dtype == torch.float64


def test_weights_of_other_classes_are_no_start():
    model = Recipe.read("image/dit-tiny").build_model(FACTS)
    model.check_source(FACTS)
    with refused(CheckpointError, "conflict", "run.init_from", value="classes"):
        model.check_source({**FACTS, "classes": ["cat"]})


@pytest.mark.parametrize(
    ("recipe", "override", "code", "path", "value", "limit"),
    [
        ("dit-tiny", "--model.patch_size=3", "shape", "data.size", 8, "3"),
        ("dit-tiny", "--model.channels=4", "conflict", "model.channels", 4, "3"),
        ("dit-tiny", "--model.condition_dropout=1.5", "range", "model.condition.dropout", 1.5, "[0, 1]"),
        ("dit-tiny", "--model.num_heads=3", "shape", "model.network.dim", 16, "num_heads=3"),
        ("unet-tiny", "--model.norm_groups=3", "shape", "model.network.block_channels", 8, "norm_groups=3"),
        ("unet-tiny", "--model.attention_levels=[2]", "range", "model.network.attention_levels", 2, "0 to 1"),
        ("vae-tiny", "--model.kl_weight=-1", "range", "model.objective.kl_weight", -1.0, "0"),
        ("vae-tiny", "--data.size=9", "shape", "data.size", 9, "multiple of 2"),
    ],
)
def test_sizes_that_do_not_fit(recipe, override, code, path, value, limit):
    facts = {**FACTS, "size": 9} if "size" in override and value == 9 else FACTS
    with refused(RecipeError, code, path, value=value, names=limit):
        Recipe.read(f"image/{recipe}", [override]).build_model(facts)


def test_a_dit_of_the_published_size_has_the_published_weights():
    # DiT-B: Peebles and Xie, Table 1, 130 M; here without the words' projection and with a head for three channels.
    with torch.device("meta"):
        net = DiffusionTransformer(DiTSizes(), 3, 768, with_words=False)
    assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(130, rel=0.02)
    assert DiT().multiple == 2


def test_schedulers_have_their_steps():
    for family, objective in (("flow", "flow"), ("discrete", "eps"), ("edm", "edm")):
        model = Recipe.read("image/dit-tiny", [f"--model.objective={objective}"]).build_model(FACTS)
        assert model.objective.family == family
        scheduler = make_scheduler(None, 7, model.objective, "linear", clip=True)
        assert len(scheduler.timesteps) == 7


# ---- wrong requests ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "code", "path", "names"),
    [
        ({"prompt": "circle " * 2000}, "limit", "prompt", ["2000 words", "64"]),
        ({"prompt": "x" * 10_000}, "limit", "prompt", ["10000 letters", "24"]),
        ({"prompt": "?!"}, "empty", "prompt", "'?!'"),
        ({"label": "circel"}, "unknown", "label", ["'circel'", "did you mean 'circle'?"]),
        ({"label": 2}, "range", "label", ["0 to 1", "circle, square"]),
        ({"label": "--5"}, "unknown", "label", "'--5'"),
        ({"label": "9" * 5000}, "unknown", "label", "'9999"),
        ({"label": True}, "type", "label", "label=True"),
        ({"num_steps": True}, "type", "num_steps", "num_steps=True"),
        ({"scheduler": "flow-eulre"}, "unknown", "scheduler", ["'flow-eulre'", "'flow-euler'"]),
        ({"solver": "picrad"}, "unknown", "solver", "'picard'"),
        ({"height": 6}, "range", "height", ["height=6", "multiple of 4", "32"]),
        ({"width": 64}, "range", "width", ["width=64", "multiple of 4", "32"]),
        ({"num_steps": 1, "solver": "picard"}, "conflict", "num_steps", "num_steps=1"),
        ({"num_steps": 4, "solver": "picard", "window": 5}, "range", "window", ["window=5", "4 steps"]),
        ({"solver": "picard", "window": 0}, "range", "window", "window=0"),
        ({"solver": "parastep", "window": -1}, "range", "window", "-1"),
        ({"solver": "picard", "tolerance": 0}, "range", "tolerance", "0.0"),
        ({"solver": "picard", "tolerance": -1}, "range", "tolerance", "-1.0"),
        ({"guidance_scale": 3.0}, "conflict", "guidance_scale", ["3", "a prompt or a label"]),
        ({"prompt": "circle", "negative_prompt": "red", "guidance_scale": 1.0}, "conflict", "negative_prompt", ()),
        ({"strength": 0.5}, "missing", "image", "strength=0.5"),
        ({"image": "nowhere.png"}, "missing", "image", "nowhere.png"),
        ({"image": Image(np.zeros((3, 1, 1), np.uint8))}, "range", "image", "1 × 1"),
        ({"promt": "circle"}, "unknown", "promt", "'prompt'"),
    ],
)
def test_requests_that_cannot_be_met(synth, asked, code, path, names):
    with refused(RequestError, code, path, names=names):
        synth(asked)


def test_models_without_words_or_classes_say_so():
    classes = make(words=[], sample_captions=[])
    with refused(RequestError, "unknown", "label", value="a red circle", names="'a red circle'"):
        classes("a red circle")
    with refused(RequestError, "unsupported", "negative_prompt", value="red"):
        classes(label=0, negative_prompt="red")
    neither = make(words=[], classes=[])
    with refused(RequestError, "unsupported", "prompt", value="circle"):
        neither("circle")
    with refused(RequestError, "unsupported", "label", value=0):
        neither(label=0)


def test_an_autoencoder_is_pulled_by_a_classifiers_features():
    model = Recipe.read("image/vae-tiny", ["--model.perceptual_weight=0.5"]).build_model(FACTS).eval()
    with refused(RecipeError, "missing", "components.classifier", value=0.5):
        model.on_train_start()
    judge = Recipe.read("image/classifier-tiny").build_model(FACTS).eval()
    model.attach("classifier", judge)
    model.on_train_start()
    g = torch.Generator().manual_seed(0)
    batch = {"image": torch.rand(2, 3, 8, 8, generator=g) * 2 - 1, "row": torch.arange(2)}
    parts = model.losses(batch)
    expected = parts["distance"] + model.objective.kl_weight * parts["kl"] + 0.5 * parts["perceptual"]
    torch.testing.assert_close(parts["loss"], expected)
    assert parts["perceptual"] > 1e-4
    parts["perceptual"].backward()
    assert all(p.grad is None and not p.requires_grad for p in judge.parameters())
    assert model.net.decoder.conv_out.weight.grad.abs().max() > 0

"""Picture tokenizers: tokens and pictures, alone and together; losses by hand; what does not fit; both stages of a
line."""

import json

import numpy as np
import pytest
import torch
from refused import refused
from torch.nn import functional as F
from unisono import Image, Synthesizer
from unisono.errors import RecipeError, RequestError
from unisono.export import load, save_export
from unisono.recipe import Recipe
from unisono_image.models.line_tokenizer import table_of
from unisono_image.models.token_sizes import GridSizes, LineSizes, QuantizerSpec, TokenizerObjective
from unisono_image.models.tokenizer import Tokenizer
from unisono_image.models.untrained import tokenizer as untrained

FACTS = {"size": 8, "classes": ["circle", "square"], "background": [255, 255, 255]}
QUANTIZERS = {
    "vq": {"codebook_size": 16, "code_dim": 4},
    "vq-ema": {"codebook_size": 16},
    "fsq": {"levels": [4, 4]},
    "lfq": {"codebook_size": 16},
    "ibq": {"codebook_size": 16},
}


def pictures(count=5, size=8, seed=0):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def make(name="fsq", recipe="tokenizer-tiny", facts=FACTS, *overrides):
    spec = json.dumps({"name": name, **QUANTIZERS[name]})
    model = Recipe.read(f"image/{recipe}", [f"--model.quantizer={spec}", *overrides]).build_model(facts)
    if recipe.startswith("tokenizer-line"):
        model.attach("proxy", untrained(facts))
    return model.eval()


def batch(count=4, seed=0):
    return {"image": pictures(count, seed=seed), "row": torch.arange(count)}


# ---- tokens and pictures ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", QUANTIZERS)
@pytest.mark.parametrize("recipe", ["tokenizer-tiny", "tokenizer-line-tiny"])
def test_tokens_and_pictures_are_what_they_say(name, recipe):
    model = make(name, recipe)
    assert model.grid == ((4, 4) if recipe == "tokenizer-tiny" else (1, 4)) and model.picture_size == 8
    tokens = model.tokens(pictures())
    assert tokens.shape == (5, model.grid[0] * model.grid[1]) and tokens.dtype == torch.int64
    assert int(tokens.min()) >= 0 and int(tokens.max()) < model.num_codes == 16
    made = model.pictures(tokens)
    assert made.shape == (5, 3, 8, 8) and made.dtype == torch.float32 and float(made.abs().max()) <= 1
    every = torch.arange(16).repeat(2)[: model.num_tokens * 2].view(2, -1)
    assert torch.isfinite(model.pictures(every)).all()


@pytest.mark.parametrize("recipe", ["tokenizer-tiny", "tokenizer-line-tiny"])
def test_alone_is_together_in_any_order(recipe):
    """More than one part of a batch, and a lone last one, for convolutions of one are summed in another order.

    Tokens are equal; on some processors pictures are to the last bits only.
    """
    model = make("fsq", recipe)
    given = pictures(65)
    tokens = model.tokens(given)
    made = model.pictures(tokens)
    order = torch.randperm(65, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.tokens(given[order]), tokens[order])
    torch.testing.assert_close(model.pictures(tokens[order]), made[order], rtol=0, atol=1e-6)
    for chosen in ([0], [64], [3, 1], [7, 5, 2]):
        assert torch.equal(model.tokens(given[chosen]), tokens[chosen])
        torch.testing.assert_close(model.pictures(tokens[chosen]), made[chosen], rtol=0, atol=1e-6)


def test_no_pictures_have_no_tokens():
    model = make()
    assert model.tokens(pictures(0)).shape == (0, 16) and model.pictures(model.tokens(pictures(0))).shape == (
        0,
        3,
        8,
        8,
    )


def test_reading_tokens_moves_nothing_and_heeds_no_autocast():
    model = make("vq-ema").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tokens = model.tokens(pictures())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(model.tokens(pictures()), tokens)
        assert model.pictures(tokens).dtype == torch.float32
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (pictures(size=16), "shape"),
        (pictures()[0], "shape"),
        (pictures()[:, :1], "shape"),
        ((pictures() * 127 + 127).to(torch.uint8), "type"),
        (pictures() * 127 + 127, "range"),
        (pictures() * torch.nan, "range"),
    ],
)
def test_pictures_that_are_none(given, code):
    with refused(RequestError, code, "pictures"):
        make().tokens(given)


@pytest.mark.parametrize(
    ("given", "code", "value"),
    [
        (torch.zeros(2, 15, dtype=torch.int64), "shape", [2, 15]),
        (torch.zeros(16, dtype=torch.int64), "shape", [16]),
        (torch.zeros(2, 4, 4, dtype=torch.int64), "shape", [2, 4, 4]),
        (torch.zeros(2, 16, dtype=torch.int32), "type", "torch.int32"),
        (torch.zeros(2, 16), "type", "torch.float32"),
        (torch.full((2, 16), 16), "range", 16),
        (torch.full((2, 16), -1), "range", -1),
    ],
)
def test_tokens_that_are_none(given, code, value):
    with refused(RequestError, code, "tokens", value=value):
        make().pictures(given)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_a_tokenizer_in_16_bits(kind):
    whole, half = make(), make().to(kind)
    tokens = half.tokens(pictures())
    assert int(tokens.min()) >= 0 and int(tokens.max()) < 16
    assert float((half.pictures(tokens) - whole.pictures(tokens)).abs().max()) < 0.1


# ---- requests --------------------------------------------------------------------------------------


def test_a_picture_its_tokens_and_their_file_are_one(tmp_path):
    synth = Synthesizer(make())
    path = str(Image((np.random.default_rng(0).random((3, 8, 8)) * 255).astype(np.uint8)).save(tmp_path / "in.png"))
    made = synth(path)
    assert made.tokens.shape == (16,) and made.about()["tokens"] == made.tokens.tolist()
    file = made.save(tmp_path / "tokens.json")
    assert json.loads(file.read_text()) == {"tokens": made.tokens.tolist(), "grid": [4, 4], "num_codes": 16}
    assert made.encoded(".json") == file.read_bytes()
    for again in (synth(str(file)), synth(tokens=made.tokens), synth(tokens=made.tokens.tolist())):
        assert np.array_equal(again.pixels, made.pixels) and np.array_equal(again.tokens, made.tokens)
    assert made.save(tmp_path / "again.png").stat().st_size > 0


@pytest.mark.parametrize(
    ("content", "code", "path"),
    [
        ({"tokens": [0] * 15}, "shape", "tokens"),
        ({"tokens": [16] * 16}, "range", "tokens"),
        ({"tokens": [2**70] * 16}, "range", "tokens"),
        ({"tokens": [0.5] * 16}, "format", "image"),
        ({"tokens": [True] * 16}, "format", "image"),
        ({"tokens": 3}, "format", "image"),
        ([1, 2], "format", "image"),
        ({"tokens": [0] * 16, "num_codes": 512}, "conflict", "image"),
        ({"tokens": [0] * 16, "grid": [2, 8]}, "conflict", "image"),
    ],
)
def test_files_of_other_tokens(tmp_path, content, code, path):
    (tmp_path / "tokens.json").write_text(json.dumps(content))
    with refused(RequestError, code, path):
        Synthesizer(make())(str(tmp_path / "tokens.json"))


def test_other_requests_that_cannot_be_met(tmp_path):
    synth = Synthesizer(make())
    with refused(RequestError, "conflict", "tokens"):
        synth("in.png", tokens=[0] * 16)
    with refused(RequestError, "missing", "image"):
        synth("nowhere.json")
    (tmp_path / "broken.json").write_text("{")
    with refused(RequestError, "format", "image"):
        synth(str(tmp_path / "broken.json"))


def test_an_export_has_the_same_tokens(tmp_path):
    model = make("vq")
    save_export(model, tmp_path / "export")
    again = load(tmp_path / "export").model
    assert isinstance(again, Tokenizer) and again.discriminators is None
    assert torch.equal(again.tokens(pictures()), model.tokens(pictures()))


# ---- losses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", QUANTIZERS)
def test_losses_by_hand(name):
    weights = {"absolute": 0.5, "square": 2.0, "commitment": 0.3, "codebook": 0.7}
    given = [f"--model.objective.{term}_weight={value}" for term, value in weights.items()]
    soft = name in ("lfq", "ibq")
    given += ["--model.objective.entropy_weight=0.1", "--model.objective.evenness=0.8"] if soft else []
    given += ["--model.objective.joint_weight=0.9"] if name == "ibq" else []
    model = make(name, "tokenizer-tiny", FACTS, *given)
    items = batch()
    parts = model.losses(items)
    z = model.net.codec.encode(items["image"])
    quantised = model.net.quantizer(z)
    off = model.net.codec.decode(quantised.vectors) - items["image"]
    loss = 0.5 * off.abs().mean() + 2.0 * off.square().mean()
    loss = loss + 0.3 * quantised.commitment.mean() + 0.7 * quantised.codebook.mean()
    if name == "ibq":
        loss = loss + 0.9 * (quantised.vectors - z).square().mean()
    if soft:
        loss = loss + 0.1 * (quantised.sample_entropy.mean() - 0.8 * quantised.batch_entropy)
    torch.testing.assert_close(parts["loss"], loss)
    parts["loss"].backward()
    assert all(p.grad is not None for p in model.net.codec.parameters())


def test_the_game_begins_late_and_its_parts_are_told():
    model = make("fsq", "tokenizer-tiny", FACTS, "--model.game.pretrain_steps=7", "--model.game.adversarial_weight=0.4")
    assert (model.pretrain_steps, model.adversarial_weight, model.anchor_weight) == (7, 0.4, 0.001)
    model.configure_model()
    played = model.play(batch())
    parts = model._generator_losses(played)
    wanted = played.parts["loss"] + 0.4 * parts["balance"] * parts["adversarial"]
    torch.testing.assert_close(parts["loss"], wanted)
    assert 0 < float(parts["balance"]) <= 1e4
    model.adversarial_weight = 0.0
    assert model.judges() == {}


def test_usage_is_counted_over_all_validation_pictures():
    """Not the mean of the batches' shares, of which each is smaller."""
    model, logged = make(), {}
    model.log_losses = lambda stage, parts, **kwargs: logged.update(
        {f"{stage}/{k}": float(v) for k, v in parts.items()}
    )
    model.requires_grad_(False)  # as under a trainer, which validates without gradients
    parts = [batch(4, seed=0), batch(4, seed=1)]
    model.on_validation_epoch_start()
    for index, items in enumerate(parts):
        model.validation_step(items, index)
    shares = [len(model.tokens(items["image"]).unique()) / 16 for items in parts]
    model.on_validation_epoch_end()
    tokens = torch.cat([model.tokens(items["image"]) for items in parts])
    counts = torch.bincount(tokens.flatten(), minlength=16) / tokens.numel()
    assert logged["val/usage"] == len(tokens.unique()) / 16 >= max(shares)
    assert logged["val/bits"] == pytest.approx(float(-(counts * counts.clamp(min=1e-9).log2()).sum()), abs=1e-4)
    off = (model.pictures(tokens[4:]) - parts[1]["image"]) / 2
    assert logged["val/psnr"] == pytest.approx(float((-10 * off.square().flatten(1).mean(1).log10()).mean()), rel=1e-4)
    assert len(model.preview_requests()) == 4


def test_features_of_a_classifier_pull():
    model = make("fsq", "tokenizer-tiny", FACTS, "--model.objective.perceptual_weight=0.5")
    with refused(RecipeError, "missing", "components.classifier", value=0.5):
        model.on_train_start()
    model.attach("classifier", Recipe.read("image/classifier-tiny").build_model({**FACTS, "count": 4}).eval())
    parts = model.losses(batch())
    wanted = parts["absolute"] + 0.5 * parts["perceptual"] + 0.25 * parts["commitment"] + parts["codebook"]
    torch.testing.assert_close(parts["loss"], wanted)


def test_adaptive_norms_are_told_what_the_codes_are_like():
    model = make("fsq", "tokenizer-tiny", FACTS, "--model.network.adaptive_norm=true")
    style = model.net.codec.decoder.styles[0]
    z = torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    x = torch.randn(2, 16, 4, 4, generator=torch.Generator().manual_seed(1))
    scale, shift = style.scale(z.std((2, 3), unbiased=False)), style.shift(z.mean((2, 3)))
    wanted = scale[..., None, None] * F.group_norm(x, 4) + shift[..., None, None]
    torch.testing.assert_close(style(x, z), wanted, atol=1e-4, rtol=1e-4)


# ---- a line of tokens ------------------------------------------------------------------------------


def line(*overrides):
    return make("vq", "tokenizer-line-tiny", FACTS, *overrides)


PIXELS = (
    '--model.pixels={"channels":8,"multipliers":[1,1],"num_blocks":1,"attention":false,"latent_channels":8,'
    '"norm_groups":4}'
)


def test_the_first_stage_learns_the_proxys_tokens():
    model, items = line(), batch()
    proxy = model.component("proxy")
    parts = model.losses(items)
    quantised = model.net.quantizer(model.net.codec.encode(items["image"]))
    logits = model.net.codec.decode(quantised.vectors)
    wanted = F.cross_entropy(logits.flatten(0, 1), proxy.tokens(items["image"]).flatten())
    torch.testing.assert_close(parts["codes"], wanted)
    total = wanted + 0.25 * quantised.commitment.mean() + quantised.codebook.mean()
    torch.testing.assert_close(parts["loss"], total)
    assert model.judges() == {} and not any(p.requires_grad for p in proxy.parameters())


def test_sure_logits_are_painted_as_the_proxy_does():
    model = line()
    proxy = model.component("proxy")
    tokens = proxy.tokens(pictures())
    sure = F.one_hot(tokens, 16).float() * 200
    torch.testing.assert_close(model.paint(sure), proxy.decode(tokens), atol=1e-5, rtol=1e-5)


def test_the_second_stage_begins_as_the_proxy_and_moves_the_decoder_alone():
    model = line(PIXELS)
    proxy = model.component("proxy")
    tokens = proxy.tokens(pictures())
    sure = F.one_hot(tokens, 16).float() * 200
    torch.testing.assert_close(model.paint(sure), proxy.decode(tokens), atol=1e-5, rtol=1e-5)
    model.losses(batch())["loss"].backward()
    moved = {name.split(".")[1] for name, p in model.named_parameters() if p.grad is not None}
    assert moved == {"codec", "painter"}
    assert all(p.grad is None for p in [*model.net.codec.encoder.parameters(), *model.net.quantizer.parameters()])
    assert all(p.grad is not None for p in [*model.net.codec.decoder.parameters(), *model.net.painter.parameters()])


def test_a_painter_that_has_learnt_is_not_copied_over():
    model = line(PIXELS)
    with torch.no_grad():
        model.net.painter.table.fill_(3.0)
    again = make("vq", "tokenizer-line-tiny", FACTS, PIXELS)
    again.load_state_dict(model.state_dict())
    again.attach("proxy", untrained(FACTS))
    assert torch.equal(again.net.painter.table, torch.full_like(again.net.painter.table, 3.0))
    assert torch.equal(table_of(again.component("proxy")), table_of(untrained(FACTS)))


def test_a_line_needs_a_proxy_that_fits():
    model = Recipe.read("image/tokenizer-line-tiny").build_model(FACTS)
    with refused(RecipeError, "missing", "components.proxy"):
        model.on_train_start()
    with refused(RequestError, "missing", "components.proxy"):
        Synthesizer(model)()
    with refused(RecipeError, "conflict", "data.size", value=8):
        model.attach("proxy", untrained({"size": 16}))
    for name, value in (("patch_size", 4), ("num_codes", 17)):
        other = Recipe.read("image/tokenizer-line-tiny", [f"--model.network.{name}={value}"]).build_model(FACTS)
        with refused(RecipeError, "conflict", f"model.network.{name}"):
            other.attach("proxy", untrained(FACTS))
    with refused(RecipeError, "conflict", "model.pixels"):
        line(PIXELS.replace('"channels":8', '"channels":16'))


# ---- what does not fit -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "code", "path"),
    [
        ("--model.quantizer.codebook_size=16", "conflict", "model.quantizer.codebook_size"),
        ('--model.quantizer={"name":"vq"}', "missing", "model.quantizer.codebook_size"),
        ('--model.quantizer={"name":"lfq","codebook_size":12}', "range", "model.quantizer.codebook_size"),
        ('--model.quantizer={"name":"vq","codebook_size":8,"code_dim":9}', "range", "model.quantizer.code_dim"),
        ('--model.quantizer={"name":"fsq","levels":[1,4]}', "range", "model.quantizer.levels"),
        ("--model.objective.entropy_weight=0.1", "conflict", "model.objective.entropy_weight"),
        ("--model.objective.joint_weight=1", "conflict", "model.objective.joint_weight"),
        ("--model.objective.absolute_weight=-1", "range", "model.objective.absolute_weight"),
        ("--model.objective.absolute_weight=0", "range", "model.objective.absolute_weight"),
        ("--model.network.norm_groups=3", "shape", "model.network.channels"),
        ("--model.network.multipliers=[]", "range", "model.network.multipliers"),
        ("--model.network.num_blocks=0", "range", "model.network.num_blocks"),
        ("--model.game.lecam_weight=-1", "range", "model.game.lecam_weight"),
        ("--model.game.num_layers=0", "range", "model.game.num_layers"),
        ("--model.network.multipliers=[1,1,1,1,1]", "shape", "data.size"),
    ],
)
def test_sizes_that_do_not_fit(override, code, path):
    with refused(RecipeError, code, path):
        Recipe.read("image/tokenizer-tiny", [override]).build_model(FACTS)


@pytest.mark.parametrize(
    ("override", "code", "path"),
    [
        ("--model.objective.perceptual_weight=1", "conflict", "model.objective.perceptual_weight"),
        ("--model.game.adversarial_weight=1", "conflict", "model.game.adversarial_weight"),
        ("--model.network.patch_size=3", "shape", "data.size"),
        ("--model.network.num_heads=3", "shape", "model.network.dim"),
        ("--model.network.num_tokens=0", "range", "model.network.num_tokens"),
        (PIXELS.replace("[1,1]", "[1,1,1]"), "conflict", "model.pixels.multipliers"),
    ],
)
def test_lines_that_do_not_fit(override, code, path):
    with refused(RecipeError, code, path):
        Recipe.read("image/tokenizer-line-tiny", [override]).build_model(FACTS)


def test_published_sizes():
    """LlamaGen's VQ-16 is said to have 72 million weights."""
    spec = QuantizerSpec(name="vq", codebook_size=16384, code_dim=8)
    with torch.device("meta"):
        model = Tokenizer(quantizer=spec, network=GridSizes(), objective=TokenizerObjective(square_weight=1.0))
        model.build({"size": 256})
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(72e6, rel=0.01)
    assert model.grid == (16, 16) and LineSizes().latent_channels == 512

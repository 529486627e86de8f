"""Generators of picture tokens: masking, losses, guidance, given pictures; random weights, for what holds for any."""

import math

import numpy as np
import pytest
import torch
from picture_facts import FACTS
from PIL import Image as Pillow
from refused import refused
from torch.nn import functional as F
from unisono import Image, Synthesizer
from unisono.errors import RecipeError, RequestError
from unisono.masked import Canvas, Layout
from unisono.nn.condition import Condition
from unisono.recipe import Recipe
from unisono_image.corpus.shapes import ShapeData
from unisono_image.measure.evaluate import evaluate
from unisono_image.models.maskgit_sizes import CriticObjective, Masked, MaskingSpec, TokenNetSizes
from unisono_image.models.masking import masked_by
from unisono_image.models.token_request import frozen_tokens, touched
from unisono_image.models.token_sampling import step_sizes, strategy_of
from unisono_image.models.token_store import PictureTokens
from unisono_image.models.token_transformer import TokenAttention, TokenTransformer
from unisono_image.models.untrained import tokenizer
from unisono_image.models.untrained_generators import critic
from unisono_image.serving import sized

SIZE, GRID, CODES = 8, 4, 16
TOKENS = GRID * GRID


def make(*overrides: str, parts: bool = True, **facts) -> Synthesizer:
    """A generator whose zeros are noise as well, so that its network answers something."""
    model = Recipe.read("image/maskgit-tiny", list(overrides)).build_model({**FACTS, **facts})
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.net.parameters():
            parameter.add_(0.5 * torch.randn(parameter.shape, generator=g) / max(parameter.shape[-1], 1) ** 0.5)
    if parts:
        model.attach("tokenizer", tokenizer(model.facts))
        model.attach("critic", critic(model.facts))
    return Synthesizer(model.eval())


@pytest.fixture(scope="module")
def synth() -> Synthesizer:
    return make()


@pytest.fixture(scope="module")
def classes() -> Synthesizer:
    return make(words=(), sample_captions=())


@pytest.fixture(scope="module")
def given() -> Image:
    g = np.random.default_rng(3)
    return Image(g.integers(0, 256, (3, SIZE, SIZE)).astype(np.uint8))


def painted(rows: slice, columns: slice) -> Image:
    """A mask that is white in a box."""
    pixels = np.zeros((3, SIZE, SIZE), np.uint8)
    pixels[:, rows, columns] = 255
    return Image(pixels)


# ---- the network -------------------------------------------------------------------------------


@pytest.mark.parametrize("block", ["plain", "adaln"])
@pytest.mark.parametrize("tied", [True, False])
def test_what_is_hidden_is_never_read(block, tied):
    """Were it read, the loss would fall at once and nothing would be learnt (Halton-MaskGIT's tracker, 18)."""
    sizes = TokenNetSizes(dim=16, num_layers=2, num_heads=2, dropout=0, block=block, qk_norm=tied, tied_head=tied)
    g = torch.Generator().manual_seed(0)
    net = TokenTransformer(CODES, TOKENS, sizes, 8, with_words=True)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=g)
    condition = Condition(
        torch.randn(2, 8, generator=g),
        torch.randn(2, 3, 8, generator=g),
        torch.tensor([[True] * 3, [True, False, False]]),
    )
    tokens, known = torch.randint(CODES, (2, TOKENS), generator=g), torch.rand(2, TOKENS, generator=g) < 0.5
    other = torch.where(known, tokens, (tokens + 1) % CODES)
    with torch.no_grad():
        logits = net(tokens, known, condition)
        assert logits.shape == (2, TOKENS, CODES)  # no logit for "not known": it can never be drawn
        assert torch.equal(logits, net(other, known, condition))
        seen = torch.where(known, (tokens + 1) % CODES, tokens)
        assert not torch.allclose(logits, net(seen, known, condition))
        # Words behind a caption's end change nothing, and neither does how far captions are padded.
        cut = Condition(condition.vector[1:], condition.words[1:, :1], condition.mask[1:, :1])
        torch.testing.assert_close(logits[1:], net(tokens[1:], known[1:], cut))


def test_normalised_queries_and_keys_are_of_length_one():
    """Of whatever length vectors are, so that no product of a query and a key outgrows 16 bits."""
    attention = TokenAttention(16, 2, True, 0.0)
    x = torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        made = attention.q_norm(attention.to_q(1000 * x).unflatten(-1, (2, 8)))
        torch.testing.assert_close(made.square().mean(-1), torch.ones(1, 5, 2), rtol=1e-4, atol=1e-4)
        with torch.autocast("cpu", dtype=torch.bfloat16):  # warns of nothing, and warnings are errors here
            assert attention(x).dtype == torch.bfloat16


def test_modulated_blocks_change_nothing_at_the_start():
    sizes = TokenNetSizes(dim=16, num_layers=2, num_heads=2, dropout=0, block="adaln")
    block = TokenTransformer(CODES, TOKENS, sizes, 8).trunk.blocks[0]
    x = torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(block(x, torch.ones(1, 8), None), x)


# ---- masking and losses ------------------------------------------------------------------------


@pytest.mark.parametrize("masking", ["count", "chance"])
@pytest.mark.parametrize(("schedule", "mean"), [("cosine", 2 / math.pi), ("arccos", 2 / math.pi), ("linear", 0.5)])
def test_the_share_that_is_masked_is_the_schedules(masking, schedule, mean):
    n, rows = 16, 4000
    canvas = Canvas.blank(Layout.grid(4, 4, 3), list(range(rows)))
    tokens = torch.zeros(rows, n, dtype=torch.int64)
    uniform = torch.rand(rows, generator=torch.Generator().manual_seed(0))
    hidden = ~masked_by(Masked(schedule=schedule, masking=masking), canvas, tokens, uniform).canvas.known
    up = 0.5 / n if masking == "count" else 0  # a count is rounded up, by half a token in the mean
    assert abs(float(hidden.float().mean()) - mean - up) < 0.02  # five standard errors of the mean over rows
    # Every place as often as any other: low-discrepancy sets are for drawing, not for training (its tracker, 31).
    assert float((hidden.float().mean(0) - hidden.float().mean()).abs().max()) < 0.04
    if masking == "count":
        assert int(hidden.sum(1).min()) == 1 and int(hidden.sum(1).max()) == n


def test_masks_are_of_each_row(synth):
    """Not of the first one for all, and the same whatever the batch."""
    model = synth.model
    tokens = torch.randint(CODES, (5, TOKENS), generator=torch.Generator().manual_seed(0))
    seeds = [11, 12, 13, 14, 15]
    together = model.corrupted(tokens, seeds).canvas.known
    assert len(set(together.sum(1).tolist())) > 1
    for row, seed in enumerate(seeds):
        assert torch.equal(model.corrupted(tokens[row : row + 1], [seed]).canvas.known[0], together[row])


@pytest.mark.parametrize(("weight", "smoothing"), [(0.0, 0.0), (0.0, 0.1), (0.1, 0.1), (1.0, 0.1)])
def test_places_count_as_the_recipe_says(weight, smoothing):
    """Masked places alone (MaskGIT), 0.1 of the others (the 1d-tokenizer's port), all alike (Halton-MaskGIT)."""
    model = make(
        f"--model.objective.unmasked_weight={weight}", f"--model.objective.label_smoothing={smoothing}", parts=False
    ).model
    tokens = torch.randint(CODES, (3, TOKENS), generator=torch.Generator().manual_seed(0))
    condition, seeds = model.condition_of([0, 1, -1], ["", "a red circle", ""]), [1, 2, 3]
    with torch.no_grad():
        found = model.token_losses(tokens, condition, {}, seeds)
        canvas = model.corrupted(tokens, seeds).canvas
        logits = model.net(canvas.tokens, canvas.known, condition)
    each = F.cross_entropy(logits.flatten(0, 1), tokens.flatten(), reduction="none", label_smoothing=smoothing)
    counts = torch.where(canvas.known, weight, 1.0).flatten()
    torch.testing.assert_close(found["loss"], (each * counts).sum() / counts.sum())
    right = (logits.argmax(-1) == tokens)[~canvas.known].float().mean()
    torch.testing.assert_close(found["accuracy"], right)


@pytest.mark.parametrize(
    ("kind", "arguments", "path"),
    [
        (TokenNetSizes, {"dim": 10, "num_heads": 4}, "network.dim"),
        (TokenNetSizes, {"num_layers": 0}, "network.num_layers"),
        (TokenNetSizes, {"dropout": 1.5}, "network.dropout"),
        (MaskingSpec, {"label_smoothing": 1.0}, "objective.label_smoothing"),
        (MaskingSpec, {"unmasked_weight": -0.1}, "objective.unmasked_weight"),
        (CriticObjective, {"temperature": -1.0}, "objective.temperature"),
    ],
)
def test_sizes_that_are_none_are_refused(kind, arguments, path):
    code = "shape" if "dim" in arguments else "range"
    with refused(RecipeError, code, path):
        kind(**arguments)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_weights_of_sixteen_bits_draw(kind):
    synth = make()
    synth.model.to(kind)
    asked = [{"prompt": "a red circle", "num_steps": 2, "sampler": name} for name in ("maskgit", "token_critic")]
    for made in synth(asked):
        assert made.pixels.dtype == np.float32 and np.isfinite(made.pixels).all()


# ---- guidance and samplers ---------------------------------------------------------------------


@pytest.mark.parametrize(("ramp", "share"), [(None, 1.0), (False, 1.0), (True, 1 / 8)])
def test_guidance_is_one_formula_with_and_without_a_ramp(synth, ramp, share):
    """c + g·(c − u), g grown to its share in the first of eight steps; one port has another formula for ramps."""
    model = synth.model
    request = model.Request(sampler="maskgit", num_steps=8, guidance=3.0, guidance_ramp=ramp)
    layout = model.layout(TOKENS)
    strategy = strategy_of(model, request, layout, unconditional="u")
    canvas = Canvas.blank(layout, [0])
    g = torch.Generator().manual_seed(0)
    c, u = (torch.randn(1, TOKENS, CODES, generator=g, dtype=torch.float64) for _ in range(2))

    def handle(canvas, query, model=None):
        return u if model == "u" else c

    scores, drawn = strategy.guide(handle, canvas, strategy.plan(canvas, {}), None)
    torch.testing.assert_close(drawn, c + 3 * share * (c - u))
    assert torch.equal(scores, c)


def test_guidance_leads_away_from_no_class(classes):
    model = classes.model
    fields = {"num_steps": 2, "seed": 1}
    away, plain = (classes("circle", guidance=guidance, **fields).bytes for guidance in (8.0, 0.0))
    assert (away != plain).any() and (classes(**fields).bytes != plain).any()
    condition = model.condition_of([-1], [""])
    torch.testing.assert_close(condition.vector[0], model.conditioner.labels.weight[len(FACTS["classes"])])


@pytest.mark.parametrize(
    ("fields", "evaluations"),
    [
        ({"num_steps": 8, "guidance": 0.0}, 8),
        ({"num_steps": 8, "guidance": 1.0}, 16),
        ({"num_steps": 4, "guidance": 0.0, "sampler": "token_critic"}, 8),
        ({"num_steps": 4, "guidance": 1.0, "sampler": "token_critic"}, 12),
        ({"num_steps": 4, "guidance": 0.0, "sampler": "halton"}, 4),
        ({"num_steps": 5, "guidance": 0.0, "sampler": "locality"}, 5),
        ({"guidance": 0.0, "sampler": "one_pass"}, 1),
    ],
)
def test_evaluations_are_counted_the_critics_too(synth, fields, evaluations):
    before = synth.model.evaluations
    synth("a red circle", **fields)
    assert synth.model.evaluations - before == evaluations


@pytest.mark.parametrize("sampler", ["maskgit", "token_critic", "halton"])
def test_a_request_alone_is_the_request_in_a_batch(synth, given, sampler):
    """Also beside pictures of which few tokens are made: how many is counted for each row."""
    asked = [
        {"prompt": "a red circle", "seed": 1},
        {"prompt": "circle", "seed": 2, "image": given, "mask": painted(slice(0, 2), slice(0, 4))},
        {
            "label": "square",
            "seed": 3,
            "image": given,
            "mask": painted(slice(2, 8), slice(0, 8)),
            "negative_prompt": "red",
        },
    ]
    asked = [{**fields, "sampler": sampler, "num_steps": 3, "guidance": 1.0} for fields in asked]
    together = synth(asked)
    for fields, made in zip(asked, together, strict=True):
        np.testing.assert_array_equal(synth([fields])[0].bytes, made.bytes)
    np.testing.assert_array_equal(synth(asked[::-1])[0].bytes, together[2].bytes)


@pytest.mark.parametrize(("tokens", "steps"), [(16, 1), (16, 5), (16, 16), (16, 40), (256, 20), (256, 64)])
def test_sizes_of_steps_add_up(tokens, steps):
    sizes = step_sizes(tokens, steps)
    assert sum(sizes) == tokens and min(sizes) >= 1 and len(sizes) == min(steps, tokens)
    assert sizes[0] <= sizes[-1]


@pytest.mark.parametrize(
    ("fields", "code", "path"),
    [
        ({"sampler": "maskgitt"}, "unknown", "sampler"),
        ({"schedule": "cosin"}, "unknown", "schedule"),
        ({"schedule": "cosine", "sampler": "entropy_bounded"}, "conflict", "schedule"),
        ({"num_steps": 4, "sampler": "one_pass"}, "conflict", "num_steps"),
        ({"choice_temperature": 1.0, "sampler": "halton"}, "conflict", "choice_temperature"),
        ({"top_k": 3, "temperature": 0.0}, "conflict", "top_k"),
        ({"guidance": 2.0, "prompt": None}, "conflict", "guidance"),
        ({"guidance": 0.0, "negative_prompt": "red"}, "conflict", "negative_prompt"),
        ({"guidance": 0.0, "guidance_ramp": True}, "conflict", "guidance_ramp"),
        ({"guidance": -1.0}, "range", "guidance"),
        ({"guidance_scale": 2.0}, "unknown", "guidance_scale"),
        ({"mask": "mask.png"}, "missing", "image"),
        ({"keep_pixels": False}, "conflict", "keep_pixels"),
        ({"label": "triangle"}, "unknown", "label"),
    ],
)
def test_wrong_requests_are_refused_by_field(synth, fields, code, path):
    with refused(RequestError, code, path):
        synth([{"prompt": "a red circle", **fields}])


def test_a_critics_sampler_needs_a_critic():
    model = make(parts=False).model
    model.attach("tokenizer", tokenizer(model.facts))
    with refused(RequestError, "missing", "components.critic"):
        Synthesizer(model)("a red circle", sampler="token_critic")


def test_captions_are_refused_where_classes_alone_are_known(classes):
    with refused(RequestError, "unsupported", "negative_prompt"):
        classes("circle", negative_prompt="red", guidance=1.0)
    with refused(RequestError, "unknown", "label"):
        classes("a red circle")


# ---- given pictures ----------------------------------------------------------------------------


def test_tokens_stay_whose_square_lies_wholly_outside_of_the_mask():
    g = np.random.default_rng(0)
    for _ in range(20):
        mask = g.random((12, 8)) < 0.1
        expected = [not mask[4 * r : 4 * r + 4, 2 * c : 2 * c + 2].any() for r in range(3) for c in range(4)]
        assert frozen_tokens(mask, (3, 4)).tolist() == expected


@pytest.mark.parametrize("sampler", ["maskgit", "token_critic", "locality"])
def test_what_is_given_stands(synth, given, sampler):
    """Tokens that the mask does not touch are the picture's own, and pixels outside of it are returned as given."""
    model = synth.model
    mask = painted(slice(3, 8), slice(2, 5))  # its upper and right borders cut through squares
    fields = {"label": "square", "sampler": sampler, "image": given, "mask": mask, "seed": 4}
    request = synth.request(fields)
    task = model.task(request, 4)
    own = model.tokenizer.tokens(torch.from_numpy(given.pixels).float()[None] / 127.5 - 1)[0]
    (run,) = task.runs()
    window = next(run)
    assert window.known.view(GRID, GRID).tolist() == [
        [True] * 4, [True, False, False, True], [True, False, False, True], [True, False, False, True]
    ]  # fmt: skip
    assert torch.equal(window.tokens[window.known], own[:, None][window.known])
    (filled,) = model.fill([window])
    assert torch.equal(filled[window.known], own[:, None][window.known])
    made = synth(**fields)
    outside = np.asarray(mask.pixels.max(0) < 128)
    np.testing.assert_array_equal(made.bytes.transpose(2, 0, 1)[:, outside], given.pixels[:, outside])
    decoded = model.pictures_of(filled[None, :, 0])[0]
    np.testing.assert_array_equal(made.pixels[:, ~outside], decoded[:, ~outside])
    plain = synth(**fields, keep_pixels=False)
    np.testing.assert_array_equal(plain.pixels, decoded)


def test_another_class_is_drawn_where_the_mask_is(synth, given):
    mask = painted(slice(0, 8), slice(4, 8))
    pictures = [synth(label=name, image=given, mask=mask, guidance=10.0).bytes for name in FACTS["classes"]]
    assert (pictures[0] == pictures[1])[:, :4].all() and (pictures[0] != pictures[1]).any()


def test_wrong_masks_are_refused(synth, given, tmp_path):
    with refused(RequestError, "missing", "mask"):
        synth(label="square", image=given)
    with refused(RequestError, "empty", "mask"):
        synth(label="square", image=given, mask=painted(slice(0, 0), slice(0, 0)))
    with refused(RequestError, "shape", "mask", names=["4 × 8"]):
        synth(label="square", image=given, mask=Image(np.full((3, 8, 4), 255, np.uint8)))
    with refused(RequestError, "missing", "mask"):
        given.save(tmp_path / "given.png")
        synth(label="square", image=str(tmp_path / "given.png"), mask=str(tmp_path / "none.png"))
    clear = np.full((SIZE, SIZE, 4), 255, np.uint8)
    clear[:4, :, 3] = 0
    Pillow.fromarray(clear).save(tmp_path / "clear.png")
    with refused(RequestError, "value", "mask"):
        synth(label="square", image=given, mask=str(tmp_path / "clear.png"))


def test_larger_pictures_and_their_masks_are_scaled_alike(synth, tmp_path):
    picture, mask = np.full((3, 16, 32), 200, np.uint8), np.zeros((3, 16, 32), np.uint8)
    mask[:, :, 16:] = 255  # of the middle 16 × 16, the right half
    Image(picture).save(tmp_path / "picture.png")
    Image(mask).save(tmp_path / "mask.png")
    made = synth(label="square", image=str(tmp_path / "picture.png"), mask=str(tmp_path / "mask.png"))
    assert (made.bytes[:, :4] == 200).all() and (made.bytes[:, 4:] != 200).any()


@pytest.mark.parametrize(("height", "width"), [(8, 8), (16, 16), (13, 29), (40, 24), (5, 4)])
def test_a_pixel_is_in_a_scaled_mask_where_any_part_of_its_place_is(height, width):
    g = np.random.default_rng(0)
    mask = g.random((height, width)) < 0.05
    fine = 120  # every pixel of the mask as so many a side, so that places of the small one end between them
    scale = min(height, width) / SIZE
    top, left = (height - scale * SIZE) / 2, (width - scale * SIZE) / 2
    large = mask.repeat(fine, 0).repeat(fine, 1)
    expected = [
        [
            large[
                round(fine * (top + scale * row)) : round(fine * (top + scale * (row + 1))),
                round(fine * (left + scale * column)) : round(fine * (left + scale * (column + 1))),
            ].any()
            for column in range(SIZE)
        ]
        for row in range(SIZE)
    ]
    np.testing.assert_array_equal(touched(mask, SIZE), expected)


# ---- tokens that are kept ----------------------------------------------------------------------


def test_a_picture_is_tokenized_once(tmp_path, monkeypatch):
    monkeypatch.setenv("UNISONO_CACHE", str(tmp_path))
    codec = tokenizer(FACTS)
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (6, 3, SIZE, SIZE)).astype(np.uint8))
    pictures = pixels.float() / 127.5 - 1
    store = PictureTokens(codec)
    first = store(pictures)
    assert torch.equal(first, codec.tokens(pictures)) and store.made == 6
    assert torch.equal(store(torch.cat([pictures.flip(0), pictures.flip(-1)])), codec.tokens(
        torch.cat([pictures.flip(0), pictures.flip(-1)])))  # fmt: skip
    assert store.made == 12  # mirror images are others
    store.save()
    again = PictureTokens(codec)
    assert torch.equal(again(pictures), first) and again.made == 0
    (entry,) = again.folder.glob("*.safetensors")
    entry.write_bytes(entry.read_bytes()[:-3])  # damaged: made again
    mended = PictureTokens(codec)
    assert torch.equal(mended(pictures), first) and mended.made == 6
    with torch.no_grad():
        next(codec.parameters()).mul_(0.5)
    other = PictureTokens(codec)
    assert other.folder != again.folder and torch.equal(other(pictures), codec.tokens(pictures)) and other.made == 6


def test_a_tokenizer_must_fit(synth):
    model = make("--model.num_codes=17", parts=False).model
    with refused(RecipeError, "conflict", "model.num_codes", names=["17", "16"]):
        model.attach("tokenizer", tokenizer(model.facts))
    model = make("--model.grid=2", parts=False).model
    with refused(RecipeError, "conflict", "model.grid"):
        model.attach("tokenizer", tokenizer(model.facts))
    with refused(RecipeError, "conflict", "components.tokenizer"):
        make(parts=False, size=16).model.attach("tokenizer", tokenizer({"size": 8}))
    with refused(RecipeError, "shape", "model.grid"):
        make(parts=False, size=10)
    with refused(RecipeError, "type", "components.tokenizer"):
        synth.model.attach("tokenizer", critic(synth.model.facts))
    line = tokenizer(FACTS)
    line.grid = (1, TOKENS)
    with refused(RecipeError, "unsupported", "components.tokenizer", value=[1, TOKENS]):
        make(parts=False).model.attach("tokenizer", line)


# ---- measures and routes -----------------------------------------------------------------------


def test_it_is_measured_as_other_generators_are(tmp_path):
    data = ShapeData(num_items=36, size=SIZE, batch_size=4, val_size=8)
    data.prepare(progress=False)
    model = Recipe.read("image/maskgit-tiny").build_model(data.describe())
    model.attach("tokenizer", tokenizer(model.facts))
    model.attach("classifier", Recipe.read("image/classifier-tiny").build_model({**data.describe()}).eval())
    report = evaluate(Synthesizer(model.eval()), data, limit=12, progress=False, num_steps=3, guidance=1.0)
    assert report.value("evaluations for it", "model") == 6
    assert report.value("FID (features named below)", "model") > 0
    assert "rounds for it" not in {row.measure for section in report.sections for row in section.rows}


def test_a_route_takes_the_only_size(synth):
    class Served:
        name, model = "tokens", synth.model

    assert sized(Served, "auto") == {} == sized(Served, f"{SIZE}x{SIZE}")
    with refused(RequestError, "unsupported", "size"):
        sized(Served, "16x8")

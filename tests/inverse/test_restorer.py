"""The restorer: requests right and wrong, pictures of every kind of file, larger pictures, components."""

import json

import numpy as np
import pytest
import torch
from gaussians import Pictures, smooth
from PIL import Image as Pillow
from refused import refused
from unisono import Image, Synthesizer
from unisono.assemble import assemble
from unisono.cli import main
from unisono.errors import CheckpointError, RecipeError, RequestError
from unisono.export import load, save_export
from unisono.recipe import Recipe
from unisono_inverse.data import trial_picture
from unisono_inverse.ddnm.model import Restorer
from unisono_inverse.operators import ByFunctions, MeanPool
from unisono_inverse.tiled import Tiled, starts

SIZE = 8
PIXELS = trial_picture(0, SIZE, SIZE)
HALF = [[int(column < SIZE // 2) for column in range(SIZE)] for _ in range(SIZE)]


@pytest.fixture(scope="module")
def restore() -> Synthesizer:
    return Synthesizer(assemble(Recipe.read("inverse/ddnm-tiny"))[0])


def asked(**fields):
    return {"pixels": PIXELS.tolist(), "num_steps": 4, **fields}


# ---- right answers ------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["serial", "parallel"])
@pytest.mark.parametrize("task", ["super", "colour", "colour-super", "compressed", "deblur"])
def test_what_comes_out_agrees_with_what_was_measured(restore, task, method):
    fields = {"num_steps": 12, "tolerance": 0.1} if method == "parallel" else {}
    request = restore.request(asked(task=task, damage=True, method=method, **fields))
    made, read = restore(request), restore.model.read(request, 0)
    seen = read.operator.project(2 * torch.from_numpy(made.pixels)[None] - 1)
    assert (seen - read.back).abs().max() < 1e-5


def test_known_pixels_stand_and_missing_ones_are_made(restore):
    made = restore(asked(mask=HALF))
    known = np.array(HALF, bool)
    given = (torch.from_numpy(PIXELS) * 2 - 1 + 1).numpy() / 2  # as numbers in [−1, 1] hold it
    assert np.array_equal(made.pixels[:, known], given[:, known]) and np.ptp(made.pixels[:, ~known]) > 0
    assert np.array_equal(made.before[:, known], given[:, known]) and (made.before[:, ~known] == 0.5).all()
    assert len(made.plot().axes) == 2


def test_tasks_of_all_kinds_together_are_each_itself_alone(restore):
    requests = [
        asked(mask=HALF, seed=1),
        asked(task="colour", damage=True, seed=2),
        asked(mask=(1 - np.array(HALF)).tolist(), seed=3),
        asked(task="super", damage=True, method="parallel", seed=4, num_steps=12, tolerance=1e-4),
        asked(task="super", damage=True, method="parallel", seed=5, num_steps=12, tolerance=1e-4),
    ]
    together = restore(requests)
    assert len(restore.model.reports) == 3
    for request, made in zip(requests, together, strict=True):
        assert np.allclose(restore(request).pixels, made.pixels, atol=1e-5)


def test_a_small_or_grey_picture_is_enlarged_or_coloured(restore):
    small = trial_picture(1, SIZE, SIZE)
    assert restore(pixels=small.tolist(), task="super", factor=2, num_steps=2).pixels.shape == (3, 2 * SIZE, 2 * SIZE)
    grey = np.broadcast_to(small.mean(0), (3, SIZE, SIZE))
    made = restore(pixels=grey.tolist(), task="colour", num_steps=4)
    luma = np.einsum("c,chw->hw", (0.299, 0.587, 0.114), made.pixels)
    assert np.allclose(luma, grey[0], atol=1e-5) and np.ptp(made.pixels, axis=0).max() > 0.01


def test_operators_of_ones_own(restore):
    pool = MeanPool(2, SIZE, SIZE)
    operator = ByFunctions(pool.measure, pool.back, (3, SIZE, SIZE))
    y = pool.measure(torch.from_numpy(PIXELS)[None] * 2 - 1)
    made, report = restore.model.restore(operator, y, SIZE, SIZE, seed=3, num_steps=4)
    named = restore(asked(task="super", damage=True, seed=3))
    assert np.allclose((made[0].numpy() + 1) / 2, named.pixels, atol=1e-5) and report.rounds == 4
    with refused(RequestError, "conflict", "task"):
        restore.model.restore(operator, y, SIZE, SIZE, task="super")
    with refused(RequestError, "unsupported", "noise_level"):
        restore.model.restore(operator, y, SIZE, SIZE, noise_level=0.1)
    with refused(RequestError, "value", "y"):
        restore.model.restore(operator, y * np.nan, SIZE, SIZE)


# ---- pictures larger than the prior's -----------------------------------------------------------


def test_windows_begin_where_they_should_and_the_last_is_pinned():
    assert starts(8, 8, 2) == [0] and starts(9, 8, 2) == [0, 1] and starts(20, 8, 2) == [0, 6, 12]
    assert starts(21, 8, 2) == [0, 6, 12, 13] and starts(16, 8, 0) == [0, 8]
    for length in range(8, 40):
        for overlap in range(8):
            found = starts(length, 8, overlap)
            assert {x for s in found for x in range(s, s + 8)} == set(range(length))


def test_a_prior_that_looks_at_pixels_alone_is_the_same_tiled_and_whole():
    variance = torch.diag(torch.full((3 * 64,), 0.3, dtype=torch.float64))
    tiled = Tiled(Pictures(variance, (3, 8, 8)), 13, 21, 3)
    x = torch.randn(2, 3, 13, 21, generator=torch.Generator().manual_seed(0))
    a, s = torch.tensor([0.6, 0.9]), torch.tensor([0.8, 0.4])
    expected = x * (a * 0.3 / (a * a * 0.3 + s * s))[:, None, None, None]
    assert torch.allclose(tiled.x0(x, a, s), expected, atol=1e-6)
    assert tiled.windows == 2 * 4
    alone = tiled.x0(x[1:], a[1:], s[1:])
    assert torch.allclose(alone[0], expected[1], atol=1e-6)


def test_a_prior_that_looks_around_differs_at_the_windows_borders_alone():
    inside = Tiled(Pictures(smooth((1, 8, 8)), (1, 8, 8)), 8, 8, 4)
    x = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    level = torch.tensor([0.8]), torch.tensor([0.6])
    assert torch.allclose(inside.x0(x, *level), inside.prior.x0(x, *level), atol=1e-6)


# ---- wrong input of the issue -------------------------------------------------------------------

GREYS = [[1, 0], [0, 0.5]]
WRONG = {
    "no mask": (dict(), "missing", "mask"),
    "mask where none is taken": (dict(task="colour", damage=True, mask=HALF), "conflict", "mask"),
    "mask of another size": (dict(mask=[row[:-1] for row in HALF]), "shape", "mask"),
    "mask with uneven rows": (dict(mask=[[1, 0], [1]]), "shape", "mask"),
    "mask with other numbers": (dict(mask=[[2] * SIZE] * SIZE), "value", "mask"),
    "mask that knows nothing": (dict(mask=[[0] * SIZE] * SIZE), "empty", "mask"),
    "factor that does not divide": (dict(task="super", damage=True, factor=3), "shape", "factor"),
    "colour where grey is asked": (dict(task="colour"), "value", "picture"),
    "coefficients from a picture": (dict(task="compressed"), "missing", "damage"),
    "two pictures": (dict(picture="a.png", mask=HALF), "conflict", "picture"),
    "window without parallel": (dict(mask=HALF, window=4), "conflict", "window"),
    "travel beyond the steps": (dict(mask=HALF, travel_length=9, travel_repeat=2), "range", "travel_length"),
    "more steps than levels": (dict(mask=HALF, num_steps=1001), "range", "num_steps"),
    "a start that is forgotten": (dict(mask=HALF, start_steps=2), "conflict", "eta"),
    "unknown task": (dict(task="sharpen"), "unknown", "task"),
    "negative noise": (dict(mask=HALF, noise_level=-0.1), "range", "noise_level"),
    "blur wider than the picture": (dict(task="deblur", damage=True, blur=8), "shape", "blur"),
    "pixels above 1": (dict(pixels=(2 * PIXELS).tolist(), mask=HALF), "range", "pixels"),
    "pixels of two channels": (dict(pixels=PIXELS[:2].tolist(), mask=HALF), "shape", "pixels"),
    "pixels with uneven rows": (dict(pixels=[[[0.1]], [[0.1, 0.2]], [[0.1]]], mask=HALF), "shape", "pixels"),
    "no pixels": (dict(pixels=[[], [], []], mask=HALF), "shape", "pixels"),
    "NaN pixels": (dict(pixels=(np.nan * PIXELS).tolist(), mask=HALF), "range", "pixels"),
    "too small a picture": (dict(pixels=PIXELS[:, :4, :4].tolist(), task="colour", damage=True), "shape", "picture"),
    "overlap of a whole window": (
        dict(pixels=np.tile(PIXELS, (1, 2, 2)).tolist(), task="colour", damage=True, overlap=SIZE),
        "range",
        "overlap",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_requests_are_refused_by_field(restore, what):
    fields, code, path = WRONG[what]
    with pytest.raises(RequestError) as caught:
        restore(asked(**fields))
    assert caught.value.code == code, str(caught.value)
    assert (caught.value.path or "").startswith(path), (caught.value.path, str(caught.value))


def test_a_picture_in_memory_with_nan_or_another_range_is_refused(restore):
    broken = PIXELS.copy()
    broken[0, 0, 0] = np.nan
    with refused(RequestError, "value", "picture"):
        restore(picture=Image(broken), mask=HALF)
    with refused(RequestError, "range", "picture"):
        restore(picture=Image(2 * PIXELS - 1), mask=HALF)
    with refused(RequestError, "value", "mask"):
        restore(asked(mask=Image(PIXELS)))


def files(folder):
    """The trial picture in every mode that a file may have: name, and the largest difference to it, of 255."""
    image = Pillow.fromarray((PIXELS.transpose(1, 2, 0) * 255).round().astype(np.uint8))
    turned = image.transpose(Pillow.Transpose.ROTATE_90)
    exif = Pillow.Exif()
    exif[0x0112] = 6  # to be seen, turn it by 90° clockwise
    turned.save(folder / "turned.png", exif=exif)
    image.convert("CMYK").save(folder / "cmyk.tif")
    image.quantize(64).save(folder / "palette.png")
    grey = np.asarray(image.convert("L"))
    Pillow.fromarray(grey.astype(np.uint16) * 257).save(folder / "sixteen.png")
    image.save(folder / "moving.gif", save_all=True, append_images=[turned], duration=100)
    image.convert("RGBA").save(folder / "clear.png")
    return {"turned.png": 0, "cmyk.tif": 3, "palette.png": 40, "moving.gif": 60, "clear.png": 0, "sixteen.png": None}


def test_files_of_every_mode_are_read_rightly_and_others_refused(restore, tmp_path):
    keep = [[1] * SIZE] * SIZE  # all is known: what comes out is what was read
    for name, apart in files(tmp_path).items():
        made = restore(picture=str(tmp_path / name), mask=keep, num_steps=1).bytes.astype(int)
        expected = (PIXELS.transpose(1, 2, 0) * 255).round().astype(int)
        if apart is None:  # 16 bits, grey
            expected = np.asarray(Pillow.fromarray(expected.astype(np.uint8)).convert("L")).astype(int)[..., None]
            apart = 0
        assert np.abs(made - expected).max() <= apart, name
    (tmp_path / "none.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("no picture")
    Pillow.fromarray(PIXELS[0]).save(tmp_path / "float.tif")
    whole = (tmp_path / "turned.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    for name in ("none.png", "text.png", "float.tif", "cut.png", "missing.png"):
        with pytest.raises(RequestError) as caught:
            restore(picture=str(tmp_path / name), mask=keep)
        assert caught.value.path == "picture" and name in str(caught.value)


def test_masks_of_files_are_black_and_white(restore, tmp_path):
    known = np.array(HALF, np.uint8) * 255
    Pillow.fromarray(known).save(tmp_path / "mask.png")
    by_file = restore(asked(mask=str(tmp_path / "mask.png")))
    assert np.array_equal(by_file.pixels, restore(asked(mask=HALF)).pixels)
    Pillow.fromarray(known).convert("1").save(tmp_path / "two-level.png")
    assert np.array_equal(by_file.pixels, restore(asked(mask=str(tmp_path / "two-level.png"))).pixels)
    known[0, 0] = 128
    Pillow.fromarray(known).save(tmp_path / "grey.png")
    with refused(RequestError, "value", "mask", value=3):
        restore(asked(mask=str(tmp_path / "grey.png")))
    Pillow.fromarray(known[:4]).save(tmp_path / "small.png")
    with refused(RequestError, "shape", "mask"):
        restore(asked(mask=[row[:4] for row in HALF]))


# ---- components and exports ---------------------------------------------------------------------


def test_priors_of_another_size_or_kind_are_refused(restore):
    model = Restorer()
    model.build({"size": SIZE})
    with refused(RecipeError, "conflict", "components.prior", value=[3, 16, 16], names="data.size=16"):
        model.attach("prior", Pictures(torch.eye(3 * 256, dtype=torch.float64), (3, 16, 16)))
    with refused(RecipeError, "conflict", "components.prior", value=[1, SIZE, SIZE]):
        model.attach("prior", Pictures(torch.eye(SIZE**2, dtype=torch.float64), (1, SIZE, SIZE)))
    with refused(RecipeError, "type", "components.prior"):
        model.attach("prior", object())
    with refused(RequestError, "missing", "components.prior"):
        Synthesizer(model)(asked(mask=HALF))


def test_an_unmodified_pipeline_of_diffusers_is_a_prior(tmp_path):
    from diffusers.models.unets.unet_2d import UNet2DModel
    from diffusers.pipelines.ddpm.pipeline_ddpm import DDPMPipeline
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=SIZE,
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )
    DDPMPipeline(unet=unet, scheduler=DDPMScheduler(beta_schedule="squaredcos_cap_v2")).save_pretrained(
        tmp_path / "pipe", safe_serialization=True
    )
    section = [f"--data.size={SIZE}", f"--components.prior={tmp_path / 'pipe'}"]
    model, _ = assemble(Recipe.read("inverse/ddnm", section))
    made = Synthesizer(model)(asked(mask=HALF))
    assert np.isfinite(made.pixels).all()
    save_export(model, tmp_path / "export")
    again = load(tmp_path / "export")(asked(mask=HALF))
    assert np.array_equal(again.pixels, made.pixels)
    # The level asked is the scheduler's own: ε of its table gives x0 back.
    denoiser = model.component("prior").denoiser()
    alpha, _ = denoiser.noise_levels(10)
    table = DDPMScheduler(beta_schedule="squaredcos_cap_v2").alphas_cumprod
    assert alpha[0] == pytest.approx(float(table[999].sqrt())) and alpha[-1] == pytest.approx(float(table[99].sqrt()))
    x = torch.randn(1, 3, SIZE, SIZE)
    with torch.no_grad():
        eps = unet.eval()(x, torch.tensor([499.0])).sample
        a, s = table[499].sqrt(), (1 - table[499]).sqrt()
        mine = denoiser.x0(x, a[None].double(), s[None].double())
    assert torch.allclose(mine, (x - s * eps) / a, atol=1e-4)
    (tmp_path / "pipe/unet/diffusion_pytorch_model.safetensors").write_bytes(b"damaged")
    with pytest.raises(CheckpointError) as caught:
        assemble(Recipe.read("inverse/ddnm", section))
    assert caught.value.code == "damaged"


def test_the_command_line_assembles_and_restores(tmp_path, capsys):
    assert main(["assemble", "inverse/ddnm-tiny", str(tmp_path / "export")]) == 0
    Pillow.fromarray((PIXELS.transpose(1, 2, 0) * 255).astype(np.uint8)).save(tmp_path / "picture.png")
    Pillow.fromarray(np.array(HALF, np.uint8) * 255).save(tmp_path / "mask.png")
    place = [str(tmp_path / "export"), str(tmp_path / "picture.png"), "-o", str(tmp_path / "whole.png")]
    flags = ["--mask", str(tmp_path / "mask.png"), "--num-steps=2", "--plot", str(tmp_path / "both.png")]
    assert main(["generate", *place, *flags]) == 0
    with Pillow.open(tmp_path / "whole.png") as whole:
        assert whole.size == (SIZE, SIZE)
    assert (tmp_path / "both.png").stat().st_size
    info = json.loads((tmp_path / "export/unisono.json").read_text(encoding="utf-8"))
    assert info["builtin_components"] == {"prior": "power-law"} and info["parameters"] == 0
    assert main(["train", "inverse/ddnm-tiny"]) == 2 and "unisono assemble" in capsys.readouterr().err
    assert main(["assemble", "inverse/kernels-tiny", str(tmp_path / "no")]) == 2
    assert "unisono train" in capsys.readouterr().err

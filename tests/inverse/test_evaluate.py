"""Evaluation: measures against another library's, pictures that are chosen, and one small report."""

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from refused import refused
from unisono import Synthesizer
from unisono.assemble import assemble
from unisono.errors import DataError
from unisono.recipe import Recipe
from unisono_inverse.data import trial_picture
from unisono_inverse.evaluate import TASKS, evaluate, psnr, read_pictures, rivals, ssim
from unisono_inverse.operators import MeanPool


def test_measures_are_those_of_another_library():
    from torchmetrics.functional.image import peak_signal_noise_ratio

    a = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)).mul(255).round() / 127.5 - 1
    b = (a + 0.1 * torch.randn(a.shape, generator=torch.Generator().manual_seed(1))).clamp(-1, 1).mul(
        127.5
    ).round() / 127.5
    found = psnr(a, b)
    for row in range(2):
        expected = peak_signal_noise_ratio((b[row] + 1) / 2, (a[row] + 1) / 2, data_range=1.0)
        assert found[row] == pytest.approx(float(expected), abs=0.05)
    assert psnr(a, a) == [99.0, 99.0] and ssim(a, a) == pytest.approx(1) and ssim(a, b) < 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("pictures")
    for number in range(6):
        place = root / "test" / ("frog" if number % 2 else "ship")
        place.mkdir(parents=True, exist_ok=True)
        pixels = (trial_picture(number, 9, 10).transpose(1, 2, 0) * 255).astype(np.uint8)
        Pillow.fromarray(pixels).save(place / f"{number}.png")
    (root / "train").mkdir()
    Pillow.new("RGB", (8, 8)).save(root / "train/0.png")
    (root / "test/frog/broken.png").write_bytes(b"no picture")
    Pillow.new("RGB", (4, 4)).save(root / "test/frog/small.png")
    return root


def test_pictures_are_of_the_test_part_and_what_cannot_be_used_is_named(folder):
    pictures, names, failures = read_pictures(folder, 8, 10)
    assert len(pictures) == 6 and all(p.shape == (3, 8, 8) for p in pictures)
    assert {f["id"] for f in failures} == {"frog/broken.png", "frog/small.png"} and "train/0.png" not in names
    assert read_pictures(folder, 8, 3)[1] == names[:3]
    with refused(DataError, "empty", "data"):
        read_pictures(folder, 64, 3)
    with refused(DataError, "missing", "data"):
        read_pictures(folder / "none", 8, 3)


def test_bicubic_enlargement_is_pillow_s():
    x = torch.rand(1, 3, 8, 8)
    pool = MeanPool(2, 8, 8)
    made = rivals(pool, pool.measure(x), (8, 8))["bicubic"]
    small = Pillow.fromarray(pool.measure(x)[0, 1].numpy())
    assert np.allclose(made[0, 1].numpy(), np.asarray(small.resize((8, 8), Pillow.Resampling.BICUBIC)))


def test_a_report_has_every_task_and_parallel_is_serial(folder):
    restore = Synthesizer(assemble(Recipe.read("inverse/ddnm-tiny"))[0])
    tasks = [task for task in TASKS if "four" not in task.name]
    report = evaluate(restore, folder, limit=4, tasks=tasks, parallel=2, num_steps=6, tolerance=1e-5, progress=False)
    assert [section.name for section in report.sections] == [task.name for task in tasks]
    for section in report.sections:
        rows = {row.measure: row.values for row in section.rows}
        assert abs(rows["PSNR above the serial one's, same pictures"]["ddnm, parallel"]) < 0.05
        if "noise" not in section.name:
            assert float(rows["consistency, largest"]["ddnm"]) < 1e-5
    assert report.value("PSNR", "ddnm") > report.value("PSNR", "A⁺y") + 0.5
    assert len(report.failures) == 2 or len(report.failures) == 0

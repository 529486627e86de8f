"""How near pictures are, against torchmetrics; what other codecs make of as many bytes; a tokenizer's whole
evaluation."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from refused import refused
from unisono import Synthesizer
from unisono.errors import DataError
from unisono.recipe import Recipe
from unisono_image.corpus.data import FolderData
from unisono_image.corpus.shapes import SHAPES, make_shape
from unisono_image.measure.fidelity import compressed, psnr, ssim
from unisono_image.measure.tokens import evaluate

SIZE = 16


def noisy(count=4, size=24, seed=0):
    draw = np.random.default_rng(seed)
    real = draw.integers(0, 256, (count, 3, size, size)).astype(np.uint8)
    off = draw.normal(0, 30, real.shape) * np.arange(1, count + 1)[:, None, None, None]
    return real, (real + off).clip(0, 255).astype(np.uint8)


def test_psnr_and_ssim_are_those_of_torchmetrics():
    from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

    real, made = noisy()
    near, alike = psnr(real, made), ssim(real, made)
    for i in range(len(real)):
        x, y = (torch.from_numpy(side[i : i + 1]).double() for side in (real, made))
        assert near[i] == pytest.approx(float(peak_signal_noise_ratio(y, x, data_range=255.0)), rel=1e-5)
        _, every = structural_similarity_index_measure(y, x, data_range=255.0, return_full_image=True)
        wanted = every[..., 5:-5, 5:-5].mean()  # its own mean counts windows that leave the picture
        assert alike[i] == pytest.approx(float(wanted), abs=1e-5)


def test_equal_pictures_are_as_near_as_can_be():
    real, _ = noisy()
    assert np.isinf(psnr(real, real)).all() and ssim(real, real) == pytest.approx(np.ones(4))
    with refused(DataError, "shape", "pictures", value=[8, 8]):
        ssim(real[:, :, :8, :8], real[:, :, :8, :8])


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_the_best_quality_that_fits_is_taken(kind):
    real = [make_shape(number, 32)[0] for number in range(12)]
    sizes, errors = [], []
    for most in (40.0, 120.0, 400.0):
        made, taken = compressed(real, kind, most)
        assert made.shape == (12, 3, 32, 32)
        assert taken <= most or most == 40.0  # even the least quality has a header
        sizes.append(taken)
        errors.append(float(np.square(made.astype(float) - np.stack(real)).mean()))
    assert sizes == sorted(sizes) and errors == sorted(errors, reverse=True) and errors[-1] < 100


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Shapes as a folder of classes, with a test part."""
    root = tmp_path_factory.mktemp("shapes")
    for number in range(40):
        image, label, _ = make_shape(number, SIZE)
        path = root / ("train" if number < 28 else "test") / SHAPES[label] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Pillow.fromarray(image.transpose(1, 2, 0)).save(path)
    return root


def tokenizer_for(folder, classifier=True):
    data = FolderData(str(folder), size=SIZE, batch_size=4)
    data.prepare(progress=False)
    model = Recipe.read("image/tokenizer-tiny").build_model(data.describe())
    if classifier:
        model.attach("classifier", Recipe.read("image/classifier-tiny").build_model(data.describe()))
    model.recipe = {**model.recipe, "data": {"name": "image/folder", "root": "elsewhere", "size": SIZE, "val_size": 4}}
    return Synthesizer(model.eval())


def test_an_evaluation_measures_held_out_pictures(folder):
    synth = tokenizer_for(folder)
    model: Any = synth.model
    report = evaluate(synth, folder, limit=1000, progress=False)
    assert report.systems == ["tokens", "JPEG", "WebP", "original"] and len(report.items) == 12
    assert report.facts["tokens"] == "8 × 8 of 16" and report.facts["pictures"].startswith("held out")
    assert report.value("bytes of a picture", "tokens") == 8 * 8 * 4 / 8
    assert report.value("bits of a pixel", "original") == 24
    module = FolderData(str(folder), size=SIZE, batch_size=4)
    module.prepare(progress=False)
    real = np.stack([module.train_set.of(picture) for picture in module.tested])
    tokens = model.tokens(torch.from_numpy(real).float() / 127.5 - 1)
    assert report.value("usage over all pictures", "tokens") == len(tokens.unique()) / 16
    share = torch.bincount(tokens.flatten(), minlength=16) / tokens.numel()
    entropy = float(torch.special.entr(share).sum() / np.log(2))
    assert report.value("entropy of a token", "tokens") == pytest.approx(entropy, abs=1e-5)
    made = ((model.pictures(tokens) + 1) * 127.5).round().numpy().astype(np.uint8)
    assert report.value("PSNR", "tokens") == pytest.approx(psnr(real, made).mean(), rel=1e-3)
    assert report.value("SSIM", "tokens") == pytest.approx(ssim(real, made).mean(), abs=1e-3)
    assert report.value("PSNR", "original") is None
    for system in ("tokens", "original"):
        assert 0 <= float(str(report.value("classified rightly", system))) <= 1
    assert float(str(report.value("rFID (features named below)", "tokens"))) > 0


def test_an_evaluation_without_a_classifier_leaves_its_rows_out(folder):
    report = evaluate(tokenizer_for(folder, classifier=False), folder, limit=5, progress=False)
    assert len(report.items) == 5 and float(str(report.value("PSNR", "tokens"))) > 0
    with pytest.raises(KeyError):
        report.value("classified rightly", "tokens")


def test_what_cannot_be_evaluated(folder):
    synth = tokenizer_for(folder)
    with refused(DataError, "limit", "limit", value=1):
        evaluate(synth, folder, limit=1, progress=False)
    with refused(DataError, "conflict", "size", value=8):
        evaluate(synth, FolderData(str(folder), size=8, batch_size=4), progress=False)

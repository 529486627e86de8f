"""Tokenizers: tokens there and back, alone and in a batch, parts apart; requests and what is wrong with them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from refused import ANYTHING, refused
from unisono import Synthesizer
from unisono.errors import CheckpointError, RecipeError, RequestError
from unisono.recipe import Recipe
from unisono_motion.corpus.figures import FigureData, make_figure
from unisono_motion.skeleton import Motion
from unisono_motion.tokens.codec import pad_to_multiple
from unisono_motion.tokens.sizes import ConvSizes
from unisono_motion.tokens.tokenizer import MotionTokenizer

NAMES = ("tokenizer", "tokenizer-fsq", "tokenizer-parts")


@pytest.fixture(scope="module")
def figures():
    data = FigureData(num_items=8, val_size=2, batch_size=4, crop_frames=16)
    data.prepare(progress=False)
    return data


@pytest.fixture(scope="module")
def tokenizers(figures):
    """Each kind, its codebooks filled from one batch."""
    made = {}
    for name in NAMES:
        model = Recipe.read(f"motion/{name}-tiny").build_model(figures.describe())
        with torch.random.fork_rng(devices=[]):
            model.train().losses(next(iter(figures.train_dataloader())))
        made[name] = model.eval()
    return made


def clips(figures, count=3):
    items = [torch.from_numpy(np.array(clip.features)) for clip in figures.train_set.clips[:count]]
    return items, torch.tensor([len(item) for item in items])


@pytest.mark.parametrize("name", NAMES)
def test_tokens_there_and_back(tokenizers, figures, name):
    model = tokenizers[name]
    items, lengths = clips(figures)
    features = torch.nn.utils.rnn.pad_sequence(items, batch_first=True, padding_value=7.0)
    tokens = model.encode(features, lengths)
    assert tokens.shape == (3, model.num_positions(int(lengths.max())), model.num_codebooks)
    assert tokens.min() >= 0 and tokens.max() < model.codebook_size
    assert len(model.streams) == model.num_codebooks
    made = model.decode(tokens, lengths)
    assert made.shape == (3, tokens.shape[1] * model.downsampling, model.spec.dim)
    for row, item, n in zip(range(3), items, lengths.tolist(), strict=True):
        positions = model.num_positions(n)
        alone = model.encode(item[None])
        assert torch.equal(tokens[row, :positions], alone[0]) and (tokens[row, positions:] == 0).all()
        single = model.decode(alone, torch.tensor([n]))
        torch.testing.assert_close(made[row, :n], single[0, :n], atol=1e-5, rtol=0)
        assert (made[row, n:] == 0).all()


def test_parts_keep_to_themselves(tokenizers, figures):
    model = tokenizers["tokenizer-parts"]
    assert model.streams == [("lower", 0), ("upper", 0)]
    (item, *_), _ = clips(figures)
    changed = item.clone()
    changed[:, model.spec.parts["upper"]] += 1.0
    before, after = model.encode(item[None]), model.encode(changed[None])
    assert torch.equal(before[..., 0], after[..., 0]) and not torch.equal(before[..., 1], after[..., 1])


def test_fewer_levels_are_a_coarser_motion(tokenizers, figures):
    model = tokenizers["tokenizer"]
    (item, *_), _ = clips(figures)
    tokens = model.encode(item[None])
    assert tokens.shape[-1] == 2
    coarse, fine = model.decode(tokens[..., :1]), model.decode(tokens)
    assert coarse.shape == fine.shape and not torch.equal(coarse, fine)


def test_a_length_within_a_position_reads_that_position(tokenizers, figures):
    model = tokenizers["tokenizer"]
    (item, *_), _ = clips(figures)
    tokens = model.encode(item[None])[:, :2]
    frames = model.downsampling + 1
    part, whole = model.decode(tokens, torch.tensor([frames])), model.decode(tokens)
    torch.testing.assert_close(part[:, :frames], whole[:, :frames])
    assert not part[:, frames:].any()


def test_reading_tokens_moves_no_codebook(tokenizers, figures):
    model = tokenizers["tokenizer"].train()
    before = {k: v.clone() for k, v in model.quantizer.state_dict().items()}
    model.encode(clips(figures)[0][0][None])
    assert model.quantizer.training
    assert all(torch.equal(before[k], v) for k, v in model.quantizer.state_dict().items())
    model.eval()


def test_the_last_frame_is_repeated_up_to_the_next_multiple():
    x = torch.arange(10.0).reshape(2, 5, 1)
    padded, mask = pad_to_multiple(x, [5, 2], 4)
    assert padded[..., 0].tolist() == [[0, 1, 2, 3, 4, 4, 4, 4], [5, 6, 6, 6, 0, 0, 0, 0]]
    assert mask.tolist() == [[True] * 8, [True] * 4 + [False] * 4]


def test_losses_are_those_of_the_equations(tokenizers, figures):
    model = tokenizers["tokenizer"]
    batch = next(iter(figures.train_dataloader()))
    with torch.no_grad():
        parts = model.losses(batch)
        x = (batch["features"] - model.mean) / model.std
        made = (model.decode(model.encode(batch["features"])) - model.mean) / model.std
    huber = lambda a, b: torch.where((a - b).abs() < 1, 0.5 * (a - b) ** 2, (a - b).abs() - 0.5).mean()  # noqa: E731
    places = model.spec.slices["places"]
    assert float(parts["features"]) == pytest.approx(float(huber(made, x)), rel=1e-4)
    velocity = huber(made[..., places].diff(dim=1), x[..., places].diff(dim=1))
    assert float(parts["velocity"]) == pytest.approx(float(velocity), rel=1e-4)
    raw = made * model.std + model.mean
    way = (model.spec.positions(raw) - model.spec.positions(batch["features"])).abs().mean()
    assert float(parts["way"]) == pytest.approx(float(way), rel=1e-4)
    total = parts["features"] + 0.5 * parts["velocity"] + 0.5 * parts["way"] + 0.02 * parts["commitment"]
    assert float(parts["loss"]) == pytest.approx(float(total), rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_it_learns(figures, name):
    """Forty steps on four clips more than halve the distance: gradients point the right way."""
    changes = ["--model.width=32", "--model.code_dim=16"]
    changes += ["--model.levels=[8, 5, 5]"] if name == "tokenizer-fsq" else ["--model.codebook_size=32"]
    model = Recipe.read(f"motion/{name}-tiny", changes).build_model(figures.describe()).train()
    batch = next(iter(figures.train_dataloader()))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    distances = []
    for _ in range(40):
        loss = model.losses(batch)
        optimizer.zero_grad()
        loss["loss"].backward()
        optimizer.step()
        distances.append(float(loss["features"].detach()))
    assert distances[-1] < 0.5 * distances[0]


def test_a_file_is_reconstructed(tokenizers, tmp_path):
    model = tokenizers["tokenizer"]
    figure = make_figure(1)
    path = figure.save(tmp_path / "clip.bvh")
    (made,) = model.synthesize([model.Request.parse(motion=str(path))])
    assert isinstance(made, Motion) and made.skeleton == model.spec.skeleton
    assert len(made.positions) == len(figure.positions) and made.rotations is not None
    again = Synthesizer(model)(str(path))
    assert np.array_equal(again.positions, made.positions)
    features = model.read(str(path))
    by_features = Synthesizer(model)(features=features)
    np.testing.assert_allclose(by_features.positions, made.positions, atol=1e-6)


def test_another_rate_and_size_are_fitted(tokenizers, tmp_path):
    from unisono_motion.corpus.fit import resample

    model = tokenizers["tokenizer"]
    figure = make_figure(0)
    reference = model.read(str(figure.save(tmp_path / "a.bvh")))
    tall = replace(figure.skeleton, offsets=1.3 * figure.skeleton.offsets)
    other = replace(figure, skeleton=tall, positions=1.3 * figure.positions)
    again = model.read(str(resample(other, 40.0).save(tmp_path / "b.bvh")))
    np.testing.assert_allclose(again, reference, atol=2e-4)


@pytest.mark.parametrize(
    ("change", "code", "value"),
    [
        (lambda s: s[: len(s) // 3], "damaged", 14),
        (lambda s: s.replace("LeftHand", "Tentacle"), "unsupported", "other skeleton"),
        (lambda s: s.rpartition(" ")[0] + " oops\n", "value", "oops"),
        (lambda s: _first_frame(s), "unsupported", "one frame"),
    ],
)
def test_wrong_files_are_told_in_one_sentence(tokenizers, tmp_path, change, code, value):
    model = tokenizers["tokenizer"]
    path = make_figure(0).save(tmp_path / "clip.bvh")
    path.write_text(change(path.read_text()))
    with refused(RequestError, code, "clip.bvh", value=value) as caught:
        model.synthesize([model.Request.parse(motion=str(path))])
    assert "\n" not in str(caught.value) and "clip.bvh" in str(caught.value)


def _first_frame(text):
    head, _, frames = text.partition("Frames: ")
    return f"{head}Frames: 1\n" + "\n".join(frames.split("\n")[1:3]) + "\n"


@pytest.mark.parametrize(
    ("fields", "code", "path", "value"),
    [
        ({}, "missing", "motion", {}),
        ({"motion": "a.bvh", "features": [[0.0]]}, "conflict", "motion", ANYTHING),
        ({"motion": "a.bvh", "metres_per_unit": 0}, "range", "metres_per_unit", 0),
        ({"features": [[float("nan")]]}, "range", "features.0.0", ANYTHING),
        ({"motoin": "a.bvh"}, "unknown", "motoin", "a.bvh"),
    ],
)
def test_wrong_requests_are_told(fields, code, path, value):
    with refused(RequestError, code, path, value=value):
        MotionTokenizer.Request.parse(**fields)


def test_features_of_another_width_and_no_file(tokenizers, tmp_path):
    model = tokenizers["tokenizer"]
    with refused(RequestError, "shape", "features", value=[2], names=str(model.spec.dim)):
        model.synthesize([model.Request.parse(features=[[0.0, 1.0]])])
    with refused(RequestError, "missing", "none.bvh"):
        model.synthesize([model.Request.parse(motion=str(tmp_path / "none.bvh"))])


def test_lengths_are_checked(tokenizers, figures):
    model = tokenizers["tokenizer"]
    (item, *_), _ = clips(figures)
    for wrong in (0, len(item) + 1):
        with refused(RequestError, "range", "lengths", value=[wrong]):
            model.encode(item[None], torch.tensor([wrong]))
    tokens = model.encode(item[None])
    for wrong in (0, 4 * tokens.shape[1] + 1):
        with refused(RequestError, "range", "lengths", value=[wrong]):
            model.decode(tokens, torch.tensor([wrong]))


@pytest.mark.parametrize("value", [1, 3, 0])
def test_the_downsampling_is_a_power_of_two(value):
    with refused(RecipeError, "range", "model.downsampling", value=value):
        MotionTokenizer(network=ConvSizes(downsampling=value))


def test_scalar_levels_are_checked():
    for levels in ("[]", "[5, 1]"):
        with refused(RecipeError, "range", "model.levels"):
            Recipe.read("motion/tokenizer-fsq-tiny", [f"--model.levels={levels}"]).build_model({})


def test_another_skeleton_is_no_warm_start(tokenizers):
    model = tokenizers["tokenizer"]
    other = {**model.facts, "motion": {**model.facts["motion"], "fps": 30.0}}
    with refused(CheckpointError, "conflict", "run.init_from"):
        model.check_source(other)
    model.check_source(model.facts)

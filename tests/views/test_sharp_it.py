"""Sharp-It: oracles of its network, what it makes, and what it refuses; with random weights, for what holds for any."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from refused import refused
from unisono import Image, Synthesizer
from unisono.diffusion import Flow
from unisono.errors import CheckpointError, DataError, RecipeError, RequestError
from unisono.nn.condition import Condition
from unisono.recipe import Recipe
from unisono_views.cameras import Cameras
from unisono_views.data import ObjectData, grey, make_pair
from unisono_views.evaluate import OBJECTS, evaluate, probe
from unisono_views.folder import FolderData
from unisono_views.media import Views
from unisono_views.model import UNSEEN, SharpIt
from unisono_views.network import MultiViewTransformer, NetworkSizes, patch_rays
from unisono_views.shapes import make_shape

SMALL = NetworkSizes(patch_size=2, dim=16, num_layers=2, num_heads=2, smooth=True)
CAMERAS = Cameras()


def randomised(module: torch.nn.Module, scale: float = 0.3) -> torch.nn.Module:
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=g) / max(parameter.shape[-1], 1) ** 0.5)
    return module


def network(cross_view: bool = True) -> MultiViewTransformer:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = MultiViewTransformer(SMALL, 8, True, cross_view)
    return randomised(net).double().eval()  # pyright: ignore


def inputs(b: int = 2, v: int = 6, words: int = 3):
    g = torch.Generator().manual_seed(2)
    x, coarse = torch.randn(2, b, v, 3, 8, 8, generator=g, dtype=torch.float64)
    mask = torch.ones(b, words, dtype=torch.bool)
    mask[0, -1] = False
    vector = torch.randn(b, 8, generator=g, dtype=torch.float64)
    condition = Condition(vector, torch.randn(b, words, 8, generator=g, dtype=torch.float64), mask)
    return x, coarse, torch.tensor([300.0, 900.0], dtype=torch.float64)[:b], condition, patch_rays(CAMERAS, 4).double()


def synthesizer(*overrides: str, scale: float = 0.3) -> Synthesizer:
    recipe = Recipe.read("views/sharp-it-tiny", list(overrides))
    data = recipe.build_data()
    data.prepare(progress=False)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = recipe.build_model(data.describe())
    randomised(model.net, scale)
    return Synthesizer(model)


@pytest.fixture(scope="module")
def synth() -> Synthesizer:
    return synthesizer()


def given(synth: Synthesizer, number: int = UNSEEN, **fields):
    return synth.model.made_request(number, **fields)


def coarse_of(number: int = UNSEEN) -> Views:
    return Views.of(make_pair(number, size=8)[1].numpy())


def apart(a: Image, b: Image) -> float:
    return float(np.abs(a.pixels - b.pixels).max())


# ---- the network -------------------------------------------------------------------------------


@pytest.mark.parametrize("cross_view", [True, False])
def test_views_and_cameras_in_another_order_give_the_views_in_that_order(cross_view):
    net, (x, coarse, time, condition, rays) = network(cross_view), inputs()
    order = [4, 2, 0, 5, 1, 3]
    straight = net(x, coarse, time, condition, rays)
    other = net(x[:, order], coarse[:, order], time, condition, rays[order])
    torch.testing.assert_close(other, straight[:, order], rtol=0, atol=1e-12)  # sums over views in another order


def test_without_cross_view_a_set_is_six_models_of_one_view():
    """The weights of both are equal, so that a model of all views with one view is a model of that view."""
    alone, joint, (x, coarse, time, condition, rays) = network(False), network(True), inputs()
    assert all(torch.equal(a, b) for a, b in zip(alone.parameters(), joint.parameters(), strict=True))
    together = alone(x, coarse, time, condition, rays)
    for view in range(6):
        own = slice(view, view + 1)
        single = joint(x[:, own], coarse[:, own], time, condition, rays[own])
        torch.testing.assert_close(together[:, own], single, rtol=0, atol=1e-12)
    assert (joint(x, coarse, time, condition, rays) - together).abs().max() > 1e-3


def test_a_view_hears_of_the_others_with_cross_view_alone():
    x, coarse, time, condition, rays = inputs()
    changed = coarse.clone()
    changed[:, 5] += 1
    for cross_view in (True, False):
        net = network(cross_view)
        moved = (
            (net(x, changed, time, condition, rays) - net(x, coarse, time, condition, rays)).abs().amax((0, 2, 3, 4))
        )
        assert (moved[:5] > 1e-6).all() if cross_view else (moved[:5] == 0).all()
        assert moved[5] > 1e-3


def test_a_view_is_told_its_camera():
    net, (x, coarse, time, condition, rays) = network(), inputs()
    assert (net(x, coarse, time, condition, rays.roll(1, 0)) - net(x, coarse, time, condition, rays)).abs().max() > 1e-3


def test_padding_of_captions_is_not_seen():
    for cross_view in (True, False):
        net, (x, coarse, time, condition, rays) = network(cross_view), inputs(1)
        words = condition.words.clone()
        words[0, -1] = 7
        other = replace(condition, words=words)
        assert torch.equal(net(x, coarse, time, condition, rays), net(x, coarse, time, other, rays))


def test_rays_are_lines_that_their_points_share():
    rays = patch_rays(CAMERAS, 3).double()
    ways, moments = rays[..., :3], rays[..., 3:]
    points = CAMERAS.positions()[:, None] + 2.5 * ways
    torch.testing.assert_close(torch.linalg.cross(points, ways), moments, rtol=0, atol=1e-5)
    assert torch.allclose(ways.norm(dim=-1), torch.ones(6, 9, dtype=torch.float64), atol=1e-6)


def test_before_the_first_step_the_degraded_views_come_back():
    fresh = synthesizer(scale=0)
    for strength in (0.5, 1.0):
        request = given(fresh, strength=strength, num_steps=4)
        assert np.abs(fresh(request).pixels - coarse_of().pixels / 255).max() < 3e-3  # noise of the time 0.001


def test_an_answer_is_the_velocity_of_the_corrected_views(synth):
    model, (x, coarse, *_) = synth.model, inputs()
    x, coarse, time = x.float(), coarse.float(), torch.tensor([250.0, 800.0])
    condition = model.condition_of(["a red sphere", ""])
    level = time.double() / 1000
    with torch.no_grad():
        correction = model.net(x, coarse, time, condition, model.rays)
        velocity = model.velocity(x, coarse, time, condition)
    torch.testing.assert_close(Flow().x0(x, velocity, level), coarse + correction, rtol=0, atol=1e-4)


def test_the_loss_is_the_velocitys_error_down_to_the_least_time(synth, monkeypatch):
    """Levels are put in by hand: what `losses` says is |velocity − target|² where t is above LEAST_TIME."""
    model = synthesizer().model.eval()
    views, coarse = (torch.stack(part) for part in zip(*[make_pair(n, size=8) for n in range(2)], strict=True))
    batch = {"views": views, "coarse": coarse, "caption": ["a red sphere", ""]}
    noise = torch.randn(2, 6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    uniform = torch.tensor([[0.4, 0.9], [0.7, 0.9]], dtype=torch.float64)
    monkeypatch.setattr(model, "row_seeds", lambda batch: [0, 1])
    monkeypatch.setattr(model, "draw", lambda seeds, shape: (noise, uniform))
    monkeypatch.setattr(model, "global_mean", lambda values, mask: values[mask].mean())
    with torch.no_grad():
        loss = model.losses(batch)["loss"]
        x0, coarse = (part.float() / 127.5 - 1 for part in (views, coarse))
        found = Flow().corrupt(x0, noise, Flow().level(uniform[:, 0]))
        velocity = model.velocity(found.x, coarse, found.time, model.condition_of(batch["caption"]))
    assert float(loss) == pytest.approx(float((velocity - found.target).square().mean()), rel=1e-4)


# ---- sampling ----------------------------------------------------------------------------------


def test_alone_and_in_a_batch_are_the_same(synth):
    requests = [given(synth, UNSEEN + n, seed=n, num_steps=3) for n in range(3)]
    requests.append(given(synth, UNSEEN, prompt=None, num_steps=3, seed=9))
    requests.append(given(synth, UNSEEN, strength=1.0, num_steps=2))
    together = synth(requests)
    for request, made in zip(requests, together, strict=True):
        assert apart(synth(request), made) < 1e-5


@pytest.mark.parametrize("solver", ["picard", "anderson", "parareal"])
def test_parallel_solvers_make_the_serial_views(synth, solver):
    serial = synth(given(synth, num_steps=8, strength=1.0))
    rounds = synth.model.rounds
    parallel = synth(given(synth, num_steps=8, strength=1.0, solver=solver, tolerance=1e-4))
    assert apart(serial, parallel) < 0.02 and synth.model.rounds > rounds


def test_guidance_goes_beyond_the_caption_and_is_on_the_bill(synth):
    before = synth.model.evaluations
    told = synth(given(synth, num_steps=1, strength=1.0))
    assert synth.model.evaluations - before == 1
    guided = synth(given(synth, num_steps=1, strength=1.0, guidance_scale=2.0))
    assert synth.model.evaluations - before == 3
    untold = synth(given(synth, num_steps=1, strength=1.0, prompt=None))
    inner = (told.pixels > 0.01) & (told.pixels < 0.99) & (untold.pixels > 0.01) & (untold.pixels < 0.99)
    wanted = (2 * told.pixels - untold.pixels).clip(0, 1)
    assert np.abs(guided.pixels - wanted)[inner].max() < 1e-4


def test_strength_is_how_much_noise_a_chain_begins_with(synth):
    chains = {s: synth.model.chain(*_tasks(synth, strength=s, num_steps=10)) for s in (0.3, 0.6, 1.0)}
    coarse = coarse_of().views
    start = torch.stack([torch.from_numpy(view.pixels) for view in coarse]).float() / 127.5 - 1
    noise = chains[1.0][1][0]
    for strength in (0.3, 0.6):
        chain, x = chains[strength]
        t = float(chain.timesteps[0]) / 1000
        assert t == pytest.approx(strength, abs=0.06) and chain.num_steps == 1 + round(9 * strength)
        torch.testing.assert_close(x[0], (1 - t) * start + t * noise, rtol=0, atol=1e-5)
    assert chains[1.0][0].num_steps == 10


def _tasks(synth, **fields):
    from unisono_views.request import read_request

    request = given(synth, **fields)
    return [read_request(request, synth.model.facts, 1.0)], [request.seed]


def test_six_pictures_are_the_sheet_of_them(synth, tmp_path):
    request = given(synth, num_steps=2)
    sheet = coarse_of()
    sheet.save(tmp_path / "sheet.png")
    paths = [str(view.save(tmp_path / f"{number}.png")) for number, view in enumerate(sheet.views)]
    fields = {"prompt": request.prompt, "seed": request.seed, "num_steps": 2}
    whole = synth(request)
    for other in ({"views": sheet.views}, {"views": paths}, {"sheet": str(tmp_path / "sheet.png")}, {"sheet": sheet}):
        assert apart(whole, synth(**fields, **other)) == 0
    asked = synth.request(sheet=sheet, **fields)
    assert apart(whole, synth(asked, prompt=request.prompt)) == 0  # a request with a picture in memory is changed


def test_colours_are_taken_off_where_the_caption_says_them(synth):
    request = given(synth, num_steps=2)
    colourless = Views.of(grey(make_pair(UNSEEN, size=8)[1]).numpy())
    asked = request.model_copy(update={"colours": "caption"})
    assert apart(synth(asked), synth(request.model_copy(update={"example": None, "sheet": colourless}))) == 0
    assert apart(synth(asked), synth(request)) > 1e-3


def test_transparent_views_are_laid_on_white(synth, tmp_path):
    from PIL import Image as Pillow

    sheet = coarse_of()
    pixels = np.dstack([sheet.bytes, np.full((24, 16), 255, np.uint8)])
    clear = (sheet.bytes == 255).all(-1)
    pixels[clear] = (90, 0, 10, 0)  # of any colour where nothing is seen
    Pillow.fromarray(pixels).save(tmp_path / "clear.png")
    assert apart(synth(sheet=str(tmp_path / "clear.png"), num_steps=2), synth(sheet=sheet, num_steps=2)) == 0


def test_live_views_end_with_the_output(synth):
    request = given(synth, num_steps=4)
    shown = list(synth.model.eval().snapshots(request))
    assert len(shown) == 3 and apart(shown[-1], synth(request)) < 1e-6


# ---- wrong input -------------------------------------------------------------------------------


def white(height: int, width: int, kind=np.uint8) -> Image:
    return Image(np.full((3, height, width), 255 if kind == np.uint8 else 1, kind))


def nan() -> Image:
    pixels = np.ones((3, 24, 16), np.float32)
    pixels[0, 3, 3] = np.nan
    return Image(pixels)


@pytest.mark.parametrize(
    ("fields", "code", "path"),
    [
        ({}, "missing", "sheet"),
        ({"sheet": white(24, 16), "views": [white(8, 8)] * 6}, "conflict", "views"),
        ({"sheet": white(24, 16), "example": 1}, "conflict", "example"),
        ({"example": -1}, "range", "example"),
        ({"views": [white(8, 8)] * 5}, "shape", "views"),
        ({"views": []}, "shape", "views"),
        ({"views": [white(8, 8)] * 5 + [white(8, 9)]}, "shape", "views.5"),
        ({"views": [white(8, 8)] * 5 + ["nowhere.png"]}, "missing", "views.5"),
        ({"views": [white(8, 8)] * 5 + [True]}, "type", None),
        ({"sheet": white(16, 24)}, "shape", "sheet"),
        ({"sheet": white(8, 8)}, "shape", "sheet"),
        ({"sheet": nan()}, "range", "sheet"),
        ({"sheet": Image(np.full((3, 24, 16), 1.5, np.float32))}, "range", "sheet"),
        ({"sheet": "nowhere.png"}, "missing", "sheet"),
        ({"sheet": white(24, 16), "prompt": "a red dragon"}, "unknown", "prompt"),
        ({"sheet": white(24, 16), "prompt": "…"}, "empty", "prompt"),
        ({"sheet": white(24, 16), "prompt": "red " * 65}, "limit", "prompt"),
        ({"sheet": white(24, 16), "colours": "caption"}, "missing", "prompt"),
        ({"sheet": white(24, 16), "guidance_scale": 2.0}, "conflict", "guidance_scale"),
        ({"sheet": white(24, 16), "strength": 0.0}, "range", "strength"),
        ({"sheet": white(24, 16), "num_steps": 0}, "range", "num_steps"),
        ({"sheet": white(24, 16), "num_steps": 1, "solver": "picard"}, "conflict", "num_steps"),
        ({"sheet": white(24, 16), "scheduler": "ddim"}, "unknown", "scheduler"),
        ({"sheet": white(24, 16), "solver": "picard", "window": 99}, "range", "window"),
    ],
)
def test_what_cannot_be_made_is_refused_by_its_field(synth, fields, code, path):
    with refused(RequestError, code, *([path] if path else [])):
        synth(**fields)


def test_a_file_that_is_no_picture_is_refused(synth, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    with refused(RequestError, "damaged", "sheet"):
        synth(sheet=str(tmp_path / "text.png"))


@pytest.mark.parametrize(
    ("wrong", "code", "path"),
    [
        ({"network": replace(SMALL, dim=18, num_heads=4)}, "shape", "model.network.dim"),
        ({"network": replace(SMALL, patch_size=0)}, "range", "model.network.patch_size"),
        ({"network": replace(SMALL, num_layers=0)}, "range", "model.network.num_layers"),
        ({"network": SMALL, "shift": 0.0}, "range", "model.shift"),
        ({"network": SMALL, "guidance_scale": -1.0}, "range", "model.guidance_scale"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(wrong, code, path):
    with refused(RecipeError, code, path):
        SharpIt(**wrong)


def test_views_that_patches_do_not_cover_are_refused(synth):
    model = SharpIt(network=replace(SMALL, patch_size=3))
    with refused(RecipeError, "shape", "data.size"):
        model.build(synth.model.facts)


def test_a_start_from_other_words_is_refused(synth):
    with refused(CheckpointError, "conflict", "run.init_from"):
        synth.model.check_source({**synth.model.facts.to_json(), "words": ["dragon"]})


# ---- data --------------------------------------------------------------------------------------


def test_made_objects_are_the_same_whatever_the_run(monkeypatch):
    one, two = ObjectData(num_items=4, size=8, val_size=2), ObjectData(num_items=4, size=8, val_size=2)
    one.prepare(progress=False)
    monkeypatch.setattr("unisono_views.data.read_entry", lambda path: None)  # as on another machine
    two.prepare(progress=False)
    assert torch.equal(one.train_set.views, two.train_set.views) and one.describe() == two.describe()
    assert len(one.train_set) == 4 and len(one.val_set) == 2
    assert set(one.describe()["words"]) >= {"a", "and"}


def test_a_share_of_the_items_comes_in_grey():
    data = ObjectData(num_items=4, size=8, val_size=2, grey_share=0.5)
    data.prepare(progress=False)
    drawn = [data.train_set.item(0, torch.Generator().manual_seed(seed))["coarse"] for seed in range(40)]
    coloured = data.train_set.coarse[0]
    assert 10 < sum(torch.equal(item, coloured) for item in drawn) < 30
    assert all(torch.equal(item, coloured) or torch.equal(item, grey(coloured)) for item in drawn)
    assert torch.equal(data.val_set.item(0, torch.Generator())["coarse"], data.val_set.coarse[0])


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        ({"num_items": 0}, "data.num_items"),
        ({"size": 0}, "data.size"),
        ({"val_size": -1}, "data.val_size"),
        ({"grey_share": 1.1}, "data.grey_share"),
        ({"resolution": 1}, "data.resolution"),
        ({"noise": -0.1}, "data.noise"),
    ],
)
def test_data_that_cannot_be_made_is_refused(wrong, path):
    with refused(DataError, "range", path):
        ObjectData(**wrong)


@pytest.fixture
def folder(tmp_path):
    """Three objects: one of files, one of sheets, one of files with five views."""
    for number, name in enumerate(("files", "sheets", "five")):
        (tmp_path / name).mkdir()
        for kind, views in zip(("view", "coarse"), make_pair(number, size=8), strict=True):
            sheet = Views.of(views.numpy())
            if name == "sheets":
                sheet.save(tmp_path / name / f"{kind}.png")
                continue
            for place, view in enumerate(sheet.views[: 5 if name == "five" else 6]):
                view.save(tmp_path / name / f"{kind}-{place}.png")
    captions = [f"{name}|{make_shape(number).caption}" for number, name in enumerate(("files", "sheets"))]
    (tmp_path / "captions.csv").write_text("\n".join(["object|caption", *captions, "none|a red box"]))
    return tmp_path


def test_a_folder_is_read_and_what_is_wrong_is_listed(folder):
    (folder / "files" / "view.txt").write_text("not a picture")
    (folder / "stray.png").write_bytes((folder / "sheets" / "view.png").read_bytes())
    data = FolderData(str(folder), size=8, val_size=1, batch_size=1)
    audit = data.prepare(progress=False)
    reasons = {drop.id: drop.reason for drop in audit.dropped}
    assert reasons["five"] == "missing views" and reasons["stray.png"] == "other name" and reasons["none"] == "missing"
    assert len(data.train_set) + len(data.val_set or []) >= 1
    item = data.train_set.item(0, torch.Generator())
    number = 0 if make_shape(0).caption == item["caption"] else 1
    for name, wanted in zip(("views", "coarse"), make_pair(number, size=8), strict=True):
        assert torch.equal(item[name], wanted)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda f: (f / "files/view-6.png").write_bytes((f / "files/view-0.png").read_bytes()), "further views"),
        (lambda f: (f / "files/view.png").write_bytes((f / "sheets/view.png").read_bytes()), "two forms"),
        (lambda f: (f / "files/coarse-3.png").write_bytes(b"x"), "unreadable"),
        (lambda f: white(9, 8).save(f / "files/coarse-3.png"), "other size"),
        (lambda f: (f / "files/coarse-3.png").unlink(), "missing views"),
    ],
)
def test_an_object_that_cannot_be_used_is_dropped_with_its_reason(folder, spoil, reason):
    spoil(folder)
    data = FolderData(str(folder), size=8, val_size=0, batch_size=1)
    reasons = {drop.id: drop.reason for drop in data.prepare(progress=False).dropped}
    assert reasons["files"] == reason and len(data.train_set) == 1


def test_a_folder_without_objects_is_refused(tmp_path):
    with refused(DataError, "empty"):
        FolderData(str(tmp_path), size=8).prepare(progress=False)
    with refused(DataError, "missing"):
        FolderData(str(tmp_path / "nowhere"), size=8).prepare(progress=False)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('{"azimuths": [0, 120, 240], "elevations": [10, 10]}', "shape"),
        ('{"azimuths": [0], "elevations": ["up"]}', "format"),
        ('{"azimuths": [0]}', "format"),
        ('{"azimuths": [0], "elevations": [95]}', "range"),
    ],
)
def test_cameras_of_a_folder_are_checked(folder, text, code):
    (folder / "cameras.json").write_text(text)
    with refused(DataError, code):
        FolderData(str(folder), size=8).prepare(progress=False)


def test_other_cameras_make_other_models(folder):
    (folder / "cameras.json").write_text('{"azimuths": [0, 90, 180, 270, 45], "elevations": [0, 0, 0, 0, 60]}')
    data = FolderData(str(folder), size=8, val_size=0, batch_size=1)
    audit = data.prepare(progress=False)  # five views are right then, six are not, on a sheet either
    assert {drop.id for drop in audit.dropped} == {"files", "sheets", "none"}
    assert audit.kept == 1 and len(data.describe()["cameras"]["azimuths"]) == 5
    model = SharpIt(network=SMALL)
    model.build(data.describe())
    assert model.rays.shape == (5, 16, 6)


# ---- evaluation --------------------------------------------------------------------------------


def test_a_report_on_made_objects(synth):
    report = evaluate(synth, OBJECTS, limit=2, num_steps=2)
    assert report.systems == ["degraded", "joint", "true"]
    assert report.value("PSNR", "degraded") > 10 and report.value("PSNR", "true") is None
    apart = "colours of one point apart"
    assert report.value(apart, "true") > 0 and report.value(apart, "joint") > 0
    assert report.value("overlap of the hull", "true") > 0
    assert len(report.items) == 6 and not report.failures
    fresh = evaluate(synthesizer(scale=0), OBJECTS, limit=1, num_steps=2)  # it gives back what it is given
    assert fresh.value("PSNR", "joint") == pytest.approx(fresh.value("PSNR", "degraded"), abs=0.01)
    row = "PSNR, colours by the caption"
    assert fresh.value(row, "joint") == pytest.approx(fresh.value(row, "degraded"), abs=0.01)


def test_a_report_on_a_folder(synth, folder):
    report = evaluate(synth, folder, limit=5, num_steps=2)
    assert report.value("PSNR", "degraded") > 10 and [failure["id"] for failure in report.failures] == ["none", "five"]
    with pytest.raises(KeyError):
        report.value("overlap of the hull", "joint")
    (folder / "cameras.json").write_text('{"azimuths": [0], "elevations": [0]}')
    with refused(DataError, "conflict", "data"):
        evaluate(synth, folder)


def test_a_probe_measures_what_is_made(synth):
    probed = probe(synth, OBJECTS, limit=1)
    made = synth([synth.request(**fields) for fields in probed.requests])
    assert set(probed.measure(made)) == set(probed.better)

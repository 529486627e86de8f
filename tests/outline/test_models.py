"""Both models: losses that vanish where they should, samplers against oracles, costs, and requests that are refused."""

import json

import numpy as np
import pytest
import torch
from refused import refused
from unisono import Image
from unisono.errors import RecipeError, RequestError
from unisono_outline.corpus.data import SceneData
from unisono_outline.models.encoder import CentreHead, cell_middles
from unisono_outline.models.pvd import ParallelVertexDiffusion
from unisono_outline.models.sizes import NetworkSizes, VertexObjective
from unisono_outline.request import Task, read_request


def outline_like(seed: int, count: int = 8) -> torch.Tensor:
    return torch.randn(3, count, 2, generator=torch.Generator().manual_seed(seed))


def compared(start, made, wanted, **objective):
    model = ParallelVertexDiffusion(objective=VertexObjective(start=start, **objective))
    points = torch.rand(len(made), 64, 2, generator=torch.Generator().manual_seed(0))
    return model.compare(made, wanted, points)


@pytest.mark.parametrize("start", ["top", "any"])
def test_a_perfect_prediction_has_no_loss(start):
    wanted = outline_like(0)
    assert [part.abs().max().item() for part in compared(start, wanted, wanted)] == [0, 0]


def test_another_start_costs_nothing_where_any_will_do():
    wanted = outline_like(0)
    made = wanted.roll(3, dims=1)
    vertex, angle = compared("any", made, wanted)
    assert vertex.max() < 1e-12 and angle.max() < 1e-10
    vertex, angle = compared("top", made, wanted)
    assert vertex.min() > 0.1 and angle.max() < 1e-10  # the angle sum knows no start


@pytest.mark.parametrize("start", ["top", "any"])
def test_losses_turn_and_move_with_the_outlines(start):
    made, wanted = outline_like(0), outline_like(1)
    model = ParallelVertexDiffusion(objective=VertexObjective(start=start))
    # a quarter turn: the box that points are drawn in turns with it
    turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    points = torch.rand(3, 64, 2)
    turned = (points - 0.5) @ turn + 0.5
    plain = model.compare(made, wanted, points)
    moved = model.compare(made @ turn + 0.7, wanted @ turn + 0.7, turned)
    for one, other in zip(plain, moved, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_offsets_are_in_units_of_the_spread(pvd):
    outline = torch.rand(2, 8, 2, generator=torch.Generator().manual_seed(0))
    centre = outline.mean(1)
    offsets = (outline - centre[:, None]) / pvd.model.facts.spread
    assert not 0.9 < pvd.model.facts.spread < 1.1
    torch.testing.assert_close(pvd.model.placed(offsets, centre), outline)


def test_the_centre_is_found_where_the_scores_are(pvd):
    middles = cell_middles(4)
    centre = torch.tensor([[0.1, 0.9], [0.6, 0.3]])
    cell = ((middles - centre[:, None]).square().sum(-1)).argmin(-1)
    scores = torch.nn.functional.one_hot(cell, 16) * 50.0
    places = middles.expand(2, -1, -1).clone()
    places[torch.arange(2), cell] = centre
    assert torch.allclose(CentreHead.best(scores, places), centre)
    where, within = CentreHead.losses(scores, places, centre)
    assert where.max() < 1e-6 and within.max() < 1e-12
    assert middles[1].tolist() == [0.375, 0.125]  # (x, y), rows from the top


@pytest.mark.parametrize("num_steps", [1, 2, 5, 50])
@pytest.mark.parametrize("solver", ["serial", "picard"])
def test_with_an_oracle_any_number_of_steps_ends_at_the_outline(pvd, monkeypatch, num_steps, solver):
    if solver == "picard" and num_steps == 1:
        return
    model = pvd.model
    truth = outline_like(4)[:1]
    monkeypatch.setattr(model.denoiser, "forward", lambda x, *rest: truth.expand_as(x))
    request = model.Request(scene=0, num_steps=num_steps, solver=solver)
    with torch.no_grad():
        done, _ = model.sample([read_request(request, model.facts)], request, model.noise_of(request, None)[None])
    assert torch.allclose(done.sample, truth, atol=1e-4)


def test_the_first_step_begins_at_the_last_level_and_the_last_ends_without_noise(pvd):
    scheduler = pvd.model.scheduler(5)
    assert scheduler.timesteps.tolist() == [999, 799, 599, 399, 199]
    assert scheduler.final_alpha_cumprod == 1


def test_parallel_steps_give_the_serial_outline(pvd):
    one = pvd(scene=3, num_steps=8)
    other = pvd(scene=3, num_steps=8, solver="picard", tolerance=1e-6)
    assert np.abs(one.vertices - other.vertices).max() < 1e-2


def test_evaluations_are_steps_for_diffusion_and_vertices_for_the_other(pvd, vertex_ar):
    before = pvd.model.evaluations
    pvd(scene=1, num_steps=7)
    assert pvd.model.evaluations - before == 7
    before = vertex_ar.model.evaluations
    vertex_ar([{"scene": 1}, {"scene": 2}])
    assert vertex_ar.model.evaluations - before == vertex_ar.model.facts.num_vertices


def test_views_end_with_the_outline(pvd, vertex_ar):
    for synthesizer in (pvd, vertex_ar):
        model = synthesizer.model
        request = model.Request(scene=5)
        with torch.inference_mode():
            views = list(model.snapshots(request))
            (made,) = model.synthesize([request])
        assert len(views) > 2 and np.array_equal(views[-1].vertices, made.vertices)


def test_kept_keys_give_what_reading_all_at_once_gives(vertex_ar):
    model = vertex_ar.model
    task = read_request(model.Request(scene=2), model.facts)
    with torch.no_grad():
        vertices = list(model.decoded([task]))[-1]
        tokens = model.quantised(vertices)
        seen = model.reader(model.pictures_of([task]), [task.phrase])
        x, y = model.decoder(tokens, seen)
    assert torch.equal(torch.stack([x.argmax(-1), y.argmax(-1)], -1), tokens)


def test_a_vertex_depends_on_none_behind_it(vertex_ar):
    decoder = vertex_ar.model.decoder
    seen = vertex_ar.model.reader(torch.randn(1, 3, 16, 16), ["the red star"])
    tokens = torch.randint(0, 16, (1, 8, 2))
    other = tokens.clone()
    other[:, 5:] = (other[:, 5:] + 3) % 16
    with torch.no_grad():
        one, two = decoder(tokens, seen), decoder(other, seen)
    assert torch.allclose(one[0][:, :6], two[0][:, :6], atol=1e-5)  # x of vertex 5 is read before it
    assert torch.allclose(one[1][:, :5], two[1][:, :5], atol=1e-5)
    assert not torch.allclose(one[0][:, 6:], two[0][:, 6:])


def test_bins_are_those_of_places(vertex_ar):
    model = vertex_ar.model
    places = (torch.arange(16) + 0.5) / 16
    vertices = torch.stack([places, places.flip(0)], -1)[None]
    tokens = model.quantised(vertices)
    assert tokens[0, :, 0].tolist() == list(range(16))
    assert torch.allclose((tokens + 0.5) / 16, vertices)
    assert model.quantised(torch.tensor([[[-0.2, 1.0]]])).tolist() == [[[0, 15]]]


def test_what_is_drawn_for_an_item_does_not_depend_on_its_batch(pvd):
    model = pvd.model
    both, alone = model.draw([5, 6], 8), model.draw([6], 8)
    for together, own in zip(both, alone, strict=True):
        assert torch.equal(together[1:], own)


def test_a_picture_of_any_size_leads_to_an_outline_in_its_own_pixels(pvd, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (3, 50, 120), np.uint8)
    image = Image(pixels)
    image.save(tmp_path / "wide.png")
    one, other = pvd("the star", image=str(tmp_path / "wide.png")), pvd("the star", image=image)
    assert np.array_equal(one.vertices, other.vertices)
    assert np.array_equal(one.picture, pixels)
    assert (one.vertices >= 0).all() and (one.vertices <= (120, 50)).all()
    assert one.mask.shape == (50, 120)


def test_an_outline_is_written_as_mask_and_as_polygon(pvd, tmp_path):
    from PIL import Image as Pillow

    made = pvd(scene=1)
    made.save(tmp_path / "mask.png")
    assert np.array_equal(np.asarray(Pillow.open(tmp_path / "mask.png")) > 0, made.mask)
    made.save(tmp_path / "outline.json")
    told = json.loads((tmp_path / "outline.json").read_text(encoding="utf-8"))
    assert np.allclose(np.reshape(told["segmentation"][0], (-1, 2)), made.vertices, atol=1e-3)
    assert told == made.about() and told["width"] == 16
    assert made.plot().axes


def test_a_scene_is_asked_by_its_own_phrase_or_another(pvd):
    own, other = pvd(scene=4), pvd("the star", scene=4)
    assert own.phrase.startswith("the ") and other.phrase == "the star"
    assert np.array_equal(own.picture, other.picture)


@pytest.mark.parametrize(
    ("fields", "code", "path"),
    [
        ({"phrase": "the star"}, "missing", "image"),
        ({"phrase": "the star", "image": "x.png", "scene": 1}, "conflict", "image"),
        ({"image": "x.png"}, "missing", "phrase"),
        ({"phrase": "the star", "image": "x.png"}, "missing", "image"),
        ({"phrase": "?!", "scene": 1}, "empty", "phrase"),
        ({"phrase": "a " * 100, "scene": 1}, "limit", "phrase"),
        ({"phrase": "a" * 50, "scene": 1}, "limit", "phrase"),
        ({"scene": -1}, "range", "scene"),
        ({"scene": 1, "num_steps": 0}, "range", "num_steps"),
        ({"scene": 1, "num_steps": 1, "solver": "picard"}, "conflict", "num_steps"),
        ({"scene": 1, "solver": "magic"}, "unknown", "solver"),
        ({"phrase": "the star", "image": Image(np.zeros((3, 2, 9)))}, "range", "image"),
    ],
)
def test_wrong_requests_are_refused(pvd, fields, code, path):
    with refused(RequestError, code, path):
        pvd(**fields)


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n"])
def test_files_that_are_no_pictures_are_refused(pvd, tmp_path, content):
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(RequestError) as caught:
        pvd("the star", image=str(tmp_path / "x.png"))
    assert caught.value.path == "image" and caught.value.code in ("empty", "format", "damaged")


@pytest.mark.parametrize(
    ("sizes", "code", "key"),
    [
        ({"dim": 4}, "range", "dim"),
        ({"dim": 20, "num_heads": 4}, "shape", "dim"),
        ({"stride": 3}, "value", "stride"),
        ({"channels": 12}, "value", "channels"),
        ({"dropout": 1.0}, "range", "dropout"),
        ({"spell_share": -0.1}, "range", "spell_share"),
    ],
)
def test_wrong_sizes_are_refused(sizes, code, key):
    with refused(RecipeError, code, f"model.network.{key}"):
        NetworkSizes(**sizes)


@pytest.mark.parametrize("objective", [{"softness": 0.0}, {"angle": -1.0}, {"num_points": 0}, {"vertices": 0.0}])
def test_wrong_objectives_are_refused(objective):
    with refused(RecipeError, "range", f"model.objective.{next(iter(objective))}"):
        VertexObjective(**objective)


def test_pictures_that_no_stride_divides_are_refused():
    data = SceneData(num_items=2, val_size=0, size=20)
    data.prepare(progress=False)
    with refused(RecipeError, "shape", "data.size"):
        ParallelVertexDiffusion(network=NetworkSizes(stride=8)).build(data.describe())


def test_unfinished_networks_give_outlines_inside_the_picture(pvd):
    model = pvd.model
    task = Task(np.zeros((3, 16, 16), np.uint8), read_request(model.Request(scene=0), model.facts).square, "x")
    (made,) = model.outlines_of([task], torch.tensor([[[float("nan"), 5.0], [-3.0, 0.5], [0.5, 0.5]]]))
    assert made.vertices.tolist() == [[0, 16], [0, 8], [8, 8]]

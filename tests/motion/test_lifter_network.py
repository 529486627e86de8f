"""The lifter's network: graphs, fusion, sizes, symmetries, padding; its losses and measures against second ways."""

import math

import numpy as np
import pytest
import torch
from unisono_motion.corpus.figures import figure_skeleton
from unisono_motion.lifting import measures
from unisono_motion.lifting.losses import joint_distance, scaled_distance, step_distance
from unisono_motion.lifting.network import (
    FrameNetwork,
    LifterSizes,
    LiftingNetwork,
    nearest_adjacency,
    skeleton_adjacency,
)
from unisono_motion.lifting.views import flipped

HUMAN36M = (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15)
TINY = LifterSizes(dim=16, num_layers=2, num_heads=2, head_dim=8, layer_scale=0.5)


def network(parents=HUMAN36M, sizes=TINY, seed=0):
    """A network in which everything counts: parameters that begin alike, or at 0, are drawn."""
    net = LiftingNetwork(parents, sizes).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return net.eval()


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("dim", "layers", "millions"), [(64, 12, 2.2), (64, 26, 4.8), (128, 16, 11.7), (128, 26, 19.0)]
)
def test_published_sizes_have_the_published_number_of_parameters(dim, layers, millions):
    with torch.device("meta"):
        net = LiftingNetwork(HUMAN36M, LifterSizes(dim=dim, num_layers=layers))
    assert round(sum(p.numel() for p in net.parameters()) / 1e6, 1) == millions


def test_the_recipes_of_published_sizes_name_them():
    from unisono.recipe import Recipe

    found = {}
    for size in ("xs", "s", "b", "l"):
        recipe = Recipe.read(f"motion/lifter-{size}", ["--data.root=nowhere"])
        network, data = recipe.model["network"], recipe.data
        found[size] = network["dim"], network["num_layers"], data["frames"]
    assert found == {"xs": (64, 12, 27), "s": (64, 26, 81), "b": (128, 16, 243), "l": (128, 26, 243)}


def test_the_skeleton_of_a_chain_is_normalised_by_its_degrees():
    half = 1 / math.sqrt(2)
    expected = [[0, half, 0], [half, 0, half], [0, half, 0]]
    torch.testing.assert_close(skeleton_adjacency((-1, 0, 1)), torch.tensor(expected))


def test_the_temporal_graph_of_all_frames_is_their_mean_and_ties_go_to_the_first():
    x = rand(2, 5, 3)
    torch.testing.assert_close(nearest_adjacency(x, 5), torch.full((2, 5, 5), 0.2, dtype=torch.float64))
    torch.testing.assert_close(nearest_adjacency(x, 9), nearest_adjacency(x, 5))
    same = nearest_adjacency(torch.ones(1, 4, 3), 2)
    torch.testing.assert_close(same[0], torch.tensor([[0.5, 0.5, 0.0, 0.0]]).expand(4, 4))
    similarity = (x @ x.mT).numpy()
    for row, chosen in zip(similarity.reshape(-1, 5), nearest_adjacency(x, 2).reshape(-1, 5), strict=True):
        assert set(chosen.nonzero()[:, 0].tolist()) == set(np.argsort(-row, kind="stable")[:2])
        assert set(chosen.tolist()) == {0.0, 0.5}


def test_the_temporal_graph_sees_no_padding_and_one_frame_alone():
    x, mask = rand(1, 4, 3), torch.tensor([[True, True, False, False]])
    torch.testing.assert_close(nearest_adjacency(x, 3, mask)[:, :2, :2], nearest_adjacency(x[:, :2], 2))
    assert not nearest_adjacency(x, 3, mask)[:, :, 2:].any()
    assert nearest_adjacency(x[:, :1], 2).tolist() == [[[1.0]]]


def test_fusion_begins_as_the_mean_of_both_streams():
    layer = LiftingNetwork(HUMAN36M, TINY).double().layers[0]
    x = rand(2, 5, 17, 16)
    torch.testing.assert_close(layer(x, None), (layer.attention(x, None) + layer.graph(x, None)) / 2)


def test_layers_without_scale_are_the_identity():
    net = network()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("_scale"):
                parameter.zero_()
    x = rand(2, 5, 17, 16)
    torch.testing.assert_close(net.layers[0](x, None), x)


@pytest.mark.parametrize("streams", ["both", "attention", "graph"])
def test_other_numbers_of_joints_in_another_order_give_the_same(streams):
    """Joints are named by the graph and by their embedding alone."""
    sizes = LifterSizes(dim=16, num_layers=2, num_heads=2, head_dim=8, layer_scale=0.5, streams=streams)
    parents = (-1, 0, 1, 1, 0)
    order = [0, 4, 1, 3, 2]  # the new place i has the old joint order[i]
    place = {old: new for new, old in enumerate(order)}
    renamed = tuple(-1 if parents[old] < 0 else place[parents[old]] for old in order)
    net, other = network(parents, sizes), network(renamed, sizes)
    other.load_state_dict(net.state_dict())
    with torch.no_grad():
        other.joint.copy_(net.joint[order])
    x = rand(2, 6, 5, 3)
    torch.testing.assert_close(other(x[:, :, order]), net(x)[:, :, order])
    assert (net(x[:, :, order]) - net(x)[:, :, order]).abs().max() > 1e-3


@pytest.mark.parametrize("streams", ["both", "attention", "graph"])
def test_a_row_alone_is_the_row_among_longer_ones(streams):
    """Padding reaches neither norms, nor attention, nor the choice of neighbours."""
    sizes = LifterSizes(dim=16, num_layers=2, num_heads=2, head_dim=8, layer_scale=0.5, streams=streams)
    net = network(sizes=sizes)
    long, short = rand(1, 9, 17, 3), rand(1, 5, 17, 3, seed=1)
    padded = torch.nn.functional.pad(short, (0, 0, 0, 0, 0, 4), value=50.0)
    mask = torch.arange(9) < torch.tensor([[9], [5]])
    made = net(torch.cat([long, padded]), mask)
    torch.testing.assert_close(made[:1], net(long))
    torch.testing.assert_close(made[1:, :5], net(short))
    without = net(torch.cat([long, padded]))
    assert (without[1:, :5] - net(short)).abs().max() > 1e-3


def test_frames_know_their_order():
    """What batch norm's weights of each frame told as published; attention and nearest frames do not."""
    net, x = network(), rand(1, 6, 17, 3)
    assert (net(x.flip(1)).flip(1) - net(x)).abs().max() > 1e-3
    with torch.no_grad():
        net.time_gain.zero_()
    torch.testing.assert_close(net(x.flip(1)).flip(1), net(x))


def test_any_number_of_frames_is_served():
    net = network()
    assert [net(rand(1, t, 17, 3)).shape[1] for t in (1, 2, 40)] == [1, 2, 40]


def test_a_linear_map_is_one_and_frames_do_not_see_each_other():
    linear = FrameNetwork(5, 8, 0, 0.0).double()
    one, other = rand(1, 4, 5, 3), rand(1, 4, 5, 3, seed=1)
    zero = linear(torch.zeros_like(one))
    torch.testing.assert_close(linear(one + other) - zero, linear(one) + linear(other) - 2 * zero)
    mlp = FrameNetwork(5, 8, 2, 0.5).double().eval()
    torch.testing.assert_close(mlp(one)[:, 2:3], mlp(one[:, 2:3]))
    assert sum(p.numel() for p in FrameNetwork(21, 1024, 2, 0.1).parameters()) == pytest.approx(4.3e6, rel=0.02)


def test_flipping_twice_is_nothing_and_exchanges_sides():
    skeleton = figure_skeleton()
    x = rand(2, 3, len(skeleton), 3)
    once = flipped(x, skeleton.mirror)
    torch.testing.assert_close(flipped(once, skeleton.mirror), x)
    left, right = (skeleton.names.index(f"{side}Hand") for side in ("Left", "Right"))
    torch.testing.assert_close(once[..., left, :], x[..., right, :] * torch.tensor([-1.0, 1, 1]))
    np.testing.assert_array_equal(flipped(x.numpy(), skeleton.mirror), once.numpy())


# ---- losses and measures -----------------------------------------------------------------------


def test_losses_are_those_written_out_by_hand():
    made, real = rand(2, 4, 5, 3), rand(2, 4, 5, 3, seed=1)
    for b in range(2):
        for t in range(4):
            one, other = made[b, t].numpy(), real[b, t].numpy()
            apart = np.sqrt(((one - other) ** 2).sum(1)).mean()
            assert joint_distance(made, real)[b, t].item() == pytest.approx(apart)
            (scale,), *_ = np.linalg.lstsq(one.reshape(-1, 1), other.ravel(), rcond=None)
            scaled = np.sqrt(((scale * one - other) ** 2).sum(1)).mean()
            assert scaled_distance(made, real)[b, t].item() == pytest.approx(scaled)
            if t:
                step = np.sqrt(((one - other - (made[b, t - 1] - real[b, t - 1]).numpy()) ** 2).sum(1)).mean()
                assert step_distance(made, real)[b, t - 1].item() == pytest.approx(step)
    assert scaled_distance(torch.zeros_like(real), real).isfinite().all()
    assert scaled_distance(3 * real, real).abs().max() < 1e-9


def kabsch(made, real):
    """P-MPJPE in a second way: scipy's alignment of vectors, and the scale by least squares."""
    from scipy.spatial.transform import Rotation

    total = 0.0
    for one, other in zip(made - made.mean(1, keepdims=True), real - real.mean(1, keepdims=True), strict=True):
        turned = Rotation.align_vectors(other, one)[0].apply(one)
        scale = (turned * other).sum() / (turned**2).sum()
        total += np.linalg.norm(scale * turned - other, axis=1).mean()
    return 1000 * total / len(made)


@pytest.mark.parametrize("mirrored", [False, True], ids=["turned", "reflected"])
def test_aligned_error_is_that_of_a_second_way(mirrored):
    real = rand(6, 9, 3).numpy()
    made = real + 0.3 * rand(6, 9, 3, seed=1).numpy()
    if mirrored:  # the best orthogonal matrix would be a reflection
        made = made * [-1, 1, 1]
        cross = np.swapaxes(real - real.mean(1, keepdims=True), 1, 2) @ (made - made.mean(1, keepdims=True))
        assert (np.linalg.det(cross) < 0).all()
    assert measures.aligned_mpjpe(made, real) == pytest.approx(kabsch(made, real), rel=1e-9)


def test_aligned_error_forgives_a_turn_a_scale_and_a_shift_and_nothing_else():
    real = rand(4, 9, 3).numpy()
    turn = np.linalg.qr(rand(3, 3).numpy())[0]
    turn = turn * np.sign(np.linalg.det(turn))
    moved = 1.7 * real @ turn.T + [3.0, 2.0, 1.0]
    assert measures.aligned_mpjpe(moved, real) < 1e-9
    assert measures.mpjpe(moved, real) > 1000
    assert measures.mpjpe(2 * real, real) == pytest.approx(1000 * np.linalg.norm(real, axis=-1).mean())
    assert measures.aligned_mpjpe(moved * [-1, 1, 1], real) > 100


def test_measures_are_in_millimetres():
    real = np.zeros((5, 3, 3))
    made = real.copy()
    made[:, 1, 0], made[:, 2, 1] = 0.04, 0.06
    assert measures.mpjpe(made, real) == pytest.approx(100 / 3)
    assert measures.found_share(made, real) == 0.5
    made = np.zeros((5, 2, 3))
    made[:, 1, 2] = 0.001 * np.arange(5) ** 2  # an acceleration of 2 mm per frame², in one of two joints
    assert measures.acceleration_error(made, np.zeros_like(made)) == pytest.approx(1.0)
    bones = np.zeros((4, 3, 3))
    bones[:, 1, 0], bones[:, 2, 0] = [0.1, 0.1, 0.3, 0.3], 1.0
    assert measures.bone_deviation(bones, (-1, 0, 0)) == pytest.approx(50.0)

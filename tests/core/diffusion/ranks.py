"""Run by test_devices.py in a process of its own: four gloo processes do everything that needs several ranks.

`python ranks.py FOLDER` leaves rank0.pt … rank3.pt there: by scenario a dictionary of what a rank found. The processes
are forked after the imports, before any thread is started, so that these are paid for once.
"""

import sys
import traceback
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from diffusers import (
    DDIMScheduler,
    DiTTransformer2DModel,
    FlowMatchEulerDiscreteScheduler,
    UNet2DConditionModel,
    UNet2DModel,
)
from torch import nn
from torch.nn import functional as F
from unisono.diffusion import ClassifierFree, FixedSteps, Local, Picard, SchedulerRecurrence, Serial, Tolerance, solve
from unisono.diffusion.devices import (
    CFGSplit,
    Fresh,
    Patched,
    Replicated,
    Stale,
    TimeSharded,
    TransformerPatches,
    UNetPatches,
    exchange,
    group_rank,
    group_size,
    parastep,
)
from unisono.errors import UnisonoError
from unisono.nn.condition import Condition, ConditionSizes
from unisono.testing.oracles import Mixture, RowByRow
from unisono_image.models.sizes import DiTSizes, UNetSizes
from unisono_image.models.transformer import DiffusionTransformer
from unisono_image.models.unet import UNet

WORLD = 4


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def randomised(network):
    for n, parameter in enumerate(network.parameters()):
        value = draw(*parameter.shape, seed=n)
        parameter.data = value / max(1, value[0].numel()) ** 0.5 if value.ndim > 1 else 1 + 0.1 * value
    return network.eval().requires_grad_(False)


class Normed(nn.Module):
    """One group norm, as a network."""

    def __init__(self):
        super().__init__()
        self.norm = nn.GroupNorm(2, 4)

    def forward(self, x, t):
        return self.norm(x)


class Convolved(nn.Module):
    """One convolution, as a network."""

    def __init__(self, **options):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, **options)

    def forward(self, x, t):
        return (self.conv(x),)


class Block(nn.Module):
    """Self-attention with one projection for all three."""

    def __init__(self, dim):
        super().__init__()
        self.qkv, self.norm = nn.Linear(dim, 3 * dim), nn.LayerNorm(dim)

    def forward(self, tokens, mask):
        q, k, v = self.qkv(self.norm(tokens)).unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None])
        return tokens + seen.transpose(1, 2).flatten(2)


class WordsInFront(nn.Module):
    """A transformer over patches of 2 × 2 with a text in front, some of whose words are masked."""

    patch_size = 2

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Block(8) for _ in range(2))

    def forward(self, x, t, words, mask):
        tokens = F.pixel_unshuffle(x, 2).flatten(2).transpose(1, 2) + t
        mask = F.pad(mask, (0, tokens.shape[1]), value=True)
        tokens = torch.cat([words, tokens], 1)
        for block in self.blocks:
            tokens = block(tokens, mask)
        picture = tokens[:, words.shape[1] :].transpose(1, 2)
        return F.pixel_shuffle(picture.unflatten(2, (x.shape[2] // 2, x.shape[3] // 2)), 2)


def sdxl():
    return randomised(
        UNet2DConditionModel(
            in_channels=4,
            out_channels=4,
            block_out_channels=(16, 32),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2),
            attention_head_dim=(2, 4),
            cross_attention_dim=12,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + 10,
            norm_num_groups=4,
        )
    )


def pixels():
    return randomised(
        UNet2DModel(
            in_channels=3,
            out_channels=3,
            block_out_channels=(16, 16, 32),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=8,
            downsample_padding=0,
            norm_num_groups=4,
        )
    )


def dit():
    return randomised(
        DiTTransformer2DModel(
            num_attention_heads=2,
            attention_head_dim=8,
            in_channels=2,
            out_channels=2,
            num_layers=2,
            sample_size=8,
            patch_size=2,
            num_embeds_ada_norm=10,
            norm_num_groups=2,
        )
    )


def sdxl_inputs(rows, columns, seed=0):
    added = {"text_embeds": draw(2, 10, seed=9), "time_ids": torch.tensor([[8.0, 8, 0, 0, 8, 8]] * 2)}
    return (draw(2, 4, rows, columns, seed=seed), 500), {
        "encoder_hidden_states": draw(2, 5, 12, seed=8),
        "added_cond_kwargs": added,
    }


def exchanges(group):
    rank, size = group_rank(group), group_size(group)
    found = {}
    local = torch.full((1, rank), float(rank))  # the first rank has nothing
    found["fresh"] = torch.cat(exchange("a", local, 1, group), 1)
    stale, seen = Stale(2, warmup=3), []
    for call in range(7):
        parts = exchange("b", torch.tensor([10.0 * call + rank]), 0, group, stale, [1] * size)
        seen.append(torch.cat(parts))
    found["stale"] = torch.stack(seen)
    measured = Stale(1, measure=True)
    for call in range(4):
        exchange("c", torch.tensor([2.0**call]), 0, group, measured, [1] * size)
    found["drift"] = measured.drift["c"]
    found["counts"] = TimeSharded(group).agree([rank + 3, 7 * rank + 1])
    return found


def solved(group):
    scheduler = DDIMScheduler(clip_sample=False)
    scheduler.set_timesteps(20)
    network = RowByRow(Mixture((2, 3, 3), num_modes=4).network(scheduler))
    recurrence, x = SchedulerRecurrence(scheduler, network), draw(3, 2, 3, 3, seed=5)
    found = {}
    for name, evaluator in (("sharded", TimeSharded(group)), ("local", Local())):
        solution = solve(recurrence, x, Picard(), Tolerance(1e-3), evaluator=evaluator)
        found[name] = solution.sample
        found[f"{name} counts"] = [solution.report.rounds, *solution.report.rows_of]
    size = group_size(group)
    found["parastep"] = parastep(recurrence, x, group=group).sample
    found["fixed steps"] = solve(recurrence, x, Picard("output"), FixedSteps(size)).sample
    return found


def branched(x, t, sample, branch):
    """A network whose branches differ, row by row."""
    shift = torch.where(branch == 0, 0.3, -0.1).to(x) * (1 + sample)
    return torch.tanh(x * (1 + t.reshape(-1, 1, 1, 1) / 1000) + shift.reshape(-1, 1, 1, 1))


def guided(group, **mesh):
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(10)
    x = draw(3, 1, 2, 2, seed=6)
    found = {}
    split = CFGSplit(branched, 3.0, mesh.get("guidance", group))
    evaluator = Replicated(mesh.get("guidance", group))
    if mesh:
        evaluator = TimeSharded(mesh["time"], inner=evaluator)
    for name, network, where in (("split", split, evaluator), ("whole", ClassifierFree(branched, 3.0), Local())):
        recurrence = SchedulerRecurrence(scheduler, network)
        found[name] = solve(recurrence, x, accept=Tolerance(1e-3), evaluator=where).sample
    return found


def pictures(group):
    """Fresh patches and the untouched network, by name."""
    found = {}

    def both(name, network, make, args, kwargs=None):
        kwargs = kwargs or {}
        expected = network(*args, **kwargs)
        patches = make(network, group)
        got = network(*args, **kwargs)
        patches.remove()
        again = network(*args, **kwargs)
        first, second, third = (
            getattr(v, "sample", v[0] if isinstance(v, tuple) else v) for v in (got, expected, again)
        )
        assert torch.equal(second, third), f"{name} was not given back as it was"
        found[name] = torch.stack([first, second])

    unet = sdxl()
    both("sdxl", unet, UNetPatches, *sdxl_inputs(16, 8))
    both("sdxl odd", unet, UNetPatches, *sdxl_inputs(13, 7))
    both("pixels", pixels(), UNetPatches, (draw(2, 3, 16, 8), torch.tensor([3, 700])))
    both(
        "dit",
        dit(),
        lambda n, g: TransformerPatches(n, g, blocks="transformer_blocks"),
        (draw(2, 2, 8, 8), torch.tensor([3, 700])),
        {"class_labels": torch.tensor([1, 4])},
    )
    mask = torch.tensor([[True, True, True], [True, False, False]])
    both(
        "words in front",
        randomised(WordsInFront()),
        TransformerPatches,
        (draw(2, 2, 10, 6), 0.5, draw(2, 3, 8, seed=4), mask),
    )
    both(
        "image/dit",
        randomised(DiffusionTransformer(DiTSizes(dim=16, num_layers=2, num_heads=2, smooth=True), 3, 8)),
        TransformerPatches,
        (draw(2, 3, 10, 6), torch.tensor([3.0, 700]), Condition(draw(2, 8, seed=3), draw(2, 3, 8, seed=4), mask)),
    )
    sizes = UNetSizes(block_channels=(16, 32), layers_per_block=1, attention_levels=(1,), head_dim=8, norm_groups=4)
    both(
        "image/unet",
        randomised(UNet(network=sizes, condition=ConditionSizes(dim=8)).make_net()),
        UNetPatches,
        (draw(2, 3, 10, 6), torch.tensor([3.0, 700])),
        {
            "encoder_hidden_states": draw(2, 3, 8, seed=4),
            "class_labels": draw(2, 8, seed=3),
            "encoder_attention_mask": mask,
            "return_dict": False,
        },
    )
    wide = {"kernel_size": (5, 3), "stride": (2, 1), "padding": (2, 1), "padding_mode": "zeros"}
    both("a wide stride", randomised(Convolved(**wide)), UNetPatches, (draw(2, 2, 15, 5), 0))
    wide = {"kernel_size": 3, "dilation": 2, "padding": 2, "groups": 1}
    both("a dilated kernel", randomised(Convolved(**wide)), UNetPatches, (draw(2, 2, 7, 5), 0))
    return found


def displaced(group):
    found = {}
    rank, size = group_rank(group), group_size(group)
    # A layer by itself, whose stale answer is known.
    conv = randomised(Convolved(kernel_size=3, padding=1))
    old, new = draw(1, 2, 4 * size, 5, seed=1), draw(1, 2, 4 * size, 5, seed=2)
    seen = [new if r == rank else old for r in range(size)]
    composite = torch.cat([part[:, :, 4 * r : 4 * r + 4] for r, part in enumerate(seen)], 2)
    expected = [conv(old, 3)[0], conv(composite, 2)[0][:, :, 4 * rank : 4 * rank + 4], conv(new, 3)[0]]
    patches = UNetPatches(conv, group, Stale(1))
    first, second = conv(old, 3)[0], conv(new, 2)[0][:, :, 4 * rank : 4 * rank + 4]
    third = conv(new, 3)[0]  # a larger timestep: another sample, which begins afresh
    patches.remove()
    found["conv"] = [torch.stack([a, b]) for a, b in zip([first, second, third], expected, strict=True)]
    # What all rows do together is no news: the correction is exact.
    norm = randomised(Normed())
    x = draw(2, 4, 8, 5, seed=3)
    expected = norm(1 + x, 2)
    patches = UNetPatches(norm, group, Stale(1))
    norm(x, 3)
    found["group norm"] = torch.stack([norm(1 + x, 2), expected])
    patches.remove()
    # A transformer that has seen another picture: the first call is fresh, the second is not.
    transformer = dit()
    labels = torch.tensor([1, 4])
    expected = [transformer(draw(2, 2, 8, 8, seed=s), torch.tensor([3 - s] * 2), labels).sample for s in range(2)]
    patches = TransformerPatches(transformer, group, Stale(1), blocks="transformer_blocks")
    got = [transformer(draw(2, 2, 8, 8, seed=s), torch.tensor([3 - s] * 2), labels).sample for s in range(2)]
    patches.remove()
    found["transformer"] = [float((a - b).norm() / b.norm()) for a, b in zip(got, expected, strict=True)]
    # A chain.
    unet = sdxl()
    _, options = sdxl_inputs(12, 6)
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(7)

    def network(x, t, sample):
        added = {name: value[sample] for name, value in options["added_cond_kwargs"].items()}
        return unet(x, t, options["encoder_hidden_states"][sample], added_cond_kwargs=added).sample

    recurrence, x = SchedulerRecurrence(scheduler, network), draw(2, 4, 12, 6, seed=7)
    found["serial"] = solve(recurrence, x, Serial()).sample
    for name, policy in (
        ("fresh", Fresh()),
        ("stale", Stale(1, warmup=3, measure=True)),
        ("always warm", Stale(1, warmup=7)),
    ):
        patches = UNetPatches(unet, group, policy)
        found[name] = solve(recurrence, x, Serial(), evaluator=Patched(patches)).sample
        if name == "stale":
            found["again"] = solve(recurrence, x, Serial(), evaluator=Patched(patches)).sample
            found["drift"] = list(patches.drift.values())
            try:
                solve(recurrence, x, evaluator=Patched(patches))
            except UnisonoError as error:
                found["refused window"] = [error.code, error.path, error.value]
            try:
                unet(x, torch.tensor([3.0, 4.0]), **options)
            except UnisonoError as error:
                found["refused rows"] = [error.code, error.path, error.value]
        if name == "fresh":
            solution = solve(recurrence, x, accept=Tolerance(1e-3), window=4, evaluator=Patched(patches))
            found["fresh window"] = solution.sample
            try:
                unet(x[:, :, :2], 5, **options)
            except UnisonoError as error:
                found["refused rank"] = [error.code, error.path, error.value]
        patches.remove()
    return found


def run(rank, folder, port):
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=WORLD)
    groups = {n: dist.new_group(list(range(n))) for n in (2, 3)}
    time = [dist.new_group([0, 2]), dist.new_group([1, 3])][rank % 2]
    guidance = [dist.new_group([0, 1]), dist.new_group([2, 3])][rank // 2]
    found = {}
    try:
        with torch.no_grad():
            found["mesh"] = guided(None, time=time, guidance=guidance)
            for n, group in groups.items():
                if rank < n:
                    for scenario in (exchanges, solved, guided, pictures, displaced):
                        found[f"{scenario.__name__} {n}"] = scenario(group)
            if rank == 3:
                try:
                    exchange("a", torch.ones(1), 0, groups[2])
                except UnisonoError as error:
                    found["not in the group"] = [error.code, error.path, error.value]
            if rank == 0:
                found["one"] = group_size(dist.new_group([0], use_local_synchronization=True))
    except BaseException:
        found["failed"] = traceback.format_exc()
        print(found["failed"], file=sys.stderr, flush=True)
        raise
    finally:
        torch.save(found, Path(folder) / f"rank{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    with torch.no_grad():
        mp.start_processes(run, (sys.argv[1], int(sys.argv[2])), nprocs=WORLD, start_method="fork")

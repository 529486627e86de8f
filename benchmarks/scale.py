"""Scale: what DDP, FSDP2, HSDP and tensor parallelism should reach from 1 to 1,024 GPUs, by an α–β model of links.

    python benchmarks/scale.py                       the predictions, for three recipes of published size
    python benchmarks/scale.py --check 1 2 4         counted bytes and measured times of gloo processes here, beside
                                                     what the model says with α and β fitted on this machine

Measured per recipe, where it can be on torch's ``meta`` device (shapes without numbers): parameters, operations of a
training step and bytes kept for the backward pass, of both players in a game. Assumed: the table that is printed first.
The model, for n ranks, g of them in a node, B bytes of gradients, links of latency α and bandwidth β:

    ring(n, B, α, β)      (n − 1) · α + (n − 1) / n · B / β        all-gather or reduce-scatter; all-reduce takes two
    all-reduce in nodes   two rings in a node, and two over the n / g nodes of B / g bytes, each GPU by its own adapter
    DDP                   forward + max(backward, all-reduce) + all-reduce of the last bucket
    FSDP2                 blocks: max(forward, gather), then max(backward, gather + scatter); the first gather and the
                          last scatter stand alone
                          (rings over nodes go through a node's g adapters at once)
    HSDP                  FSDP2 within a node, and an all-reduce of each rank's shard over the nodes
    TP                    4 all-reduces of a block's activations per step within a node, which nothing hides; DDP of the
                          shards over the nodes; g ranks share the items of g GPUs

Weak scaling: every GPU has as many items as on eight GPUs in the recipe. Efficiency is the time of one GPU over that of
n. What it leaves out: stragglers, data, congestion between jobs, and memory (a row may not fit one GPU).
"""

import argparse
import os
import socket
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from unisono.recipe import Recipe
from unisono.train.callbacks.flops import CountFlops
from unisono.train.speed import blocks, saved_bytes

PEAK, SHARE = 989e12, 0.4
GPUS_PER_NODE = 8
BUCKET = 25 * 2**20
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
NODES = 10**9


@dataclass(frozen=True)
class Link:
    """Seconds of a message of no size, and bytes per second one way per GPU."""

    alpha: float
    beta: float


LINKS = {
    "NVLink": Link(3e-6, 0.8 * 450e9),
    "InfiniBand": Link(6e-6, 0.85 * 50e9),
    "Ethernet": Link(30e-6, 0.85 * 12.5e9 / GPUS_PER_NODE),
}
ASSUMED = f"""| what | assumed | why |
|---|---|---|
| GPU | {PEAK / 1e12:.0f} TFLOP/s in bf16 | H200 or H100 SXM, data sheet, dense |
| share of it that one GPU reaches | {SHARE:.0%} | not measured yet: `benchmarks/gpu.md` |
| backward | twice the forward | matrices: two products for one |
| gradients, gathered parameters | 4 bytes | `bf16-mixed` keeps both in float32 |
| activations between TP ranks | 2 bytes | bf16 |
| GPUs in a node | {GPUS_PER_NODE} | |
| NVLink 4 | α 3 µs, β 360 GB/s | 450 GB/s one way, 80 % of it |
| InfiniBand NDR | α 6 µs, β 42.5 GB/s per GPU | 400 Gb/s for each GPU, 85 % of it |
| Ethernet | α 30 µs, β 1.3 GB/s per GPU | 100 Gb/s for each node, 85 % of it |
| DDP's last bucket | 25 MiB | torch's default |"""


@dataclass(frozen=True)
class Work:
    """What a recipe's step is made of, for one item; ``width`` is b · t · d of an item between blocks, in elements."""

    name: str
    parameters: int
    block_parameters: int
    num_blocks: int
    flops: int
    activations: int
    width: int
    items: int  # per GPU


# ---- measured per recipe -----------------------------------------------------------------------


def measured(name: str, items: int, width: int, model: nn.Module, step: Callable[[], Tensor]) -> Work:
    """Count a step of one item."""
    mode = CountFlops()
    with mode, saved_bytes() as kept:
        loss = step()
        loss.backward()
    inside = list(blocks(model, "run.compile").values())
    return Work(
        name=name,
        parameters=sum(p.numel() for p in model.parameters()),
        block_parameters=sum(p.numel() for block in inside for p in block.parameters()),
        num_blocks=len(inside),
        flops=mode.total,
        activations=kept["bytes"],
        width=width,
        items=items,
    )


def text() -> Work:
    """``text/mdlm-base``: 1,024 tokens of GPT-2's vocabulary."""
    from unisono_text.models.sizes import TransformerSizes
    from unisono_text.models.transformer import TextTransformer

    recipe = Recipe.read("text/mdlm-base", ["--data.root=none"])
    sizes, context = TransformerSizes(**recipe.model["network"]), recipe.data["context"]
    vocabulary = recipe.data["corpus"]["vocabulary"]
    with torch.device("meta"):
        net = TextTransformer(vocabulary + 1, vocabulary, sizes)
        tokens = torch.zeros(1, context, dtype=torch.long)

    def step() -> Tensor:
        return nn.functional.cross_entropy(net(tokens).flatten(0, 1), tokens.flatten())

    return measured("text/mdlm-base", recipe.data["batch_size"] // GPUS_PER_NODE, context * sizes.dim, net, step)


def image() -> Work:
    """``image/dit-b4-64``: 64 × 64 pixels in patches of 4."""
    recipe = Recipe.read("image/dit-b4-64", ["--data.root=none"])
    network = recipe.model["network"]
    side = recipe.data["size"]
    with torch.device("meta"):
        model = recipe.build_model({"size": side, "classes": [str(i) for i in range(1000)]})
        batch = {"image": torch.zeros(1, 3, side, side), "label": torch.zeros(1, dtype=torch.long)}
    batch |= {"caption": [""], "row": torch.arange(1)}
    tokens = (side // network["patch_size"]) ** 2
    width = tokens * network["dim"]
    return measured(
        "image/dit-b4-64",
        recipe.data["batch_size"] // GPUS_PER_NODE,
        width,
        model,
        lambda: model.train().losses(batch)["loss"],
    )


def codec() -> Work:
    """``codec/vocos-ljspeech``: 64 frames, the generator and its five and three discriminators."""
    recipe = Recipe.read("codec/vocos-ljspeech", ["--data.root=none"])
    model = recipe.build_model({"mel_spec": {}})
    model.configure_model()  # on the CPU: its inverse transform knows no meta device
    frames, dim = recipe.data["crop_frames"], recipe.model["network"]["dim"]
    mel = torch.zeros(1, frames, 80)

    def step() -> Tensor:
        fake = model.net(mel)
        judges = list(model.discriminators.values())
        torch.stack(_sums([judge(torch.cat([fake.detach()] * 2)) for judge in judges])).sum().backward()
        model.discriminators.requires_grad_(False)
        with torch.no_grad():
            _ = [judge(fake) for judge in judges]  # of the real item, whose features are compared
        return torch.stack(_sums([judge(fake) for judge in judges])).sum()

    return measured(
        "codec/vocos-ljspeech", max(recipe.data["batch_size"] // GPUS_PER_NODE, 1), frames * dim, model, step
    )


def _sums(tree: Any) -> list[Tensor]:
    if isinstance(tree, Tensor):
        return [tree.float().sum()]
    if isinstance(tree, dict):
        tree = tree.values()
    return [each for branch in tree for each in _sums(branch)] if hasattr(tree, "__iter__") else []


# ---- the model ---------------------------------------------------------------------------------


def ring(n: int, size: float, link: Link) -> float:
    """Seconds of an all-gather or reduce-scatter of ``size`` bytes in all over n ranks."""
    return (n - 1) * link.alpha + (n - 1) / n * size / link.beta


def all_reduce(n: int, size: float, inner: Link, outer: Link, node: int = GPUS_PER_NODE) -> float:
    """Seconds of an all-reduce: within nodes, and over them."""
    local, nodes = min(n, node), -(-n // node)
    return 2 * ring(local, size, inner) + 2 * ring(nodes, size / local, outer)


def ddp(work: Work, n: int, seconds: float, inner: Link, outer: Link, node: int = GPUS_PER_NODE) -> float:
    """Seconds of a step."""
    size = 4.0 * work.parameters
    last = min(BUCKET, size)
    whole, tail = (all_reduce(n, part, inner, outer, node) for part in (size - last, last))
    return seconds / 3 + max(seconds * 2 / 3, whole) + tail


def fsdp(work: Work, n: int, seconds: float, inner: Link, outer: Link, node: int = GPUS_PER_NODE) -> float:
    """Seconds of a step; rings over nodes go through all adapters of a node at once."""
    nodes = -(-n // node)
    alpha = inner.alpha + (outer.alpha - inner.alpha) * nodes / n  # of a hop, on average
    link = inner if nodes == 1 else Link(alpha, min(inner.beta, node * outer.beta))
    units = max(work.num_blocks, 1)
    size = 4.0 * work.parameters / units
    gather = ring(n, size, link)
    forward, backward = seconds / 3 / units, seconds * 2 / 3 / units
    return gather + units * (max(forward, gather) + max(backward, 2 * gather)) + gather


def hsdp(work: Work, n: int, seconds: float, inner: Link, outer: Link, node: int = GPUS_PER_NODE) -> float:
    """Seconds of a step: shards within a node, copies over nodes."""
    local, nodes = min(n, node), -(-n // node)
    within = fsdp(work, local, seconds, inner, outer, node)
    over = 2 * ring(nodes, 4.0 * work.parameters / local, outer)
    return max(within, seconds / 3 + over)


def tp(work: Work, n: int, seconds: float, inner: Link, outer: Link, node: int = GPUS_PER_NODE) -> float:
    """Seconds of a step of a node's items, whose ranks share every block."""
    local, nodes = min(n, node), -(-n // node)
    activations = 2.0 * work.width * work.items * local
    within = work.num_blocks * 4 * 2 * ring(local, activations, inner)
    over = 2 * ring(nodes, 4.0 * work.parameters / local, outer)
    return seconds / 3 + max(seconds * 2 / 3, over) + within


STRATEGIES = {"ddp": ddp, "fsdp2": fsdp, "hsdp": hsdp, "tp": tp}


def predict() -> None:
    """Print assumptions, what was measured, and efficiencies."""
    print(ASSUMED)
    works = [text(), image(), codec()]
    print(
        "\n| recipe | parameters | in blocks | blocks | items per GPU | GFLOP per item | kept per item (float32) |"
        "\n|---|---|---|---|---|---|---|"
    )
    for work in works:
        print(
            f"| `{work.name}` | {work.parameters / 1e6:.1f} M | {work.block_parameters / work.parameters:.0%} | "
            f"{work.num_blocks} | {work.items} | {work.flops / 1e9:.1f} | {work.activations / 2**20:.0f} MiB |"
        )
    for work in works:
        seconds = work.flops * work.items / (PEAK * SHARE)
        print(f"\n`{work.name}`: a step of one GPU takes {1e3 * seconds:.1f} ms; efficiency by GPUs\n")
        print(f"| strategy | between nodes | {' | '.join(map(str, SIZES))} |\n|---|---|{'---|' * len(SIZES)}")
        for name, step in STRATEGIES.items():
            for outer in ("InfiniBand", "Ethernet"):
                times = [step(work, n, seconds, LINKS["NVLink"], LINKS[outer]) for n in SIZES]
                cells = [f"{seconds / each:.0%}" for each in times]
                print(f"| {name} | {outer} | {' | '.join(cells)} |")


# ---- checked here ------------------------------------------------------------------------------

DIM, LAYERS, TOKENS, ITEMS, ROUNDS = 128, 4, 32, 4, 7


class CountBytes(TorchDispatchMode):
    """Add up what collectives are given: the whole of what is reduced or gathered."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = {"reduce": 0, "gather": 0, "scatter": 0}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        if "c10d.allreduce_" in name:
            self.bytes["reduce"] += sum(each.nbytes for each in args[0] if each.numel() > 1)
        elif "allgather_base_" in name or "all_gather_into_tensor" in name:
            self.bytes["gather"] += args[0].nbytes
        elif "reduce_scatter_base_" in name or "reduce_scatter_tensor" in name:
            self.bytes["scatter"] += args[1].nbytes if "base" in name else args[0].nbytes
        return func(*args, **(kwargs or {}))


class Stack(nn.Module):
    """Blocks of the core's transformer."""

    def __init__(self) -> None:
        super().__init__()
        from unisono.nn.transformer import Block

        self.blocks = nn.ModuleList(Block(DIM, 4, 0.0) for _ in range(LAYERS))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, mask)
        return x.square().mean()


def child(rank: int, n: int, port: int, told: Any) -> None:
    """One gloo process: fits α and β, counts bytes, and times steps of each strategy in turns."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": str(n)}
    torch.distributed.init_process_group("gloo", rank=rank, world_size=n)
    from torch.distributed.fsdp import fully_shard

    torch.manual_seed(0)
    x, mask = torch.randn(ITEMS, TOKENS, DIM, requires_grad=True), torch.ones(ITEMS, TOKENS, dtype=torch.bool)
    alone, copies, shards = Stack(), Stack(), Stack()
    copied = nn.parallel.DistributedDataParallel(copies) if n > 1 else copies
    if n > 1:
        for block in shards.blocks:
            fully_shard(block)
        fully_shard(shards)
    found: dict[str, Any] = {"bytes": {}, "seconds": {}}
    for name, model in (("ddp", copied), ("fsdp2", shards)):
        for _ in range(2):  # DDP finds its buckets in the first step
            count = CountBytes()
            with count:
                model(x, mask).backward()
        found["bytes"][name] = count.bytes
    kinds = {"alone": alone, "ddp": copied, "fsdp2": shards}
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(ROUNDS):
        for name, model in kinds.items():
            torch.distributed.barrier()
            begun = time.perf_counter()
            model(x, mask).backward()
            torch.distributed.barrier()
            times[name].append(time.perf_counter() - begun)
    found["seconds"] = {name: statistics.median(values[1:]) for name, values in times.items()}
    small, large = torch.zeros(8), torch.zeros(2**21)
    spent = []
    for tensor in (small, large):
        each = []
        for _ in range(ROUNDS):
            torch.distributed.barrier()
            begun = time.perf_counter()
            torch.distributed.all_reduce(tensor)
            each.append(time.perf_counter() - begun)
        spent.append(statistics.median(each))
    found["alpha"] = spent[0] / max(2 * (n - 1), 1)
    found["beta"] = 2 * (n - 1) / n * large.nbytes / max(spent[1] - spent[0], 1e-9) if n > 1 else float("inf")
    if rank == 0:
        told.put(found)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def check(counts: list[int]) -> None:
    """Run gloo processes and print bytes and times beside what the model says."""
    total = sum(p.numel() for p in Stack().parameters())
    work = Work("check", total, total, LAYERS, 0, 0, 0, ITEMS)
    print(f"a stack of {LAYERS} blocks, {total / 1e6:.2f} M parameters, {ITEMS} × {TOKENS} tokens per process\n")
    print(
        "| processes | strategy | bytes by the formula | counted | step by the model, ms | measured, ms "
        "| α, µs | β, GB/s |"
    )
    print(f"|{'---|' * 8}")
    for n in counts:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        context = torch.multiprocessing.get_context("spawn")
        told = context.SimpleQueue()
        processes = [context.Process(target=child, args=(rank, n, port, told)) for rank in range(n)]
        for process in processes:
            process.start()
        found = told.get()
        for process in processes:
            process.join()
        link = Link(found["alpha"], found["beta"])
        seconds = found["seconds"]["alone"]
        for name in ("ddp", "fsdp2"):
            formula = {"ddp": 4 * total, "fsdp2": (2 + 1) * 4 * total}[name] if n > 1 else 0
            counted = sum(found["bytes"][name].values())
            said = seconds if n == 1 else STRATEGIES[name](work, n, seconds, link, link, NODES)
            print(
                f"| {n} | {name} | {formula:,} | {counted:,} | {1e3 * said:.1f} | {1e3 * found['seconds'][name]:.1f} | "
                f"{1e6 * link.alpha:.0f} | {link.beta / 1e9:.2f} |"
            )


def main() -> None:
    """Print predictions, or the check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", nargs="*", type=int, metavar="N")
    args = parser.parse_args()
    if args.check is None:
        predict()
    else:
        check(args.check or [1, 2, 4])


if __name__ == "__main__":
    main()

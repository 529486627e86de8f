"""Masked parallel decoding: what the sampler costs, and what parallel decoding gains, on one stub transformer.

    python benchmarks/masked.py [--quick] [--sections 1 3] [--repeats 5] [--threads N] [--device cuda]

1  the sampler's share of a step (aim: below 5 %), evaluations and positions, per preset
2  the same weights one token at a time, with keys and values kept
3  samplers of installed packages (dependency group `bench`); what is not installed is named
4  choosing positions and drawing there, against Gumbel noise over the whole vocabulary

The network is random (25 million parameters), which changes no cost of a static sampler. Contenders take turns in
one process, so that a busy moment of the machine hits all; times are the fastest of all turns in ms, medians in
brackets, and so are shares: where the two are far apart the machine was busy, and the first is nearer the truth.
`--quick` has a tenth of the parameters and short sequences: it shows that everything runs; its shares are not those
of section 1's aim.
"""

import argparse
import math
import os
import statistics
import time
from collections.abc import Callable
from types import SimpleNamespace

os.environ.setdefault("TQDM_DISABLE", "1")  # peers draw progress bars

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F
from unisono import masked, verify
from unisono.masked import Canvas, Handle, Layout, at_sites, decode
from unisono.masked.run.step import step

AIM = 0.05


class Stub(nn.Module):
    """A pre-norm transformer with random weights, bidirectional with masks or causal with a cache; it is timed."""

    def __init__(self, dim: int, num_layers: int, vocab_size: int, length: int):
        super().__init__()
        self.num_heads, self.vocab_size, self.spent = dim // 64, vocab_size, 0.0
        self.tokens = nn.Embedding(vocab_size + 1, dim)  # the last one is the mask
        self.places = nn.Embedding(length + 1, dim)
        self.blocks = nn.ModuleList(
            nn.ModuleDict({
                "norm_1": nn.LayerNorm(dim), "qkv": nn.Linear(dim, 3 * dim), "out": nn.Linear(dim, dim),
                "norm_2": nn.LayerNorm(dim), "up": nn.Linear(dim, 4 * dim), "down": nn.Linear(4 * dim, dim),
            })
            for _ in range(num_layers)
        )  # fmt: skip
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, vocab_size)

    def body(self, ids: Tensor, positions: Tensor, attend: Callable[[int, Tensor, Tensor, Tensor], Tensor]) -> Tensor:
        start = now()
        x = self.tokens(ids) + self.places(positions)
        for i, block in enumerate(self.blocks):
            q, k, v = block["qkv"](block["norm_1"](x)).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
            x = x + block["out"](attend(i, q, k, v).transpose(1, 2).flatten(2))
            x = x + block["down"](F.gelu(block["up"](block["norm_2"](x))))
        logits = self.head(self.norm(x))
        self.spent += now() - start
        return logits

    @property
    def device(self) -> torch.device:
        return self.head.weight.device

    def ids(self, ids: Tensor) -> Tensor:
        """Logits of masked ids, mask = vocabulary's size: what peers call."""
        places = torch.arange(ids.shape[1]).expand_as(ids)
        return self.body(ids, places, lambda i, q, k, v: F.scaled_dot_product_attention(q, k, v))

    def masked(self, tokens: Tensor, known: Tensor, query: Tensor | None) -> Tensor:
        """As `unisono.masked` calls a model."""
        return at_sites(self.ids(torch.where(known, tokens, self.vocab_size)), query)

    def causal(self, tokens: Tensor, positions: Tensor, visible: Tensor, cache: verify.KVCache | None) -> Tensor:
        """As `unisono.verify` calls a network."""
        assert cache is not None
        mask = cache.mask(visible)[:, None]

        def attend(i: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(q, *cache.append(i, k, v), attn_mask=mask)

        return self.body(tokens, positions, attend)

    def one_by_one(self, batch: int, length: int) -> Tensor:
        """The plainest autoregressive loop: room for all keys and values is taken once, and filled in place."""
        dim = self.head.in_features
        room = torch.zeros(len(self.blocks), 2, batch, self.num_heads, length, dim // self.num_heads)
        ids, out = torch.zeros(batch, 1, dtype=torch.long), []
        for place in range(length):

            def attend(i: int, q: Tensor, k: Tensor, v: Tensor, place: int = place) -> Tensor:
                room[i, 0, :, :, place], room[i, 1, :, :, place] = k[:, :, 0], v[:, :, 0]
                return F.scaled_dot_product_attention(q, room[i, 0, :, :, : place + 1], room[i, 1, :, :, : place + 1])

            logits = self.body(ids, torch.full((batch, 1), place), attend)
            ids = torch.multinomial(logits[:, 0].softmax(-1), 1)
            out.append(ids)
        return torch.cat(out, 1)


def now() -> float:
    """The clock, when the device has done all that it was asked."""
    if torch.get_default_device().type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def blank(layout: Layout, batch: int = 1) -> Canvas:
    device = torch.get_default_device()
    return Canvas.blank(layout.to(device), list(range(batch)), device=device)


def measure(runs: dict[str, Callable[[], object]], repeats: int, stub: Stub | None = None) -> dict[str, dict]:
    """Time contenders in turns, in ms; ``network`` is the part that the stub itself took."""
    found: dict[str, dict] = {name: {"whole": [], "network": []} for name in runs}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            if stub is not None:
                stub.spent = 0.0
            start = now()
            found[name]["result"] = run()
            spent = now() - start
            if turn > 0:  # the first turn warms up
                found[name]["whole"].append(1e3 * spent)
                found[name]["network"].append(1e3 * stub.spent if stub is not None else 0.0)
    return found


def times(values: list[float], digits: int = 1) -> str:
    return f"{min(values):.{digits}f} ({statistics.median(values):.{digits}f})"


def outside_of(found: dict) -> list[float]:
    """What each turn took outside of the network, in ms."""
    return [whole - network for whole, network in zip(found["whole"], found["network"], strict=True)]


def share_of(found: dict) -> tuple[float, float]:
    """The sampler's share: fastest time outside of the network over that and the network's fastest; median of turns."""
    outside = outside_of(found)
    turns = [out / whole for out, whole in zip(outside, found["whole"], strict=True)]
    return min(outside) / (min(outside) + min(found["network"])), statistics.median(turns)


def shares(stub: Stub, length: int, steps: int, repeats: int) -> Table:
    levels = 4
    flat, grid = Layout.sequence(length, stub.vocab_size), Layout.grid(*_sides(length), stub.vocab_size)
    stacked = Layout.levels(length // levels, levels, stub.vocab_size, shared=True)
    blocks = Layout.blocks(length, length // 4, stub.vocab_size)
    presets = [
        ("maskgit", masked.maskgit(steps), flat),
        ("choose_then_draw", masked.choose_then_draw(steps), flat),
        ("halton", masked.halton(*_sides(length), num_steps=steps), grid),
        ("soundstorm, 4 levels", masked.soundstorm((steps, 1, 1, 1)), stacked),
        ("mdlm", masked.mdlm(steps), flat),
        ("remdm", masked.remdm(steps), flat),
        ("dream", masked.dream(steps), flat),
        ("llada, 4 blocks", masked.llada((max(steps // 4, 1),) * 4), blocks),
        ("vampnet", masked.vampnet(steps), flat),
    ]
    runs = {
        name: lambda strategy=strategy, layout=layout: decode(stub.masked, blank(layout), strategy)
        for name, strategy, layout in presets
    }
    table = Table(title=f"1  the sampler's share: {length} tokens of {stub.vocab_size}, one row; aim {AIM:.0%}")
    for head in ("preset", "NFE", "positions", "ms", "ms per step outside", "share"):
        table.add_column(head, justify="left" if head == "preset" else "right")
    for name, found in measure(runs, repeats, stub).items():
        done, (share, median) = found["result"], share_of(found)
        per_step = times([out / max(done.nfe, 1) for out in outside_of(found)], 2)
        shown = f"{share:.1%} ({median:.1%})" + ("" if share < AIM else " above")
        table.add_row(name, str(done.nfe), str(done.positions), times(found["whole"]), per_step, shown)
    return table


def autoregressive(stub: Stub, length: int, steps: int, repeats: int, batches: list[int]) -> Table:
    table = Table(title=f"2  against one token at a time: {length} tokens, the same weights")
    for head in ("rows", "how", "NFE", "positions", "ms", "against the faster one by one"):
        table.add_column(head, justify="left" if head == "how" else "right")
    layout = Layout.sequence(length, stub.vocab_size)
    for batch in batches:
        prompt = torch.zeros(batch, 1, dtype=torch.long)
        runs = {
            "one by one, plain loop": lambda b=batch: stub.one_by_one(b, length),
            "one by one, verify": lambda b=batch, p=prompt: verify.decode(
                stub.causal, p, verify.autoregressive(), length + 1, seeds=list(range(b)), temperature=1.0,
                cache=lambda b: verify.KVCache(b, stub.device),
            ),
            **{
                f"maskgit, {n} steps": lambda n=n, b=batch: decode(
                    stub.masked, blank(layout, b), masked.maskgit(n)
                )
                for n in (max(steps // 3, 1), steps, 3 * steps)
            },
        }  # fmt: skip
        found = measure(runs, repeats, stub)
        base = min(min(x["whole"]) for name, x in found.items() if name.startswith("one by one"))
        for name, x in found.items():
            done = x["result"]
            nfe, positions = (length, batch * length) if isinstance(done, Tensor) else (done.nfe, done.positions)
            ratio = base / min(x["whole"])
            word = "faster" if ratio > 1.02 else "slower" if ratio < 0.98 else "the same"
            shown = "–" if min(x["whole"]) == base else f"{ratio:.2f}×, {word}"
            table.add_row(str(batch), name, str(nfe), str(positions), times(x["whole"]), shown)
        table.add_section()
    return table


def peers(stub: Stub, length: int, steps: int, repeats: int) -> tuple[Table, list[str]]:
    side, mask, missing = _sides(length)[0], stub.vocab_size, []
    layout = Layout.sequence(length, stub.vocab_size)
    pairs: list[tuple[str, Callable[[], object], str, Callable[[], object]]] = []

    def ours(strategy) -> Callable[[], object]:
        return lambda: decode(stub.masked, blank(layout), strategy)

    try:
        from diffusers import AmusedScheduler, BlockRefinementScheduler

        def amused() -> Tensor:
            scheduler = AmusedScheduler(mask)
            scheduler.set_timesteps(steps, device=stub.device)
            ids, generator = torch.full((1, length), mask), torch.Generator(stub.device).manual_seed(0)
            for timestep in scheduler.timesteps:
                ids = scheduler.step(stub.ids(ids), timestep, ids, generator=generator).prev_sample
            return ids

        def refined() -> Tensor:
            scheduler = BlockRefinementScheduler()
            scheduler.set_timesteps(steps, block_length=length)
            ids = torch.full((1, length), mask)
            for number in range(steps):
                ids = scheduler.step(stub.ids(ids), number, ids, mask_token_id=mask, threshold=2.0).prev_sample
            return ids

        pairs.append(("diffusers AmusedScheduler", amused, "maskgit", ours(masked.maskgit(steps))))
        pairs.append(("diffusers BlockRefinementScheduler", refined, "llada", ours(masked.llada(steps))))
    except ImportError as error:
        missing.append(f"diffusers: {error}")
    try:
        from muse_maskgit_pytorch import MaskGit
        from muse_maskgit_pytorch.muse_maskgit_pytorch import cosine_schedule

        class Muse(nn.Module):
            """What the package's `MaskGit.generate` reads of itself, around the stub: text is not used."""

            generate = MaskGit.generate

            def __init__(self):
                super().__init__()
                self.weight = nn.Parameter(torch.zeros(1))
                self.vae = SimpleNamespace(get_encoded_fmap_size=lambda _: side, decode_from_ids=lambda ids: ids)
                self.token_critic, self.image_size = None, side
                self.resize_image_for_cond_image = self.self_cond = False
                self.mask_id, self.no_mask_token_prob, self.noise_schedule = mask, 0.0, cosine_schedule
                self.transformer = SimpleNamespace(
                    encode_text=lambda texts: None, forward_with_cond_scale=lambda ids, **_: (stub.ids(ids), None)
                )

        if side * side == length:
            muse = Muse()
            pairs.append((
                "muse-maskgit-pytorch", lambda: muse.generate([""], fmap_size=side, timesteps=steps, cond_scale=1),
                "maskgit, top 10 %",
                ours(masked.maskgit(steps, warp=masked.TopTokens(share=0.1))),
            ))  # fmt: skip
    except Exception as error:  # torchvision of another torch raises what it likes
        missing.append(f"muse-maskgit-pytorch: {type(error).__name__}: {error}")
    missing.append(
        "soundstorm-pytorch: not in the group: it needs fairseq, whose source does not build on current Pythons"
    )
    missing.append(
        "transformers: its masked generation belongs to one model (DiffusionGemma) and starts from random tokens; "
        "diffusers' BlockRefinementScheduler stands for LLaDA's"
    )
    table = Table(title=f"3  peers: {length} tokens of {mask}, {steps} steps, the same network")
    for head in ("peer", "ms", "outside", "ours", "ms", "outside", "peer's sampler over ours"):
        table.add_column(head, justify="left" if head in ("peer", "ours") else "right")
    runs = {}
    for name, theirs, own, mine in pairs:
        runs[name] = theirs
        runs[f"{own} for {name}"] = mine
    found = measure(runs, repeats, stub)
    for name, _, own, _ in pairs:
        cells, outsides = [], []
        for label, x in ((name, found[name]), (own, found[f"{own} for {name}"])):
            outsides.append(min(outside_of(x)))
            cells += [label, times(x["whole"]), times(outside_of(x))]
        table.add_row(*cells, f"{outsides[0] / outsides[1]:.2f}×")
        tokens = found[name]["result"]
        assert isinstance(tokens, Tensor) and int((tokens == mask).sum()) == 0, f"{name} left masks"
    return table, missing


def draws(sizes: list[tuple[int, int]], steps: int, repeats: int) -> Table:
    table = Table(title=f"4  one step of {steps}: choose, then draw there, against Gumbel noise everywhere (ms)")
    table.add_column("length × vocabulary")
    strategy = masked.choose_then_draw(steps)
    generator = torch.Generator(torch.get_default_device()).manual_seed(0)
    for length, vocab_size in sizes:
        logits = torch.randn(1, length, vocab_size, generator=generator) * 3
        count = max(length // steps, 1)
        canvas = blank(Layout.sequence(length, vocab_size))
        handle = Handle(lambda tokens, known, query, logits=logits: at_sites(logits, query))

        def gumbel(dtype: torch.dtype, logits: Tensor = logits, count: int = count) -> Tensor:
            uniform = torch.rand(logits.shape, dtype=dtype, generator=generator).clamp_min(torch.finfo(dtype).tiny)
            drawn = (logits - (-uniform.log()).log()).argmax(-1, keepdim=True)
            sure = logits.log_softmax(-1).gather(-1, drawn)[..., 0]
            return sure.topk(count, -1).indices

        def multinomial(logits: Tensor = logits, count: int = count) -> Tensor:
            prob = logits.softmax(-1)
            drawn = torch.multinomial(prob[0], 1, generator=generator)
            return prob[0].gather(-1, drawn)[:, 0].topk(count).indices

        runs = {
            "choose, then draw": lambda c=canvas, h=handle: step(h, c, strategy, width=c.layout.length // steps or 1),
            "Gumbel, float64": lambda g=gumbel: g(torch.float64),
            "Gumbel, float32": lambda g=gumbel: g(torch.float32),
            "multinomial": multinomial,
        }
        found = measure(runs, repeats)
        if len(table.columns) == 1:
            for name in runs:
                table.add_column(name, justify="right")
            table.add_column("float64 Gumbel over ours", justify="right")
        ratio = min(found["Gumbel, float64"]["whole"]) / min(found["choose, then draw"]["whole"])
        cells = [times(x["whole"]) for x in found.values()]
        table.add_row(f"{length} × {vocab_size}", *cells, f"{ratio:.1f}×")
    return table


def _sides(length: int) -> tuple[int, int]:
    side = math.isqrt(length)
    return (side, side) if side * side == length else (1, length)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small network and short sequences")
    parser.add_argument("--sections", type=int, nargs="+", default=[1, 2, 3, 4], help="which tables (default: all)")
    parser.add_argument("--repeats", type=int, help="turns of every contender (default 5; 2 with --quick)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: what torch takes)")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    options = parser.parse_args()
    torch.set_default_device(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
    quick = options.quick
    repeats = options.repeats or (2 if quick else 5)
    length, steps = (64, 6) if quick else (256, 12)
    torch.manual_seed(0)
    stub = Stub(*((192, 4) if quick else (512, 8)), vocab_size=1024, length=length).eval()
    console = Console()
    parameters = sum(p.numel() for p in stub.parameters()) / 1e6
    console.print(
        f"{parameters:.1f} million parameters, float32, torch {torch.__version__}, {options.device}, "
        f"{torch.get_num_threads()} threads, fastest of {repeats} (median)"
    )
    sizes = [(64, 1024), (32, 32768), (8, 131072)] if quick else [(256, 1024), (256, 32768), (128, 131072)]
    with torch.inference_mode():
        if 1 in options.sections:
            console.print(shares(stub, length, steps, repeats))
        if 2 in options.sections:
            console.print(autoregressive(stub, length, steps, max(repeats // 2, 1), [1, 2] if quick else [1, 8]))
        if 3 in options.sections:
            table, missing = peers(stub, length, steps, repeats)
            console.print(table)
            for line in missing:
                console.print(f"not measured: {line}", markup=False, highlight=False)
        if 4 in options.sections:
            console.print(draws(sizes, steps, repeats))


if __name__ == "__main__":
    main()

"""Parallel diffusion samplers: what a round costs, how many there are, and what else the time would buy.

    python benchmarks/diffusion.py [--quick] [--sections oracle paradigms curve networks] [--device cpu] [--compile]

oracle     rounds, work and error of every solver on exact networks of image-like mixtures (any machine; float64)
paradigms  ours beside diffusers' own ParaDiGMS pipeline and parallel schedulers, at equal error, on the same networks
curve      c(W)/c(1): what a batch of W rows costs, in rows. A parallel sampler gains only where this stays below W
networks   per network: rounds, rows, error against serial, PSNR and wall time of everything, beside the serial sampler
           (compiled with --compile), ParaDiGMS on the same network, and the best fewer-step sampler that the same time
           buys; a gain below 1 is a loss, and is printed as such

The networks of `curve` and `networks` have random weights. Their answers would make any sampler converge at once, so
they are evaluated for their cost and the answer is that of an exact image-like mixture of the same shape: the time is
the network's, the trajectory one with structure. "to the ODE" is the distance from 400 steps of DPM-Solver++(2M), the
measure by which a sampler of fewer steps is fair. Times are the fastest of all turns, and include everything but the
noise that all start from. `--quick` has small networks and few steps: it shows that everything runs.
"""

import argparse
import math
import time
import warnings
from collections.abc import Callable
from typing import Any

import diffusers
import torch
from diffusers import (
    DDIMParallelScheduler,
    DDIMScheduler,
    DDPMParallelScheduler,
    DDPMScheduler,
    DiTTransformer2DModel,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    StableDiffusionParadigmsPipeline,
    UNet2DConditionModel,
    UniPCMultistepScheduler,
)
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from unisono.diffusion import (
    Anderson,
    DiagNewton,
    FixedSteps,
    Identity,
    Jacobi,
    Parareal,
    Picard,
    SchedulerRecurrence,
    Serial,
    Tolerance,
    fastest,
    solve,
)
from unisono.testing.oracles import ImageMixture, Mixture

warnings.filterwarnings("ignore", category=FutureWarning)
diffusers.utils.logging.set_verbosity_error()
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
# diffusers' batched DDIM takes 1 for the final alpha, whatever it is told: so that both mean the same, it is 1 here.
DDIM = {**BETAS, "clip_sample": False, "set_alpha_to_one": True, "steps_offset": 1}
DDPM = {**BETAS, "clip_sample": False}
Network = Callable[[Tensor, Tensor, Tensor], Tensor]


def scheduler(name: str, steps: int) -> Any:
    made = {
        "DDIM": lambda: DDIMScheduler(**DDIM),
        "DDPM": lambda: DDPMScheduler(**DDPM),
        "DPM-Solver++(2M)": lambda: DPMSolverMultistepScheduler(**BETAS),
        "UniPC": lambda: UniPCMultistepScheduler(**BETAS),
        "flow Euler": lambda: FlowMatchEulerDiscreteScheduler(shift=3.0),
    }[name]()
    made.set_timesteps(steps)
    return made


def noise(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(1, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def oracle_chain(name: str, steps: int, mixture: Any) -> SchedulerRecurrence:
    generator = [torch.Generator().manual_seed(0)] if name == "DDPM" else None
    return SchedulerRecurrence(scheduler(name, steps), mixture.network(scheduler(name, steps)), generator=generator)


def apart(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


# -------------------------------------------------------------------------------------------------------------- oracle
def oracle(quick: bool) -> Table:
    table = Table(title="oracle: image-like mixture [4, 16, 16], float64, median of seeds")
    for column in ("sampler", "solver", "window", "tolerance", "rounds", "fewer", "work", "error"):
        table.add_column(column, justify="left" if column in ("sampler", "solver") else "right")
    mixture = ImageMixture()
    cases = [("DDIM", 100), ("DPM-Solver++(2M)", 25), ("flow Euler", 50)]
    for name, steps in [("DDIM", 30)] if quick else cases:
        solvers: list[tuple[Any, Any]] = [
            (Picard(), Tolerance(1e-2)), (Picard(), Tolerance(1e-3)), (Picard("eps"), Tolerance(1e-2)),
            (Picard("x0"), Tolerance(1e-2)), (Identity(), Tolerance(1e-2)), (Jacobi(), Tolerance(1e-2)),
            (Anderson(), Tolerance(1e-2)), (Picard(), FixedSteps(4)),
        ]  # fmt: skip
        if name != "DPM-Solver++(2M)":
            solvers += [(DiagNewton(), Tolerance(1e-2)), (Parareal(), Tolerance(1e-2))]
        if name == "flow Euler":
            solvers = [(s, a) for s, a in solvers if s not in (Picard("eps"),)]
        pairs = [(solver, accept, accept.steps if isinstance(accept, FixedSteps) else 8) for solver, accept in solvers]
        pairs += [(Picard(), Tolerance(1e-2), window) for window in (4, 5, 16)]
        for solver, accept, window in pairs:
            runs = []
            for seed in (2,) if quick else (2, 3, 4):
                chain = oracle_chain(name, steps, mixture)
                x = noise(mixture.shape, seed)
                serial = solve(chain, x, Serial()).sample
                run = solve(chain, x, solver, accept, window=None if isinstance(solver, Parareal) else window)
                runs.append((run.report.rounds, run.report.work, apart(run.sample, serial)))
            rounds, work, error = (median([run[k] for run in runs]) for k in range(3))
            told = f"{accept.rtol:g}" if isinstance(accept, Tolerance) else f"fixed {accept.steps}"
            table.add_row(
                f"{name}, {steps} steps", f"{type(solver).__name__} {getattr(solver, 'hold', '')}",
                "" if isinstance(solver, Parareal) else str(window), told, f"{rounds:g}",
                f"{steps / rounds:.1f}", f"{work:.2f}", f"{error:.1e}",
            )  # fmt: skip
        table.add_section()
    return table


# ----------------------------------------------------------------------------------------------------------- paradigms
class _Stub(UNet2DConditionModel):
    """Any network in the place of Stable Diffusion's, counted."""

    answer: Network
    calls = rows = 0

    def forward(self, sample: Tensor, timestep: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor]:
        self.calls, self.rows = self.calls + 1, self.rows + len(sample)
        return (self.answer(sample, timestep, torch.zeros_like(timestep, dtype=torch.long)),)


def paradigms(name: str, steps: int, network: Network, x: Tensor) -> Callable[[int, float], tuple[Tensor, int, int]]:
    """diffusers' own pipeline, unguided, on a network: its sample, calls and rows at a window and a tolerance."""
    stub = _Stub(
        sample_size=x.shape[-1], in_channels=x.shape[1], out_channels=x.shape[1], block_out_channels=(8,),
        layers_per_block=1, down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), norm_num_groups=4,
        cross_attention_dim=8,
    ).to(x.device, x.dtype)  # fmt: skip
    stub.answer = network
    kind = {"DDIM": lambda: DDIMParallelScheduler(**DDIM), "DDPM": lambda: DDPMParallelScheduler(**DDPM)}[name]
    pipe = StableDiffusionParadigmsPipeline(
        vae=None, text_encoder=None, tokenizer=None, unet=stub, scheduler=kind(), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)

    def run(window: int, tolerance: float) -> tuple[Tensor, int, int]:
        stub.calls = stub.rows = 0
        sample = pipe(
            prompt_embeds=x.new_zeros(1, 1, 8), guidance_scale=1.0, num_inference_steps=steps, latents=x,
            parallel=window, tolerance=tolerance, height=x.shape[-2] * 8, width=x.shape[-1] * 8, output_type="latent",
            generator=torch.Generator().manual_seed(0),
        ).images  # fmt: skip
        return sample, stub.calls, stub.rows

    return run


def against_paradigms(quick: bool) -> Table:
    table = Table(title="paradigms: fewest rounds at an error, over tolerances 10 … 1e-5, median of seeds; float64")
    for column in ("sampler", "network", "window", "error at most", "ParaDiGMS", "ours (Picard v)"):
        table.add_column(column, justify="left" if column in ("sampler", "network") else "right")
    steps = 25 if quick else 100
    networks = {"image-like mixture": ImageMixture(), "isotropic mixture": Mixture()}
    tolerances = [10 ** (1 - k / 2) for k in (range(0, 11, 2) if quick else range(13))]
    for name in ("DDIM", "DDPM"):
        for label, mixture in networks.items():
            for window in (8,) if quick else (8, 16):
                found: dict[str, dict[float, list[int]]] = {"theirs": {}, "ours": {}}
                for seed in (2,) if quick else (2, 3, 4):
                    x = noise(mixture.shape, seed)
                    theirs = paradigms(name, steps, mixture.network(scheduler(name, steps)), x)

                    serial = solve(oracle_chain(name, steps, mixture), x, Serial()).sample
                    runs: dict[str, list[tuple[float, int]]] = {"theirs": [], "ours": []}
                    for tolerance in tolerances:
                        sample, rounds, _ = theirs(window, tolerance)
                        runs["theirs"].append((apart(sample, serial), rounds))
                        run = solve(
                            oracle_chain(name, steps, mixture), x, Picard(), Tolerance(tolerance), window=window
                        )
                        runs["ours"].append((apart(run.sample, serial), run.report.rounds))
                    for who, pairs in runs.items():
                        for bar in (1e-2, 5e-3, 1e-3):
                            reached = [rounds for error, rounds in pairs if error <= bar]
                            found[who].setdefault(bar, []).append(min(reached, default=10 * steps))
                for bar in (1e-2, 5e-3, 1e-3):
                    cells = [median(list(map(float, found[who][bar]))) for who in ("theirs", "ours")]
                    told = [f"{c:g}" if c <= steps else "never" for c in cells]
                    table.add_row(f"{name}, {steps} steps", label, str(window), f"{bar:g}", *told)
        table.add_section()
    return table


# ------------------------------------------------------------------------------------------------------------ networks
class _Motion(nn.Module):
    """A transformer over 16 steps of a 16-dimensional action or pose: what a policy or a motion model evaluates."""

    def __init__(self, width: int, layers: int):
        super().__init__()
        self.into, self.out = nn.Linear(16, width), nn.Linear(width, 16)
        self.time = nn.Linear(1, width)
        layer = nn.TransformerEncoderLayer(
            width, width // 64, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        h = self.into(x[:, 0]) + self.time(t.to(x)[:, None, None] / 1000)
        return self.out(self.layers(h))[:, None]


class _DiT(nn.Module):
    def __init__(self, channels: int, size: int, heads: int, layers: int):
        super().__init__()
        self.net = DiTTransformer2DModel(
            num_attention_heads=heads, attention_head_dim=64, in_channels=channels, out_channels=channels,
            num_layers=layers, sample_size=size, patch_size=2, num_embeds_ada_norm=1000,
        )  # fmt: skip

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.net(x, timestep=t.long(), class_labels=torch.zeros_like(t, dtype=torch.long), return_dict=False)[0]


class _SDXL(nn.Module):
    """SDXL's U-Net with its proportions: three resolutions, two and ten transformer layers in the lower two."""

    def __init__(self, width: int, size: int, depth: int):
        super().__init__()
        heads = max(width // 64, 1), width // 32, width // 16
        self.net = UNet2DConditionModel(
            sample_size=size, in_channels=4, out_channels=4, block_out_channels=(width, 2 * width, 4 * width),
            layers_per_block=2, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), norm_num_groups=32,
            transformer_layers_per_block=(1, min(2, depth), depth), attention_head_dim=heads,
            cross_attention_dim=256, use_linear_projection=True,
        )  # fmt: skip
        self.register_buffer("text", torch.randn(1, 77, 256, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.net(x, t, self.text.expand(len(x), -1, -1), return_dict=False)[0]


def zoo(size: str) -> dict[str, tuple[nn.Module, tuple[int, int, int]]]:
    """Networks and the shapes of their states; on a GPU at their published sizes, on a CPU scaled."""
    small, full = size == "quick", size == "full"
    return {
        "motion or action, [16, 16]": (_Motion(*((128, 2) if small else (512, 8))), (1, 16, 16)),
        "pixel DiT, [3, 32, 32]": (
            _DiT(3, 16 if small else 32, *((2, 2) if small else (6, 12))), (3, *((16, 16) if small else (32, 32)))
        ),
        "latent DiT, [4, 32, 32]": (
            _DiT(4, 16 if small else 32, *((2, 3) if small else (16, 28) if full else (12, 12))),
            (4, *((16, 16) if small else (32, 32))),
        ),
        "SDXL's shape": (
            _SDXL(*((320, 128, 10) if full else (32, 16, 1) if small else (64, 32, 10))),
            (4, *((128, 128) if full else (16, 16) if small else (32, 32))),
        ),
    }  # fmt: skip


def answering(net: nn.Module, mixture: ImageMixture, name: str, steps: int) -> Network:
    """The mixture's exact answer, at the cost of a network."""
    exact = mixture.network(scheduler(name, steps))
    return lambda x, t, sample: torch.add(exact(x, t, sample), net(x, t), alpha=0)


def timed(action: Callable[[], Any], repeats: int) -> tuple[Any, float]:
    best, result = math.inf, None
    for _ in range(repeats):
        start = time.perf_counter()
        result = action()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return result, best


def curve(nets: dict[str, tuple[nn.Module, tuple[int, int, int]]], options: argparse.Namespace) -> Table:
    widths = [1, 2, 4, 8] if options.quick else [1, 2, 4, 8, 16, 32, 64]
    table = Table(title="curve: c(W)/c(1); below W, rows side by side are cheaper than one after the other")
    for column in ("network", "parameters", "c(1)", *(f"W={w}" for w in widths[1:])):
        table.add_column(column, justify="left" if column == "network" else "right")
    for name, (net, shape) in nets.items():
        costs = []
        for w in widths:
            x, t = noise(shape, 0, torch.float32).expand(w, *shape).to(options.device), torch.full((w,), 500)
            t = t.to(options.device)
            net(x, t)
            costs.append(timed(lambda x=x, t=t, net=net: net(x, t), options.repeats)[1])
        size = sum(p.numel() for p in net.parameters()) / 1e6
        table.add_row(
            name, f"{size:.1f} M", f"{costs[0] * 1e3:.1f} ms", *(f"{c / costs[0]:.1f}" for c in costs[1:])
        )  # fmt: skip
    return table


def networks(nets: dict[str, tuple[nn.Module, tuple[int, int, int]]], options: argparse.Namespace) -> list[Table]:
    steps, tables = (12 if options.quick else 50), []
    window = 4 if options.quick else 8
    for label, (net, shape) in nets.items():
        mixture = ImageMixture(shape)
        x = noise(shape, 2, torch.float32).to(options.device)
        if options.compile:
            net = torch.compile(net, dynamic=False)

        fine = SchedulerRecurrence(
            scheduler("DPM-Solver++(2M)", 400), mixture.network(scheduler("DPM-Solver++(2M)", 400))
        )
        ode = solve(fine, x.double(), Serial()).sample.to(x)
        title = f"networks: {label}, batch 1, window {window}{', compiled' if options.compile else ''}"
        table = Table(title=title)
        for column in ("sampler", "how", "rounds", "rows/T", "to serial", "PSNR", "to the ODE", "seconds", "gain"):
            table.add_column(column, justify="left" if column in ("sampler", "how") else "right")

        def row(name: str, how: str, rounds: float, work: float, sample: Tensor, serial: Tensor | None, seconds: float,
                base: float, table: Table = table, ode: Tensor = ode) -> None:  # fmt: skip
            told = ["", ""]
            if serial is not None:
                span = float(serial.max() - serial.min())
                rmse = float((sample - serial).square().mean().sqrt())
                told = [f"{apart(sample, serial):.1e}", f"{20 * math.log10(span / max(rmse, 1e-9)):.0f} dB"]
            gain = base / seconds
            verdict = f"{gain:.2f}" + (" (no gain)" if gain < 1 and how != "serial" else "")
            table.add_row(
                name, how, f"{rounds:g}", f"{work:.2f}", *told, f"{apart(sample, ode):.1e}", f"{seconds:.3f}", verdict
            )  # fmt: skip

        for name, count in (("DDIM", steps), ("DPM-Solver++(2M)", 8 if options.quick else 20)):
            recurrence = fastest(scheduler(name, count), answering(net, mixture, name, count))
            solve(recurrence, x, Picard(), Tolerance(1e-2), window=window)  # warms up, compiles
            serial, base = timed(lambda r=recurrence, x=x: solve(r, x, Serial()).sample, options.repeats)
            row(f"{name}-{count}", "serial", count, 1, serial, None, base, base)
            longest = 0.0
            for tolerance in (1e-2,) if options.quick else (1e-2, 1e-3):
                run, seconds = timed(
                    lambda r=recurrence, x=x, t=tolerance: solve(r, x, Picard(), Tolerance(t), window=window),
                    options.repeats,
                )
                report = run.report
                how = f"parallel, {tolerance:g}"
                row(f"{name}-{count}", how, report.rounds, report.work, run.sample, serial, seconds, base)
                longest = max(longest, seconds)
            if name == "DDIM":
                theirs = paradigms("DDIM", count, answering(net, mixture, name, count), x)
                for tolerance in (0.1,) if options.quick else (0.1, 0.01):
                    (sample, rounds, rows), seconds = timed(
                        lambda run=theirs, t=tolerance: run(window, t), options.repeats
                    )
                    how = f"ParaDiGMS, {tolerance:g}"
                    row(f"{name}-{count}", how, rounds, rows / count, sample, serial, seconds, base)
            # What the time of the parallel run buys one step after the other.
            fewer = max(2, min(int(longest / base * count), 4 * count))
            for other in ("DPM-Solver++(2M)", "UniPC"):
                cheap = fastest(scheduler(other, fewer), answering(net, mixture, other, fewer))
                sample, seconds = timed(lambda r=cheap, x=x: solve(r, x, Serial()).sample, options.repeats)
                row(f"{other}-{fewer}", "serial, same time", fewer, 1, sample, None, seconds, base)
            table.add_section()
        tables.append(table)
    return tables


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sections = ["oracle", "paradigms", "curve", "networks"]
    parser.add_argument("--quick", action="store_true", help="small networks and few steps")
    parser.add_argument("--sections", nargs="+", default=sections, choices=sections, help="which tables (default: all)")
    parser.add_argument(
        "--networks", nargs="+", help="only networks whose name begins so (motion, pixel, latent, SDXL)"
    )
    parser.add_argument("--repeats", type=int, help="turns of every contender (default 3; 1 with --quick)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: what torch takes)")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda, there at published sizes")
    parser.add_argument("--compile", action="store_true", help="compile the networks, for all contenders")
    options = parser.parse_args()
    options.repeats = options.repeats or (1 if options.quick else 3)
    if options.threads:
        torch.set_num_threads(options.threads)
    console = Console(width=150)
    device = torch.cuda.get_device_name() if options.device.startswith("cuda") else "cpu"
    console.print(
        f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads, fastest of {options.repeats}"
    )
    with torch.no_grad():
        if "oracle" in options.sections:
            console.print(oracle(options.quick))
        if "paradigms" in options.sections:
            console.print(against_paradigms(options.quick))
        if {"curve", "networks"} & set(options.sections):
            torch.manual_seed(0)
            nets = zoo("quick" if options.quick else "full" if options.device.startswith("cuda") else "scaled")
            chosen = tuple(options.networks or ("",))
            nets = {n: (net.eval().to(options.device), s) for n, (net, s) in nets.items() if n.startswith(chosen)}
            if "curve" in options.sections:
                console.print(curve(nets, options))
            if "networks" in options.sections:
                for table in networks(nets, options):
                    console.print(table)


if __name__ == "__main__":
    main()

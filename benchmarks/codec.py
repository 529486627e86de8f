"""Neural codecs at equal bit rate: how fast they encode and decode, and how much memory a long file takes.

    python benchmarks/codec.py [--quick] [--seconds 5] [--repeats 5] [--threads 1] [--bit-rate 6000] [--minutes 1 10 60]

1  our `codec/rvq-small` beside EnCodec's and DAC's architectures as `transformers` defines them, at their published
   sizes, each with as many levels as come nearest to the bit rate; what is not installed is named
2  peak memory of a fresh process that encodes a file of so many minutes into a .uc file, and decodes it

Weights are random, which changes no cost. Contenders take turns in one process, so that a busy moment of the machine
hits all; times are the fastest of all turns over the sound's duration (real-time factors), medians in brackets. FLOPs
are counted by torch: convolutions and matrix products, a multiplication and an addition being two; not transforms.
`--quick` has one second, two turns and one minute: it shows that everything runs.
"""

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode
from unisono.evaluation import in_fresh_process
from unisono.recipe import Recipe

OURS = "unisono codec/rvq-small"


class Contender:
    """One codec: how it encodes and decodes a wave [1, n] at its own rate, with how many levels."""

    def __init__(self, model: torch.nn.Module, rate: int, hop: int, levels: int, size: int,
                 encode: Callable, decode: Callable):  # fmt: skip
        self.model, self.rate, self.hop, self.levels = model.eval(), rate, hop, levels
        self.bit_rate = levels * math.log2(size) * rate / hop
        self.encode, self.decode = encode, decode
        self.parameters = sum(p.numel() for p in model.parameters()) / 1e6


def ours(bit_rate: float) -> Contender:
    recipe = Recipe.read("codec/rvq-small", ["--data.root=unused"])
    codec = recipe.build_model(recipe.build_data().describe())
    levels = nearest(bit_rate, codec.bit_rate(1), codec.num_levels)
    return Contender(
        codec, codec.sample_rate, codec.hop_length, levels, codec.codebook_size,
        lambda wave: codec.encode(wave, levels=levels), codec.decode,
    )  # fmt: skip


def encodec(bit_rate: float) -> Contender:
    """EnCodec, 24 kHz: 32 channels, strides 2, 4, 5, 8, two LSTM layers, 32 books of 1,024 at 75 Hz."""
    from transformers import EncodecConfig, EncodecModel

    config = EncodecConfig()
    model = EncodecModel(config)
    frame_rate = config.sampling_rate / math.prod(config.upsampling_ratios)
    per_level = frame_rate * math.log2(config.codebook_size)
    levels = nearest(bit_rate, per_level, 32)
    bandwidth = min(config.target_bandwidths, key=lambda b: abs(b - levels * per_level / 1000))
    levels = round(bandwidth * 1000 / per_level)

    def encode(wave: torch.Tensor) -> torch.Tensor:
        return model.encode(wave[:, None], bandwidth=bandwidth, return_dict=True).audio_codes

    def decode(codes: torch.Tensor) -> torch.Tensor:
        return model.decode(codes, [None], return_dict=True).audio_values

    rate, hop = config.sampling_rate, math.prod(config.upsampling_ratios)
    return Contender(model, rate, hop, levels, config.codebook_size, encode, decode)


def dac(bit_rate: float, rate: int) -> Contender:
    """DAC, 24 or 44.1 kHz: 64 channels, a decoder of 1,536, books of 1,024 factorised codes."""
    from transformers import DacConfig, DacModel

    sizes = {
        24000: {"downsampling_ratios": [2, 4, 5, 8], "n_codebooks": 32, "hop_length": 320},
        44100: {"downsampling_ratios": [2, 4, 8, 8], "n_codebooks": 9, "hop_length": 512},
    }[rate]
    config = DacConfig(sampling_rate=rate, **sizes)
    model = DacModel(config)
    hop = math.prod(sizes["downsampling_ratios"])
    levels = nearest(bit_rate, rate / hop * math.log2(config.codebook_size), config.n_codebooks)

    def encode(wave: torch.Tensor) -> torch.Tensor:
        return model.encode(wave[:, None], n_quantizers=levels, return_dict=True).audio_codes

    def decode(codes: torch.Tensor) -> torch.Tensor:
        return model.decode(audio_codes=codes, return_dict=True).audio_values

    return Contender(model, rate, hop, levels, config.codebook_size, encode, decode)


def nearest(bit_rate: float, per_level: float, most: int) -> int:
    return min(max(round(bit_rate / per_level), 1), most)


@torch.no_grad()
def speed(console: Console, args: argparse.Namespace) -> None:
    """Section 1."""
    makers = {
        OURS: lambda: ours(args.bit_rate),
        "EnCodec, 24 kHz": lambda: encodec(args.bit_rate),
        "DAC, 24 kHz": lambda: dac(args.bit_rate, 24000),
        "DAC, 44.1 kHz": lambda: dac(args.bit_rate, 44100),
    }
    contenders: dict[str, Contender] = {}
    for name, make in makers.items():
        try:
            contenders[name] = make()
        except ImportError as error:
            console.print(f"{name}: not measured: {error}; pip install transformers")
    waves, codes, flops = {}, {}, {}
    for name, own in contenders.items():
        count = int(args.seconds * own.rate) // own.hop * own.hop
        waves[name] = 0.1 * torch.randn(1, count, generator=torch.Generator().manual_seed(0))
        for what in ("encode", "decode"):  # the first run warms up, and is counted
            with FlopCounterMode(display=False) as counter:
                if what == "encode":
                    codes[name] = own.encode(waves[name])
                else:
                    own.decode(codes[name])
            flops[name, what] = counter.get_total_flops() / (count / own.rate) / 1e9
    factors: dict[tuple[str, str], list[float]] = {}
    for _ in range(args.repeats):
        for name, own in contenders.items():
            seconds = waves[name].shape[1] / own.rate
            for what, call, given in (("encode", own.encode, waves[name]), ("decode", own.decode, codes[name])):
                start = time.perf_counter()
                call(given)
                factors.setdefault((name, what), []).append((time.perf_counter() - start) / seconds)
    table = Table(title=f"{args.seconds:g} s, {args.threads} thread(s), {args.repeats} turns")
    for head in ("codec", "kbit/s", "levels", "M parameters", "encode", "decode", "× ours, encode", "× ours, decode",
                 "GFLOPs/s, encode", "decode"):  # fmt: skip
        table.add_column(head, justify="left" if head == "codec" else "right")
    for name, own in contenders.items():
        both = ("encode", "decode")
        times = [f"{min(x):.4f} [{statistics.median(x):.4f}]" for x in (factors[name, what] for what in both)]
        ratios = [f"{min(factors[name, what]) / min(factors[OURS, what]):.1f}" for what in both]
        work = [f"{flops[name, what]:.1f}" for what in both]
        sizes = f"{own.bit_rate / 1000:.2f}", str(own.levels), f"{own.parameters:.1f}"
        table.add_row(name, *sizes, *times, *ratios, *work)
    console.print(table)


def memory(console: Console, args: argparse.Namespace) -> None:
    """Section 2."""
    table = Table(title="peak memory, MiB")
    for head in ("minutes", "loaded", "encoded", "and decoded", "kbit/s", "× real time, both"):
        table.add_column(head, justify="right")
    for minutes in args.minutes:
        with tempfile.TemporaryDirectory() as folder:
            sound = Path(folder) / "in.wav"
            noise = (0.1 * np.random.default_rng(0).standard_normal(22050 * 60)).astype(np.float32)
            with soundfile.SoundFile(sound, "w", 22050, 1) as file:
                for _ in range(minutes):
                    file.write(noise)
            found = in_fresh_process(FRESH, {"folder": folder, "threads": args.threads}, timeout=7200)
        peaks = [f"{found[name]:.0f}" for name in ("loaded", "encoded", "decoded")]
        table.add_row(str(minutes), *peaks, f"{found['kbit']:.2f}", f"{60 * minutes / found['seconds']:.1f}")
    console.print(table)


FRESH = """
import time
import torch
from unisono.recipe import Recipe
from unisono_codec.files.recordings import decode_file, encode_file
torch.set_num_threads(asked["threads"])
sound, coded, back = (asked["folder"] + name for name in ("/in.wav", "/x.uc", "/out.wav"))
recipe = Recipe.read("codec/rvq-small", ["--data.root=unused"])
codec = recipe.build_model(recipe.build_data().describe()).eval()
start = time.perf_counter()
result["loaded"] = peak_memory()
made = encode_file(codec, sound, coded)
result["encoded"], result["kbit"] = peak_memory(), made.bit_rate / 1000
decode_file(codec, coded, back)
result["decoded"], result["seconds"] = peak_memory(), time.perf_counter() - start
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bit-rate", type=float, default=6000.0)
    parser.add_argument("--minutes", type=int, nargs="*", default=[1, 10, 60], help="none skips section 2")
    args = parser.parse_args()
    if args.quick:
        args.seconds, args.repeats, args.minutes = 1.0, 2, [1]
    torch.set_num_threads(args.threads)
    console = Console(width=170)
    speed(console, args)
    memory(console, args)


if __name__ == "__main__":
    main()

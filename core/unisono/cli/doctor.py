"""``unisono doctor``: versions, device, plugins and their state, ready to paste in a bug report."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `unisono doctor` takes."""
    parser.epilog = "nothing is sent anywhere"


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Print what is installed, what is missing and what the machine offers."""
    import os
    import platform
    from importlib import metadata

    import torch

    import unisono
    from unisono.plugin import PLUGIN_API, states

    lines = [
        f"unisono      {unisono.__version__} (plugin API {PLUGIN_API})",
        f"python       {platform.python_version()} on {platform.platform()}",
    ]
    for name in (
        "torch",
        "lightning",
        "pydantic",
        "numpy",
        "numba",
        "librosa",
        "soundfile",
        "safetensors",
        "espeakng-loader",
        "swift-f0",
        "pocketsphinx",
        "speechmos",
        "triton",
    ):
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            version = "not installed"
        lines.append(f"{name:<12} {version}")
    lines.append(f"cpu          {os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            lines.append(f"cuda:{index}       {properties.name}, {properties.total_memory / 2**30:.0f} GiB")
    else:
        lines.append("cuda         not available")
    for state in states():
        found = state.found
        lines.append(f"plugin       {found.name} ({found.distribution} {found.version}): {state.reason}")
    print("\n".join(lines))
    return 0

"""``unisono doctor``: versions, device, plugins and their state, ready to paste in a bug report."""

import argparse
import importlib.util
import re
from collections.abc import Iterator

NOT_INSTALLED = "not installed"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `unisono doctor` takes."""
    parser.epilog = "nothing is sent anywhere"


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Print what is installed, what is missing and what the machine offers."""
    import os
    import platform

    import torch

    import unisono
    from unisono.plugin import PLUGIN_API, states

    lines = [
        f"unisono      {unisono.__version__} (plugin API {PLUGIN_API})",
        f"python       {platform.python_version()} on {platform.platform()}",
    ]
    rows = states()
    known = {"unisono", *(row.found.distribution for row in rows if row.plugin is not None)}
    needed = [item for distribution in sorted(known) for item in required(distribution)]
    own = {row.plugin.extra for row in rows if row.plugin is not None}
    listed: set[str] = set()
    for extra in sorted({extra for _, extra in needed} - {"all"}, key=lambda e: (e != "", e not in own, e)):
        for name in (name for name, of in needed if of == extra and name not in listed and name not in known):
            version = _version(name)
            if extra == "" or extra in own or version != NOT_INSTALLED:  # what no plugin names is seldom missed
                listed.add(name)
                lines.append(f"{name:<27} {version}{f' (extra {extra})' if extra else ''}")
    if told := unfit(_version("torch"), torch.version.cuda, _version("torchaudio"), _failure("torchaudio")):
        lines.append(f"torchaudio   {told}")
    lines.append(f"cpu          {os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            lines.append(f"cuda:{index}       {properties.name}, {properties.total_memory / 2**30:.0f} GiB")
    else:
        lines.append("cuda         not available")
    for row in rows:
        found = row.found
        lines.append(f"plugin       {found.name} ({found.distribution} {found.version}): {row.reason}")
    print("\n".join(lines))
    return 0


def required(distribution: str) -> Iterator[tuple[str, str]]:
    """Yield each package that a distribution names, with the extra that needs it; always needed ones have none."""
    from importlib import metadata

    try:
        needed = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        return
    for line in needed:
        requirement, _, marker = line.partition(";")
        found = re.search(r"extra\s*==\s*['\"]([^'\"]+)['\"]", marker)
        if name := re.match(r"[A-Za-z0-9._-]+", requirement.strip()):
            yield name[0], found[1] if found else ""


def unfit(torch: str, cuda: str | None, torchaudio: str, failure: str | None) -> str | None:
    """Say that builds of torch and torchaudio do not fit together, and how to get two that do; None where they do.

    Args:
        torch, torchaudio: versions as installed, such as ``2.14.1+cu130``.
        cuda: of torch, None for a build for CPUs.
        failure: what importing torchaudio raised, if it did.
    """
    again = "take both from one index: pip install --force-reinstall torch torchaudio"
    if cuda is None:  # PyPI's builds are for CUDA on Linux
        again += " --index-url URL, with the URL of CPU builds that pytorch.org shows"
    audio_tag = torchaudio.partition("+")[2]
    audio_cuda = re.match(r"cu(\d+)\d$", audio_tag)
    if cuda is None and audio_cuda is None and audio_tag != "cpu" and failure is not None:
        return f"{torchaudio} is built for CUDA and torch {torch} for CPUs only ({failure:.120}): {again}"
    if cuda is None and audio_cuda is not None:
        return f"{torchaudio} is built for CUDA and torch {torch} for CPUs only: {again}"
    if cuda is not None and audio_tag == "cpu":
        return f"{torchaudio} is built for CPUs only and torch {torch} for CUDA {cuda}: {again}"
    if cuda is not None and audio_cuda is not None and audio_cuda[1] != cuda.partition(".")[0]:
        return f"{torchaudio} is built for CUDA {audio_cuda[1]} and torch {torch} for CUDA {cuda}: {again}"
    if failure is not None and torchaudio != NOT_INSTALLED:
        return f"{torchaudio} cannot be imported beside torch {torch} ({failure:.120}): {again}"
    return None


def _version(name: str) -> str:
    from importlib import metadata

    if name in ("torch", "torchaudio"):  # the module knows its build, which metadata may not
        try:
            if importlib.util.find_spec(f"{name}.version") is not None:
                return str(importlib.import_module(f"{name}.version").__version__)
        except Exception:  # a build that cannot be imported: metadata must do
            pass
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return NOT_INSTALLED


def _failure(name: str) -> str | None:
    """Import a module and return what it raised, in one line; None where it can be imported or is not there."""
    if importlib.util.find_spec(name) is None:
        return None
    try:
        importlib.import_module(name)
    except Exception as error:  # of a library that is not found, of a symbol, of a version
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return None

"""Serve: ``unisono serve NAME…``: models behind HTTP; see ``unisono.serve``.

A model is served under the last part of its name, or under another one: ``unisono serve voice=checkpoints/tts-en``.
"""

import argparse
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

KEY = "UNISONO_SERVE_KEY"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `unisono serve` takes."""
    parser.add_argument("models", nargs="+", metavar="NAME", help="an export: NAME, or SERVED-AS=NAME")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; beyond this machine needs a key")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (default 8000)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=1, help="processes, each with models of its own (default 1)")
    parser.add_argument("--batch-size", type=int, help="requests made together; default: what was measured of a model")
    parser.add_argument("--key-file", metavar="FILE", help=f"file with the key that clients send; or set {KEY}")
    parser.add_argument("--allow-origin", action="append", default=[], metavar="URL", help="site whose pages may ask")
    parser.add_argument("--allow-host", action="append", default=[], metavar="NAME", help="name it is asked under")
    parser.add_argument("--ui", action="store_true", help="a page made by Gradio at /ui, too (extra ui); without a key")
    parser.add_argument("--quiet", action="store_true", help="log no line for each request")
    bounds = parser.add_argument_group("limits, of each process; see docs/serving.md")
    for name, kind in (("requests", int), ("characters", int), ("request-characters", int), ("body", int)):
        bounds.add_argument(f"--max-{name}", type=kind, metavar="N")
    bounds.add_argument("--max-output", type=int, metavar="BYTES")
    bounds.add_argument("--max-connections", type=int, metavar="N")
    bounds.add_argument("--timeout", type=float, metavar="SECONDS")


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Load the models and serve them until a signal."""
    from unisono.errors import RequestError
    from unisono.extras import optional

    for package, module in (("fastapi", "fastapi"), ("uvicorn", "uvicorn"), ("prometheus-client", "prometheus_client")):
        optional(package, module, extra="serve")
    if args.ui:
        optional("gradio", extra="ui")
    if args.workers < 1:
        raise RequestError(
            f"--workers {args.workers} must be at least 1", code="range", path="--workers", value=args.workers
        )
    if args.batch_size is not None and args.batch_size < 1:
        raise RequestError(
            f"--batch-size {args.batch_size} must be at least 1",
            code="range",
            path="--batch-size",
            value=args.batch_size,
        )
    key = read_key(args.key_file)
    if args.host not in LOOPBACK and key is None:
        raise RequestError(
            f"--host {args.host} can be reached from elsewhere: give --key-file FILE, or set {KEY}",
            code="missing",
            path="--key-file",
            value=args.host,
        )
    if args.ui and key is not None:
        raise RequestError(
            "--ui: the Gradio page sends no key: leave --ui or the key out, or let a proxy ask for a password",
            code="conflict",
            path="--ui",
        )
    names = served_as(args.models)
    limits = limits_of(args)

    import socket

    from unisono.serve.connections import room_for
    from unisono.serve.processes import SOCKET, supervise
    from unisono.serve.running import bound

    room_for(limits.connections)
    given = os.environ.pop(SOCKET, None)
    listening = bound(args.host, args.port) if given is None else socket.socket(fileno=int(given))
    with listening:
        if given is None and args.workers > 1:
            return supervise(listening, args.workers, address(listening))
        return serve(args, names, limits, key, listening)


def serve(args: argparse.Namespace, names: dict[str, str], limits: Any, key: str | None, listening: Any) -> int:
    """Load the models and serve them in this process."""
    import logging
    import sys

    from unisono.export import load
    from unisono.serve.application import app
    from unisono.serve.gate import LOOPBACK as HOSTS
    from unisono.serve.running import run

    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(message)s", level=logging.WARNING)
    logging.getLogger("unisono.serve").setLevel(logging.WARNING if args.quiet else logging.INFO)
    models = {name: load(where, device=args.device) for name, where in names.items()}
    hosts = (*HOSTS, *args.allow_host)
    made = app(
        models, limits=limits, at_once=args.batch_size, key=key, hosts=hosts, origins=args.allow_origin, ui=args.ui
    )
    told = f"serving {', '.join(names)} at {address(listening)}"
    run(made, [listening], lambda: print(told, flush=True))
    return 0


def served_as(models: list[str]) -> dict[str, str]:
    """Return the name under which each export is served; raises ``RequestError`` where two have one."""
    from unisono.errors import RequestError

    names: dict[str, str] = {}
    for given in models:
        name, equals, where = given.partition("=")
        if not equals:
            name, where = Path(given.partition("@")[0]).name, given
        if name in names:
            raise RequestError(
                f"two models would be served as {name!r}: give one another name, {name}-2={where}",
                code="conflict",
                path="NAME",
                value=name,
            )
        names[name] = where
    return names


def read_key(path: str | None) -> str | None:
    """Return the key of a file, or of the environment; None where there is none. Raises ``RequestError``."""
    from unisono.errors import RequestError
    from unisono.files import read_text

    if path is None:
        key, source = os.environ.get(KEY), KEY
    else:
        key, source = read_text(path, RequestError).strip(), path
    if key is None:
        return None
    if len(key) < 16 or not key.isascii() or not key.isprintable() or " " in key:
        raise RequestError(
            f"the key of {source} must be at least 16 printable ASCII characters without spaces: "
            "make one with  openssl rand -hex 32",
            code="value",
            path=source,
        )
    return key


def limits_of(args: argparse.Namespace) -> Any:
    """Return the limits that were given; the rest are the defaults."""
    from unisono.serve.limits import Limits

    given = {field.name: getattr(args, f"max_{field.name}", None) for field in fields(Limits)}
    given["seconds"] = args.timeout
    return Limits(**{name: value for name, value in given.items() if value is not None})


def address(listening: Any) -> str:
    """Return the address of a socket as a URL."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

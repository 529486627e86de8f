"""The server beside the plain loop, interleaved: requests a second at 1 to 100 clients, first bytes, memory.

    python benchmarks/serve.py [checkpoints/tts-en] [--clients 1,8,32,100] [--rounds 2] [--seconds 10] [--piper VOICE]

The loop calls the same model on the same texts in a process of its own, one after the other; the server is a process
too, each with one thread of torch. Loop and servers take turns, so that a busy moment hits all. Clients send the next
request when they have their answer, over one connection each, and share the machine with the server. ``--piper`` sets
``piper.http_server`` beside it (needs flask), with the .onnx file of a voice; that is another one, so seconds of
sound are told too.
"""

import argparse
import http.client
import io
import json
import multiprocessing
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
import wave
from pathlib import Path

SENTENCES = [
    "The meeting was moved to Thursday because the hall had been promised to someone else.",
    "She opened the window and heard the rain falling on the leaves of the old garden.",
    "A small boat went slowly along the shore while the lights of the town came on.",
    "He had read the letter three times before he understood what it was asking of him.",
    "Nobody at the station could say when the next train to the north would be leaving.",
    "They built the wall of stones that the river had carried down from the mountains.",
    "Every morning the baker put two loaves aside for the family at the end of the road.",
    "It was the first warm day of the year, and all the children were out in the street.",
]
PROMPTS = [
    "To be, or not",
    "My lord, I ha",
    "Now is the wi",
    "O Romeo, Rome",
    "If music be t",
    "Once more unt",
    "The quality o",
    "All the world",
]


def bodies(kind: str) -> list[dict]:
    """What is asked of a model: sentences of a voice, 64 characters of a writer."""
    if kind == "Text":
        return [{"text": prompt, "length": 64, "seed": seed} for seed, prompt in enumerate(PROMPTS)]
    return [{"text": sentence} for sentence in SENTENCES]


def loop(checkpoint: str, pipe) -> None:
    """In a process of its own: call the model for so many seconds, whenever asked to."""
    import torch
    import unisono

    torch.set_num_threads(1)
    synthesizer = unisono.load(checkpoint)
    asked = bodies(synthesizer.model.Media.__name__)
    for fields in asked:
        synthesizer(fields)
    pipe.send(synthesizer.model.Media.__name__)
    while (seconds := pipe.recv()) is not None:
        begun, count = time.monotonic(), 0
        while time.monotonic() - begun < seconds:
            made = synthesizer(asked[count % len(asked)])
            if hasattr(made, "encoded"):
                made.encoded(made.suffixes[0])
            count += 1
        pipe.send((count / (time.monotonic() - begun), peak(os.getpid())))


def peak(pid: int) -> float:
    """Return the most memory that a process has held, in GB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 2**20


def ask(connection: http.client.HTTPConnection, path: str, body: dict) -> tuple[int, bytes]:
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    return answer.status, answer.read()


def load(port: int, path: str, asked: list[dict], clients: int, seconds: float) -> tuple[float, float, dict[int, int]]:
    """Return requests a second, the 95th percentile of the waits, and how often each status was answered."""
    waits: list[float] = []
    statuses: dict[int, int] = {}
    last = begun = time.monotonic()
    lock = threading.Lock()

    def client(number: int) -> None:
        nonlocal last
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        turn = number
        while time.monotonic() - begun < seconds:
            sent = time.monotonic()
            status, _ = ask(connection, path, asked[turn % len(asked)])
            turn += 1
            with lock:
                last = time.monotonic()
                waits.append(last - sent)
                statuses[status] = statuses.get(status, 0) + 1
        connection.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    waits.sort()
    return statuses.get(200, 0) / (last - begun), waits[int(0.95 * (len(waits) - 1))], statuses


def first_byte(port: int, text: str, streams: int = 1) -> list[tuple[float, float]]:
    """Return the seconds to the first byte of sound and to the last, of streams that begin together."""
    found: list[tuple[float, float]] = []

    def read() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        begun = time.monotonic()
        body = json.dumps({"model": "model", "input": text, "response_format": "pcm"})
        connection.request("POST", "/v1/audio/speech", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read(1)
        first = time.monotonic() - begun
        answer.read()
        found.append((first, time.monotonic() - begun))
        connection.close()

    threads = [threading.Thread(target=read) for _ in range(streams)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(found)


def sound(port: int, path: str, asked: list[dict]) -> float:
    """Return the mean length of the answers in seconds."""
    connection, lengths = http.client.HTTPConnection("127.0.0.1", port, timeout=600), []
    for body in asked:
        with wave.open(io.BytesIO(ask(connection, path, body)[1])) as file:
            lengths.append(file.getnframes() / file.getframerate())
    connection.close()
    return statistics.mean(lengths)


def until_ready(port: int, path: str, process: subprocess.Popen) -> None:
    while process.poll() is None:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise SystemExit(f"the server ended with {process.returncode}")


def free_port() -> int:
    import socket

    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkpoint", nargs="?", default="checkpoints/tts-en")
    parser.add_argument("--clients", default="1,8,32,100")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--piper", metavar="VOICE")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"

    here, there = multiprocessing.get_context("spawn").Pipe()
    looping = multiprocessing.get_context("spawn").Process(target=loop, args=(args.checkpoint, there), daemon=True)
    looping.start()
    there.close()  # so that the end of that process is seen here
    try:
        kind = here.recv()
    except EOFError:
        raise SystemExit("the loop ended before it was ready") from None
    asked = bodies(kind)

    port = free_port()
    command = [sys.executable, "-m", "unisono", "serve", f"model={args.checkpoint}", f"--port={port}", "--quiet"]
    server = subprocess.Popen([*command, "--max-requests=256"], stdout=subprocess.DEVNULL)
    until_ready(port, "/ready", server)
    piper = None
    if args.piper:
        piper_port = free_port()
        piper = subprocess.Popen(
            [sys.executable, "-m", "piper.http_server", "-m", args.piper, "--port", str(piper_port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until_ready(piper_port, "/voices", piper)

    clients = [int(number) for number in args.clients.split(",")]
    rates: dict[int, list[float]] = {number: [] for number in clients}
    ratios: dict[int, list[float]] = {number: [] for number in clients}
    loops, slowest = [], dict.fromkeys(clients, 0.0)
    theirs: dict[int, list[float]] = {number: [] for number in clients}
    print(f"{args.checkpoint}: requests a second; load of the machine {os.getloadavg()[0]:.1f}", flush=True)
    for number in clients * args.rounds:
        here.send(args.seconds)
        plain, loop_peak = here.recv()
        loops.append(plain)
        rate, wait, statuses = load(port, "/v1/models/model", asked, number, args.seconds)
        here.send(args.seconds)
        again, loop_peak = here.recv()
        rates[number].append(rate)
        ratios[number].append(rate / ((plain + again) / 2))
        slowest[number] = max(slowest[number], wait)
        told = f"{number:>4} clients  loop {plain:.2f}, {again:.2f}  server {rate:.2f}  ratio {ratios[number][-1]:.2f}"
        told += f"  p95 {wait:.2f} s  {statuses}"
        if piper is not None:
            theirs[number].append(
                load(piper_port, "/", [{"text": body["text"]} for body in asked], number, args.seconds)[0]
            )
            told += f"  piper {theirs[number][-1]:.2f}"
        print(told, flush=True)
    print("median ratio", {number: round(statistics.median(found), 2) for number, found in ratios.items()})
    print(f"peak memory: loop {loop_peak:.2f} GB, server {peak(server.pid):.2f} GB")
    if kind == "Audio":
        text = " ".join(SENTENCES * 5)
        ((first, whole),) = first_byte(port, text)
        print(f"40 sentences: first byte after {first:.2f} s of {whole:.2f} s: 1/{whole / first:.0f}")
        four = [found for found, _ in first_byte(port, text, streams=4)]
        told = ", ".join(f"{found:.2f}" for found in four)
        print(f"four streams: first bytes after {told} s: {four[-1] / four[0]:.1f} ×")
        print(f"seconds of sound for each sentence: {sound(port, '/v1/models/model', asked):.2f}")
        if piper is not None:
            print(f"of piper: {sound(piper_port, '/', asked):.2f}")
    here.send(None)
    for process in (server, piper):
        if process is not None:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


if __name__ == "__main__":
    main()

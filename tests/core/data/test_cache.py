"""The feature cache: by content, atomic, mended where damaged, the same in parallel."""

import errno
import json
import math
import os
import subprocess
import sys
from functools import partial
from operator import attrgetter

import pytest
import torch
from refused import refused
from safetensors import safe_open
from safetensors.torch import save_file
from unisono.data import Drop, cache_root, map_processes
from unisono.data import cache as cache_module
from unisono.data import parallel as parallel_module
from unisono.data.known import content_hash
from unisono.errors import DataError, MissingExtra
from unisono_sound.corpus import Utterance
from unisono_sound.signal import read_audio, write_audio

prepare_features = partial(cache_module.prepare_features, file=attrgetter("audio"))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNISONO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def utterances(tmp_path):
    for i in range(4):
        write_audio(tmp_path / f"{i}.wav", torch.full((100 + i,), i / 8), 8000)
    return [Utterance(f"u{i}", tmp_path / f"{i}.wav", f"text {i}") for i in range(4)]


def features_of(utterance, log=None):
    """Picklable: what a plugin's compute function looks like."""
    if log is not None:
        with open(log, "a") as file:
            file.write(utterance.id + "\n")
    wave, rate = read_audio(utterance.audio)
    if utterance.text == "drop me":
        raise Drop("empty text", "no letters")
    return {"wave": wave, "twice": 2 * wave[::2]}, {"rate": rate, "level": float(wave.max())}


def entries(cache):
    return sorted(p for p in (cache / "features").rglob("*") if p.is_file())


def test_computed_once_then_found(utterances, tmp_path, cache):
    compute = partial(features_of, log=tmp_path / "log")
    first = prepare_features(utterances, compute, "v1", progress=False)
    again = prepare_features(utterances, compute, "v1", progress=False)
    assert (tmp_path / "log").read_text().split() == ["u0", "u1", "u2", "u3"]
    assert len(entries(cache)) == 4
    assert all(path.suffix == ".safetensors" for path in entries(cache))
    for i, (a, b) in enumerate(zip(first, again, strict=True)):
        assert a.item == utterances[i]
        assert a.features.shapes == b.features.shapes == {"wave": (100 + i,), "twice": ((101 + i) // 2,)}
        assert b.features.facts == {"rate": 8000, "level": pytest.approx(i / 8, abs=1e-4)}
        assert torch.equal(b.features.load("wave"), read_audio(utterances[i].audio)[0])


def test_slices_from_disk_and_from_memory(utterances):
    (prepared, *_) = prepare_features(utterances[3:], features_of, "v1", progress=False)
    whole = prepared.features.load("wave")
    part = prepared.features.load("wave", 10, 20)
    prepared.features.hold()
    prepared.features.path.unlink()
    assert torch.equal(part, whole[10:20])
    assert torch.equal(prepared.features.load("wave", 10, 20), part)
    assert torch.equal(prepared.features.load("wave"), whole)


def test_the_key_is_content_version_and_extra_key(utterances, tmp_path, cache):
    compute = partial(features_of, log=tmp_path / "log")

    def calls():
        return len((tmp_path / "log").read_text().split())

    prepare_features(utterances, compute, "v1", progress=False)
    moved = [Utterance(u.id, u.audio.rename(tmp_path / f"moved{u.audio.name}")) for u in utterances]
    prepare_features(moved, compute, "v1", progress=False)
    assert calls() == 4
    prepare_features(moved, compute, "v2", progress=False)
    assert calls() == 8
    prepare_features(moved, compute, "v2", key=lambda u: u.id, progress=False)
    assert calls() == 12
    write_audio(moved[0].audio, torch.zeros(100), 8000)
    write_audio(moved[1].audio, torch.full((101,), 0.3), 8000)
    prepare_features(moved, compute, "v1", progress=False)
    # the first is as it was (all zeros), the second has changed
    assert calls() == 13


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty", "zeroed", "facts", "dtype"])
def test_a_damaged_entry_is_made_anew(utterances, cache, damage):
    prepare_features(utterances, features_of, "v1", progress=False)
    victim = entries(cache)[0]
    data = victim.read_bytes()
    damaged = {"truncated": data[:-5], "garbage": os.urandom(len(data)), "empty": b""}
    damaged |= {"zeroed": data[:-40] + bytes(20) + data[-20:], "facts": data.replace(b"8000", b"8001")}
    damaged["dtype"] = data.replace(b"F32", b"I32")
    assert damaged[damage] != data
    victim.write_bytes(damaged[damage])
    again = prepare_features(utterances, features_of, "v1", progress=False)
    assert victim.read_bytes() == data
    assert all(torch.equal(p.features.load("wave"), read_audio(p.item.audio)[0]) for p in again)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda place: os.symlink(place, place)])
def test_an_entry_that_is_no_file_blocks_nobody(utterances, cache, make):
    prepare_features(utterances, features_of, "v1", progress=False)
    victim = entries(cache)[0]
    victim.unlink()
    make(victim)
    notes = []
    again = prepare_features(utterances, features_of, "v1", progress=False, note=notes.append)
    assert all(torch.equal(p.features.load("wave"), read_audio(p.item.audio)[0]) for p in again)
    assert victim.is_file() or "1 of 4 items are kept in memory" in notes[0]


def test_broken_utterances_stop_nothing_else(utterances, tmp_path, cache):
    (tmp_path / "zero.wav").touch()
    (tmp_path / "cut.wav").write_bytes(utterances[3].audio.read_bytes()[:100])
    broken = [
        Utterance("zero", tmp_path / "zero.wav"),
        Utterance("cut", tmp_path / "cut.wav"),
        Utterance("gone", tmp_path / "gone.wav"),
        Utterance("said", utterances[0].audio, "drop me"),
    ]
    mixed = [broken[0], utterances[1], broken[1], utterances[2], broken[2], broken[3]]
    results = prepare_features(mixed, features_of, "v1", progress=False)
    reasons = [r.reason if isinstance(r, Drop) else r.item.id for r in results]
    assert reasons == ["unreadable", "u1", "unreadable", "u2", "unreadable", "empty text"]
    assert "cut.wav: truncated" in results[2].detail
    assert "gone.wav" in results[4].detail
    assert len(entries(cache)) == 2


def chokes(utterance):
    if utterance.id in ("u1", "u2"):
        raise {"u1": TypeError("frames must be specified"), "u2": MemoryError("6.9 TiB")}[utterance.id]
    return features_of(utterance)


def test_whatever_a_library_raises_drops_one_item(utterances, tmp_path):
    results = prepare_features(utterances, chokes, "v1", progress=False)
    assert [isinstance(r, Drop) for r in results] == [False, True, True, False]
    assert results[1].reason == "unreadable"
    assert results[1].detail == f"{tmp_path}/1.wav: TypeError: frames must be specified"


def fails(utterance):
    raise MissingExtra("swift-f0", "tts")


def test_what_is_not_the_recordings_fault_is_raised(utterances):
    with refused(MissingExtra, "dependency", "swift-f0"):
        prepare_features(utterances, fails, "v1", progress=False)


@pytest.mark.parametrize("fault", ["a file is there", "no rights", "a full disk"])
def test_an_unwritable_cache_is_done_without(utterances, cache, monkeypatch, fault):
    if fault == "a file is there":
        cache.write_text("mine")
    else:

        def refuse(tensors, place, metadata):
            place.write_bytes(b"half")
            raise OSError(errno.ENOSPC if fault == "a full disk" else errno.EACCES, "x")

        monkeypatch.setattr(cache_module.safetensors.torch, "save_file", refuse)
    notes = []
    results = prepare_features(utterances, features_of, "v1", progress=False, note=notes.append)
    for utterance, result in zip(utterances, results, strict=True):
        wave = read_audio(utterance.audio)[0]
        result.features.hold()
        assert torch.equal(result.features.load("wave"), wave)
        assert torch.equal(result.features.load("wave", 5, 9), wave[5:9])
        assert result.features.shapes["wave"] == (len(wave),) and result.features.facts["rate"] == 8000
    assert len(notes) == 1 and notes[0].startswith("4 of 4 items are kept in memory")
    assert "UNISONO_CACHE" in notes[0] and (fault != "a full disk" or "no space left on device" in notes[0])
    assert fault == "a file is there" or not entries(cache)


def test_an_entry_that_is_gone_as_soon_as_it_is_made_is_done_without(utterances, cache, monkeypatch):
    real = cache_module.write_entry

    def lose(path, tensors, facts):
        real(path, tensors, facts)
        if facts["level"] > 0.1:
            path.unlink()

    monkeypatch.setattr(cache_module, "write_entry", lose)
    notes = []
    results = prepare_features(utterances, features_of, "v1", progress=False, note=notes.append)
    assert [r.item.id for r in results] == ["u0", "u1", "u2", "u3"] and "3 of 4 items are kept in memory" in notes[0]
    assert torch.equal(results[3].features.load("wave"), read_audio(utterances[3].audio)[0])


def test_names_of_entries_collide_for_no_two_keys(utterances, cache):
    one = utterances[:1]
    pairs = [
        ("a", "bc"),
        ("ab", "c"),
        ("abc", ""),
        ("", "abc"),
        ("1:a;", ""),
        ("", "1:a;"),
        ("é", "a"),
        ("e", "\u0301a"),
    ]
    pairs.append(("a", "\udcff"))
    for version, key in pairs:
        prepare_features(one, features_of, version, key=lambda _, key=key: key, progress=False)
    assert len(entries(cache)) == len(pairs)


def test_the_checksum_is_of_tensors_names_and_facts(cache):
    """A change of any of them that leaves the file readable is a damaged entry."""
    tensors, facts = {"a": torch.arange(4.0), "b": torch.arange(3)}, {"rate": 8000}
    cache_module.write_entry(cache / "x", tensors, facts)
    found = cache_module.read_entry(cache / "x")
    assert found is not None and found[1] == facts and torch.equal(found[0]["a"], tensors["a"])
    with safe_open(cache / "x", "pt") as file:
        kept = file.metadata()["entry"]
    checksum = json.loads(kept)["checksum"]
    for other, told in (
        ({**tensors, "a": torch.arange(4.0) + 1}, facts),
        ({"b": tensors["a"], "a": tensors["b"]}, facts),
        ({**tensors, "a": tensors["a"].reshape(2, 2)}, facts),
        (tensors, {"rate": 16000}),
    ):
        entry = {"entry": json.dumps({"checksum": checksum, "facts": told})}
        save_file(other, cache / "x", entry)
        assert cache_module.read_entry(cache / "x") is None
    save_file(tensors, cache / "x", {"entry": kept})
    assert cache_module.read_entry(cache / "x") is not None


def test_a_content_hash_is_of_every_byte(tmp_path):
    """Two files of one size that differ once, at the end of the second block that is read."""
    made = set()
    for last in (b"a", b"b"):
        (tmp_path / "x").write_bytes(bytes(2**21 - 1) + last)
        made.add(content_hash(tmp_path / "x"))
    assert len(made) == 2


def test_an_entry_that_vanishes_is_one_sentence(utterances, cache):
    (prepared, *_) = prepare_features(utterances, features_of, "v1", progress=False)
    prepared.features.path.unlink()
    for use in (lambda: prepared.features.load("wave"), prepared.features.hold):
        with refused(DataError, "damaged", prepared.features.path, names="run again"):
            use()


def test_cache_root(monkeypatch, tmp_path):
    assert cache_root() == tmp_path / "cache"
    monkeypatch.delenv("UNISONO_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_root() == tmp_path / ".cache" / "unisono"


def fails_at(limit, value):
    if value >= limit:
        raise DataError(f"{value} is too much", code="range", path="value", value=value)
    return value


def test_processes_give_the_same_in_order(monkeypatch):
    monkeypatch.setattr(parallel_module, "FEW", 4)
    assert map_processes(math.sqrt, range(40), 2, progress=False) == [math.sqrt(i) for i in range(40)]
    with refused(DataError, "range", "value") as caught:
        map_processes(partial(fails_at, 20), range(40), 2, progress=False)
    assert caught.value.value >= 20  # it crossed the processes whole


def test_progress_goes_to_stderr(capsys):
    assert map_processes(abs, [-1, -2], 1, progress=True, description="counting") == [1, 2]
    out, err = capsys.readouterr()
    assert "counting" in err and not out


@pytest.mark.slow
def test_an_unguarded_script_still_gets_its_answer(tmp_path):
    # workers import the script again; where it has no guard they die, and one process goes on
    script = tmp_path / "script.py"
    script.write_text(
        "from unisono.data import map_processes, parallel\n"
        "parallel.FEW = 1\n"
        "print(map_processes(abs, [-3, -2, -1], 2, progress=False))\n"
    )
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, env={**os.environ}, timeout=120)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "[3, 2, 1]"
    assert "__main__" in run.stderr

"""Estimates: closed forms of days, failures and storage, and a factor that is measured as a batch works."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from refused import refused
from unisono import cli
from unisono.errors import DataError, RequestError
from unisono.synthesis import Synthesizer
from unisono_restore import cli as verb
from unisono_restore import estimate
from unisono_restore.estimate import CODECS, Assumed, Measured, carried, measure, table
from unisono_restore.overlap import OverlapSave
from unisono_restore.restorer import Restorer

RATE = 8000
FREE = {"scaling": 1.0, "restart_minutes": 0.0, "hours_between_failures": 1e18}


class Same(Restorer):
    """Returns what it is given."""

    def pieces(self, streamed):
        return OverlapSave(RATE, 0)

    def restore(self, wave, known):
        return wave


@pytest.fixture
def synthesizer() -> Synthesizer:
    model = Same()
    model.build({"sample_rate": RATE})
    return Synthesizer(model, {"model": "restore/same"})


def rows(text: str) -> dict[str, list[str]]:
    """The cells of a table's rows by their first."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return {first: rest for first, *rest in cells}


def test_without_failures_days_are_hours_times_factor_over_devices():
    assumed = Assumed.parse(hours=2400, **FREE, shard_size=1)
    for devices in (1, 2, 50):
        found = carried(assumed, 0.5, 1e-9, devices)
        assert found.days == pytest.approx(2400 * 0.5 / devices / 24, rel=1e-9)
        assert (found.device_hours, found.failures, found.repeated) == pytest.approx((1200, 0, 0), abs=1e-9)


def test_a_million_hours_by_the_published_factor():
    """Miipher-2 (arXiv:2505.04457): 0.0078, a million hours in about three days of a hundred accelerators."""
    found = carried(Assumed.parse(**FREE), 0.0078, 10, 100)
    assert found.device_hours == pytest.approx(7800) and found.days == pytest.approx(3.25, abs=0.01)


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_what_failures_take_is_the_sum_of_doing_it_again(share):
    """Each failure loses half a shard and the restart, and so do the failures of the work that is done again: a
    geometric series."""
    assumed = Assumed.parse(hours=1000, hours_between_failures=4, restart_minutes=240 * share - 30, scaling=0.5)
    recording = 3600 * 0.5 / (256 * 0.5)  # a shard is an hour of a device that keeps half of its rate
    found = carried(assumed, 0.5, recording, 7)
    straight = 1000 * 0.5 / 0.5
    assert found.device_hours == pytest.approx(sum(straight * share**k for k in range(200)))
    assert found.failures == pytest.approx(found.device_hours / 4)
    assert found.repeated == pytest.approx(1 - straight / found.device_hours)
    assert found.days == pytest.approx((found.device_hours / 7 + 1) / 24)


def test_more_devices_than_shards_wait():
    assumed = Assumed.parse(hours=10, **FREE, shard_size=360)
    ten, many = (carried(assumed, 0.1, 10, devices) for devices in (10, 1000))  # ten shards of an hour of sound
    assert many.days == ten.days == pytest.approx((1 / 10 + 0.1) / 24)


def test_failures_that_lose_more_than_is_done_are_refused():
    with refused(RequestError, "conflict", "shard_size", value=256):
        carried(Assumed.parse(hours_between_failures=1, restart_minutes=60), 0.1, 1, 1)
    with refused(RequestError, "missing", "factor"):
        table(Assumed.parse(), None, RATE)


@pytest.mark.parametrize(
    ("fields", "code", "path"),
    [
        ({"factor": 0}, "range", "factor"),
        ({"scaling": 1.5}, "range", "scaling"),
        ({"hours": math.inf}, "range", "hours"),
        ({"devices": [4, 0]}, "range", "devices"),
        ({"factr": 1}, "unknown", "factr"),
    ],
)
def test_what_cannot_be_assumed_is_refused(fields, code, path):
    with refused(RequestError, code, path):
        Assumed.parse(**fields)


def test_storage_and_bandwidth_are_bits_times_seconds():
    assumed = Assumed.parse(hours=1e6, source_rate=8000, flac=0.5, opus_kbps=24, factor=0.25, devices=[4], **FREE)
    found = rows(table(assumed, None, 16000))
    assert found[".wav"] == ["128", "57.6", "256", "115.2"]  # 8,000 · 2 bytes · 3.6e9 s, and twice that
    assert found[".flac"] == ["64", "28.8", "128", "57.6"]
    assert found[".opus"][3] == "10.8"
    days, hours, *_, read, written = found["4"]
    assert (days, hours) == ("2,604.17", "250,000")
    assert (read, written) == ("0.26", "0.51")  # 4 devices of 4 × real time at 16 and 32 kB/s
    assert found["not restored"] == ["1e-06 of the recordings: 360, each named in the manifest"]


def test_what_is_measured_goes_before_what_is_assumed():
    measured = Measured(0.125, 0.25, 8, 2, 40.0, 99.0, dict.fromkeys(CODECS, 50.0))
    found = rows(table(Assumed.parse(hours=8000), measured, RATE))
    assert found["sound"] == ["8,000 hours in 5,760,000 recordings of 5 s"]
    assert found["one core with one thread"] == ["0.125 s for a second of sound, measured"]
    assert found["not restored"][0].startswith("0.2 of the recordings: 1,152,000")
    assert found["as it lies there"][:2] == ["99", "0.4"] and found[".mp3"][2] == "50"
    given = rows(table(Assumed.parse(hours=8000, factor=1, failing=0), measured, RATE, "cuda"))
    assert given["one cuda"] == ["1 s for a second of sound, given"]
    assert given["not restored"][0].startswith("0 of the recordings: 0,")


def test_the_factor_is_processor_time_of_one_thread(synthesizer, tmp_path, monkeypatch):
    clock = {"process_time": 0.0, "perf_counter": 0.0}

    def ticking(name, step):
        def tick():
            clock[name] += step
            return clock[name]

        return tick

    monkeypatch.setattr(
        estimate,
        "time",
        SimpleNamespace(process_time=ticking("process_time", 0.5), perf_counter=ticking("perf_counter", 2.0)),
    )
    for name in ("a", "b", "c"):
        soundfile.write(tmp_path / f"{name}.wav", 0.1 * np.ones(2 * RATE), RATE)
    (tmp_path / "bad.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:900])
    found = measure(synthesizer, tmp_path, seconds=3.0)  # two of two seconds each, and the bad one
    assert (found.recordings, found.seconds, found.factor, found.wall) == (2, 4.0, 0.25, 1.0)
    assert found.source_kbps == pytest.approx(8 * (2 * RATE * 2 + 44) / 2 / 1000)
    assert found.kbps[".wav"] == pytest.approx(found.source_kbps) and found.kbps[".flac"] < 20
    with refused(DataError, "empty", "source"):
        measure(synthesizer, tmp_path / "bad.wav")


def test_the_verb_prints_the_table_and_refuses_what_it_would_not_do(synthesizer, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("unisono.export.load", lambda *given, **more: synthesizer)
    assert cli.main(["restore", "same", "--estimate", "--assume", "factor=0.5", "--assume", "devices=[3]"]) == 0
    assert "3" in rows(capsys.readouterr().out)
    soundfile.write(tmp_path / "a.wav", 0.1 * np.ones(RATE), RATE)
    assert cli.main(["restore", "same", str(tmp_path / "a.wav"), "--estimate"]) == 0
    assert capsys.readouterr().out.startswith("measured: 1 recordings of 1 s, 0 more failed")
    for given, code, path in (
        (["a.wav"], "missing", "target"),
        (["a.wav", "b.wav", "--estimate"], "conflict", "target"),
        (["a.wav", "b.wav", "--assume", "hours=3"], "conflict", "--assume"),
        (["--estimate", "--assume", "hour=3"], "unknown", "--hour"),
    ):
        args = SimpleNamespace(
            **{"checkpoint": "same", "source": None, "target": None, "estimate": "--estimate" in given},
            assume=[given[-1]] if "--assume" in given else [],
        )
        places = [one for one in given if one.endswith(".wav")]
        args.source, args.target = [*places, None, None][:2]
        with refused(RequestError, code, path):
            verb.run(args, [])  # pyright: ignore[reportArgumentType]

"""Progress: rates, the share of time that data were waited for, and operations per second."""

from types import SimpleNamespace

import pytest
from unisono.data import ReplayableLoader
from unisono.train.callbacks import progress
from unisono.train.callbacks.progress import ProgressLines, Throughput


class Clock:
    """A time that moves when told."""

    now = 100.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress.time, "perf_counter", clock.perf_counter)
    return clock


class Counted:
    """Stands for ``Flops``: so many operations per item."""

    counting, peak = False, None

    def of(self, batch):
        return 1e12 * batch


def run(clock, throughput, steps, world_size=1):
    """Show steps of (seconds, seconds of these that data were waited for, items); returns what was logged last."""
    logged = {}
    model = SimpleNamespace(
        units=lambda batch: {"items": batch},
        log=lambda name, value, **kw: logged.update({name: value}),
        logs_now=True,
    )
    loader = SimpleNamespace(waited=5.0)
    trainer = SimpleNamespace(
        train_dataloader=loader,
        global_step=10,
        log_every_n_steps=50,
        world_size=world_size,
        global_rank=0,
        strategy=SimpleNamespace(),
        is_global_zero=True,
    )
    for seconds, waited, items in steps:
        throughput.on_train_batch_start(trainer, model, items, 0)
        clock.now += seconds
        loader.waited += waited
        throughput.on_train_batch_end(trainer, model, None, items, 0)
    return logged


def test_shares_are_those_of_the_time_that_was_spent(clock):
    flops = Counted()
    flops.peak = 8e12
    logged = run(clock, Throughput(flops), [(2.0, 0.5, 4)] * 5, world_size=2)
    assert logged["items/s"] == pytest.approx(2 * 4 / 2.0)  # of both ranks
    assert logged["data_wait"] == pytest.approx(0.25)
    assert logged["tflops"] == pytest.approx(4 / 2.0)  # of one device
    assert logged["mfu"] == pytest.approx(4e12 / 2.0 / 8e12)


def test_long_steps_weigh_as_much_as_they_last(clock):
    """Smoothed are seconds, not ratios of them: one step that waits 9 of 10 s is not one of many that wait none."""
    logged = run(clock, Throughput(smoothing=0.5), [(1.0, 0.0, 1), (10.0, 9.0, 1)])
    assert logged["data_wait"] == pytest.approx(4.5 / 5.5)


def test_without_a_known_peak_there_is_no_percentage(clock):
    throughput = Throughput(Counted())
    logged = run(clock, throughput, [(1.0, 0.0, 1)])
    assert "mfu" not in logged and logged["tflops"] == pytest.approx(1.0)


def test_a_counted_step_changes_no_share(clock):
    flops = Counted()
    throughput = Throughput(flops)
    run(clock, throughput, [(1.0, 0.0, 1)])
    before = dict(throughput.shares)
    flops.counting = True
    run(clock, throughput, [(50.0, 0.0, 1)])
    assert throughput.shares == before


def test_lines_tell_all_of_it(clock, capsys):
    flops = Counted()
    flops.peak = 4e12
    throughput = Throughput(flops)
    run(clock, throughput, [(2.0, 0.5, 4)])
    lines = ProgressLines(throughput)
    lines._print(SimpleNamespace(global_step=3, is_global_zero=True), _model())
    told = capsys.readouterr().err
    assert "2 TFLOP/s" in told and "MFU 50.0%" in told and "data wait 25%" in told


def _model():
    from unisono.model import Model

    model = Model.__new__(Model)
    object.__setattr__(model, "step_losses", {})
    model.__class__ = type("Bare", (Model,), {"known_steps": None})  # else the trainer's, which is not here
    return model


def test_the_loader_counts_what_it_waited(monkeypatch):
    """A clock that moves by a second at each look: two looks per batch, and two at the end."""
    ticks = iter(range(1000))
    monkeypatch.setattr("unisono.data.loader.time.perf_counter", lambda: float(next(ticks)))
    items = SimpleNamespace(item=lambda index, generator: {"x": index})
    plan = SimpleNamespace(batches=lambda epoch: [[0, 1], [2, 3]], batch_size=2)
    loader = ReplayableLoader(items, plan, collate=list)
    assert loader.waited == 0.0
    batches = list(loader)
    assert [[item["row"] for item in batch] for batch in batches] == [[0, 1], [2, 3]]
    assert loader.waited == 3.0

"""The audit adds up, whatever is dropped whenever; limits judge measured facts."""

import io
import json

import pytest
import torch
from refused import refused
from rich.console import Console
from unisono.data import Audit
from unisono.errors import DataError
from unisono_sound.corpus import AudioLimits, wave_facts


def test_audit_adds_up_and_later_stages_can_drop():
    audit = Audit("recordings")
    for i in range(4):
        audit.keep(f"u{i}", 0.5, "hours", "kim" if i < 3 else "lee")
    audit.drop("bad", "unreadable", "bad.wav: truncated")
    assert (audit.kept, audit.amount) == (4, 2.0)
    audit.drop("u1", "more tokens than frames", "80 tokens, 60 frames")
    assert (audit.kept, audit.amount) == (3, 1.5)
    assert audit.reasons == {"unreadable": 1, "more tokens than frames": 1}
    assert audit.by_group() == {"kim": {"kept": 2, "amount": 1.0}, "lee": {"kept": 1, "amount": 0.5}}
    report = json.loads(json.dumps(audit.to_dict()))
    assert (report["items"], report["kept"], report["unit"], report["amount"]) == ("recordings", 3, "hours", 1.5)
    assert report["dropped"][1] == {
        "id": "u1", "reason": "more tokens than frames", "detail": "80 tokens, 60 frames",
    }  # fmt: skip


def test_table_shows_counts_reasons_and_examples():
    audit = Audit("recordings")
    audit.keep("a", 1.0, "hours", "kim")
    for i in range(5):
        audit.drop(f"quiet{i}", "silent", "peak -80 dBFS")
    audit.note("2 of 10 items sit out")
    text = printed(audit)
    for part in (
        "recordings",
        "hours",
        "kept, kim",
        "1.00",
        "dropped: silent",
        "5",
        "quiet0 (peak -80 dBFS)",
        "and 2 more",
    ):
        assert part in text
    assert "2 of 10 items sit out" in text


def printed(audit):
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(audit.table())
    return console.export_text()


@pytest.mark.parametrize(
    ("items", "unit", "amounts", "shown"),
    [
        ("pictures", "", (0, 0), None),
        ("clips", "seconds", (1.25, 2.5), "3.75"),
        ("documents", "tokens", (1200, 800), "2,000"),
        ("recordings", "hours", (0.25, 0.5), "0.75"),
    ],
)
def test_every_kind_of_data_has_its_own_unit(items, unit, amounts, shown):
    audit = Audit(items)
    for number, amount in enumerate(amounts):
        audit.keep(f"i{number}", amount, unit)
    text, report = printed(audit), audit.to_dict()
    assert items in text and "utterance" not in text and ("hours" in text) == (unit == "hours")
    assert (unit in text) and (shown is None or shown in text)
    assert (report["items"], report["unit"], report.get("amount")) == (items, unit, sum(amounts) if unit else None)


def test_two_units_in_one_audit_are_refused():
    audit = Audit("clips")
    audit.keep("a", 2.0, "seconds")
    with refused(DataError, "conflict", "unit", value="frames"):
        audit.keep("b", 60, "frames")


RATE = 16000
SPEECH = 0.3 * torch.sin(torch.arange(RATE) / 20)


@pytest.mark.parametrize(
    ("wave", "reason"),
    [
        (SPEECH, None),
        (0.002 * SPEECH, "silent"),
        (torch.zeros(RATE), "silent"),
        ((10 * SPEECH).clamp(-1, 1), "clipped"),
        (SPEECH[:800], "too short"),
        (SPEECH[:0], "too short"),
        (SPEECH.repeat(31), "too long"),
    ],
)
def test_limits(wave, reason):
    verdict = AudioLimits().judge(wave_facts(wave, RATE))
    assert (verdict and verdict[0]) == reason


def test_facts_are_measured():
    wave = torch.tensor([0.0, 0.5, -1.0, 0.25])
    facts = wave_facts(wave, 2)
    assert facts["seconds"] == 2.0
    assert facts["clipped"] == 0.25
    assert facts["peak_dbfs"] == pytest.approx(0.0)

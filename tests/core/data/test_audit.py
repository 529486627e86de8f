"""The audit adds up, whatever is dropped whenever; limits judge measured facts."""

import json

import pytest
import torch
from rich.console import Console
from unisono.data import Audit
from unisono_sound.corpus import AudioLimits, wave_facts


def test_audit_adds_up_and_later_stages_can_drop():
    audit = Audit()
    for i in range(4):
        audit.keep(f"u{i}", 1800.0, "kim" if i < 3 else "lee")
    audit.drop("bad", "unreadable", "bad.wav: truncated")
    assert (audit.kept, audit.hours) == (4, 2.0)
    audit.drop("u1", "more tokens than frames", "80 tokens, 60 frames")
    assert (audit.kept, audit.hours) == (3, 1.5)
    assert audit.reasons == {"unreadable": 1, "more tokens than frames": 1}
    assert audit.by_speaker()["kim"] == {"kept": 2, "hours": 1.0}
    report = json.loads(json.dumps(audit.to_dict()))
    assert report["kept"] == 3
    assert report["dropped"][1] == {
        "id": "u1", "reason": "more tokens than frames", "detail": "80 tokens, 60 frames",
    }  # fmt: skip


def test_table_shows_counts_reasons_and_examples():
    audit = Audit()
    audit.keep("a", 3600.0, "kim")
    for i in range(5):
        audit.drop(f"quiet{i}", "silent", "peak -80 dBFS")
    audit.note("2 of 10 items sit out")
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(audit.table())
    console.file.close()
    text = console.export_text()
    for part in (
        "kept, kim",
        "1.00",
        "dropped: silent",
        "5",
        "quiet0 (peak -80 dBFS)",
        "and 2 more",
    ):
        assert part in text
    assert "2 of 10 items sit out" in text


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

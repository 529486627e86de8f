"""Facts of every shipped export are of their model's family, and are written as they were read."""

import json
from pathlib import Path

import pytest
from refused import refused
from unisono import plugin
from unisono.data import Facts, facts_of

EXPORTS = sorted((Path(__file__).parent.parent / "checkpoints").rglob("unisono.json"))


def test_there_are_exports_of_every_plugin():
    models = {json.loads(path.read_text(encoding="utf-8"))["model"].partition("/")[0] for path in EXPORTS}
    assert models == {
        "asr",
        "branches",
        "codec",
        "control",
        "convert",
        "image",
        "motion",
        "music",
        "restore",
        "text",
        "tts",
    }


@pytest.mark.parametrize("path", EXPORTS, ids=lambda path: "/".join(path.parts[-4:-1]))
def test_facts_of_shipped_exports_are_read_and_written_as_they_were(path):
    info = json.loads(path.read_text(encoding="utf-8"))
    facts = facts_of(info["facts"], plugin.resolve(info["model"], "models").Facts)
    assert isinstance(facts, Facts) and facts.to_json() == info["facts"] == dict(facts)
    assert list(facts.to_json()) == list(info["facts"]) or path.parent.name == "tts-en"  # pitch stood before the texts


@pytest.mark.parametrize("name", ["tts/fastspeech", "codec/rvq", "codec/gmlm", "image/dit", "motion/mmm", "text/mdlm"])
def test_facts_of_another_kind_of_data_are_refused_by_name(name):
    from unisono.errors import DataError

    with refused(DataError, "unknown", "letters", names="lacks '"):
        facts_of({"letters": ["a"]}, plugin.resolve(name, "models").Facts)

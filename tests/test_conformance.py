"""Every plugin of this repository, held to its promises by the call that a stranger's uses."""

from pathlib import Path

import pytest
from unisono import plugin as plugins
from unisono.testing import checks, promises

PLUGINS = sorted(p.name.removeprefix("unisono_") for p in Path(__file__).parents[1].glob("plugins/unisono_*"))
HEAVY = ("dac", "encodec", "fsq", "gmlm", "grvq", "rvq", "unet", "vae")
"""Models whose shards are compared in the slow suite: others of their kind are in the fast one."""
CHECKS = [
    pytest.param(*check.values, id=check.id, marks=[*check.marks, pytest.mark.slow])
    if check.id in [f"two_shards_equal_one[{name}]" for name in HEAVY]
    else check
    for name in PLUGINS
    for check in checks(name)
]


@pytest.mark.parametrize("check", CHECKS)
def test_promise(check):
    check()


def test_every_model_has_every_check():
    models = sum(len(plugins.get(name).models) for name in PLUGINS)
    assert len(PLUGINS) >= 5 and models >= 33
    assert len(CHECKS) == len(promises.OF_PLUGIN) * len(PLUGINS) + len(promises.OF_MODEL) * models
    assert not [check.id for check in CHECKS if any(mark.name in ("skip", "skipif") for mark in check.marks)]

"""Every plugin of this repository, held to its promises by the call that a stranger's uses."""

from pathlib import Path

import pytest
from unisono import plugin as plugins
from unisono.testing import checks, promises

PLUGINS = sorted(p.name.removeprefix("unisono_") for p in Path(__file__).parents[1].glob("plugins/unisono_*"))
SHARDED = [f"two_shards_equal_one[{name}]" for name in ("dit", "fastpitch", "mdlm", "mmm", "vocos", "vocos-gan")]
"""Models whose shards are compared in the fast suite; all others are in the slow one."""
CHECKS = [
    pytest.param(*check.values, id=check.id, marks=[*check.marks, pytest.mark.slow])
    if check.id.startswith("two_shards_equal_one[") and check.id not in SHARDED
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

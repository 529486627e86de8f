"""Every plugin of this repository, held to its promises by the call that a stranger's uses."""

from pathlib import Path

import pytest
from unisono import plugin as plugins
from unisono.testing import checks

PLUGINS = sorted(p.name.removeprefix("unisono_") for p in Path(__file__).parents[1].glob("plugins/unisono_*"))
CHECKS = [check for name in PLUGINS for check in checks(name)]
OF_A_PLUGIN, OF_A_MODEL = 4, 12
ran: list[str] = []


@pytest.mark.parametrize("check", CHECKS)
def test_promise(check):
    check()
    ran.append(check.id)


def test_every_check_of_every_model_ran(request):
    models = sum(len(plugins.get(name).models) for name in PLUGINS)
    assert len(PLUGINS) >= 2 and models >= 4
    assert len(CHECKS) == OF_A_PLUGIN * len(PLUGINS) + OF_A_MODEL * models
    chosen = [item for item in request.session.items if getattr(item, "originalname", "") == "test_promise"]
    if len(chosen) < len(CHECKS):
        pytest.skip(f"only {len(chosen)} of {len(CHECKS)} checks were chosen on the command line")
    assert len(ran) == len(CHECKS)

"""The conformance kit: what every plugin promises, as checks that run on its tiny recipes.

In a plugin's own tests::

    import pytest
    from unisono.testing import checks

    @pytest.mark.parametrize("check", checks("hum"))
    def test_conformance(check):
        check()

On the command line: ``unisono check hum``. Every model needs a recipe ``<plugin>/<model>-tiny`` that
trains two steps in seconds, on data made on the spot, without dropout; its components are used too.

check.py              Check, Outcome, CheckFailed: a promise, how it ended, where to look
kit.py                all_checks, checks, run: which checks there are for a plugin
promises/             the checks themselves
model_under_test.py   one model under test: its runs, export and outputs, made once and shared
compare.py            outputs as numbers, and how far two of them are apart
processes.py          other processes, and several at once
fresh.py              the other process: load an export, synthesize, write numbers
fork_server.py        the process that forks them, with imports done
oracles/              exact networks and distributions that samplers are measured against
"""

from unisono.testing.check import Check, CheckFailed, Outcome, Skipped
from unisono.testing.kit import all_checks, checks, run

__all__ = ["Check", "CheckFailed", "Outcome", "Skipped", "all_checks", "checks", "run"]

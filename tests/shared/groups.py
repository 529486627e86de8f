"""Groups of tests over processes: pytest-xdist's, where a process that dies fails one test and nothing waits for ever.

pytest-xdist 3.8 runs the test that a process died of again in another, puts groups back that have nothing left, and
gives the process that takes its place one group only. A process begins a test once it knows the next one, or the end:
one that was given a single test, or none, waits for ever.
"""

from typing import Any

import pytest
from xdist.scheduler import LoadGroupScheduling


class Groups(LoadGroupScheduling):
    """Schedule by ``xdist_group``, whatever dies."""

    def remove_node(self, node: Any) -> str | None:
        """Put back what a dead process had not begun, in front, and return the test that it died of."""
        left = self.assigned_work.pop(node)
        died_of = next((name for group in left.values() for name, done in group.items() if not done), None)
        for group in left.values():
            if died_of in group:
                group[died_of] = True
        for scope, group in reversed(left.items()):
            if not all(group.values()):
                self.workqueue[scope] = group
                self.workqueue.move_to_end(scope, last=False)
        for other in self.assigned_work:
            self._reschedule(other)
        return died_of

    def schedule(self) -> None:
        """Give out groups, two to each process, so that it can begin; raises ``UsageError`` where none is marked."""
        if not any("@" in name.rpartition("]")[2] for name in next(iter(self.registered_collections.values()))):
            raise pytest.UsageError("pytest-xdist marks no test with its group: does it fit this pytest?")
        super().schedule()
        for node in self.nodes:
            self._reschedule(node)

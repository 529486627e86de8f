"""Conformance: the promises that every plugin keeps; ``unisono check sketch`` runs the same."""

import pytest
from unisono.testing import checks


@pytest.mark.parametrize("check", checks("sketch"))
def test_conformance(check):
    check()

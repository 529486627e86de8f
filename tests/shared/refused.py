"""Refusals: what an error says in fields, and that its sentence names the value.

The sentence itself is asserted once, where the message is made; every other test asks for kind, code and fields.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from unisono.errors import UnisonoError, shown

ANYTHING: Any = object()


@contextmanager
def refused(
    kind: type[UnisonoError], code: str, path: Any = ANYTHING, *, value: Any = ANYTHING, names: str | list[str] = ()
) -> Iterator[pytest.ExceptionInfo[UnisonoError]]:
    """Expect an error of exactly this kind and code, and the fields that are given.

    ``path`` is the end of the error's path, so that a file's name is enough. ``names`` are values, not prose, which the
    sentence must tell the user: a number, a limit, a name.
    """
    with pytest.raises(kind) as caught:
        yield caught
    error = caught.value
    told = f"{type(error).__name__}(code={error.code!r}, path={error.path!r}, value={shown(error.value, 300)}): {error}"
    assert type(error) is kind, told
    assert error.code == code, told
    if path is not ANYTHING:
        assert error.path is not None and (error.path == str(path) or error.path.endswith(str(path))), told
    if value is not ANYTHING:
        assert error.value == value, told
    for name in [names] if isinstance(names, str) else names:
        assert name in str(error), told

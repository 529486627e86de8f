"""Licence: what a card states, as an SPDX identifier where it is one."""

import re

_CREATIVE = [
    f"CC-{terms}-{version}"
    for terms in ("BY", "BY-SA", "BY-NC", "BY-ND", "BY-NC-SA", "BY-NC-ND")
    for version in ("1.0", "2.0", "2.5", "3.0", "4.0")
]
_SOFTWARE = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "ISC",
    "MIT",
    "MPL-2.0",
    "Unlicense",
    "Zlib",
]
_DATA = ["CC0-1.0", "ODbL-1.0", "ODC-By-1.0", "PDDL-1.0"]
_BY_WORDS = {re.sub("[ -]", "", name).lower(): name for name in _CREATIVE + _SOFTWARE + _DATA} | {"cc0": "CC0-1.0"}
_REMARK = re.compile(r", as the (?:data|texts?|pictures|recordings)$")
"""What a card may add without changing the licence."""


def spdx(licence: str) -> str | None:
    """Return the SPDX identifier of a licence as people write it (``"CC BY 4.0, as the data"``); None for other text.

    Nothing is guessed: a text with a condition or a second licence is none.
    """
    plain = _REMARK.sub("", licence.strip())
    return _BY_WORDS.get(re.sub("[ -]", "", plain).lower())

"""Codecs of pictures that several files of tests read, made once for each."""

from typing import Any

import pytest
from picture_codecs import KINDS, untrained
from unisono_codec.pictures.coder import PictureCoder


@pytest.fixture(scope="module")
def codecs() -> dict[str, Any]:
    return {kind: untrained(kind) for kind in KINDS}


@pytest.fixture(scope="module")
def coders(codecs) -> dict[str, PictureCoder]:
    return {kind: PictureCoder(codec) for kind, codec in codecs.items()}

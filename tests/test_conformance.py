"""Every plugin of this repository, held to its promises by the call that a stranger's uses."""

import pytest
from unisono.testing import checks

TTS = checks("tts")
CODEC = checks("codec")


@pytest.mark.parametrize("check", TTS)
def test_tts(check):
    check()


@pytest.mark.parametrize("check", CODEC)
def test_codec(check):
    check()

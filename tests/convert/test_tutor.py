"""The tutor: what it hears is in its own units, has a gradient, and does not depend on its batch."""

import numpy as np
import pytest
import torch
from converters import buzz, conversion_facts, drawn
from refused import refused
from unisono import Synthesizer
from unisono.errors import RequestError
from unisono_convert.tutor.model import Tutor, untrained


@pytest.fixture(scope="module")
def tutor() -> Tutor:
    return untrained(conversion_facts())


def test_pitch_is_told_around_the_speakers_own(tutor):
    assert tutor.centre == pytest.approx(5.0) and tutor.spread == pytest.approx(0.3 + 0.15)
    with torch.no_grad():
        mel = drawn(2, 20, 16) - 5
        mask = torch.arange(20) < torch.tensor([20, 11])[:, None]
        tutor.to_pitch.weight.zero_(), tutor.to_pitch.bias.copy_(torch.tensor([1.0, 30.0]))
        heard = tutor.listen(mel, mask)
    torch.testing.assert_close(heard.hertz, np.exp(5.45) * mask.float())


def test_alone_and_in_a_batch_it_hears_the_same():
    tutor, mel = untrained(conversion_facts()), drawn(2, 30, 16) - 5
    mask = torch.arange(30) < torch.tensor([30, 12])[:, None]
    both, alone = tutor.listen(mel, mask), tutor.listen(mel[1:, :12], mask[1:, :12])
    for name in both._fields:
        torch.testing.assert_close(getattr(both, name)[1, :12], getattr(alone, name)[0], atol=1e-5, rtol=1e-4)


def test_what_it_hears_has_a_gradient_to_the_mel():
    tutor, mel = untrained(conversion_facts()), (drawn(1, 9, 16) - 5).requires_grad_()
    heard = tutor.listen(mel, torch.ones(1, 9, dtype=torch.bool))
    for part in (heard.hertz, heard.pitch_features, heard.letter_features):
        (gradient,) = torch.autograd.grad(part.square().sum(), mel, retain_graph=True)
        assert gradient.abs().sum() > 0


def test_letters_are_learnt_of_whole_recordings_with_a_text_alone():
    tutor = untrained(conversion_facts())
    batch = {
        "mel": drawn(3, 20, 16) - 5,
        "mel_lengths": torch.tensor([20, 20, 20]),
        "text": ["Ab, b!", "", "a"],
        "whole": torch.tensor([True, True, False]),
    }
    mask = torch.ones(3, 20, dtype=torch.bool)
    found = tutor._letters(batch, batch["mel"], mask)
    named = tutor.to_letters(tutor.letter_trunk(tutor.mel_mean * 0 + (batch["mel"] + 5) / 2, mask)).log_softmax(-1)
    own = torch.nn.functional.ctc_loss(named[0], torch.tensor([2, 3, 1, 3]), (20,), (4,), reduction="none")
    torch.testing.assert_close(found, own.reshape(()) / 4)


def test_repetitions_and_blanks_are_no_letters(tutor):
    labels = torch.tensor([0, 2, 2, 0, 2, 3, 3, 0, 1])
    assert tutor._read(torch.nn.functional.one_hot(labels, 4).float()) == "aab "


def test_it_answers_with_pitch_and_letters(tutor):
    heard = Synthesizer(tutor)(samples=buzz(0.5, rate=16000), sample_rate=16000)
    assert heard.sample_rate == 8000 and heard.waveform.shape == (1, 4000)
    assert len(heard.curves["pitch"].values) == 50 and heard.curves["pitch"].unit == "Hz"
    with refused(RequestError, "range", "audio", names="0.1"):
        Synthesizer(tutor)(samples=[0.1] * 80)
    with refused(RequestError, "limit", "audio"):
        Synthesizer(tutor)(samples=np.full(61000, 0.1), sample_rate=1000)
    with refused(RequestError, "conflict", "audio"):
        tutor.Request.parse()


def test_a_corpus_without_texts_has_no_letters():
    silent = untrained(conversion_facts(letters=[]))
    heard = silent.listen(drawn(1, 5, 16), torch.ones(1, 5, dtype=torch.bool))
    assert heard.letters is None and heard.letter_features is None and silent.letter_trunk is None

"""Alignment of speech whose times are exact: espeak-ng's, by phones that a discriminant of its frames tells apart.

The recogniser is made in closed form of some sentences, and aligns others: what is measured is the aligner, in steps of
40 ms.
"""

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from unisono.files import read_json_lines
from unisono_asr.aligner import Aligner
from unisono_asr.features import SPEECH
from unisono_asr.hearing import Hearing
from unisono_asr.models.ctc import greedy_hypotheses
from unisono_asr.models.posteriors import Posteriors
from unisono_asr.request import sound_of_file
from unisono_asr.units import BLANK, SPACE, STRESS, Units
from unisono_sound.corpus import VoiceOptions, level, make_corpus
from unisono_sound.signal import LogMel, read_audio
from unisono_sound.text import IPA, front_end
from unisono_sound.text.sentences import sentences

pytest.importorskip("espeakng_loader")
STEP = 0.04
NUM_KNOWN, NUM_NEW = 60, 8


class Discriminant(Hearing):
    """Tells phones by frames within 60 ms: Fisher's discriminant with one covariance."""

    def frames(self, wave):
        mel = LogMel(SPEECH)(level(wave, 16_000, -23.0)[None])[0]
        steps = -(-len(mel) // 4)
        padded = F.pad(mel.T[None], (6, 6 + 4 * steps - len(mel)), mode="replicate")[0].T
        return padded[torch.arange(steps)[:, None] * 4 + torch.arange(0, 13, 2)].flatten(1)

    def fit(self, frames, labels):
        self.middle = frames.mean(0)
        frames = frames - self.middle
        count = torch.bincount(labels, minlength=len(self.facts.units))
        means = torch.stack([frames[labels == k].mean(0) if n else frames.mean(0) for k, n in enumerate(count)])
        rest = frames - means[labels]
        self.weights = torch.linalg.solve(rest.T @ rest / len(rest) + 0.05 * torch.eye(rest.shape[1]), means.T)
        self.bias = (count / count.sum() + 1e-5).log() - (means.T * self.weights).sum(0) / 2

    def posteriors(self, waves, sample_rate):
        scores = (self.frames(waves[0]) - self.middle) @ self.weights + self.bias
        scores[:, 1] = scores.amax(1) - 6  # spaces have no frames of their own
        log_probs = (scores / 2).log_softmax(1)
        return Posteriors(log_probs[None], log_probs[None], torch.tensor([len(log_probs)]), STEP)

    def decode(self, heard, steps=1):
        return greedy_hypotheses(heard)


@pytest.fixture(scope="module")
def spoken():
    """Clips of espeak-ng: text, file, what it is read as, and the exact borders of its symbols."""
    reader = front_end("espeak", "en-us")
    texts = sentences(NUM_KNOWN + NUM_NEW, 5)
    folder = make_corpus(texts, reader, VoiceOptions(num_sentences=len(texts), corpus_seed=5), 0.06)
    times = {row["id"]: row["times"] for _, row in read_json_lines(folder / "durations.jsonl")}
    rows = [row for _, row in read_json_lines(folder / "corpus.jsonl")]
    return [(row["text"], folder / row["audio"], reader(row["text"]), times[row["id"]]) for row in rows]


@pytest.fixture(scope="module")
def aligner(spoken):
    frames, labels = [], []
    model = Discriminant()
    for _, audio, read, times in spoken[:NUM_KNOWN]:
        frames.append(model.frames(read_audio(audio, 16_000)[0]))
        place = np.searchsorted(times[1:], np.arange(len(frames[-1])) * STEP, side="right").clip(max=len(read) - 1)
        labels += [read.symbols[i].lstrip(STRESS) if read.word_of[i] >= 0 else BLANK for i in place]
    units = Units("phones", (BLANK, SPACE, *sorted({*labels} - {BLANK})))
    facts = {"symbols": list(IPA), "front_end": "espeak", "language": "en-us", "speakers": ["plain"]}
    model.build({**facts, "mel_spec": SPEECH.to_dict(), "units": units.to_dict()})
    model.fit(torch.cat(frames), torch.tensor([units.ids[label] for label in labels]))
    return Aligner(model.eval())


def test_borders_are_within_half_a_step_of_the_exact_ones(aligner, spoken):
    """Half of a step is 20 ms; espeak-ng glides between phones for longer."""
    late = []
    for text, audio, read, times in spoken[NUM_KNOWN:]:
        found = aligner.align(sound_of_file(audio), text)
        phones = [i for i, word in enumerate(read.word_of) if word >= 0]
        late += [found.borders[i] - times[i] for i in phones]
        assert found.borders[-1] == pytest.approx(times[-1], abs=0.01) and found.fit > 0.6
    assert len(late) > 200
    assert np.median(np.abs(late)) < 0.012 and np.percentile(np.abs(late), 90) < 0.03
    assert abs(np.median(late)) < 0.006  # none comes early or late as a rule


def test_no_other_sentence_fits(aligner, spoken):
    loose = Aligner(aligner.model, min_fit=0.0, reader=aligner.reader)
    new = spoken[NUM_KNOWN:]
    fits = []
    for (_, audio, _, _), (text, _, _, _) in zip(new, [*new[1:], new[0]], strict=True):
        fits.append(loose.align(sound_of_file(audio), text).fit)
    assert max(fits) < 0.45

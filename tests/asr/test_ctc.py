"""CTC: its loss and its paths against enumeration, what validation says, and what is heard alone and in a batch."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recognisers import drawn, made_batch, make_recogniser
from refused import refused
from unisono.errors import CheckpointError, RequestError, UnisonoError
from unisono_asr.models.ctc import greedy_hypotheses
from unisono_asr.models.posteriors import Posteriors
from unisono_asr.networks.ctc import collapse, ctc_loss, distance, forced, greedy


def read(labels):
    """Collapse by the definition: merge equal neighbours, then drop blanks."""
    return [label for label, _ in itertools.groupby(labels) if label]


def every_path(log_probs, target):
    """Yield each path that reads a target, with its log-probability."""
    for labels in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        if read(labels) == list(target):
            yield labels, float(sum(log_probs[step, label] for step, label in enumerate(labels)))


@pytest.mark.parametrize("target", [(1,), (1, 2), (2, 2), (1, 2, 1)])
def test_loss_and_forced_path_are_those_of_all_paths(target):
    log_probs = drawn(2, 5, 3, seed=len(target)).log_softmax(-1)
    lengths, targets, counts = torch.tensor([5, 4]), torch.tensor([target] * 2), torch.tensor([len(target)] * 2)
    found, best = ctc_loss(log_probs, lengths, targets, counts), forced(log_probs, lengths, targets, counts)
    for row, size in enumerate((5, 4)):
        paths = list(every_path(log_probs[row, :size], target))
        assert float(found[row]) == pytest.approx(-math.log(sum(math.exp(price) for _, price in paths)), rel=1e-5)
        labels, _ = max(paths, key=lambda path: path[1])
        assert best.tokens[row].tolist() == list(target)
        assert [target[own] if own >= 0 else 0 for own in best.owner[row, :size].tolist()] == list(labels)
        assert (best.owner[row, size:] == -1).all()


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=9), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_collapse_is_greedy_ctc(rows):
    size = max(map(len, rows))
    labels = torch.tensor([row + [3] * (size - len(row)) for row in rows])
    path = collapse(labels, torch.tensor([len(row) for row in rows]))
    for index, row in enumerate(rows):
        count = int(path.lengths[index])
        assert path.tokens[index, :count].tolist() == read(row)
        assert not path.tokens[index, count:].any()
        spans = path.spans(index)
        steps = [place for start, stop in spans for place in range(start, stop)]
        assert steps == [place for place, label in enumerate(row) if label]
        assert all(set(row[start:stop]) == {int(path.tokens[index, n])} for n, (start, stop) in enumerate(spans))


def test_the_likeliest_labels_are_collapsed():
    log_probs = drawn(3, 8, 4).log_softmax(-1)
    heard = Posteriors(log_probs, drawn(3, 8, 2), torch.tensor([8, 5, 7]), 0.04)
    for row, one in enumerate(greedy_hypotheses(heard)):
        size = int(heard.lengths[row])
        assert list(one.tokens) == read(log_probs[row, :size].argmax(-1).tolist())
        for token, sure, (start, stop) in zip(one.tokens, one.confidences, one.spans, strict=True):
            assert sure == pytest.approx(float(log_probs[row, start:stop, token].exp().mean()), rel=1e-5)


def test_pooling_is_the_mean_of_a_tokens_steps():
    path = collapse(torch.tensor([[1, 1, 0, 2, 0]]), torch.tensor([5]))
    x = drawn(1, 5, 3)
    assert torch.allclose(path.pool(x)[0], torch.stack([x[0, :2].mean(0), x[0, 3]]))


@given(st.lists(st.integers(0, 2), max_size=6), st.lists(st.integers(0, 2), max_size=6))
@settings(max_examples=80, deadline=None)
def test_distance_is_the_fewest_edits(found, wanted):
    def fewest(a, b):
        if not a or not b:
            return len(a) + len(b)
        return min(fewest(a[1:], b) + 1, fewest(a, b[1:]) + 1, fewest(a[1:], b[1:]) + (a[0] != b[0]))

    assert distance(found, wanted) == fewest(found, wanted)


def test_the_loss_is_per_unit_of_the_batch():
    model, batch = make_recogniser(), made_batch()
    with torch.no_grad():
        parts = model.losses(batch)
        alone = 0.0
        for row in range(3):
            mel = model.standardised(batch["mel"][row : row + 1, : batch["mel_lengths"][row]])
            heard = model.heard(mel, batch["mel_lengths"][row : row + 1])
            count = batch["target_lengths"][row : row + 1]
            alone += float(ctc_loss(heard.log_probs, heard.lengths, batch["targets"][row : row + 1], count))
    assert float(parts["loss"]) == pytest.approx(alone / int(batch["target_lengths"].sum()), rel=1e-4)


def test_validation_counts_what_is_read():
    model, batch = make_recogniser(), made_batch()
    with torch.no_grad():
        parts = model.losses(batch)
        read_alone = model.decode(model.heard_in(batch))
    wanted = [row[:count] for row, count in zip(batch["targets"].tolist(), (5, 9, 6), strict=True)]
    wrong = sum(distance(one.tokens, own) for one, own in zip(read_alone, wanted, strict=True))
    off = sum(abs(len(one.tokens) - len(own)) for one, own in zip(read_alone, wanted, strict=True))
    assert float(parts["error"]) == pytest.approx(wrong / 20) and float(parts["count_error"]) == pytest.approx(off / 20)


@pytest.mark.parametrize("recipe", ["asr/ctc-tiny", "asr/paraformer-tiny"])
def test_recordings_of_any_rate_alone_and_in_a_batch(recipe):
    model = make_recogniser(recipe)
    waves = [0.1 * drawn(size, seed=size) for size in (8000, 20000, 700)]
    together = model.posteriors(waves, 16000)
    assert together.hop_seconds == pytest.approx(0.04) and together.lengths.tolist() == [13, 32, 1]
    for row, wave in enumerate(waves):
        alone = model.posteriors([wave], 16000)
        size = int(alone.lengths)
        assert (alone.log_probs[0] - together.log_probs[row, :size]).abs().max() < 1e-4
        assert model.decode(alone)[0].tokens == model.decode(together)[row].tokens
    louder = model.posteriors([3 * waves[0]], 16000)
    assert (louder.log_probs[0] - together.log_probs[0, :13]).abs().max() < 1e-3
    assert model.posteriors([waves[1]], 32000).lengths.tolist() == [16]


def test_a_sound_shorter_than_a_window_is_refused():
    with refused(RequestError, "range", "audio"):
        make_recogniser().posteriors([0.1 * drawn(300)], 16000)


def test_a_stream_of_mels_is_the_whole():
    model = make_recogniser("asr/ctc-tiny", "--model.encoder.chunks.steps=4", "--model.encoder.chunks.left=2")
    mel = drawn(101, 80)
    with torch.no_grad():
        whole = model.heard(mel[None], torch.tensor([101])).log_probs[0]
        pieces = list(model.posteriors_of_stream(mel.split(13)))
    assert (torch.cat([piece.log_probs[0] for piece in pieces]) - whole).abs().max() < 1e-4 and len(pieces) > 5
    with refused(UnisonoError, "unsupported", "model.encoder.chunks.steps"):
        list(make_recogniser().posteriors_of_stream([mel]))


def test_a_start_from_other_units_is_refused():
    model = make_recogniser()
    model.check_source(model.facts.to_json())
    with refused(CheckpointError, "conflict", "run.init_from", value="units"):
        model.check_source({**model.facts.to_json(), "units": {"kind": "characters"}})


def test_greedy_of_nothing_is_empty():
    log_probs = torch.full((1, 4, 3), -9.0)
    log_probs[..., 0] = 0.0
    assert greedy(log_probs, torch.tensor([4])).tokens.shape == (1, 0)

"""Whole durations on tensors alone: what ``round_durations`` says."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from unisono.duration import round_durations, whole_durations

numbers = st.lists(st.floats(0, 40, width=32) | st.just(0.0), min_size=1, max_size=12)


@given(numbers, numbers, st.floats(0.25, 4))
def test_they_are_those_of_the_checked_way(first, second, pace):
    lengths = torch.tensor([len(first), len(second)])
    durations = torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(first), torch.tensor(second)], batch_first=True, padding_value=7.0
    )
    speed = torch.full(durations.shape, pace, dtype=torch.float64)
    speed[0, 0] = 1.5
    wanted = round_durations(durations, lengths, speed=speed)
    torch.testing.assert_close(whole_durations(durations, lengths, speed), wanted, rtol=0, atol=0)
    assert (wanted.sum(1) > 0).all()

"""The prefix scan against the loop."""

import pytest
import torch
from unisono.nn.scan import prefix_scan


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("length", [1, 2, 3, 8, 13])
@pytest.mark.parametrize("full", [True, False])
def test_the_scan_is_the_loop(length, full, dtype):
    a, b = draw(length, 2, 3, *[3] * full, dtype=dtype), draw(length, 2, 3, seed=1, dtype=dtype)
    h, expected = torch.zeros(2, 3, dtype=dtype), []
    for t in range(length):
        h = (torch.einsum("bij,bj->bi", a[t], h) if full else a[t] * h) + b[t]
        expected.append(h)
    torch.testing.assert_close(prefix_scan(a, b), torch.stack(expected), rtol=1e-10, atol=1e-10)

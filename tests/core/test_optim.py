"""OptimSpec: the schedule's closed forms, and which parameters decay."""

import math

import pytest
import torch
from torch import nn
from unisono.optim import OptimSpec


def test_linear_and_cosine_go_from_the_end_of_the_warm_up_to_the_least_rate():
    linear = OptimSpec(warmup_steps=4, schedule="linear", min_lr_ratio=0.2)
    assert [linear.factor(step, 14) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert linear.factor(4, 14) == 1.0
    assert linear.factor(9, 14) == pytest.approx(0.2 + 0.8 * 0.5)
    assert linear.factor(14, 14) == linear.factor(20, 14) == pytest.approx(0.2)
    cosine = OptimSpec(warmup_steps=4, schedule="cosine", min_lr_ratio=0.2)
    assert cosine.factor(4, 14) == 1.0
    assert cosine.factor(6, 14) == pytest.approx(0.2 + 0.8 * 0.5 * (1 + math.cos(math.pi * 0.2)))
    assert cosine.factor(14, 14) == pytest.approx(0.2)


def test_weight_decay_spares_biases_norms_and_embeddings():
    module = nn.Sequential(nn.Embedding(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    decay = {
        id(parameter): group["weight_decay"]
        for group in OptimSpec(weight_decay=0.3).optimizer(module).param_groups
        for parameter in group["params"]
    }
    embedding, norm, linear = module
    assert decay[id(linear.weight)] == 0.3
    assert {decay[id(p)] for p in (embedding.weight, norm.weight, norm.bias, linear.bias)} == {0.0}


def test_the_scheduler_asks_for_the_length_at_each_step():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    length = [10]
    schedule = OptimSpec(warmup_steps=0, schedule="linear", min_lr_ratio=0.0).scheduler(optimizer, lambda: length[0])
    assert schedule.get_last_lr() == [2.0]
    length[0] = 2
    optimizer.step()
    schedule.step()
    assert schedule.get_last_lr() == [1.0]

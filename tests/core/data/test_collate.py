"""Collation: padding by key, kinds of values."""

import torch
from unisono.data import collate_items


def test_every_key_is_padded_with_its_own_value():
    items = [
        {"ids": torch.tensor([5, 6]), "mask": torch.tensor([True])},
        {"ids": torch.tensor([7]), "mask": torch.ones(2) > 0},
    ]
    batch = collate_items(items, {"ids": -100})
    assert batch["ids"].tolist() == [[5, 6], [7, -100]]
    assert batch["mask"].tolist() == [[True, False], [True, True]]


def test_kinds_of_values():
    items = [{"row": 3, "share": 0.5, "name": "a", "vector": torch.tensor(2.0)}] * 2
    batch = collate_items(items)
    assert batch["row"].dtype == torch.int64 and batch["share"].dtype == torch.float32
    assert batch["name"] == ["a", "a"] and batch["vector"].shape == (2,)

"""Every text model learns: sentences made on the spot, a minute's training, less surprise than letters alone give."""

import math
from collections import Counter

import pytest
import torch
from unisono.recipe import Recipe
from unisono.train import train

LONGER = [
    "--model.dim=64", "--data.num_items=512", "--data.batch_size=16", "--data.val_size=32", "--optim.lr=3e-3",
    "--optim.eps=1e-8", "--optim.warmup_steps=20", "--trainer.max_steps=300", "--trainer.val_check_interval=300",
    "--trainer.enable_model_summary=false", "--run.ema_decay=0.98", "--run.preview_seconds=0",
]  # fmt: skip


def learn(name: str, folder, *more: str):
    recipe = Recipe.read(f"text/{name}-tiny", [*LONGER, f"--run.dir={folder}", *more])
    result = train(recipe, progress=False)
    assert result is not None
    data = recipe.build_data()
    data.prepare(progress=False)
    return result, list(data.val_dataloader())


def letters_alone(batches) -> float:
    """Nats per token of the best guess that knows how often each token comes, and nothing else."""
    rows = [row[:n] for batch in batches for row, n in zip(batch["tokens"], batch["lengths"], strict=True)]
    counts = Counter(token for row in rows for token in row.tolist())
    total = sum(counts.values())
    return -sum(count / total * math.log(count / total) for count in counts.values())


def per_token(model, batches, num_samples: int = 8) -> float:
    nats = sum(float(model.bound(batch, num_samples).sum()) for batch in batches)
    return nats / sum(int(model.learnt(batch).sum()) for batch in batches)


SHARES = {"ar": 0.4, "block": 0.6, "mdlm": 0.75, "anchored": 0.75, "seed": 0.9}
MORE = {
    "anchored": ["--model.skip=true"],
    "seed": ["--model.edit_share=0.6", "--model.edit_rate=0.1", "--model.order_share=0.03"],
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "share"), SHARES.items())
def test_a_model_learns_what_sentences_are(name, share, tmp_path):
    result, batches = learn(name, tmp_path, *MORE.get(name, []))
    measured = per_token(result.model, batches)
    assert measured < share * letters_alone(batches)
    if name == "seed":  # learns less of masks in that time, and beside them to read edited texts right
        with torch.no_grad():
            costs = [result.model.edit_cost(batch, range(len(batch["tokens"]))) for batch in batches]
        learnt = sum(int(result.model.learnt(batch).sum()) for batch in batches)
        assert sum(float(cost.sum()) for cost in costs) / learnt < 0.5 * letters_alone(batches)
    # The validation loss and the bound have one expectation.
    assert result.metrics["val/loss"] == pytest.approx(measured, rel=0.2)


@pytest.mark.slow
def test_answers_are_learnt_and_questions_are_not(tmp_path):
    result, batches = learn("mdlm", tmp_path, "--data.questions=true")
    assert all(bool((batch["prompt"] > 0).all()) for batch in batches)
    before = Recipe.read("text/mdlm-tiny").build_model(result.model.facts).eval()
    assert per_token(result.model, batches) < 0.6 * per_token(before, batches)
    assert torch.isfinite(torch.tensor(result.metrics["val/loss"]))

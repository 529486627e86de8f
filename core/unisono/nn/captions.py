"""Captions: as tokens, and the encoders that read them (trained with the model, or CLIP's text tower).

A caption is cut into words. A word of the training captions is one token; any other word is spelled, one token
per letter, so that every caption can be read. While training, some known words are spelled too: otherwise the
letters would never be learnt.

Both encoders give a vector per word and one for the sentence, as CLIP does. The small one is for those who train on
captions of a few dozen or a few thousand words.

Shapes: b batch, w tokens of a caption, d channels. Masks are True where a token is kept.
"""

from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from unisono.data import derive_seed, words_of
from unisono.errors import MissingExtra, RecipeError
from unisono.nn.fft import sinusoids
from unisono.nn.transformer import Block

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789'"
UNKNOWN = "�"
MAX_WORDS = 64
MAX_LETTERS = 24
"""Of a word that is spelled, in a request; longer than most English words."""

CLIP_PREFIX = "clip:"


class Vocabulary:
    """Letters and known words; ``words`` are those of the training captions, as in the facts."""

    def __init__(self, words: Iterable[str]):
        self.words = sorted(set(words))
        self.ids = {piece: i for i, piece in enumerate([UNKNOWN, *LETTERS, *(f" {word}" for word in self.words)])}

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of_captions(cls, captions: Iterable[str], min_count: int = 1) -> "Vocabulary":
        """Take the words that stand in at least ``min_count`` captions."""
        counts: dict[str, int] = {}
        for caption in captions:
            for word in set(words_of(caption)):
                counts[word] = counts.get(word, 0) + 1
        return cls(word for word, count in counts.items() if count >= min_count)

    def encode(self, words: Sequence[str], spell: Sequence[bool] | None = None) -> list[int]:
        """Return the tokens of words; ``spell`` marks known words that are to be spelled as well."""
        tokens = []
        for index, word in enumerate(words):
            token = self.ids.get(f" {word}")
            if token is None or (spell is not None and spell[index]):
                tokens += [self.ids.get(letter, 0) for letter in word]
            else:
                tokens.append(token)
        return tokens


class SmallTextEncoder(nn.Module):
    """A small transformer over words and letters.

    ::

        tokens ─ embedding + position ─ block × layers ─ norm ─┬─ words
                                                               └─ mean ─ linear ─ sentence

    Args:
        words: those known as a whole.
        dim: channels of words and sentence.
    """

    def __init__(self, words: Iterable[str], dim: int, num_layers: int, num_heads: int, dropout: float = 0.1):
        super().__init__()
        self.vocabulary = Vocabulary(words)
        self.embedding = nn.Embedding(len(self.vocabulary), dim)
        self.blocks = nn.ModuleList(Block(dim, num_heads, dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(dim)
        self.to_sentence = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)

    def tokenize(
        self, captions: Sequence[Sequence[str]], spell_share: float = 0.0, seeds: Sequence[int] = ()
    ) -> tuple[Int[Tensor, "b w"], Bool[Tensor, "b w"]]:
        """Return padded tokens of captions given as words, and their mask; no word is one unknown letter.

        ``spell_share`` of the known words are spelled, drawn for each caption from its own of ``seeds``.
        """
        rows = []
        for index, words in enumerate(captions):
            spell = None
            if spell_share:
                spell = [derive_seed(seeds[index], i) < spell_share * 2**63 for i in range(len(words))]
            rows.append(self.vocabulary.encode(words, spell) or [0])
        tokens = torch.zeros(len(rows), max(map(len, rows), default=1), dtype=torch.int64)
        mask = torch.zeros(tokens.shape, dtype=torch.bool)
        for index, row in enumerate(rows):
            tokens[index, : len(row)] = torch.tensor(row)
            mask[index, : len(row)] = True
        device = self.embedding.weight.device
        return tokens.to(device), mask.to(device)

    def forward(
        self, tokens: Int[Tensor, "b w"], mask: Bool[Tensor, "b w"]
    ) -> tuple[Float[Tensor, "b w d"], Float[Tensor, "b d"]]:
        """Return a vector per token, 0 on padding, and one per sentence."""
        x = self.embedding(tokens)
        x = self.dropout(x + sinusoids(x.shape[1], x.shape[2], x.device).to(x.dtype))
        for block in self.blocks:
            x = block(x, mask)
        x = self.norm(x) * mask[..., None]
        mean = x.sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        return x, self.to_sentence(mean)

    def read(
        self, captions: Sequence[str], spell_share: float = 0.0, seeds: Sequence[int] = ()
    ) -> tuple[Float[Tensor, "b w d"], Bool[Tensor, "b w"], Float[Tensor, "b d"]]:
        """Return words, their mask and sentences of captions, as far as their first ``MAX_WORDS`` words."""
        tokens, mask = self.tokenize([words_of(caption)[:MAX_WORDS] for caption in captions], spell_share, seeds)
        words, sentence = self(tokens, mask)
        return words, mask, sentence


class ClipTextEncoder(nn.Module):
    """CLIP's text tower (Radford et al., arXiv:2103.00020), frozen, with a trained projection to ``dim``.

    The tower is read from a folder or hub id by ``transformers``, and is part of no export: an export names it
    and reads it again. Words are the last hidden states, the sentence is the pooled one.
    """

    def __init__(self, source: str, dim: int):
        super().__init__()
        for package in ("transformers", "tokenizers"):
            if find_spec(package) is None:
                raise MissingExtra(package, "clip")
        from transformers import AutoTokenizer, CLIPTextModel  # pyright: ignore[reportMissingImports]

        try:
            tower: Any = CLIPTextModel.from_pretrained(source)
            self.tokenizer: Any = AutoTokenizer.from_pretrained(source)
        except (OSError, ValueError) as error:
            where = "the folder" if Path(source).exists() else "neither a folder nor a hub id that can be fetched;"
            raise RecipeError(
                f"model.text_encoder={CLIP_PREFIX + source!r}: {where} holds no CLIP text tower "
                f"with its tokenizer ({str(error).splitlines()[0]:.120})",
                code="format" if Path(source).exists() else "missing",
                path="model.text_encoder",
                value=CLIP_PREFIX + source,
            ) from None
        # In a list, the frozen tower stays out of this module's weights, optimiser and exports.
        self._tower = [tower.eval().requires_grad_(False)]
        width = tower.config.hidden_size
        self.words = nn.Linear(width, dim)
        self.sentence = nn.Linear(width, dim)

    def _apply(self, fn, recurse=True):
        self._tower[0]._apply(fn)
        return super()._apply(fn, recurse)

    def read(
        self, captions: Sequence[str], spell_share: float = 0.0, seeds: Sequence[int] = ()
    ) -> tuple[Float[Tensor, "b w d"], Bool[Tensor, "b w"], Float[Tensor, "b d"]]:
        """Return words, their mask and sentences; CLIP has letters of its own and never spells."""
        limit = self._tower[0].config.max_position_embeddings
        rows = self.tokenizer(list(captions), padding=True, truncation=True, max_length=limit, return_tensors="pt")
        device = self.words.weight.device
        mask = rows["attention_mask"].bool().to(device)
        with torch.no_grad():
            seen = self._tower[0](input_ids=rows["input_ids"].to(device), attention_mask=mask.long())
        return self.words(seen.last_hidden_state) * mask[..., None], mask, self.sentence(seen.pooler_output)


def make_text_encoder(
    name: str, words: Iterable[str], dim: int, num_layers: int, num_heads: int, dropout: float
) -> SmallTextEncoder | ClipTextEncoder:
    """Make the encoder that a recipe names: ``small``, or ``clip:`` and a folder or hub id."""
    if name == "small":
        return SmallTextEncoder(words, dim, num_layers, num_heads, dropout)
    if name.startswith(CLIP_PREFIX) and name != CLIP_PREFIX:
        return ClipTextEncoder(name.removeprefix(CLIP_PREFIX), dim)
    raise RecipeError(
        f"model.text_encoder={name!r}: 'small', or 'clip:' and a folder or hub id",
        code="unknown",
        path="model.text_encoder",
        value=name,
    )

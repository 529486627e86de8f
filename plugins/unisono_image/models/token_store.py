"""Picture tokens by content: a training set is tokenized once, mirror images and all, and found again by any run.

A picture's tokens depend on its pixels and on the tokenizer's weights alone. So they are kept by the hash of the
pixels, in memory and in the cache's folder of that tokenizer (``UNISONO_CACHE``): every model of the same tokens, and
every augmentation that repeats, finds them there. Whatever is new is tokenized when it is first seen, so that streamed
pictures and random shifts go the same way.

Shapes: b batch, y x pixels, n tokens.
"""

import hashlib
import json
import logging
import threading
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from unisono.data import CacheError, cache_root, read_entry, write_entry
from unisono.export import export_state

log = logging.getLogger("unisono")

FOLDER = "picture-tokens"
MOST_IN_MEMORY = 4_000_000
"""Pictures whose tokens are kept; further ones are tokenized each time they are seen."""
SAVE_EVERY = 4096
_LOCK = threading.Lock()


class PictureTokens:
    """Tokens of pictures, each tokenized once.

    Args:
        tokenizer: has ``tokens(pictures)``, and weights.
        keep: whether to read and write the cache's folder.
    """

    def __init__(self, tokenizer: Any, keep: bool = True):
        self.tokenizer = tokenizer
        self.known: dict[bytes, np.ndarray] = {}
        self.fresh: dict[bytes, np.ndarray] = {}
        self.made = 0
        self.folder = cache_root() / FOLDER / fingerprint(tokenizer) if keep else None
        self._read()

    @torch.no_grad()
    def __call__(self, pictures: Float[Tensor, "b 3 y x"]) -> Int[Tensor, "b n"]:
        """Return the tokens of pictures from −1 to 1 whose values are those of 8 bits."""
        pixels = ((pictures.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        keys = [_key(row) for row in pixels.cpu().numpy()]
        found = {key: self.known[key] for key in keys if key in self.known}
        new = {key: i for i, key in enumerate(keys) if key not in found}
        if new:
            # From the rounded pixels, which the key is of, in full precision.
            exact = pixels[list(new.values())].float() / 127.5 - 1
            with torch.autocast(pictures.device.type, enabled=False):
                tokens = self.tokenizer.tokens(exact).cpu().to(torch.int32).numpy()
            made = dict(zip(new, tokens, strict=True))
            found |= made
            self._learn(made)
        rows = np.stack([found[key] for key in keys])
        return torch.from_numpy(rows).to(pictures.device, torch.int64)

    def _learn(self, made: dict[bytes, np.ndarray]) -> None:
        with _LOCK:
            self.made += len(made)
            if len(self.known) + len(made) > MOST_IN_MEMORY:
                return
            self.known |= made
            self.fresh |= made
        if len(self.fresh) >= SAVE_EVERY:
            self.save()

    def save(self) -> None:
        """Write what is new to the cache; where that cannot be written, say so once and keep it in memory."""
        with _LOCK:
            fresh, self.fresh = self.fresh, {}
        if not fresh or self.folder is None:
            return
        keys = np.frombuffer(b"".join(fresh), np.uint8).reshape(len(fresh), -1)
        name = hashlib.blake2b(keys.tobytes(), digest_size=16).hexdigest()
        tensors = {"keys": torch.from_numpy(keys.copy()), "tokens": torch.from_numpy(np.stack(list(fresh.values())))}
        try:
            write_entry(self.folder / f"{name}.safetensors", tensors, {})
        except CacheError as error:
            log.warning("pictures are tokenized anew in each run: %s", error)
            self.folder = None

    def _read(self) -> None:
        if self.folder is None or not self.folder.is_dir():
            return
        for path in sorted(self.folder.glob("*.safetensors")):
            entry = read_entry(path)
            if entry is None:
                continue  # damaged: its pictures are tokenized again
            keys, tokens = (entry[0][name].numpy() for name in ("keys", "tokens"))
            self.known |= {key.tobytes(): row for key, row in zip(keys, tokens, strict=True)}


def fingerprint(tokenizer: Any) -> str:
    """Return hex digits that tell a tokenizer from others: of its sizes and of all its weights."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps((getattr(tokenizer, "recipe", None) or {}).get("model"), default=str).encode())
    digest.update(type(tokenizer).__qualname__.encode())
    for name, value in sorted(export_state(tokenizer).items()):
        digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _key(pixels: np.ndarray) -> bytes:
    return hashlib.blake2b(f"{pixels.shape}".encode() + pixels.tobytes(), digest_size=16).digest()

"""Views: a picture while it is made: what the serial sampler holds after each step."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from unisono import Image

from unisono_image.request import ImageRequest, read_request

if TYPE_CHECKING:
    from unisono_image.models.generator import ImageGenerator


def views_of(model: "ImageGenerator", request: ImageRequest, seed: int) -> Iterator[Image]:
    """Yield the picture of a request after each step, the last one equal to the output.

    A solver that has several steps open at once has no such pictures: of it the output alone is yielded.
    """
    task = read_request(model, request)
    if task.request.solver != "serial":
        yield from model.synthesize([request.model_copy(update={"seed": seed})])
        return
    with torch.inference_mode(False), torch.no_grad():
        chain, x = model.chain([task], [seed])
        only = torch.zeros(1, dtype=torch.long, device=x.device)
        chain.restore(chain.begin(only))
    for step in range(chain.num_steps):
        with torch.inference_mode(False), torch.no_grad():
            x = chain.advance(chain.evaluate(x, only + step, only), step, x)
            finite = bool(x.isfinite().all())
            picture = ((model.decode(x).float() + 1) / 2).clamp(0, 1).cpu().numpy()[0]
        if not finite:  # what this raises says where
            yield from model.synthesize([request.model_copy(update={"seed": seed})])
            return
        model.count(1 if task.guidance_scale == 1 else 2, 1)
        yield Image(picture)

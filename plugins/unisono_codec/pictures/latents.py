"""LatentNet: the contract of a picture codec's network: latents one after the other, each predicted from those before.

::

    picture ─ analyse ─ seen ─┐
                           reader: what is latent number n, expected to be N(mean, exp(log_scale)²)?
    constant ─ descend ───────┴─ picture

``descend`` is the decoder, and the encoder's way too. What a latent is, the *reader* says: in training the posterior
with noise, in coding a whole number of steps from the mean, which one reader writes and another one reads.

Shapes: b batch, y x height and width in pixels, *s the shape of a latent.
"""

from collections.abc import Callable
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn

Reader = Callable[[int, Float[Tensor, "*s"], Float[Tensor, "*s"], Callable[[], Float[Tensor, "*s"]]], Tensor]
"""``reader(number, mean, log_scale, posterior)`` returns a latent; ``posterior()`` what the encoder sees it as."""


class LatentNet(nn.Module):
    """The base of such networks.

    Attributes:
        scales: least and greatest deviation, and how many there are tables of.
    """

    scales: ClassVar[tuple[str, str, int]] = ("0.1", "20", 64)

    @property
    def stride(self) -> int:
        """Sides of pictures must be multiples of so many pixels."""
        raise TypeError(f"{type(self).__name__} defines no stride")

    @property
    def num_latents(self) -> int:
        """Latents that a reader is asked for, from 0 on in this order."""
        raise TypeError(f"{type(self).__name__} defines no num_latents")

    def analyse(self, pictures: Float[Tensor, "b 3 y x"]) -> Any:
        """Return what the encoder sees of pictures from −1 to 1."""
        raise TypeError(f"{type(self).__name__} defines no analyse()")

    def descend(self, shape: tuple[int, int, int], reader: Reader, seen: Any = None) -> Float[Tensor, "b 3 y x"]:
        """Return pictures, about −1 to 1; ``shape`` is batch, and how many strides they have each way.

        ``seen`` is what ``analyse`` returned; without it no reader may ask for a posterior.
        """
        raise TypeError(f"{type(self).__name__} defines no descend()")

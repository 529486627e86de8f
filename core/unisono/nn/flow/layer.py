"""Flow layer: what every invertible layer does (Dinh et al., arXiv:1605.08803).

Shapes: b batch, t time, c channels, g channels of the condition, u 1 or t. Masks are True at valid places.
"""

from jaxtyping import Bool, Float
from torch import Tensor, nn

__all__ = ["FlowLayer", "Moved"]

Moved = tuple[Float[Tensor, "b t c"], Float[Tensor, " b"]]
"""What a layer made of its input, and the logarithm of |determinant| of its Jacobian over each item's valid places."""


class FlowLayer(nn.Module):
    """An invertible map of sequences, each place to as many channels as it had.

    ``x`` is of at least 32 bits. Padding comes out as 0, and has no part in the determinant.
    """

    def forward(
        self, x: Float[Tensor, "b t c"], mask: Bool[Tensor, "b t"], condition: Float[Tensor, "b u g"] | None = None
    ) -> Moved:
        """Return the moved sequence and its log-determinants; see ``Moved``."""
        raise NotImplementedError

    def inverse(
        self, z: Float[Tensor, "b t c"], mask: Bool[Tensor, "b t"], condition: Float[Tensor, "b u g"] | None = None
    ) -> Float[Tensor, "b t c"]:
        """Return what ``forward`` moves to ``z``."""
        raise NotImplementedError

"""Mesh: how the processes of a run are laid out, ``replicate × shard × tensor``.

Processes that differ in ``tensor`` alone work on the same items, each on a part of every layer. Those that differ in
``shard`` hold different parts of the weights, those that differ in ``replicate`` the same.
"""

from dataclasses import dataclass

from unisono.errors import RecipeError


@dataclass(frozen=True)
class Sizes:
    """The sizes of a mesh; None is whatever is left."""

    replicate: int | None = 1
    shard: int | None = None
    tensor: int = 1

    def __post_init__(self):
        for name in ("replicate", "shard", "tensor"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise _refused(f"trainer.strategy: {name}={value} must be at least 1", name, value)

    def fitted(self, processes: int, nodes: int = 1) -> "Sizes":
        """Return all sizes for so many processes; ``replicate`` is the number of nodes where neither it nor ``shard``
        is given.

        Raises:
            RecipeError: where the sizes do not multiply to the number of processes.
        """
        rest, remainder = divmod(processes, self.tensor)
        if remainder:
            raise _refused(
                f"trainer.strategy: {processes} processes are not divisible by tensor={self.tensor}: take a divisor of "
                f"{processes}",
                "tensor",
                self.tensor,
            )
        replicate, shard = self.replicate, self.shard
        if replicate is None and shard is None:
            if nodes == 1:
                raise _refused(
                    f"trainer.strategy: one node does not say how {processes} processes are laid out for hsdp: give "
                    "replicate or shard, or take fsdp2",
                    "replicate",
                    None,
                )
            replicate = nodes
        if replicate is None:
            assert shard is not None
            replicate = rest // shard
        if shard is None:
            shard = rest // replicate
        if replicate * shard != rest:
            beside = f" × tensor={self.tensor}" if self.tensor > 1 else ""
            raise _refused(
                f"trainer.strategy: replicate={replicate} × shard={shard}{beside} is {replicate * shard * self.tensor} "
                f"processes, not the {processes} that run: their product must be {processes}",
                "replicate" if self.replicate is not None else "shard",
                self.replicate if self.replicate is not None else self.shard,
            )
        return Sizes(replicate, shard, self.tensor)


def _refused(sentence: str, name: str, value: int | None) -> RecipeError:
    return RecipeError(sentence, path=f"trainer.strategy.{name}", value=value, code="shape" if value else "missing")

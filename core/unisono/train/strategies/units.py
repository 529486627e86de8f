"""Units: which parts of a model are gathered and freed together, and what every rank keeps whole.

A unit is a module whose ``forward`` is called: its weights are gathered before and freed afterwards. What is in no unit
is the root's, and is gathered for the whole of a step, so that it may be read anywhere in it: tied embeddings, weights
in a loss.
"""

from collections.abc import Iterator

from torch import nn


def repeated_blocks(model: nn.Module) -> list[nn.Module]:
    """Return the blocks of each outermost ``ModuleList`` of at least two of one class and one set of shapes.

    Single layers, such as convolutions, are left to the root: to gather each by itself would take longer.
    """
    return list(_blocks(model))


def kept_whole(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters, by name, that cannot be sharded: scalars, and those that a model or a module names.

    A class names them as ``kept_whole``: beginnings of the names of what it has. Such are parameters that are written
    to while gradients are made (what is written to a gathered copy is lost), and those of another player.
    """
    prefixes = tuple(
        f"{name}.{own}".lstrip(".")
        for name, module in model.named_modules()
        for own in getattr(type(module), "kept_whole", ())
    )
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.ndim == 0 or name.startswith(prefixes)
    }


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if isinstance(child, nn.ModuleList) and _alike(child):
            yield from child
        else:
            yield from _blocks(child)


def _alike(blocks: nn.ModuleList) -> bool:
    # the class before `unisono.train.speed` gave some of them another
    kinds = (getattr(type(block), "_unisono_plain_class", type(block)) for block in blocks)
    made = {(kind, *(tuple(p.shape) for p in block.parameters())) for kind, block in zip(kinds, blocks, strict=True)}
    return (
        len(blocks) > 1
        and len(made) == 1
        and all(any(True for _ in block.children()) and not isinstance(block, nn.ModuleList) for block in blocks)
        and any(True for _ in blocks.parameters())
    )

"""Options: how pictures are brought to their size and varied in training, and where recipe format 1 had them."""

from dataclasses import dataclass, fields

from unisono_image.corpus.files import Fit


@dataclass(frozen=True, kw_only=True)
class PictureOptions:
    """What is done to pictures before a model sees them.

    fit: how those of other sizes are brought to it: ``crop`` the middle, ``pad`` with the background, ``stretch``, or
        ``exact``, which drops them.
    background: what transparent ones are laid on, and padded with; a colour's name or ``#rrggbb``.
    flip: train on mirror images too, with left and right exchanged in captions; not where pictures hold writing.
    shift: train on pictures moved by up to so many pixels.
    """

    fit: Fit = "crop"
    background: str = "white"
    flip: bool = False
    shift: int = 0


FLAT = {field.name: f"pictures.{field.name}" for field in fields(PictureOptions)}

"""Emoji: pictures with their names as captions, from a folder of images whose names are code points, as Noto's are."""

import unicodedata
from pathlib import Path

from unisono.data import Audit
from unisono.errors import DataError
from unisono.files import is_folder, walk

from unisono_image.corpus.data import FileData, Picture
from unisono_image.corpus.emoji_names import SELECTORS, TONES, code_points, may_mirror, phrases, plain
from unisono_image.corpus.files import IMAGE_SUFFIXES
from unisono_image.corpus.options import PictureOptions


class EmojiData(FileData):
    """Emoji as files ``emoji_u1f63b.png`` or ``1f63b.png``; ZWJ sequences have underscores or dashes between them.

    What differs in skin tone only takes turns: an epoch shows each emoji once, in one of its tones, or people would
    be two thirds of what is seen. All tones and genders of an emoji are held out together.

    Args:
        root: a folder, searched at any depth; of two files of one emoji the first by path is taken.
        size: pixels a side.
        pictures: as of ``image/folder``; ``fit`` is ``pad``, which keeps all of an emoji that is not square. With
            ``flip`` those of writing, flags and directions are not mirrored.
        batch_size, num_processes, num_workers: as of ``image/folder``.
        val_size: images to hold out, or a few more: whole emoji.
        skin_tones: also those with a skin tone.
    """

    def __init__(
        self,
        root: str,
        *,
        size: int = 32,
        pictures: PictureOptions = PictureOptions(fit="pad"),  # noqa: B008
        batch_size: int = 64,
        val_size: int = 64,
        skin_tones: bool = True,
        num_processes: int | None = None,
        num_workers: int = 0,
    ):
        super().__init__(
            root=root,
            size=size,
            pictures=pictures,
            batch_size=batch_size,
            val_size=val_size,
            num_processes=num_processes,
            num_workers=num_workers,
        )
        self.skin_tones = skin_tones

    def prepare(self, progress: bool = True) -> Audit:
        root = self.folder()
        audit = Audit("pictures")
        found: dict[tuple[int, ...], tuple[Path, str, tuple[str, ...]]] = {}
        if is_folder(root):
            walked = walk(root, IMAGE_SUFFIXES)
            walked.tell(audit)
            files = [(found.path, found.id) for found in walked.files]
        else:
            files = [(root, root.name)]
        for file, name in sorted(files, key=lambda entry: entry[1]):
            try:
                points = code_points(file.stem)
                captions = phrases(points)
            except (ValueError, OverflowError):
                audit.drop(name, "no code points", "a file is named as emoji_u1f63b.png or 1f63b.png")
                continue
            except LookupError as error:
                audit.drop(name, "no name", str(error.args[0]))
                continue
            points = tuple(point for point in points if point not in SELECTORS)
            if points in found:
                audit.drop(name, "second file", f"{found[points][1]} is the same emoji")
            elif not self.skin_tones and len(points) > 1 and TONES.keys() & set(points):
                audit.drop(name, "skin tone", "data.skin_tones is false")
            else:
                found[points] = file, name, captions
        if not found:
            raise DataError(
                f"{self.root}: holds no emoji; dropped: {audit.reasons}; check data.root",
                code="empty",
                path="data.root",
                value=str(self.root),
            )
        ids = [name for _, name, _ in found.values()]
        store, kept = self.read(audit, [file for file, _, _ in found.values()], ids, progress)
        listed = list(found.items())
        pictures = []
        for index in kept:
            points, (_, name, captions) = listed[index]
            audit.keep(name)
            group, turn = _key(plain(points, genders=False)), _key(plain(points))
            pictures.append(Picture(name, index, -1, captions, may_mirror(points), group, turn))
        audit.note(f"names are those of Unicode {unicodedata.unidata_version}; a newer Python knows more")
        return self.settle(audit, store, pictures)


def _key(points: tuple[int, ...]) -> str:
    return "_".join(f"{point:x}" for point in points)

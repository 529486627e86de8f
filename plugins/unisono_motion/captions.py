"""Captions: what clips show, from tables, from text files, and from the names of a motion-capture set.

The Bandai-Namco-Research-Motiondataset names its clips ``dataset-N_{content}_{style}_{number}``; each content and
style has a few phrasings here, and a clip gets all of their combinations.
"""

import csv
import io
import re
from pathlib import Path

from unisono.errors import DataError

CONTENTS = {
    "walk": ("walks", "walks straight ahead", "is walking forward"),
    "run": ("runs", "runs straight ahead", "is running forward"),
    "walk-turn-left": ("walks and turns left", "turns to the left while walking", "walks in a curve to the left"),
    "walk-turn-right": ("walks and turns right", "turns to the right while walking", "walks in a curve to the right"),
    "raise-up-left-hand": ("raises the left hand", "lifts the left arm up", "puts the left hand up"),
    "raise-up-right-hand": ("raises the right hand", "lifts the right arm up", "puts the right hand up"),
    "raise-up-both-hands": ("raises both hands", "lifts both arms up", "puts both hands up"),
    "wave-left-hand": ("waves with the left hand", "waves the left hand", "greets by waving the left arm"),
    "wave-right-hand": ("waves with the right hand", "waves the right hand", "greets by waving the right arm"),
    "wave-both-hands": ("waves with both hands", "waves both hands", "greets by waving both arms"),
}
STYLES = {
    "active": ("an active person", "a lively person"),
    "elderly": ("an elderly person", "an old person"),
    "exhausted": ("an exhausted person", "a tired person"),
    "feminine": ("a feminine person", "a person with a feminine manner"),
    "masculine": ("a masculine person", "a person with a masculine manner"),
    "normal": ("a person", "someone"),
    "youthful": ("a youthful person", "a young person"),
}
_NAME = re.compile(r"dataset-\d+_(?P<content>[a-z-]+)_(?P<style>[a-z-]+)_\d+")
_SIDES = {"left": "right", "right": "left", "Left": "Right", "Right": "Left", "clockwise": "counterclockwise"}
_SIDES["counterclockwise"] = "clockwise"


def captions_of_name(name: str) -> tuple[str, ...]:
    """Return what the name of a clip says, in all phrasings; none for a name of another form."""
    found = _NAME.fullmatch(name)
    if found is None:
        return ()
    actions, subjects = CONTENTS.get(found["content"]), STYLES.get(found["style"])
    if actions is None or subjects is None:
        return ()
    return tuple(f"{subject} {action}" for action in actions for subject in subjects)


def mirrored_caption(caption: str) -> str:
    """Return what the mirror image shows: left for right, clockwise for counterclockwise."""
    return re.sub(rf"\b({'|'.join(_SIDES)})\b", lambda found: _SIDES[found[0]], caption)


def words_of(caption: str) -> list[str]:
    """Return a caption's words in small letters, without punctuation."""
    return re.findall(r"[^\W_]+(?:'[^\W_]+)?", caption.lower())


def read_table(path: Path) -> dict[str, list[str]]:
    """Read ``file|caption`` lines (or commas, or tabs; with a header or without): captions by file.

    Several lines may name one file. Raises ``DataError`` with file, line and remedy.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({error}); check data.root") from None
    first = text.split("\n", 1)[0]
    delimiter = max("|,\t", key=first.count)
    quoting = csv.QUOTE_MINIMAL if delimiter == "," else csv.QUOTE_NONE
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting)
    captions: dict[str, list[str]] = {}
    for row in reader:
        fields = [field.strip() for field in row]
        if not any(fields) or (reader.line_num == 1 and [f.lower() for f in fields] == ["file", "caption"]):
            continue
        if len(fields) != 2 or not all(fields):
            raise DataError(f"{path}, line {reader.line_num}: {len(fields)} fields; expected file{delimiter}caption")
        captions.setdefault(fields[0], []).append(fields[1])
    if not captions:
        raise DataError(f"{path}: lists no clips; a line is file|caption")
    return captions

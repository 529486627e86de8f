"""Release notes: the section of CHANGELOG.md that belongs to a tag; ``python tools/release_notes.py v0.1.0``."""

import re
import sys
from pathlib import Path

CHANGELOG = Path(__file__).parents[1] / "CHANGELOG.md"


def sections(text: str) -> dict[str, str]:
    """Return what a changelog says of each version, newest first; the version of the first may be ``Unreleased``."""
    parts = re.split(r"^## (\S+)[^\n]*\n", text, flags=re.MULTILINE)[1:]
    return {version: body.strip() for version, body in zip(parts[::2], parts[1::2], strict=True)}


def main(tag: str) -> int:
    """Print the notes of a tag; 1 where the changelog has none."""
    said = sections(CHANGELOG.read_text(encoding="utf-8"))
    version = tag.removeprefix("v")
    if not tag.startswith("v") or version not in said:
        print(f"{tag}: CHANGELOG.md has {', '.join(f'v{known}' for known in said)}", file=sys.stderr)
        return 1
    print(said[version])
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python tools/release_notes.py TAG")
    sys.exit(main(sys.argv[1]))

"""Names: of a new plugin, its distribution, package and classes, all from one; what would clash is refused."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, entry_points
from importlib.util import find_spec
from keyword import iskeyword

from unisono.errors import Code, PluginError
from unisono.plugin import GROUP

PREFIX = "unisono-"
"""What the names of plugins' distributions begin with."""
LONGEST = 24
"""Characters of a name: lines of the templates that hold it stay within 120."""
_NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")


@dataclass(frozen=True)
class Names:
    """The names of a plugin: ``note-rows`` stands for ``unisono-note-rows``, ``unisono_note_rows`` and ``NoteRows``."""

    plugin: str

    @property
    def distribution(self) -> str:
        """What pip installs, and the folder it is written to."""
        return f"{PREFIX}{self.plugin}"

    @property
    def package(self) -> str:
        """What Python imports."""
        return self.distribution.replace("-", "_")

    @property
    def model(self) -> str:
        """The class of its model; that of its request ends in ``Request``."""
        return "".join(part.capitalize() for part in self.plugin.split("-"))

    @classmethod
    def read(cls, name: str, taken: Collection[str] = ()) -> "Names":
        """Return the names that a plugin's gives.

        Args:
            taken: names that the new package's code uses itself.

        Raises ``PluginError`` for a name that is no name of a package, and for one that an installed plugin,
        distribution or module has.
        """
        if name.replace("_", "-").startswith(PREFIX):
            short = name[len(PREFIX) :]
            raise _refused(name, f"begins with {name[: len(PREFIX)]!r}, which is added: give {short!r}", "format")
        if not _NAME.fullmatch(name):
            near = "-".join(re.findall("[a-z0-9]+", name.lower())).lstrip("-0123456789")
            example = near if _NAME.fullmatch(near) else "my-plugin"
            why = "is not a letter followed by small letters and digits, with single dashes between"
            raise _refused(name, f"{why}: give one such as {example[:LONGEST].rstrip('-')!r}", "format")
        if name.startswith("model-"):
            raise _refused(name, f"is for packages of models ({PREFIX}{name}): choose another", "conflict")
        if len(name) > LONGEST:
            raise _refused(name, f"has {len(name)} characters: give at most {LONGEST}", "limit")
        names = cls(name)
        for own in (names.model, f"{names.model}Request"):
            if iskeyword(own) or own in taken:
                why = "which Python reserves" if iskeyword(own) else "which the package uses for another thing"
                raise _refused(name, f"would make a class {own!r}, {why}: choose another", "conflict")
        for point in entry_points(group=GROUP):
            if point.name == name:
                origin = f" (of {point.dist.name} {point.dist.version})" if point.dist else ""
                raise _refused(name, f"is an installed plugin's{origin}: choose another, or uninstall that", "exists")
        try:
            found = distribution(names.distribution)
        except PackageNotFoundError:
            pass
        else:
            what = f"would make the package {names.distribution} {found.version}, which is installed"
            raise _refused(name, f"{what}: choose another, or uninstall that", "exists")
        if find_spec(names.package) is not None:
            raise _refused(name, f"would make the module {names.package}, which there is: choose another", "exists")
        return names


def _refused(name: str, why: str, code: Code) -> PluginError:
    return PluginError(f"the name {name!r:.100} {why}", code=code, path="name", value=name)

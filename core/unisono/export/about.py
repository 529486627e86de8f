"""About: what an export says of itself, read without its weights: for listings, packages and the hub."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unisono import plugin as plugins
from unisono.export.layout import COMPONENTS, INFO, check_tree, kind_of
from unisono.export.names import Source, locate
from unisono.export.read import naming, read_info
from unisono.fields import Field, fields_of


@dataclass(frozen=True)
class About:
    """What an export says of itself.

    Attributes:
        name: by which it was asked for.
        source: where it was found.
        info: what its ``unisono.json`` holds.
        files: of the export, relative to its folder, in a fixed order.
        size: bytes of all files.
        components: role → model of the component, or the built-in one's name.
        plugins: plugin → the distribution and version that wrote the export, of the model and of its components.
    """

    name: str
    source: Source
    info: dict[str, Any]
    files: tuple[Path, ...]
    size: int
    components: dict[str, str]
    plugins: dict[str, str]

    @classmethod
    def read(cls, name: str | Path) -> "About":
        """Read what an export says, by folder, model name or hub id; raises ``CheckpointError`` as ``load`` does."""
        source = locate(name)
        with naming(source):
            info = read_info(source.folder)
            files = tuple(check_tree(source.folder))
            inner = _components(source.folder)
        size = sum((source.folder / file).stat().st_size for file in files)
        builtin = info.get("builtin_components")
        roles = {role: part["model"] for role, part in inner.items() if "/" not in role}
        made_by = {part["plugin"]: str(part.get("distribution", "")) for part in (*inner.values(), info)}
        components = {**roles, **(builtin if isinstance(builtin, dict) else {})}
        return cls(str(name), source, info, files, size, components, made_by)

    @property
    def model(self) -> str:
        """The plugin and its model: ``plugin/model``."""
        return self.info["model"]

    @property
    def kind(self) -> Any:
        """The model's class; importing it may take seconds."""
        return plugins.resolve(self.model, "models")

    @property
    def output(self) -> str:
        """What it makes: the kind of media; of an export that does not say so, its model is imported."""
        output = self.info.get("output")
        return output if isinstance(output, str) else self.kind.Media.__name__

    @property
    def fields(self) -> dict[str, Field]:
        """What can be asked of it."""
        from unisono.model import choices_of

        return fields_of(self.kind.Request, choices_of(self.kind, self.info["facts"]))

    def stated(self, key: str) -> str:
        """Return an entry of the card; empty where it states none."""
        card = self.info.get("card")
        value = card.get(key) if isinstance(card, dict) else None
        return value if isinstance(value, str) else ""

    @property
    def figures(self) -> dict[str, Any]:
        """What was measured, by name."""
        card = self.info.get("card")
        metrics = card.get("metrics") if isinstance(card, dict) else None
        return metrics if isinstance(metrics, dict) else {}

    @property
    def headline(self) -> str:
        """The figure that the card puts first (its ``headline``, else the first one), with its name; may be empty."""
        name = self.stated("headline") or next(iter(self.figures), "")
        return f"{name}: {self.figures[name]}" if name in self.figures else ""

    def summary(self) -> dict[str, Any]:
        """Return what a listing shows, as plain JSON; imports no model."""
        return {
            "model": self.model,
            "output": self.output,
            "title": self.stated("title"),
            "parameters": self.info.get("parameters"),
            "bytes": self.size,
            "licence": self.stated("licence"),
            "headline": self.headline,
        }

    def to_json(self) -> dict[str, Any]:
        """Return all of it as plain JSON, the request's fields as JSON schema."""
        return {
            "name": self.name,
            **self.summary(),
            "source": {
                "kind": self.source.kind,
                "folder": str(self.source.folder),
                "revision": self.source.revision,
                "distribution": self.source.distribution,
            },
            "data": self.stated("data"),
            "figures": self.figures,
            "components": self.components,
            "made_with": {key: self.info.get(key) for key in ("unisono", "distribution", "api", "format")},
            "request": self.kind.Request.model_json_schema(),
            "choices": {name: list(field.choices) for name, field in self.fields.items() if field.choices},
        }


def _components(folder: Path, role: str = "") -> dict[str, dict[str, Any]]:
    """Read what the components inside say, by role; those of a component by ``role/role``."""
    found: dict[str, dict[str, Any]] = {}
    for part in sorted((folder / COMPONENTS).glob("*")):
        if kind_of(part / INFO) == "file":
            place = f"{role}{part.name}"
            found[place] = read_info(part)
            found |= _components(part, f"{place}/")
    return found

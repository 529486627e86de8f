"""The views plugin: several views of one object, made better together. The manifest only; models load when used."""

from unisono import Plugin

plugin = Plugin(
    name="views",
    api="1.4",
    summary="Six views of one object made better together, by diffusion that attends from view to view",
    models={"sharp-it": "unisono_views.model:SharpIt"},
    data={
        "objects": "unisono_views.data:ObjectData",
        "folder": "unisono_views.folder:FolderData",
    },
    evaluators={"sharp-it": "unisono_views.evaluate:evaluate"},
    sweeps={"sharp-it": "unisono_views.evaluate:probe"},
    recipes="unisono_recipes.views",
    extra="views",
)

"""The outline plugin: the outline of what a phrase names in a picture. The manifest only; models load when used."""

from unisono import Plugin

plugin = Plugin(
    name="outline",
    api="1.4",
    summary="Outlines of what a phrase names in a picture: all vertices at once by diffusion, or one after the other",
    models={
        "pvd": "unisono_outline.models.pvd:ParallelVertexDiffusion",
        "vertex-ar": "unisono_outline.models.vertex_ar:VertexDecoder",
    },
    data={
        "scenes": "unisono_outline.corpus.data:SceneData",
        "folder": "unisono_outline.corpus.folder:FolderData",
    },
    evaluators={
        "pvd": "unisono_outline.measure.evaluate:evaluate",
        "vertex-ar": "unisono_outline.measure.evaluate:evaluate",
    },
    sweeps={
        "pvd": "unisono_outline.measure.evaluate:probe",
        "vertex-ar": "unisono_outline.measure.evaluate:probe",
    },
    recipes="unisono_recipes.outline",
    extra="outline",
)

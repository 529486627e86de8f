"""Manifest: names and import strings; what they name is imported when it is used."""

from unisono import Plugin

plugin = Plugin(
    name="sketch",
    api="1.4",
    summary="Outlines in the plane, by diffusion",
    models={"sketch": "unisono_sketch.model:Sketch"},
    data={"outlines": "unisono_sketch.data:Outlines"},
    evaluators={"sketch": "unisono_sketch.evaluate:evaluate"},
    sweeps={"sketch": "unisono_sketch.evaluate:probe"},
    recipes="unisono_sketch.recipes",
)

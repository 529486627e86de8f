"""Manifest: names and import strings; what they name is imported when it is used."""

from unisono import Plugin

plugin = Plugin(
    name="sketch",
    api="1.4",
    summary="Rows of tokens that follow a pattern, filled in a few passes",
    models={"sketch": "unisono_sketch.model:Sketch"},
    data={"rows": "unisono_sketch.data:Rows"},
    evaluators={"sketch": "unisono_sketch.evaluate:evaluate"},
    sweeps={"sketch": "unisono_sketch.evaluate:probe"},
    recipes="unisono_sketch.recipes",
)

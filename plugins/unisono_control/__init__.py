"""The control plugin: policies that plan chunks of actions. The manifest only; models load when they are used."""

from unisono import Plugin, Verb

plugin = Plugin(
    name="control",
    api="1.1",
    summary="Policies that plan chunks of actions: decoded in fewer evaluations, or all at once",
    models={
        "policy": "unisono_control.models.policy:ChunkPolicy",
        "oft": "unisono_control.models.oft:RegressionPolicy",
    },
    data={
        "demonstrations": "unisono_control.demonstrations.data:DemonstrationData",
        "scripted": "unisono_control.demonstrations.data:ScriptedData",
    },
    evaluators={
        "policy": "unisono_control.measure.evaluate:evaluate",
        "oft": "unisono_control.measure.evaluate:evaluate",
    },
    sweeps={
        "policy": "unisono_control.measure.evaluate:probe",
        "oft": "unisono_control.measure.evaluate:probe",
    },
    verbs={"control": Verb("unisono_control.cli", "record demonstrations of a scripted expert, and replay them")},
    recipes="unisono_recipes.control",
    extra="control",
)

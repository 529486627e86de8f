"""A plugin whose every model breaks one promise. The conformance kit must find each."""

from unisono import Plugin

NAMES = (
    *("Healthy", "Random", "Deaf", "Forgetful", "Lopsided", "Leaky", "Unpadded", "Moody", "Fidgety", "Homesick"),
    *("Talkative", "Lenient", "Silent", "Vague", "Infinite", "Mute", "Untrained", "Stubborn", "Deafened", "Fickle"),
    *("Crashing", "Odd", "Blank", "Forgetting", "Uncounted", "Flat", "Drifting", "Redrawn", "Framed", "Stepped"),
    *("Taken", "Scribbling", "Late"),
)

plugin = Plugin(
    name="sick",
    api="1.0",
    summary="Breaks promises",
    models={name.lower(): f"unisono_sick.models:{name}" for name in NAMES},
    data={"letters": "unisono_hum.data:Letters"},
    evaluators={"healthy": "unisono_sick.models:evaluate"},
    sweeps={"healthy": "unisono_sick.models:probe"},
    recipes="unisono_sick.recipes",
)

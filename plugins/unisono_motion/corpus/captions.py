"""Captions: from the names of a motion-capture set.

The Bandai-Namco-Research-Motiondataset names its clips ``dataset-N_{content}_{style}_{number}``; each content and
style has a few phrasings here, and a clip gets all of their combinations.
"""

import re

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


def captions_of_name(name: str) -> tuple[str, ...]:
    """Return what the name of a clip says, in all phrasings; none for a name of another form."""
    found = _NAME.fullmatch(name)
    if found is None:
        return ()
    actions, subjects = CONTENTS.get(found["content"]), STYLES.get(found["style"])
    if actions is None or subjects is None:
        return ()
    return tuple(f"{subject} {action}" for action in actions for subject in subjects)

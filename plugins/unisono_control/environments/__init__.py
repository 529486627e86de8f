"""Environments: what a policy observes and acts on; a table top of its own, LunarLander of gymnasium, and others'.

protocol.py   what an environment is; what it observes
session.py    an environment under watch: faults of an environment become errors that name seed and step
registry.py   environments by name; third parties register theirs
table.py      discs, pads and a gripper, told what to do in a sentence
lander.py     LunarLander of gymnasium, continuous
"""

from unisono_control.environments.protocol import Environment, EnvironmentSpec, Observation, Scripted
from unisono_control.environments.registry import environment_names, make_environment, register_environment
from unisono_control.environments.session import Session

__all__ = [
    "Environment",
    "EnvironmentSpec",
    "Observation",
    "Scripted",
    "Session",
    "environment_names",
    "make_environment",
    "register_environment",
]

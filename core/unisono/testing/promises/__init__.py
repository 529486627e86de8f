"""Promises: the checks themselves. Each states a promise in its first line, and raises where it is not kept.

manifest.py   of the plugin: names, types, signatures, recipes
training.py   of a model: its runs
output.py     of a model: what it makes, alone, in a batch, as a stream, from any seed
surface.py    of a model: requests, names, progress, counters
"""

from collections.abc import Callable

from unisono.plugin import Plugin
from unisono.testing.model_under_test import Subject
from unisono.testing.promises import manifest, output, surface, training

OF_PLUGIN: tuple[Callable[[Plugin], None], ...] = (
    manifest.manifest_is_light,
    manifest.targets_import,
    manifest.evaluators_can_be_called,
    manifest.constructors_are_typed,
    manifest.recipes_parse,
)
OF_MODEL: tuple[Callable[[Subject], None], ...] = (
    surface.base_names_are_kept,
    training.tiny_recipe_trains,
    training.gradient_reaches_every_parameter,
    training.resumed_equals_uninterrupted,
    training.two_processes_equal_one,
    training.two_shards_equal_one,
    output.output_is_what_it_says,
    output.every_listed_request_is_served,
    output.alone_equals_in_a_batch,
    output.a_stream_is_the_whole,
    output.what_is_given_stands,
    output.same_seed_same_output,
    output.another_seed_another_output,
    output.global_randomness_is_left_alone,
    output.fresh_process_gives_the_same,
    output.nothing_executable_is_kept,
    surface.unknown_names_are_refused,
    surface.steps_are_told,
    surface.evaluations_are_counted,
)

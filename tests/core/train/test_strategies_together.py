"""Strategies in processes: weights that are sharded are trained, kept, gathered and guarded as whole ones are."""

import pytest
from sharded_cases import together


@pytest.mark.parametrize("count", [2, 4])
def test_a_gradient_in_parts_has_the_norm_of_one_process(count):
    together("norms_and_clipping", count=count)


@pytest.mark.parametrize("count", [2, 4])
def test_states_are_whole_again_and_ranks_go_their_own_ways_on_gathered_weights(count):
    together("whole_and_sharded", count=count)


@pytest.mark.parametrize("case", ["accumulation_waits", "finite_over_shards", "finite_skips", "an_object"])
def test_a_run(case, tmp_path):
    together(case, str(tmp_path))

"""Rooms: the direct path, an oracle image by image, and how energy dies away."""

import math
from itertools import product

import pytest
import torch
from refused import refused
from unisono.errors import DataError
from unisono_sound.degrade import (
    Box,
    decay_seconds,
    draw_box,
    exponential_tail,
    from_direct,
    heard_through,
    image_sources,
)

RATE = 16000
BOX = Box(size=(5.0, 4.0, 3.0), source=(1.0, 2.0, 1.5), microphone=(3.5, 1.2, 1.1), rt60=0.3)


def test_the_direct_sound_comes_after_its_distance_at_its_gain():
    metres = 343.0 / RATE * 100  # 100 samples of way
    box = Box(size=(9.0, 8.0, 4.0), source=(3.0, 4.0, 2.0), microphone=(3.0 + metres, 4.0, 2.0), rt60=0.2)
    response = image_sources(box, RATE)
    assert int(response.argmax()) == 100
    assert float(response[100]) == pytest.approx(1 / (4 * math.pi * metres), rel=1e-5)
    assert not bool(response[:59].any())


def test_every_image_is_where_brute_force_mirrors_it():
    response = image_sources(BOX, RATE)
    paths = []
    for qs, ms in product(product((0, 1), repeat=3), product(range(-2, 3), repeat=3)):
        place = [(1 - 2 * q) * s + 2 * m * length for q, m, s, length in zip(qs, ms, BOX.source, BOX.size, strict=True)]
        count = sum(abs(m - q) + abs(m) for q, m in zip(qs, ms, strict=True))
        paths.append((math.dist(place, BOX.microphone), count))
    near = [(distance, count) for distance, count in paths if distance < 6.0]  # of images that two mirrors reach
    expected = torch.zeros(len(response), dtype=torch.float64)
    numbers = torch.arange(len(response), dtype=torch.float64)
    for distance, count in near:
        apart = numbers - distance / 343.0 * RATE
        window = torch.where(apart.abs() <= 40.5, 0.5 + 0.5 * torch.cos(math.pi * apart / 41), 0.0)
        expected += (-BOX.reflection) ** count / (4 * math.pi * distance) * torch.sinc(apart) * window
    until = round(6.0 / 343.0 * RATE) - 41
    assert len(near) > 10
    torch.testing.assert_close(response[:until].double(), expected[:until], atol=2e-5, rtol=0)


def test_energy_dies_away_in_the_time_that_was_asked_for():
    for rt60 in (0.2, 0.4):
        box = Box(size=BOX.size, source=BOX.source, microphone=BOX.microphone, rt60=rt60)
        assert decay_seconds(image_sources(box, RATE), RATE) == pytest.approx(rt60, rel=0.1)
    for rt60 in (0.1, 0.5):
        tail = exponential_tail(rt60, -60.0, RATE, torch.Generator().manual_seed(0))  # next to no direct sound
        assert decay_seconds(tail[1:], RATE) == pytest.approx(rt60, rel=0.1)


def test_a_decay_that_is_known_is_measured():
    response = 10 ** (-3 * torch.arange(8000) / (0.25 * RATE))
    assert decay_seconds(response, RATE) == pytest.approx(0.25, rel=1e-3)
    with refused(DataError, code="value", path="response"):
        decay_seconds(torch.ones(3), RATE)


def test_a_tail_has_its_direct_sound_and_exact_energy():
    tail = exponential_tail(0.3, 7.0, RATE, torch.Generator().manual_seed(1))
    assert float(tail[0]) == 1
    assert -10 * math.log10(float(tail[1:].double().square().sum())) == pytest.approx(7.0, abs=1e-3)


def test_what_goes_through_a_room_stays_in_place():
    wave = torch.randn(3000, generator=torch.Generator().manual_seed(2))
    response = from_direct(image_sources(BOX, RATE), BOX, RATE)
    heard = heard_through(wave, response)
    assert heard.shape == wave.shape
    brute = torch.zeros(3000, dtype=torch.float64)
    for delay in range(len(response[:3000])):
        brute[delay:] += float(response[delay]) * wave[: 3000 - delay].double()
    torch.testing.assert_close(heard.double(), brute, atol=1e-5, rtol=1e-5)
    correlation = torch.stack([(heard[k : 2500 + k] * wave[:2500]).sum() for k in range(40)])
    assert int(correlation.argmax()) <= 1


def test_drawn_rooms_repeat_and_hold_their_points():
    for seed in range(20):
        box = draw_box(torch.Generator().manual_seed(seed), (0.1, 0.2))
        assert box == draw_box(torch.Generator().manual_seed(seed), (0.1, 0.2))
        assert box.distance >= 0.3 and 0.1 <= box.rt60 < 0.2
        for point in (box.source, box.microphone):
            assert all(0.5 <= place <= length - 0.5 for place, length in zip(point, box.size, strict=True))


def test_points_outside_and_in_one_place_are_refused():
    with refused(DataError, code="range", path="room", value=(6.0, 1.0, 1.0)):
        image_sources(Box(size=(5.0, 4.0, 3.0), source=(6.0, 1.0, 1.0), microphone=(1.0, 1.0, 1.0), rt60=0.2), RATE)
    with refused(DataError, code="range", path="room"):
        image_sources(Box(size=(5.0, 4.0, 3.0), source=(1.0, 1.0, 1.0), microphone=(1.0, 1.0, 1.0), rt60=0.2), RATE)

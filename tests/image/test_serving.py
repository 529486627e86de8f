"""Pictures over HTTP, by the real OpenAI client against a real server."""

import base64
import io

import numpy as np
import openai
import pytest
import torch
from picture_facts import FACTS
from PIL import Image as Pillow
from serving import error_of, running
from unisono import Synthesizer
from unisono.recipe import Recipe
from unisono.serve import Limits
from unisono_image.serving import size_of


@pytest.fixture(scope="module")
def synthesizer() -> Synthesizer:
    """A generator with random weights, those that begin as zeros too, so that its network answers something."""
    model = Recipe.read("image/dit-tiny").build_model(FACTS)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.net.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return Synthesizer(model)


@pytest.fixture(scope="module")
def server(synthesizer):
    with running({"pictures": synthesizer}, Limits(seconds=60)) as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60) as client:
        yield client


def pixels(data: str) -> np.ndarray:
    return np.asarray(Pillow.open(io.BytesIO(base64.b64decode(data))))


def test_pictures_are_those_of_the_synthesizer(client, synthesizer):
    more = {"num_steps": 3, "seed": 7}
    made = client.images.generate(model="pictures", prompt="a red circle", n=2, size="16x8", extra_body=more)
    expected = [synthesizer("a red circle", width=16, height=8, num_steps=3, seed=seed) for seed in (7, 8)]
    for picture, own in zip(made.data, expected, strict=True):
        np.testing.assert_array_equal(pixels(picture.b64_json), own.bytes)
    assert made.created > 0 and made.output_format == "png" and made.usage.output_tokens == 2
    assert expected[0].bytes.shape == (8, 16, 3) and (expected[0].bytes != expected[1].bytes).any()


@pytest.mark.parametrize(("kind", "name"), [("png", "PNG"), ("jpeg", "JPEG"), ("webp", "WEBP")])
def test_each_format_is_a_file_of_its_kind(client, kind, name):
    more = {"num_steps": 1}
    made = client.images.generate(model="pictures", prompt="a circle", output_format=kind, extra_body=more)
    assert Pillow.open(io.BytesIO(base64.b64decode(made.data[0].b64_json))).format == name


def test_a_stream_ends_with_the_picture(client, synthesizer):
    more = {"num_steps": 4}
    asked = {"model": "pictures", "prompt": "a red circle", "stream": True, "partial_images": 2, "extra_body": more}
    *partial, last = client.images.generate(**asked)
    assert last.type == "image_generation.completed"
    np.testing.assert_array_equal(pixels(last.b64_json), synthesizer("a red circle", num_steps=4).bytes)
    assert [event.type for event in partial] == ["image_generation.partial_image"] * len(partial)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"size": "big"}, "size"),
        ({"size": "10x10"}, "height"),
        ({"size": "4096x4096"}, "height"),
        ({"n": 11}, "n"),
        ({"n": 0}, "n"),
        ({"response_format": "url"}, "response_format"),
        ({"background": "transparent"}, "background"),
        ({"quality": "hd"}, "quality"),
        ({"partial_images": 2}, "partial_images"),
        ({"n": 2, "stream": True}, "n"),
        ({"prompt": ""}, "prompt"),
        ({"extra_body": {"image": "/etc/passwd"}}, "image"),
        ({"extra_body": {"steps": 3}}, "steps"),
    ],
)
def test_what_cannot_be_had_is_a_400_with_the_fields_sentence(client, fields, param):
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(**{"model": "pictures", "prompt": "a circle", **fields})
    assert caught.value.param == param


def test_a_picture_to_begin_with_is_sent(client, server):
    buffer = io.BytesIO()
    Pillow.new("RGB", (16, 16), "red").save(buffer, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    asked = {"prompt": "a red circle", "image": url, "strength": 0.3, "num_steps": 4}
    assert server.post("pictures", **asked).headers["content-type"] == "image/png"
    broken = server.post("pictures", prompt="a circle", image="data:image/png;base64,AAAA")
    assert broken.status_code == 422 and error_of(broken)["param"] == "image"


def test_sizes_are_width_first():
    assert size_of("256x128") == {"width": 256, "height": 128} and size_of("auto") == {}

"""Wrong requests for texts: one clear sentence that names the value and the fix."""

import flat
import pytest
import torch
from unisono import Synthesizer
from unisono.errors import RequestError
from unisono_text.corpus.tokenizer import Tokenizer
from unisono_text.models.ar import Autoregressive
from unisono_text.models.block import BlockModel
from unisono_text.models.mdlm import MDLM
from wrong_input import matches

CONTEXT = 64
SMALL = {"dim": 8, "num_layers": 1, "num_heads": 1}


def make(kind, tokenizer=None, **arguments):
    tokenizer = tokenizer or Tokenizer.bytes()
    model = flat.make(kind, **SMALL, **arguments)
    with torch.random.fork_rng():
        model.build({**tokenizer.to_facts(), "context": CONTEXT, "characters_per_token": 1.0})
    return model.eval()


@pytest.fixture(scope="module")
def models():
    endless = Tokenizer.bytes()
    endless.special = {"pad": 0, "bos": 1, "eos": None}
    timed = make(MDLM, time_conditioning=True)
    plain, without = make(MDLM), make(MDLM)
    without.special = endless.special
    plain.attach("guide", make(Autoregressive, Tokenizer.characters(["abc"])))
    return {
        "plain": plain,
        "timed": timed,
        "blocks": make(BlockModel, block_size=8),
        "unguided": timed,
        "endless": without,
        "letters": make(MDLM, Tokenizer.characters(["abc"])),
    }


def number(**more):
    return {"json_schema": {"type": "object", "properties": {"a": {"type": "integer", **more}}}}


REQUESTS = {
    "prompt as long as the context": ({"text": "x" * 64}, "has 64 tokens", "context of 64", "shorten it"),
    "prompt and suffix": ({"text": "x" * 40, "suffix": "y" * 30}, "has 70 tokens", "context of 64"),
    "more than fits": ({"text": "x" * 40, "length": 30}, "40 tokens of prompt and 30 to make", "ask for less"),
    "a huge length": ({"length": 1_000_000}, "1000000 to make", "context of 64"),
    "length 0": ({"length": 0}, "length=0: input should be greater than or equal to 1"),
    "no blanks": ({"template": "nothing to fill"}, "'nothing to fill' has no blank", "{name}"),
    "an empty template": ({"template": ""}, "has no blank"),
    "10,000 blanks": ({"template": "{}" * 10_000}, "10000 blanks need a token each", "context holds 64"),
    "a huge blank": ({"template": "{a:999999999}"}, "1 blanks are more than", "context of 64"),
    "a blank twice": ({"template": "{a} {a}"}, "the blank 'a' occurs twice"),
    "an open brace": ({"template": "{a"}, "template='{a'", "expected '}' before end of string"),
    "a lone brace": ({"template": "a } {b}"}, "Single '}' encountered", "written twice"),
    "a length of 0": ({"template": "{a:0}"}, "the blank 'a' has the length '0'", "{a:8}"),
    "a length that is none": ({"template": "{a:long}"}, "the blank 'a' has the length 'long'", "{a:..8}"),
    "a conversion": ({"template": "{a!r}"}, "has a conversion !r"),
    "options twice": ({"template": "{a:x|x}"}, "the blank 'a' offers one text twice"),
    "two forms": ({"template": "{a}", "suffix": "b"}, "template and suffix exclude each other"),
    "no end token": ({"template": "{a:..4}", "model": "endless"}, "the blank 'a' may be shorter", "{name:8}"),
    "no digits": ({**number(), "model": "letters"}, "this tokenizer knows 3 characters"),
    "a schema that is none": ({"json_schema": {"type": "thing"}}, "has the type 'thing'", "did you mean 'string'?"),
    "an open array": (
        {"json_schema": {"type": "array", "items": {"type": "null"}}},
        "None to None items",
        "minItems equal to maxItems",
    ),
    "a pattern": ({"json_schema": {"type": "string", "pattern": "a+"}}, "'pattern', which a skeleton cannot promise"),
    "a range too wide": (number(minimum=0, maximum=10**9), "json_schema at a runs from 0 to 1000000000"),
    "half a range": (number(minimum=3), "has the minimum 3", "both ends of a range"),
    "all constant": ({"json_schema": {"const": 1}}, "leaves nothing open"),
    "a circle": (
        {"json_schema": {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}},
        "levels deep",
        "refer to itself",
    ),
    "a reference to nothing": ({"json_schema": {"$ref": "#/$defs/a"}}, "'#/$defs/a', which is not in the schema"),
    "required but missing": (
        {"json_schema": {"type": "object", "properties": {"age": {"type": "null"}}, "required": ["agee"]}},
        "requires 'agee'",
        "did you mean 'age'?",
    ),
    "steps 0": ({"num_steps": 0}, "num_steps=0: input should be greater than or equal to 1"),
    "threshold 0": ({"threshold": 0}, "threshold=0: input should be greater than 0"),
    "threshold above 1": ({"threshold": 1.5}, "threshold=1.5: input should be less than or equal to 1"),
    "threshold nan": ({"threshold": float("nan")}, "threshold=nan: input should be a finite number"),
    "edit above 1": ({"edit": 2}, "edit=2: input should be less than or equal to 1"),
    "top_p 0": ({"top_p": 0}, "top_p=0: input should be greater than 0"),
    "temperature below 0": ({"temperature": -1}, "temperature=-1: input should be greater than or equal to 0"),
    "two rules": ({"threshold": 0.5, "factor": 1.0}, "threshold and factor both say how much to fill"),
    "a rule's order": ({"factor": 1.0, "order": "random"}, "factor goes with the order max_prob, not random"),
    "a preset's setting": ({"sampler": "llada", "threshold": 0.5}, "sampler llada takes num_steps, not threshold"),
    "an unknown sampler": ({"sampler": "ladla"}, "sampler='ladla'", "llada"),
    "filters of nothing": ({"temperature": 0, "top_k": 3}, "top_k filters what is drawn from"),
    "remasking by rank": ({"remask": "cap", "order": "entropy"}, "remove order"),
    "remasking in blocks": ({"remask": "cap", "block": 4}, "it goes with no blocks"),
    "remasking with keys kept": ({"remask": "cap", "cache": "free"}, "cache='free'", "leave one out"),
    "eta of nothing": ({"remask_eta": 0.1}, "give remask"),
    "a prompt that is not there": ({"guidance_scale": 2}, "there is none: give text"),
    "negative of nothing": ({"text": "a", "negative": "b"}, "needs guidance_scale above 1"),
    "a long negative": (
        {"text": "a", "length": 60, "negative": "b" * 9, "guidance_scale": 2},
        "the negative prompt has 9 tokens",
    ),
    "no guide": ({"guide_weight": 1.0, "model": "unguided"}, "has no guide", "components={'guide': FOLDER}"),
    "a guide of another tokenizer": ({"guide_top": 1}, "the guide has another tokenizer"),
    "two guides": ({"guide_top": 1, "guide_weight": 1.0}, "give one"),
    "a guide and an order": ({"guide_top": 1, "order": "random"}, "remove order"),
    "another block": ({"block": 4, "model": "blocks"}, "block=4: this model fills blocks of 8"),
    "a cache without blocks": ({"cache": "frozen"}, "cache='frozen' keeps what lies outside", "give block"),
    "a prefix that sees everything": ({"cache": "prefix", "block": 8}, "everything sees everything", "drift"),
    "a clock keeps nothing": ({"cache": "free", "model": "timed"}, "cache='free': this model keeps no keys and values"),
    "refresh of nothing": ({"cache": "free", "refresh": 4}, "refresh is the delayed cache's, this one is free"),
    "drift of nothing": ({"drift": True}, "drift needs a cache"),
    "no chats": ({"chat": True}, "was trained on no chats"),
    "half a character": ({"text": "a\ud800"}, "half of a character"),
    "an unknown field": ({"treshold": 0.5}, "unknown field 'treshold'", "did you mean 'threshold'?"),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_wrong_request_is_told(models, name):
    fields, *parts = REQUESTS[name]
    synth = Synthesizer(models[fields.get("model", "plain")])
    with pytest.raises(RequestError) as told:
        synth({key: value for key, value in fields.items() if key != "model"})
    assert told.value.code and told.value.path, told.value
    matches(str(told.value), *parts)


def test_the_fullest_request_that_fits_is_made(models):
    synth = Synthesizer(models["plain"])
    made = synth(text="x" * 63, num_steps=1)
    assert made.text.startswith("x" * 63) and made.facts["steps"] == 1
    made = synth(template="{:1}" * 64, num_steps=1, temperature=0)
    assert len(made.facts["blanks"]) == 64

"""The motion plugin: moving skeletons. The manifest only; models load when they are used."""

from unisono import Plugin

plugin = Plugin(
    name="motion",
    api="1.0",
    summary="Motion of the human body: tokens, and motion from text",
    models={
        "tokenizer": "unisono_motion.tokenizer:MotionTokenizer",
        "tokenizer-fsq": "unisono_motion.tokenizer:ScalarMotionTokenizer",
        "tokenizer-parts": "unisono_motion.tokenizer:PartsMotionTokenizer",
        "mmm": "unisono_motion.mmm:MMM",
        "momask": "unisono_motion.momask:MoMask",
        "matcher": "unisono_motion.matcher:MotionMatcher",
    },
    data={
        "clips": "unisono_motion.data:ClipData",
        "figures": "unisono_motion.figures:FigureData",
    },
    evaluators={
        "mmm": "unisono_motion.evaluate:evaluate",
        "momask": "unisono_motion.evaluate:evaluate",
    },
    sweeps={
        "mmm": "unisono_motion.evaluate:probe",
        "momask": "unisono_motion.evaluate:probe",
    },
    recipes="unisono_recipes.motion",
    extra="motion",
)

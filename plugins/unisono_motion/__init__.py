"""The motion plugin: moving skeletons. The manifest only; models load when they are used."""

from unisono import Plugin

plugin = Plugin(
    name="motion",
    api="1.0",
    summary="Motion of the human body: tokens, motion from text and from joints in a film",
    models={
        "tokenizer": "unisono_motion.tokens.tokenizer:MotionTokenizer",
        "tokenizer-fsq": "unisono_motion.tokens.tokenizer:ScalarMotionTokenizer",
        "tokenizer-parts": "unisono_motion.tokens.tokenizer:PartsMotionTokenizer",
        "mmm": "unisono_motion.models.mmm:MMM",
        "momask": "unisono_motion.models.momask:MoMask",
        "matcher": "unisono_motion.models.matcher:MotionMatcher",
        "lifter": "unisono_motion.lifting.lifter:Lifter",
        "lifter-frames": "unisono_motion.lifting.lifter:FrameLifter",
    },
    data={
        "clips": "unisono_motion.corpus.data:ClipData",
        "figures": "unisono_motion.corpus.figures:FigureData",
        "stream": "unisono_motion.corpus.stream:ClipStream",
        "views": "unisono_motion.lifting.views:ViewData",
        "figure-views": "unisono_motion.lifting.views:FigureViews",
    },
    evaluators={
        "mmm": "unisono_motion.measure.evaluate:evaluate",
        "momask": "unisono_motion.measure.evaluate:evaluate",
        "lifter": "unisono_motion.lifting.evaluate:evaluate",
        "lifter-frames": "unisono_motion.lifting.evaluate:evaluate",
    },
    sweeps={
        "mmm": "unisono_motion.measure.evaluate:probe",
        "momask": "unisono_motion.measure.evaluate:probe",
    },
    recipes="unisono_recipes.motion",
    extra="motion",
)

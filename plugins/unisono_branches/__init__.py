"""The branches plugin: text in parallel by its own structure, by workers, or by streams. The manifest only."""

from unisono import Plugin, Verb

plugin = Plugin(
    name="branches",
    api="1.4",
    summary="Text in parallel: branches by the text's own tags, workers with one cache, streams of one network",
    models={
        "multiverse": "unisono_branches.multiverse.model:Multiverse",
        "chain": "unisono_branches.multiverse.model:Chain",
        "hogwild": "unisono_branches.hogwild.model:Hogwild",
        "parscale": "unisono_branches.parscale.model:ParScale",
    },
    data={
        "sums": "unisono_branches.corpus.sums:SumsData",
        "tagged": "unisono_branches.corpus.tagged:TaggedData",
        "sorting": "unisono_branches.corpus.sorting:SortingData",
        "bytes": "unisono_branches.corpus.bytes:ByteData",
    },
    evaluators={
        "multiverse": "unisono_branches.measure.tagged:evaluate",
        "chain": "unisono_branches.measure.tagged:evaluate",
        "hogwild": "unisono_branches.measure.sorting:evaluate",
        "parscale": "unisono_branches.measure.bytes:evaluate",
    },
    verbs={"branches": Verb("unisono_branches.cli", "write problems for branches and workers, and check tagged texts")},
    recipes="unisono_recipes.branches",
)

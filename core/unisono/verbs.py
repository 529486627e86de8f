"""Verbs: the command line's own, each with its line of help."""

VERBS = {
    "train": "train a model from a recipe",
    "tune": "search values of a recipe by trials, each a short training",
    "generate": "synthesize with an export",
    "batch": "make a corpus: a file of requests into shards, in several processes",
    "serve": "put models behind HTTP, with OpenAI's routes",
    "curves": "draw the training curves of runs",
    "export": "turn a training run into an export",
    "assemble": "make an export of a model that learns nothing, from a recipe",
    "evaluate": "measure an export on a corpus",
    "sweep": "compare settings of an export: quality against evaluations and time",
    "models": "list models that are installed or lie in ./checkpoints, or show one",
    "package": "turn exports into wheels that pip installs",
    "push": "publish an export on the Hugging Face hub",
    "recipes": "list recipes, or copy one to edit",
    "data": "audit a recipe's data before training",
    "plugins": "list plugins and their state",
    "new-plugin": "make a package to begin a plugin with",
    "check": "run the conformance kit on a plugin",
    "doctor": "print versions, device and plugins, to paste in a bug report",
}
FREE_FORM = {"train", "tune", "assemble", "generate", "batch", "data", "sweep"}
"""Verbs whose flags depend on a recipe or a model, and are parsed by the verb itself."""

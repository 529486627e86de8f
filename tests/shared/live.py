"""Live views: what every model must keep of `Model.snapshots`, and of its other hooks."""

import inspect

from unisono import Model, Synthesizer


def check_snapshots(model, request):
    """The last snapshot is the output of a plain call, and no attribute hides a method of the base."""
    for hook in (hook for hook, value in vars(Model).items() if inspect.isfunction(value) and hook[0] != "_"):
        assert callable(getattr(model, hook)), hook
        asked = inspect.signature(getattr(Model, hook)).parameters
        taken = inspect.signature(getattr(type(model), hook)).parameters
        assert list(taken)[: len(asked)] == list(asked), hook
    synth = Synthesizer(model)
    *_, last = synth.snapshots(**request)
    whole = synth(**request)
    assert type(last) is model.Media and last.waveform.shape[1] > 0
    assert (last.waveform == whole.waveform).all()

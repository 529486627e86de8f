"""ZipVoice: speech filled in beside a voice prompt, by flow matching (Zhu et al., arXiv:2506.13053).

model.py      the model: durations, speaking
infilling.py  what is masked, what the field is told, guidance
training.py   the losses
prompt.py     a voice prompt: a recording and its text
request.py    what can be asked
zipformer.py  the network: stacks at rates 1, 2, 4, 2, 1
layer.py      a layer of it
attention.py  its attention weights, shared by three readers, and relative positions
parts.py      swoosh, bias norm, bypass, fewer frames and back
sizes.py      sizes and weights of the losses
"""

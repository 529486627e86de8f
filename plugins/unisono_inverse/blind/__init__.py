"""BlindDPS: a blurred picture and its blur found together, by a prior of each."""

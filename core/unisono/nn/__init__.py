"""Building blocks that more than one model uses. Tensors are [batch, time, channels]; masks keep where True."""

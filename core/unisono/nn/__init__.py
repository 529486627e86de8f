"""Networks: building blocks that more than one model uses; [batch, time, channels], masks keep where True."""

"""Network: one small rotary transformer for all models of the plugin, and what its tokens see."""

"""Models: policies that read an observation and plan a chunk of actions."""

"""States of a run: what a training goes on from, on any number of processes, written while it goes on."""

"""The other process: ``python -m unisono.testing.fresh EXPORT OUT.npz`` with requests as JSON on stdin."""

import json
import sys

import numpy as np


def main() -> None:
    """Load the export, ask it, and write what it makes as numbers."""
    import unisono
    from unisono.testing.compare import numbers

    export, out = sys.argv[1:]
    synthesizer = unisono.load(export)
    made = synthesizer(json.load(sys.stdin))
    np.savez(out, allow_pickle=False, **numbers(made))


if __name__ == "__main__":
    main()

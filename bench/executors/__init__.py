"""Executors: where cells run. `process` is what a cell's process does, `local` runs them on this machine."""

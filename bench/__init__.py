"""The harness: studies of cells, their settings, the command line, and the packages that run, store and time them."""

"""The commands of `python -m bench`, one file each; imported one at a time."""

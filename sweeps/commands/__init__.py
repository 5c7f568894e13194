"""The commands of ``python -m sweeps``, one file each."""

"""Searches over settings with Optuna: each trial is a cell in a process of its own."""

"""The tasks: what a memory is asked for, how the answer is scored, and the two Lightning modules that train on it.

A module that opens with a literal ``CARD`` is a task and its file name is the task's id; the others hold what tasks
share. This package imports `models` and nothing else of the project.
"""

"""The methods: a shared backbone and one file per way of mixing information over time.

This package imports nothing else of the project. A module that opens with a literal ``CARD`` is a method, and its
file name is the method's id (`registry.py` finds them); the other modules hold what the methods share.
"""

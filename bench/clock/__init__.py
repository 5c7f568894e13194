"""Measures time and memory of what cells have trained: apart from the cells, and under a lock on the device."""

"""Tables and pages made from stored rows, and from nothing else. Imports `bench.store` only."""

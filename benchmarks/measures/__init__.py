"""What ``benchmarks/bench.py`` measures: a module a group of rows, each with ``rows(size, folder)``."""

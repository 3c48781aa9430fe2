"""Judging on the device: validation, choosing, ablation, statistics, and repeating a run."""

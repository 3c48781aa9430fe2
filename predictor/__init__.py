"""The attention-aware network that chooses the parameters for each RAW, and its training through a proxy."""

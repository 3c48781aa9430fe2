"""Searches on the device: best fixed parameters, the industry's table over ISO, and the per-image oracle."""

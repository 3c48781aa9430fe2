"""Checking a device: the protocol's requirements one by one, and its settle count."""

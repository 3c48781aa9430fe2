"""Agents to run and to read: ``python -m drivers.agent.examples.numpy_isp``."""

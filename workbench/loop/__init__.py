"""Prediction in the loop: a stream of frames, each predicted, pushed and captured while the next is predicted."""

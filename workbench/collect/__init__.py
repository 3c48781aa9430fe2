"""Collecting captures: campaigns of stored RAWs and live scenes, through the bench."""

"""A lab folder: its settings, its data set, its runs."""

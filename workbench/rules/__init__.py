"""Rules: how the parameters of a RAW follow from what was tuned: one set, a table over ISO, a regression; a setting."""

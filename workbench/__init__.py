"""What engineers use: the commands, the data set, collection, tuning, validation and the report."""

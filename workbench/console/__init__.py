"""The console: what is printed, progress, Ctrl-C, and what is said of errors that nobody foresaw."""

"""RAW files: of cameras, of the bench, and headerless dumps."""

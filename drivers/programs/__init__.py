"""Programs and libraries as ISPs: any command line by a recipe, and LibRaw."""

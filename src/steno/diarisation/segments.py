"""The machine that makes segment records of pieces of speech."""

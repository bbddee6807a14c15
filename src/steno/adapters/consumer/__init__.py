"""The reference consumer: stores before it acknowledges, and drops repeats."""

"""Which of several versions of one segment counts."""

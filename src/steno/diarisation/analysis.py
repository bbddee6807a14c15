"""Figures of a conversation: who talks how long, in turns, over each other."""

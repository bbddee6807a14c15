"""The composition root: builds every object from the settings, and nothing else does.

Nothing is imported here: a command that needs one part does not pay for the others.
"""

"""Words of one speaker, joined to turns."""

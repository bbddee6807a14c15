"""Voice activity, language identification, recognisers, and the speech services of both sides."""

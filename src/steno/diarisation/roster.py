"""Which participant of a conversation spoke, from its participants and their calls."""

"""A synthetic music world: tastes, a catalogue, listeners and what they play, from one seed."""

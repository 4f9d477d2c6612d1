"""The agents of the three roles: polls in, output out, and then a poll is finished."""

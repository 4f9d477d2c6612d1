"""The commands, by what they are for; each imports heavy libraries when it is called."""

"""Home Credit: the seven tables of the Home Credit Default Risk competition."""

"""How sure a run is of what it found."""

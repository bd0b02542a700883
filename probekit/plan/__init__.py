"""An experiment and its plugins turned into networks, jobs and units, before any weight is read."""

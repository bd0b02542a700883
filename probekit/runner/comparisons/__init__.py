"""What sets the models of a run against each other, as rows of its tables."""

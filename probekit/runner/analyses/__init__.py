"""What is asked of a job beside its scores."""

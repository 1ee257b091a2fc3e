"""What operators see and do: the acts, the command line, what both say."""

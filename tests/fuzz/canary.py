"""Nobody imports this: a message that could have it imported could have anything imported."""

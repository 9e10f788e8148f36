"""Lists are published (the batch), and those that were published are verified."""

"""What all processes wrote down: collected, proved, reviewed, reported and kept for years."""

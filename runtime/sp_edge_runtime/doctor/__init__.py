"""What a machine has, what it lacks, and what mends it."""

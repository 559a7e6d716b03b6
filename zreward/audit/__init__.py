"""What moves a reward that should not, and what should move it and does not: `zreward audit`."""

"""Files and data sets to scores: bulk scoring, ranking, contact sheets."""

"""What every room uses: errors, bounded and atomic files, configurations, runs, ports."""

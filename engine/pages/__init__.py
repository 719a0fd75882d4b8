"""What people look at: the report of a run, figures, and trackers. Reads the run folder and changes no result."""

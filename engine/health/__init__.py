"""What goes wrong on a machine or cluster, looked for before a run is paid for: `doctor` is the whole examination."""

"""Methods side by side, on top of the spine: cells, what they share, intervals, and their pages; conversations."""

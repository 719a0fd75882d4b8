"""Where files lie: file systems and object storage with one face, and one process at a time in a folder, flock or not."""

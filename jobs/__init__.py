"""Entry points: thin, one file a job."""

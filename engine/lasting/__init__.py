"""A run over years: what it was told before goes on to hold (`continuing`), it branches (`forking`), makes room (`cleaning`), and
tells what became of a sample (`where`)."""

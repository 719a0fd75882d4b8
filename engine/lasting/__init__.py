"""A run over years: what it was told before goes on to hold (`continuing`), it branches (`forking`), and makes room
(`cleaning`)."""

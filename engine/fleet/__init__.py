"""The one room that plans work for Ray: joining or starting a cluster, and planned batches through a pool of actors.

Nobody else says `ray.data`; `planned.run` is all that the others use.
"""

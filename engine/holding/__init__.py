"""What keeps weights or answers of before: EWC, MAS and LwF, how much weights matter, and what tasks are like.

He et al., arXiv 2311.16206; only where `training.regulariser` or `training.experts` asks for it.
"""

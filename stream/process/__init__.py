"""A process of ours: started, watched, waiting for its neighbours; its log and its memory."""

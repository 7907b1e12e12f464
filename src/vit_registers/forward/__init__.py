"""One forward pass of a backbone, read and edited: the tap (attention), hooks (all else), and readers."""

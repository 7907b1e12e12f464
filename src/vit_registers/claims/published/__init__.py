"""The sentences of parodi2026 against the numbers that its authors published beside the post, by subject."""

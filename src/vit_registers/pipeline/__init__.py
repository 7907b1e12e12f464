"""The steps of a study: what each sees of params, where it reads and writes, and a digest of the code that it runs."""

"""Where data sets come from: a file per kind, each with one class that params, the step and the methods text use."""

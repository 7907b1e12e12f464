"""``params.yaml``, typed and validated: what a study runs. Declarations compute nothing and import nothing heavy."""

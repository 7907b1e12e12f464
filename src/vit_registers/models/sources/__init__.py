"""Where models come from: a class for each kind of source, found by being here."""

"""The explorer: a page, without a network, in which a study is looked at."""

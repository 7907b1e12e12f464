"""Views of the tidy table: tables, figures, and the numbers of the LaTeX report."""

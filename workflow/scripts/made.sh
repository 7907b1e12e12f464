#!/usr/bin/env bash
# What a finished study has made, in a few lines.
set -euo pipefail
cd "$(dirname "$0")/../.."
count() { find "$1" -name "*.$2" 2>/dev/null | wc -l; }
echo "tables:  results/tables  ($(count results/tables csv) as CSV and LaTeX)"
echo "figures: results/figures ($(count results/figures pdf) as PDF and PNG)"
echo "metrics: results/metrics/metrics.csv ($(($(wc -l < results/metrics/metrics.csv) - 1)) rows)"
echo "pages:   results/report.html"
if [ -f report/report.pdf ]; then echo "report:  report/report.pdf"; else
    echo "report:  not made, latexmk is missing: apt-get install latexmk texlive-latex-recommended, then make study"
fi

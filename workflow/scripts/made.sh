#!/usr/bin/env bash
# What a finished study has made, in a few lines. $1: its folder of results.
set -euo pipefail
cd "$(dirname "$0")/../.."
results=$1
count() { find "$1" -name "*.$2" 2>/dev/null | wc -l; }
echo "tables:  $results/tables  ($(count "$results/tables" csv) as CSV and LaTeX)"
echo "figures: $results/figures ($(count "$results/figures" pdf) as PDF and PNG)"
echo "numbers: $results/table.csv ($(($(wc -l < "$results/table.csv") - 1)) rows)"
echo "look:    $results/explorer.html"
if [ -f "$results/report.html" ]; then echo "page:    $results/report.html"; fi
if [ -f "$results/report/report.pdf" ]; then echo "report:  $results/report/report.pdf"; else
    echo "report:  not made, latexmk is missing: apt-get install latexmk texlive-latex-recommended, then run again"
fi

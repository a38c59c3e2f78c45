"""What a token costs: `make bench`. Figures are ratios within one run, for machines differ and are shared."""

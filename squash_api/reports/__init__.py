"""Reports on runs, periods and releases; comparisons, badges, backtests."""
